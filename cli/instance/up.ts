/** `causeway up`: everything on this machine, in the foreground or detached. */
import { spawn } from 'node:child_process';
import { accessSync, constants, openSync, realpathSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Command } from 'commander';

import { currentContext } from '../config.ts';
import { CliFailure } from '../exit.ts';
import { paint } from '../terminal/table.ts';
import { refuseCutRestore } from './backup/swap.ts';
import { type Home, homePaths, openHome } from './home.ts';
import { takeLock } from './lock.ts';
import { root, SMALL_HEAP } from './parts.ts';
import { lineReport, type Report } from './report.ts';
import { readSettings, type Settings } from './settings.ts';
import { busyHome, findLiveState, type ImageState, isReady } from './state.ts';
import { Supervisor } from './supervisor.ts';
import { refuseNewerHome, upgradeHome } from './upgrade.ts';

/** Registers `up`. */
export function registerUp(program: Command): void {
  program
    .command('up')
    .description('start the control plane and an agent on this machine (Ctrl-C stops them; containers go on)')
    .option('--detach', 'return when everything is ready')
    .option('--tls', 'serve TLS with keys made here (the default when HOST is not loopback)')
    .option('--no-tls', 'serve without TLS')
    .option('--tls-cert <file>', 'certificate and what leads to its authority, PEM, instead of one made here')
    .option('--tls-key <file>', 'its private key, PEM')
    .option('--hostname <names>', 'names and addresses by which other machines reach it, the main one first')
    .action(async ({ detach, ...options }: UpOptions) => {
      Object.assign(process.env, toEnvironment(options)); // for a detached supervisor too
      const settings = readSettings();
      refuseCutRestore(settings.home);
      refuseNewerHome(settings.home);
      const home = openHome(settings.home);
      if (detach) await upDetached(settings, home);
      else await upHere(settings, home);
    });
}

type UpOptions = { detach?: boolean; tls?: boolean; tlsCert?: string; tlsKey?: string; hostname?: string };

/** Options are settings like those of the environment, and come before them. */
function toEnvironment({ tls, tlsCert, tlsKey, hostname }: UpOptions): Record<string, string> {
  return {
    ...(tls === undefined ? {} : { CAUSEWAY_TLS: tls ? 'on' : 'off' }),
    ...(tlsCert === undefined ? {} : { CAUSEWAY_TLS_CERT: tlsCert }),
    ...(tlsKey === undefined ? {} : { CAUSEWAY_TLS_KEY: tlsKey }),
    ...(hostname === undefined ? {} : { CAUSEWAY_HOSTNAME: hostname }),
  };
}

/** A message from a detached supervisor to the command that started it. */
type Message = { line: string } | { ready: boolean };

/** Runs the supervisor in this process until a signal. */
async function upHere(settings: Settings, home: Home): Promise<void> {
  const tell = process.send?.bind(process);
  const write = (line: string) => {
    process.stdout.write(`${line}\n`);
    if (process.connected) tell?.({ line } satisfies Message);
  };
  const report = lineReport(write, process.stdout.isTTY ? process.stdout : undefined);
  const release = await takeLock(home.path, 3);
  if (!release) return sayAlreadyUp(settings, report);
  const started = performance.now();
  let hearImage: (image: ImageState) => void = () => {};
  const supervisor = new Supervisor(home, settings, report, (image) => hearImage(image));
  const ended = stopOnSignal(supervisor, report);
  try {
    await upgradeHome(home.path, report);
    await supervisor.start();
  } catch (error) {
    await supervisor.stop();
    release();
    throw error;
  }
  summary(supervisor, settings, home, report, performance.now() - started);
  if (process.connected) {
    tell?.({ ready: supervisor.isReady } satisfies Message);
    process.disconnect();
  }
  const image = supervisor.state.image;
  if (image && image.what !== 'present') void showImage(report, image, (hear) => (hearImage = hear));
  await ended;
  release();
}

/** The image comes after everything else: one more step, while the rest can be used. */
async function showImage(report: Report, first: ImageState, listen: (hear: (image: ImageState) => void) => void) {
  await report.step('image', (say) => {
    const { promise, resolve } = Promise.withResolvers<{ line: string; value: undefined }>();
    const hear = ({ state, what, percent }: ImageState) => {
      if (state === 'ready') resolve({ line: 'causeway/python is ready', value: undefined });
      else if (state === 'failed') resolve({ line: `causeway/python could NOT be made: ${what}`, value: undefined });
      else say(`causeway/python: ${what}`, `${percent} %,`);
    };
    listen(hear);
    hear(first);
    return promise;
  });
}

