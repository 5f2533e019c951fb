/** The edge's process on one machine: bundle, start workerd, migrate, say ready; then watch it, and drain it at the end. */
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { Log, LogLevel, Miniflare } from 'miniflare';

import { type Fetch, fetchBy } from '../../wire/http.ts';
import { Way } from '../../wire/way.ts';
import { bundleWorker } from './bundle.ts';
import { serveTls } from './direct-socket.ts';
import { drain } from './drain.ts';
import { readOrMakeKeys, withReleaseKey } from './keys.ts';
import { migrate } from './migrate.ts';
import { ENTRYPOINT, readWrangler, toMiniflareOptions } from './options.ts';
import { releasePublicKey } from './release/signing-key.ts';
import { startReleaseServer } from './release/server.ts';
import { revocationJournal } from './revocations.ts';
import { say } from './say.ts';
import { prepareState, StateInUse } from './state.ts';
import { findTls, type TlsFlags, tlsOptions } from './tls/flags.ts';
import { watchWorkerd } from './watch.ts';

/** A workerd that dies this often within a minute has a reason that a restart does not cure. */
const MAX_RESTARTS_PER_MINUTE = 10;

const root = join(import.meta.dirname, '../..');
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Miniflare's own remarks, as lines like all others; silent once the end has begun. */
class LineLog extends Log {
  silent = false;
  protected override log(message: string): void {
    if (!this.silent) say({ msg: 'miniflare', text: message });
  }
}

/** The Worker logs one JSON object a line: it is passed on as such. Anything else is text. */
function toEntry(message: string): { entry: unknown } | { text: string } {
  try {
    const entry: unknown = JSON.parse(message);
    return typeof entry === 'object' && entry !== null ? { entry } : { text: message };
  } catch {
    return { text: message };
  }
}

type Flags = { worker: string | undefined; state: string; keys: string; host: string; port: number; tls: TlsFlags };

function readFlags(args: string[]): Flags {
  const { values } = parseArgs({
    args,
    options: {
      worker: { type: 'string' },
      state: { type: 'string' },
      keys: { type: 'string' },
      host: { type: 'string', default: '127.0.0.1' },
      port: { type: 'string', default: '0' },
      ...tlsOptions,
    },
  });
  const port = Number(values.port);
  if (!values.state) throw new Error('--state DIR is required');
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Error(`--port ${values.port} is not a port`);
  const keys = values.keys ?? join(values.state, 'keys.json');
  return { worker: values.worker, state: values.state, keys, host: values.host, port, tls: values };
}

/** Takes the bindings out of the environment, so that no child process inherits a secret. */
function takeVars(): Record<string, string> {
  const vars: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env))
    if (/^(CAUSEWAY|UPSTASH)_[A-Z0-9_]+$/.test(name) && value !== undefined) {
      vars[name] = value;
      delete process.env[name];
    }
  return vars;
}

function leave(code: number, msg: string, error?: unknown): never {
  say({ msg, ...(error === undefined ? {} : { error: error instanceof Error ? error.message : String(error) }) });
  process.exit(code);
}

/** Starts serving and returns when ready; the process goes on until a signal. */
export async function main(args: string[]): Promise<void> {
  const started = performance.now();
  let flags: Flags;
  try {
    flags = readFlags(args);
  } catch (error) {
    leave(64, 'usage', error);
  }
  // Miniflare's pipe to a workerd that died at once breaks; the reason comes by another way.
  process.on('uncaughtException', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') leave(70, 'crashed', error.stack);
  });
  try {
    await serve(flags, started);
  } catch (error) {
    leave(error instanceof StateInUse ? 75 : 70, 'could not start', error);
  }
}

