/**
 * The last part of a restore, on the state that was put back: an edge of its own, which nobody else can reach, is told, and
 * puts right what differs. Agents come only afterwards, so none can meet a ledger that does not know that it was restored.
 */
import {
  type RebuildReport,
  RebuildReport as RebuildReportSchema,
  type Restored,
} from '../../../schema/api/recovery.ts';
import { postToEdge } from '../edge-api.ts';
import { type Home, openHome } from '../home.ts';
import { LogFile } from '../log-file.ts';
import { Part } from '../part.ts';
import { edgePart } from '../parts.ts';
import { runProgram } from './program.ts';

/** Much may have to be compared. */
const answerMs = 30 * 60_000;

/** Tells the edge of `path`, which must not run, that its state is of an earlier moment. */
export async function mendHome(path: string, body: Restored): Promise<RebuildReport> {
  const home = openHome(path);
  await runProgram(['edge/serve/snapshot/index.ts', 'settle', '--state', home.at('edge')], () => {});
  return withEdge(home, (url) =>
    postToEdge({
      url,
      path: '/v1/admin/restored',
      token: home.secrets.bootstrap,
      body,
      answer: RebuildReportSchema,
      what: 'take up the state that was put back',
      timeoutMs: answerMs,
    }),
  );
}

/** An edge on a port that nobody knows, without Redis: events wait in their outboxes. */
async function withEdge<Result>(home: Home, work: (url: string) => Promise<Result>): Promise<Result> {
  const log = new LogFile(home.at('log', 'restore.log'));
  const part = new Part(
    edgePart(home, { host: '127.0.0.1', port: 0, tls: { kind: 'off' }, publicUrl: undefined }, undefined),
    log,
    () => {},
  );
  try {
    const ready = await part.start();
    return await work(String(ready['url']));
  } finally {
    await part.stop();
    log.close();
  }
}