/** Stops the parts at the first signal and resolves; ends them hard at the second. */
function stopOnSignal(supervisor: Supervisor, report: Report): Promise<void> {
  return new Promise((resolve) => {
    let stopping = false;
    const onSignal = () => {
      if (stopping) {
        supervisor.kill();
        process.exit(130);
      }
      stopping = true;
      report.line('stopping (containers go on; once more to stop at once) ...');
      void supervisor.stop().then(() => {
        report.line('stopped. The next `causeway up` picks everything up.');
        resolve();
        process.exit(0);
      });
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  });
}

/** Starts the supervisor in a session of its own, passes on what it says, and returns when it is ready. */
async function upDetached(settings: Settings, home: Home): Promise<void> {
  const report = lineReport(
    (line) => process.stdout.write(`${line}\n`),
    process.stdout.isTTY ? process.stdout : undefined,
  );
  if (findLiveState(settings.home)) return sayAlreadyUp(settings, report);
  const logFile = home.at('log', 'supervisor.log');
  const log = openSync(logFile, 'a', 0o600);
  const child = spawn(process.execPath, [...SMALL_HEAP, join(root, 'cli/index.ts'), 'up'], {
    detached: true,
    stdio: ['ignore', log, log, 'ipc'],
  });
  const cancel = () => child.kill('SIGTERM');
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, cancel);
  const ready = await new Promise<boolean>((resolve, reject) => {
    child.on('message', (message: Message) => {
      if ('line' in message) report.line(message.line);
      else resolve(message.ready);
    });
    child.on('exit', (code) =>
      reject(new CliFailure(`the supervisor ended (exit ${code})`, { hint: `tail ${logFile}` })),
    );
  });
  child.removeAllListeners('exit');
  if (child.connected) child.disconnect();
  child.unref();
  if (!ready) throw new CliFailure('not everything is ready yet', { hint: 'causeway status' });
}

function sayAlreadyUp(settings: Settings, report: Report): void {
  const state = findLiveState(settings.home);
  if (!state) throw busyHome(settings.home);
  if (state.url !== settings.url)
    throw new CliFailure(`the instance in ${settings.home} is up at ${state.url}, not at ${settings.url}`, {
      hint: 'causeway down   first, or another CAUSEWAY_HOME',
    });
  report.line(
    `already up at ${state.url} (${isReady(state) ? 'ready' : 'not ready: causeway status'}), supervisor ${state.pid}`,
  );
}

/** What a person needs next: where it is, where the credentials are, what to type. */
function summary({ isReady, state }: Supervisor, settings: Settings, home: Home, report: Report, ms: number): void {
  const name = commandName();
  const aside = process.env['CAUSEWAY_HOME'] ? `CAUSEWAY_HOME=${home.path} ` : '';
  const elsewhere = isCurrent(settings.url) ? '' : `CAUSEWAY_URL=${settings.url} `;
  report.line('');
  const how = isReady ? paint('green', 'Causeway is up') : paint('yellow', 'Causeway is up, but not ready,');
  report.line(`${how} at ${paint('bold', settings.url)} (${(ms / 1_000).toFixed(1)} s)`);
  if (settings.publicUrl !== undefined) {
    const pin = state.tls === undefined || state.tls.public ? '' : `   pin ${state.tls.pin}`;
    report.line(`from other machines: ${settings.publicUrl}${pin}`);
  }
  report.line(`credentials: ${homePaths(home.path).admin}`);
  report.line('');
  report.line('next:');
  report.line(`  ${aside}${name} status`);
  report.line(`  ${elsewhere}${name} agent list`);
  if (settings.publicUrl !== undefined) report.line(`  ${elsewhere}${name} agent token create   # another machine`);
  report.line(`  ${aside}${elsewhere}${name} run --image causeway/python -- python3 -c 'print(6 * 7)'`);
  report.line('');
}

/** Does the CLI speak to this instance when nothing else is said? */
function isCurrent(url: string): boolean {
  try {
    return currentContext().url === url;
  } catch {
    return false;
  }
}

/** How this checkout's CLI is typed here: by name when it is on the PATH, else by where it lies. */
function commandName(): string {
  const own = realpathSync(join(root, 'causeway'));
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    try {
      accessSync(join(folder, 'causeway'), constants.X_OK);
      if (realpathSync(join(folder, 'causeway')) === own) return 'causeway';
    } catch {
      // not here
    }
  }
  return process.cwd() === root ? './causeway' : own;
}