async function serve({ worker, state, keys, host, port, tls: tlsFlags }: Flags, started: number): Promise<void> {
  const given = takeVars();
  const tls = findTls(tlsFlags, Date.now());
  if (tls) serveTls(tls.privateKey, tls.certificateChain);
  const vars = {
    CAUSEWAY_LAYOUT: 'machine',
    CAUSEWAY_KEYS: withReleaseKey(readOrMakeKeys(keys), releasePublicKey(join(dirname(keys), 'release-key.json'))),
    CAUSEWAY_RELEASE_URL: await startReleaseServer(dirname(keys)),
    // Nobody needs the pin of a certificate that everybody believes.
    ...(tls === undefined || tls.public ? {} : { CAUSEWAY_SERVER_PIN: tls.pin }),
    ...given,
  };
  const { wrapper, workerdPid } = prepareState(state);
  process.env['MINIFLARE_WORKERD_PATH'] = wrapper;
  const wrangler = readWrangler(root);
  const log = new LineLog(LogLevel.WARN);
  const noteRevocation = revocationJournal(join(dirname(keys), 'revocations.ndjson'));
  const mf = new Miniflare(
    toMiniflareOptions({
      root,
      state,
      host,
      port,
      wrangler,
      bundle: await bundleWorker(root, worker ?? join(root, 'edge/index.ts')),
      withObjects: worker === undefined,
      vars,
      log,
      onLog: ({ timestamp, level, message }) => {
        const entry = toEntry(message);
        say({ msg: 'worker', time: timestamp, level, ...entry });
        if ('entry' in entry) noteRevocation(entry.entry, timestamp);
      },
      onRestart: countRestarts(workerdPid),
    }),
  );
  const running: Running = {
    mf,
    log,
    workerdPid,
    secret: given['CAUSEWAY_BOOTSTRAP'],
    fetch: fetchBy(new Way({}, tls === undefined ? undefined : [tls.pin])),
    url: undefined,
    stopWatching: () => {},
  };
  replaceSignals(running);
  await mf.ready;
  for (const database of wrangler.d1_databases) {
    const applied = await migrate(mf, database.binding, join(root, database.migrations_dir));
    if (applied.length > 0) say({ msg: 'migrated', applied });
  }
  running.url = await mf.unsafeGetDirectURL(undefined, ENTRYPOINT);
  if (tls) running.url.protocol = 'https:';
  running.stopWatching = watchWorkerd({
    fetch: running.fetch,
    healthUrl: new URL('/healthz', running.url).href,
    pid: workerdPid,
    onHung: (pid, missed) => say({ msg: 'workerd hangs, killing it', pid, missed }),
    onGone: () => leave(70, 'workerd is gone'),
  });
  const ms = Math.round(performance.now() - started);
  const shown = tls && { pin: tls.pin, names: tls.names, endsAtMs: tls.endsAtMs, public: tls.public };
  say({ msg: 'ready', url: running.url.origin, ...(shown ? { tls: shown } : {}), workerdPid: workerdPid(), ms });
}

function countRestarts(workerdPid: () => number | undefined): () => void {
  let recent: number[] = [];
  return () => {
    const now = Date.now();
    recent = [...recent.filter((at) => at > now - 60_000), now];
    say({ msg: 'workerd restarted', workerdPid: workerdPid() });
    if (recent.length > MAX_RESTARTS_PER_MINUTE) leave(70, 'workerd dies again and again');
  };
}

type Running = {
  mf: Miniflare;
  log: LineLog;
  workerdPid: () => number | undefined;
  secret: string | undefined;
  /** Reaches our own workerd, over TLS too. */
  fetch: Fetch;
  url: URL | undefined;
  stopWatching: () => void;
};

/** Miniflare's constructor installed handlers that exit at once: ours replace them (its 'exit' hook stays). */
function replaceSignals(running: Running): void {
  let stopping = false;
  const stop = (signal: string) => {
    if (stopping) return;
    stopping = true;
    running.stopWatching();
    running.log.silent = true;
    say({ msg: 'draining', signal });
    void drain({ ...running, workerdPid: running.workerdPid() }).then(
      (done) => {
        say({ msg: 'stopped', ...done });
        process.exit(0);
      },
      (error: unknown) => leave(70, 'stopped hard', error),
    );
  };
  for (const signal of SIGNALS) {
    process.removeAllListeners(signal);
    process.on(signal, () => stop(signal));
  }
}
