/** Processes of one connection each, beside those that are kept. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { AttendedProcess } from '../../../agent-daemon/processes/attended.ts';
import { toSpawn } from '../../../agent-daemon/processes/spawn-spec.ts';
import { recordOf } from '../../../agent-daemon/sessions/main-process.ts';
import { until } from '../../support/wait.ts';
import { LiveSession } from '../live-session.ts';
import { sessionId } from '../support.ts';

const output = { onFull: 'drop', blockMs: 0, spoolBytes: 1024 ** 2 } as const;

let live: LiveSession;
beforeEach(async () => void (live = await LiveSession.start()));
afterEach(() => live.stop());

it('drive out nothing that is kept, however many there were, and leave nothing', async () => {
  const processId = live.of.freshProcessId();
  const spec = await toSpawn(live.session, processId, { argv: ['echo', 'kept'] });
  const spool = await live.supervisor.spawn(spec, recordOf(spec, output, live.of.nowMs()));
  await until(() => spool.record.exit !== undefined, { what: 'its end' });
  for (let round = 0; round < 13; round += 1) {
    const some = Array.from({ length: 80 }, () => new AttendedProcess(live.session, live.of, { argv: ['true'] }));
    await Promise.all(
      some.map(async (attended) => {
        await attended.start();
        await attended.follow(() => Promise.resolve());
      }),
    );
  }
  await until(async () => (await live.spools.processes(sessionId, 1)).length === 1, { what: 'nothing of them' });
  expect(await live.spools.processes(sessionId, 1)).toEqual([processId]);
}, 60_000);
