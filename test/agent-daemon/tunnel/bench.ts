/** An agent's tunnel with everything real but Docker and time: identity and journal on disk, sockets to a fake edge. */
import { join } from 'node:path';
import type { Handlers, Workload } from '../../../agent-daemon/dispatch.ts';
import { freshId } from '../../../agent-daemon/fresh-id.ts';
import { systemDisk, systemRandom, systemSoon } from '../../../agent-daemon/platform.ts';
import { echoCall, echoStream } from '../../../agent-daemon/tunnel/echo.ts';
import { joinOnce } from '../../../agent-daemon/tunnel/enrol.ts';
import { Identity } from '../../../agent-daemon/tunnel/identity.ts';
import { Journal } from '../../../agent-daemon/tunnel/journal.ts';
import { postBy } from '../../../agent-daemon/tunnel/http.ts';
import { dialBy } from '../../../agent-daemon/tunnel/socket.ts';
import { brieflyKept } from '../../../wire/http.ts';
import { Way } from '../../../wire/way.ts';
import { Tunnel } from '../../../agent-daemon/tunnel/tunnel.ts';
import { newId } from '../../../schema/ids.ts';
import type { AgentEvent } from '../../../schema/protocol/events.ts';
import type { Intent } from '../../../schema/protocol/intents.ts';
import type { InventoryAnswer, ToAgent } from '../../../schema/protocol/messages.ts';
import type { FakeEdge, FakeHubSocket } from '../../support/fake-edge.ts';
import { keptLog, noFailpoints } from '../ports.ts';
import { kernelSpec, sessionId } from '../support.ts';
import { VirtualTime } from '../../support/virtual-time.ts';

export { sessionId };
export const host = { hostname: 'h', os: 'Linux', kernel: '6', arch: 'x86_64', engine: 'none' } as const;

let made = 0;
export function intent(order: Intent['order'], seq: number, generation = 1, session = sessionId): Intent {
  const intentId = newId('intent', ++made, systemRandom.bytes(10));
  return { intentId, sessionId: session, generation, seq, order };
}
export const create = (seq = 1, generation = 1, session = sessionId): Intent =>
  intent({ kind: 'create', spec: kernelSpec() }, seq, generation, session);
export const stop = (seq: number, generation = 1): Intent =>
  intent({ kind: 'stop', graceMs: 0, force: true, reason: 'test' }, seq, generation);

export function event(kind: 'pulling' | 'creating' = 'pulling', generation = 1): AgentEvent {
  return { sessionId, generation, atMs: 1, body: { kind } };
}

export interface AgentBench {
  tunnel: Tunnel;
  time: VirtualTime;
  log: ReturnType<typeof keptLog>;
  journal: Journal;
  /** Orders carried out, as `kind seq`. */
  done: string[];
  answers: InventoryAnswer[];
  hung: number;
  /** How often it was asked to tell everything anew. */
  retold: number;
  workload: Workload;
  stop(): Promise<void>;
}

export interface BenchOptions {
  handlers?: Partial<Handlers['intents']>;
  streams?: Partial<Handlers['streams']>;
  liveSessions?: () => number;
  token?: string;
  time?: VirtualTime;
  /** In place of every random fraction. */
  fraction?: number;
}

/** Starts an agent on `stateDir`, enrolled at `edge`. Started twice on one directory it is the same agent restarted. */
export async function startAgent(
  edge: () => FakeEdge,
  stateDir: string,
  options: BenchOptions = {},
): Promise<AgentBench> {
  const time = options.time ?? new VirtualTime();
  const log = keptLog();
  const kept = brieflyKept(new Way({}));
  const ports = {
    clock: time,
    timers: time,
    random: { ...systemRandom, fraction: () => options.fraction ?? systemRandom.fraction() },
    disk: systemDisk,
    post: postBy(kept),
    log,
    failpoints: noFailpoints,
  };
  const identity = await Identity.open(stateDir, ports);
  const journal = await Journal.open(join(stateDir, 'journal.log'), {
    disk: systemDisk,
    log,
    timers: time,
    freshJournalId: () => freshId('journal', ports),
  });
  const bench = {
    time,
    log,
    journal,
    done: [] as string[],
    answers: [] as InventoryAnswer[],
    hung: 0,
    retold: 0,
  } as unknown as AgentBench;
  const sockets = {
    dial: dialBy(kept),
    url: () => edge().url,
    soon: systemSoon,
    nowMs: () => performance.now(),
  };
  const tunnel = new Tunnel({ ...ports, ...sockets, hung: () => void bench.hung++ }, identity, journal);
  const carried = (kind: string) => (order: { seq: number }) => {
    bench.done.push(`${kind} ${order.seq}`);
    return Promise.resolve();
  };
  bench.workload = {
    capacity: () => Promise.resolve({ cpu: 1000, mem: 1024 ** 3 }),
    host: () => Promise.resolve(host),
    inventory: () => Promise.resolve([]),
    images: () => Promise.resolve([]),
    reconcile: (answer) => {
      bench.answers.push(answer);
      return Promise.resolve();
    },
    retell: () => {
      bench.retold++;
      return Promise.resolve();
    },
    liveSessions: options.liveSessions ?? (() => 0),
  };
  const refuse = () => Promise.reject(new Error('not in this test'));
  const handlers: Handlers = {
    intents: { create: carried('create'), stop: carried('stop'), remove: carried('remove'), ...options.handlers },
    calls: {
      echo: echoCall,
      processes: () => Promise.resolve({ processes: [] }),
      kernels: refuse,
      kernel: refuse,
      kernelspecs: refuse,
      terminals: refuse,
      terminal: refuse,
      upgrade: refuse,
      upgradeState: refuse,
      describe: refuse,
    },
    streams: {
      process: refuse,
      logs: refuse,
      lines: refuse,
      execute: refuse,
      channels: refuse,
      terminal: refuse,
      get: refuse,
      put: refuse,
      ssh: refuse,
      connect: refuse,
      echo: echoStream,
      ...options.streams,
    },
  };
  const settings = { url: () => edge().url, token: options.token ?? 'cwj_test-token', name: undefined };
  const { signal } = new AbortController();
  const membership = await joinOnce(identity, settings, bench.workload, ports, signal).catch(async (error: unknown) => {
    await journal.close();
    throw error;
  });
  tunnel.start(membership, bench.workload, handlers);
  bench.tunnel = tunnel;
  bench.stop = async () => {
    await tunnel.stop();
    await journal.close();
  };
  return bench;
}

export function welcome(changes: Partial<Extract<ToAgent, { type: 'welcome' }>> = {}): ToAgent {
  return {
    type: 'welcome',
    version: 1,
    epoch: 1,
    dataTicket: 'ticket-1',
    dataHub: 'hub',
    ackedIndex: 0,
    answer: { destroy: [] },
    ...changes,
  };
}

/** Waits for the n-th control socket, takes its hello and answers it. */
export async function attach(
  edge: FakeEdge,
  agent: AgentBench,
  n = 0,
  changes: Parameters<typeof welcome>[0] = {},
): Promise<FakeHubSocket> {
  const socket = await agent.time.until(`control socket ${n}`, () => edge.of('control')[n], 200);
  await agent.time.until('hello', () => socket.of('hello')[0]);
  socket.send(welcome({ epoch: n + 1, ...changes }));
  await agent.time.until('the agent to be connected', () => agent.tunnel.status.epoch === (changes.epoch ?? n + 1));
  return socket;
}
