/** `causeway down`: stops the instance of this machine; with `--purge`, removes all that it made. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import type { Command } from 'commander';

import { forgetContext } from '../config.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { WaitingLine } from '../terminal/waiting.ts';
import { Admin } from './admin.ts';
import { findEngineVersion } from './engine.ts';
import { STANDARD_SOCKET } from './engine-start.ts';
import { findJson } from './files.ts';
import { removeGuardRules } from './guard-rules.ts';
import { findIdentity, homePaths } from './home.ts';
import { isLocked } from './lock.ts';
import { endDockerd, findOwnDockerd } from './own-dockerd.ts';
import { listOurs, removeOurs } from './remains.ts';
import { readSettings, type Settings } from './settings.ts';
import { busyHome, findLiveState } from './state.ts';

/** The parts' own graces, one after the other, and some. */
const STOP_MS = 60_000;

/** Registers `down`. */
export function registerDown(program: Command): void {
  program
    .command('down')
    .description('stop the control plane and the agent on this machine; containers go on')
    .option('--purge', 'also remove its containers, networks and data, and end a dockerd that it started')
    .option('--yes', 'do not ask')
    .action(async ({ purge, yes }: { purge?: boolean; yes?: boolean }) => {
      const settings = readSettings();
      if (purge && !yes) await confirmPurge(settings.home);
      const stopped = await stopSupervisor(settings.home);
      if (purge) await removeEverything(settings);
      else say(stopped ? await farewell(settings) : `not running (home ${settings.home})`);
    });
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function confirmPurge(home: string): Promise<void> {
  if (!process.stdin.isTTY)
    throw new CliFailure('--purge removes every session, account and file of this instance: confirm with --yes', {
      status: exitStatus.usage,
    });
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await reader.question(`Remove every session, account and file of the instance in ${home}? Type yes: `);
  reader.close();
  if (answer.trim() !== 'yes') throw new CliFailure('nothing was removed');
}

/** Asks the supervisor to stop and waits until it has. False when none ran. */
async function stopSupervisor(home: string): Promise<boolean> {
  const state = findLiveState(home);
  if (!state) {
    if (isLocked(home)) throw busyHome(home);
    return false;
  }
  const waiting = new WaitingLine(false);
  waiting.say('stopping edge, Redis and agent');
  try {
    process.kill(state.pid, 'SIGTERM');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EPERM')
      throw new CliFailure(`supervisor ${state.pid} belongs to another user`, { hint: 'sudo causeway down' });
  }
  for (const until = Date.now() + STOP_MS; isLocked(home); await sleep(100))
    if (Date.now() > until)
      throw new CliFailure(`supervisor ${state.pid} does not stop`, { hint: `kill -9 ${state.pid}` });
  waiting.done();
  return true;
}

async function engineSocket(settings: Settings): Promise<string | undefined> {
  const socket = settings.engineSocket ?? STANDARD_SOCKET;
  return (await findEngineVersion(socket)) === undefined ? undefined : socket;
}

async function farewell(settings: Settings): Promise<string> {
  const socket = await engineSocket(settings);
  const identity = findIdentity(settings.home);
  const running = socket && identity ? (await listOurs(socket, identity.id)).running : 0;
  return `stopped; ${running === 1 ? '1 container goes' : `${running} containers go`} on, and causeway up picks everything up`;
}

async function removeEverything(settings: Settings): Promise<void> {
  const { home } = settings;
  const identity = findIdentity(home);
  if (!identity) {
    say(existsSync(home) ? `${home} holds no instance: nothing was removed` : `nothing to remove (home ${home})`);
    return;
  }
  const socket = await engineSocket(settings);
  const removed = socket ? await removeOurs(socket, identity.id) : undefined;
  const admin = findJson(homePaths(home).admin, Admin);
  const dockerd = findOwnDockerd(join(home, 'run', 'dockerd.json'));
  const dockerdEnd = dockerd === undefined || !socket ? undefined : await endOwnDockerd(dockerd, socket);
  unmountBelow(home);
  // Containers that may be left stay away from this host.
  if (removed) removeGuardRules(identity.networkPool);
  rmSync(home, { recursive: true, force: true });
  if (admin) forgetContext(admin.url);
  say(
    removed
      ? `removed ${removed.containers} containers, ${removed.networks} networks and ${home}`
      : `removed ${home}; no container engine answered, so containers of instance ${identity.id} may be left`,
  );
  say('images, and packages that were installed, stay');
  if (dockerdEnd !== undefined) say(dockerdEnd);
}

/** Ends the dockerd that this instance started, or says why it goes on and how to end it. */
async function endOwnDockerd(pid: number, socket: string): Promise<string> {
  const ended = await endDockerd(pid, socket);
  if (ended.how === 'stopped') return 'dockerd, which this instance had started, was stopped';
  const why = ended.how === 'used' ? `${ended.containers} containers of others run on it` : 'it does not stop';
  return `dockerd, which this instance had started, goes on: ${why} (kill ${pid} ends it)`;
}

/** Takes away what an agent mounted below the home, the deepest first, so that removing follows no mount. */
function unmountBelow(home: string): void {
  const points = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) =>
      (line.split(' ')[1] ?? '').replaceAll(/\\(\d{3})/g, (_, octal: string) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      ),
    )
    .filter((point) => point.startsWith(`${home}/`))
    .toSorted((a, b) => b.length - a.length);
  for (const point of points) spawnSync('umount', ['--lazy', point], { stdio: 'ignore' });
}
