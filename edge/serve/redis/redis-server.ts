/**
 * A private redis-server for one directory: on a unix socket in it (a loopback port where its path would be too long),
 * append-only file on, a password that only this user can read. One server a directory, by a lock that the server itself
 * holds. It outlives a gateway that was killed, and the next one takes it over. What it keeps can be rebuilt: data that
 * Redis refuses to load are moved aside with a loud line, never a reason not to start.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { type Reply, Status } from './backend.ts';
import { findOurs, type OwnedProcess, signalOwned, waitForEnd } from './owned-process.ts';
import { type RedisAddress, RespClient, respClientDefaults } from './resp-client.ts';

export interface RedisServerOptions {
  /** Made when absent, mode 0700. Nothing else may live in it. */
  readonly dir: string;
  readonly maxMemoryBytes: number;
  /** Default `redis-server`. */
  readonly program?: string;
  /** The kernel kills it with the process that started it. */
  readonly diesWithParent?: boolean;
  readonly say: (entry: Record<string, unknown> & { msg: string }) => void;
}

export interface RedisServer {
  readonly address: RedisAddress;
  readonly pid: number;
  /** True when it was running already. */
  readonly isAdopted: boolean;
  /** Resolves when it is gone, however. */
  readonly ended: Promise<void>;
  /** SIGTERM, which writes everything out; SIGKILL after ten seconds. Resolves when it is gone. */
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): void;
}

/** No such program on this machine. */
export class RedisMissing extends Error {
  override readonly name = 'RedisMissing';
}

/** Another process holds the directory. */
export class RedisInUse extends Error {
  override readonly name = 'RedisInUse';
}

/** By which flock says that the lock is held (EX_TEMPFAIL). */
const lockedExit = 75;
/** One that was just killed loses its memory, by which it is known, a moment before its files and the lock. */
const lockSeconds = 2;
/** Longest path of a unix socket on Linux, without the final zero. */
const socketPathMax = 107;
/** Loading a large append-only file takes its time. */
const startMs = 60_000;
const adoptMs = 5_000;
const stopMs = 10_000;

/** Takes over the directory's server or starts one; resolves when it answers PONG. */
export async function startRedisServer(options: RedisServerOptions): Promise<RedisServer> {
  mkdirSync(options.dir, { recursive: true, mode: 0o700 });
  const dir = realpathSync(options.dir);
  const password = keptPassword(join(dir, 'password'));
  const adopted = await adopt(dir, password, options);
  if (adopted !== undefined) return adopted;
  try {
    return await launch(dir, password, options);
  } catch (error) {
    if (!(error instanceof UnreadableData)) throw error;
    setAside(dir, error.message, options.say);
    return launch(dir, password, options);
  }
}

/** Redis refuses to load its append-only file. */
class UnreadableData extends Error {}

function keptPassword(file: string): string {
  if (existsSync(file)) return readFileSync(file, 'utf8');
  const password = randomBytes(32).toString('hex');
  writeFileSync(file, password, { mode: 0o600, flag: 'wx' });
  return password;
}

/** The server of a gateway that was killed, when it still answers; one that does not is killed. */
async function adopt(dir: string, password: string, options: RedisServerOptions): Promise<RedisServer | undefined> {
  const ours = findOurs(join(dir, 'redis.pid'), dir);
  if (ours === undefined) return undefined;
  const address = { ...readAddress(dir), password };
  const limit = String(options.maxMemoryBytes);
  const [pong] = await ask(address, adoptMs, ['PING'], ['CONFIG', 'SET', 'maxmemory', limit]).catch(() => []);
  if (!(pong instanceof Status)) {
    options.say({ msg: 'redis of an earlier run does not answer, killing it', pid: ours.pid });
    signalOwned(ours, 'SIGKILL');
    await waitForEnd(ours, stopMs);
    return undefined;
  }
  options.say({ msg: 'redis of an earlier run is taken over', pid: ours.pid });
  const ended = waitForEnd(ours).then(() => undefined);
  return { address, pid: ours.pid, isAdopted: true, ended, ...controls(ours) };
}

function controls(ours: OwnedProcess): Pick<RedisServer, 'stop' | 'kill'> {
  return {
    stop: async () => {
      signalOwned(ours, 'SIGTERM');
      if (await waitForEnd(ours, stopMs)) return;
      signalOwned(ours, 'SIGKILL');
      await waitForEnd(ours, stopMs);
    },
    kill: () => signalOwned(ours, 'SIGKILL'),
  };
}

async function launch(dir: string, password: string, options: RedisServerOptions): Promise<RedisServer> {
  const address = await chooseAddress(dir);
  const child = spawnLocked(dir, options);
  const said = listen(child, options.say);
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => resolve());
    child.once('error', () => resolve());
  });
  // A server that ended before it read its configuration breaks the pipe; how it ended says why.
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(configuration(dir, address, password, options.maxMemoryBytes));
  const full = { ...address, password };
  if (!(await answersBefore(full, ended))) {
    child.kill('SIGKILL');
    await ended;
    throw whyNot(child, said, options.program ?? 'redis-server');
  }
  const ours = findOurs(join(dir, 'redis.pid'), dir);
  if (ours === undefined) throw new Error(`redis-server wrote no pid file in ${dir}`);
  return { address: full, pid: ours.pid, isAdopted: false, ended, ...controls(ours) };
}

