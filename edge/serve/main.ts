/** The edge's process on one machine: bundle, start workerd, migrate, say ready; then watch it, and drain it at the end. */
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { Log, LogLevel, Miniflare } from 'miniflare';

import { type Fetch, fetchBy } from '../../wire/http.ts';
import { Way } from '../../wire/way.ts';
import { bundleWorker } from './bundle.ts';
import { serveTls } from './direct-socket.ts';
import { drain, drainWorkerd } from './drain.ts';
import { readOrMakeKeys, withReleaseKey } from './keys.ts';
import { migrate } from './migrate.ts';
import { ENTRYPOINT, readWrangler, toMiniflareOptions } from './options.ts';
import { releasePublicKey } from './release/signing-key.ts';
import { startReleaseServer } from './release/server.ts';
import { revocationJournal } from './revocations.ts';
import { say } from './say.ts';
import { prepareState, StateInUse } from './state.ts';
import { sweepByClock } from './sweep.ts';
import { findProcessUse } from './process-use.ts';
import { type TlsFlags, tlsOptions, tlsSource } from './tls/flags.ts';
import type { TlsMaterial } from './tls/material.ts';
import { Renewal } from './tls/renewal.ts';
import { watchWorkerd } from './watch.ts';

/** A workerd that dies this often within a minute has a reason that a restart does not cure. */
const MAX_RESTARTS_PER_MINUTE = 10;

const root = join(import.meta.dirname, '../..');
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** How often the certificate is looked at. */
const TLS_LOOK_MS = 60_000;
/** Fewer reads and writes of workerd in that time are quiet: two idle agents make 440, a reader of ten lines a second 530. */
const QUIET_CALLS = 3_000;
/** Has it looked at now, and taken, quiet or not. */
const LOOK_SIGNAL = 'SIGUSR2';

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
  const source = tlsSource(tlsFlags);
  const tls = source?.(Date.now());
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
    lookAtTls: () => {},
  };
  const stop = replaceSignals(running);
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
  sweepByClock(running);
  const ms = Math.round(performance.now() - started);
  if (tls && source) renewTls(running, new Renewal(tls, source, refusedTls), tls, stop);
  say({ msg: 'ready', url: running.url.origin, ...(tls ? { tls: shown(tls) } : {}), workerdPid: workerdPid(), ms });
}

const shown = ({ pin, names, endsAtMs, public: everybodys }: TlsMaterial) => ({
  pin,
  names,
  endsAtMs,
  public: everybodys,
});

const refusedTls = (error: string): void => say({ msg: 'the certificate can not be renewed', level: 'error', error });

/**
 * Looks at the certificate from time to time. For the same key another workerd serves the new one; another key is what the
 * Worker's bindings and whoever started this process have to learn, so then it ends, to be started anew.
 */
function renewTls(running: Running, renewal: Renewal, first: TlsMaterial, stop: (why: string) => void): void {
  let before = useOf(running);
  let isTaking = false;
  const take = async (next: TlsMaterial): Promise<void> => {
    isTaking = true;
    serveTls(next.privateKey, next.certificateChain);
    say({ msg: 'draining', why: 'another certificate' });
    const done = await drainWorkerd({ ...running, workerdPid: running.workerdPid() });
    say({ msg: 'certificate renewed', tls: shown(next), ...done });
    isTaking = false;
  };
  const look = (isAsked: boolean): void => {
    const now = useOf(running);
    const isQuiet = now.pid === before.pid && now.ioCalls - before.ioCalls < QUIET_CALLS;
    before = now;
    if (isTaking) return;
    const next = renewal.look(Date.now(), isAsked || isQuiet);
    if (next === undefined) return;
    if (next.pin !== first.pin || next.public !== first.public) stop('it is known by another key');
    else void take(next);
  };
  setInterval(look, TLS_LOOK_MS, false).unref();
  running.lookAtTls = () => look(true);
}

function useOf({ workerdPid }: Running): { pid: number | undefined; ioCalls: number } {
  const pid = workerdPid();
  return { pid, ioCalls: (pid === undefined ? undefined : findProcessUse(pid)?.ioCalls) ?? 0 };
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
  lookAtTls: () => void;
};

/** Miniflare's constructor installed handlers that exit at once: ours replace them (its 'exit' hook stays). Returns what they do. */
function replaceSignals(running: Running): (why: string) => void {
  let stopping = false;
  const stop = (why: string) => {
    if (stopping) return;
    stopping = true;
    running.stopWatching();
    running.log.silent = true;
    say({ msg: 'draining', why });
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
  process.on(LOOK_SIGNAL, () => running.lookAtTls());
  return stop;
}