/** In a session of its own, so that Ctrl-C in a terminal reaches the gateway alone; it holds the lock until it ends. */
function spawnLocked(dir: string, options: RedisServerOptions): ChildProcess {
  const lock = ['flock', '--no-fork', '-w', String(lockSeconds), '-E', String(lockedExit), join(dir, 'lock')];
  const words = [
    ...(options.diesWithParent === true ? ['setpriv', '--pdeathsig', 'KILL'] : []),
    ...lock,
    options.program ?? 'redis-server',
    '-',
  ];
  const [command = '', ...args] = words;
  return spawn(command, args, { cwd: dir, detached: true, env: { PATH: process.env['PATH'] }, stdio: 'pipe' });
}

/** Passes the server's own lines on, and keeps the last ones. */
function listen(child: ChildProcess, say: RedisServerOptions['say']): string[] {
  const said: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue;
    createInterface({ input: stream }).on('line', (text) => {
      if (text.trim() === '') return;
      said.push(text);
      if (said.length > 50) said.shift();
      say({ msg: 'redis', text });
    });
  }
  return said;
}

function whyNot(child: ChildProcess, said: readonly string[], program: string): Error {
  if (child.exitCode === lockedExit) return new RedisInUse('another redis-server holds the directory');
  const text = said.join('\n');
  if (child.exitCode === null && child.signalCode === null) {
    return new RedisMissing('flock can not be run: install the Debian package util-linux');
  }
  if (/failed to execute/.test(text)) {
    return new RedisMissing(`${program} can not be run: install the Debian package redis-server`);
  }
  if (/append only file|append-only|AOF|RDB|DB signature|manifest/i.test(text) && child.exitCode === 1) {
    return new UnreadableData(said.slice(-5).join('\n'));
  }
  return new Error(`redis-server ended (${child.signalCode ?? `exit ${child.exitCode}`}):\n${text}`);
}

function setAside(dir: string, why: string, say: RedisServerOptions['say']): void {
  const data = join(dir, 'appendonlydir');
  if (!existsSync(data)) throw new Error(`redis-server does not start:\n${why}`);
  rmSync(`${data}.unreadable`, { recursive: true, force: true });
  renameSync(data, `${data}.unreadable`);
  say({ msg: 'redis could not read its data: moved aside, starting empty', movedTo: `${data}.unreadable`, why });
}

/** The socket in the directory, or a free port of the loopback address, noted for whoever takes the server over. */
async function chooseAddress(dir: string): Promise<RedisAddress> {
  const socketPath = join(dir, 'redis.sock');
  if (Buffer.byteLength(socketPath) <= socketPathMax) return { socketPath };
  const port = await freePort();
  writeFileSync(join(dir, 'port'), String(port));
  return { host: '127.0.0.1', port };
}

function readAddress(dir: string): RedisAddress {
  const socketPath = join(dir, 'redis.sock');
  if (Buffer.byteLength(socketPath) <= socketPathMax) return { socketPath };
  return { host: '127.0.0.1', port: Number(readFileSync(join(dir, 'port'), 'utf8')) };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}

/** Goes in by stdin: nothing of it is seen in a process list or left in a file. */
function configuration(dir: string, address: RedisAddress, password: string, maxMemoryBytes: number): string {
  const listenOn =
    address.socketPath === undefined
      ? ['bind 127.0.0.1', `port ${address.port}`]
      : ['port 0', `unixsocket ${quoted(address.socketPath)}`, 'unixsocketperm 700'];
  const lines = [
    ...listenOn,
    `dir ${quoted(dir)}`,
    `pidfile ${quoted(join(dir, 'redis.pid'))}`,
    `requirepass ${password}`,
    'daemonize no',
    'databases 1',
    'maxclients 64',
    'logfile ""',
    'loglevel notice',
    'always-show-logo no',
    'save ""',
    'appendonly yes',
    'appendfsync everysec',
    `maxmemory ${maxMemoryBytes}`,
    'maxmemory-policy noeviction',
  ];
  return `${lines.join('\n')}\n`;
}

function quoted(path: string): string {
  return `"${path.replaceAll(/["\\]/g, String.raw`\$&`)}"`;
}

/** Whether a server answers PING in time. */
export async function answersPing(address: RedisAddress, deadlineMs: number): Promise<boolean> {
  const [pong] = await ask(address, deadlineMs, ['PING']).catch(() => []);
  return pong instanceof Status;
}

/** Asks over a connection of its own, tried again until the deadline. Throws BackendUnavailable. */
async function ask(address: RedisAddress, deadlineMs: number, ...commands: string[][]): Promise<Reply[]> {
  const client = connect(address, deadlineMs);
  try {
    return await client.run(commands.map((words) => words.map((word) => Buffer.from(word))));
  } finally {
    client.close();
  }
}

/** Whether the server answers before it ends, and before the deadline of a start. */
async function answersBefore(address: RedisAddress, ended: Promise<void>): Promise<boolean> {
  const client = connect(address, startMs);
  const answered = client.run([[Buffer.from('PING')]]).then(
    () => true,
    () => false,
  );
  try {
    return await Promise.race([answered, ended.then(() => false)]);
  } finally {
    client.close();
  }
}

function connect(address: RedisAddress, commandTimeoutMs: number): RespClient {
  return new RespClient({ ...respClientDefaults, address: () => address, commandTimeoutMs });
}
