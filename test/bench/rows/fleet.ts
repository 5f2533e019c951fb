/**
 * Many agents on one machine. Sizes for development: CAUSEWAY_FLEET_AGENTS (1000), CAUSEWAY_FLEET_HERD (10000),
 * CAUSEWAY_FLEET_IDLE_SECONDS (600). All rows: `npm run bench -- fleet`; they are too long for `all`.
 */
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WebSocket } from 'ws';
import { residentMiB } from '../../support/invariants.ts';
import { start } from '../../support/process.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import type { Stack } from '../../support/stack.ts';
import { Fleet } from '../fleet/fleet.ts';
import { dial, startBare } from '../peers/bare.ts';
import { loadSteadily } from '../peers/http-load.ts';
import { type Round, type Row, quantile } from '../row.ts';

const agents = Number(process.env['CAUSEWAY_FLEET_AGENTS'] ?? 1000);
const herd = Number(process.env['CAUSEWAY_FLEET_HERD'] ?? 10_000);
const idleMs = Number(process.env['CAUSEWAY_FLEET_IDLE_SECONDS'] ?? 600) * 1000;
const settleMs = 5000;
/** So long that one collection of workerd's garbage, some 100 ms, is not what p99 is. */
const watchMs = 20_000;
const memoryLimitMiB = 1536;
const p99LimitMs = 1000;
const badSockets = 200;
/** What one address may ask at once is asked by then (edge/http/strangers.ts). */
const askBurstMs = 15_000;
/** What a program that does harm takes to begin. */
const beginMs = 1000;
/** Sockets of the bare object that are dialled at a time. */
const dialAtOnce = 50;
/** D1 is settled when nothing was written for so long. */
const quietMs = 30_000;
const settledWithinMs = 300_000;
/** Redis commands of one agent in a minute. */
const redisBudget = 0.01;
/** What garbage collection moves within a memory that is called flat, in MiB. */
const flatMiB = 8;

export const rows: Row[] = [
  {
    name: 'fleet-memory',
    title: `memory of workerd for each of ${agents} idle agents`,
    peer: 'a bare hibernating object for each of as many sockets',
    unit: 'KiB',
    goal: { kind: 'ratio', atMost: 3 },
    setup: async () => withFleet(agents, (fleet) => memory(fleet)),
  },
  {
    name: 'fleet-idle',
    title: `messages that wake a hub, of an idle agent in a minute, over ${idleMs / 1000} s (beside: rows of D1, Redis commands, memory, descriptors)`,
    peer: 'none',
    unit: 'per min',
    goal: { kind: 'value', atMost: 1 },
    setup: async () =>
      withFleet(agents, async (fleet) => {
        await fleet.connect();
        await sleep(settleMs);
        return () => idle(fleet);
      }),
  },
  {
    name: 'fleet-back',
    title: `${agents} agents connected again after kill -9 of workerd`,
    peer: 'the API answers again',
    unit: 's',
    goal: { kind: 'value', atMost: 10 },
    setup: async () => withFleet(agents, async (fleet) => (await fleet.connect(), () => back(fleet))),
  },
  {
    name: 'fleet-herd',
    title: `${herd} agents connected again after kill -9 of workerd, its memory below ${memoryLimitMiB} MiB, p99 of people's GETs below ${p99LimitMs} ms meanwhile`,
    peer: 'the API answers again',
    unit: 's',
    goal: { kind: 'value', atMost: 60 },
    setup: async () => withFleet(herd, async (fleet) => (await fleet.connect(), () => back(fleet))),
  },
  {
    name: 'fleet-hostile',
    title: `p99 of people's GETs while ${badSockets} sockets dial with bad signatures, again at once`,
    peer: 'the same while nothing else moves',
    unit: 'ms',
    goal: { kind: 'ratio', atMost: 1.2 },
    setup: async () =>
      withFleet(Math.min(agents, 200), async (fleet) => (await fleet.connect(), () => hostile(fleet, 'dial'))),
  },
  {
    name: 'fleet-askers',
    title: `p99 of people's GETs while ${badSockets} sockets ask for challenges that nobody signs, again at once (after their first ${askBurstMs / 1000} s)`,
    peer: 'the same while nothing else moves',
    unit: 'ms',
    goal: { kind: 'ratio', atMost: 1.2 },
    setup: async () =>
      withFleet(Math.min(agents, 200), async (fleet) => (await fleet.connect(), () => hostile(fleet, 'ask'))),
  },
  {
    name: 'fleet-rogue',
    title: `p99 of people's GETs while one agent floods its hub and ledger with reports and events, and dials again when it is closed`,
    peer: 'the same while nothing else moves',
    unit: 'ms',
    goal: { kind: 'ratio', atMost: 1.2 },
    setup: async () => withFleet(Math.min(agents, 200), async (fleet) => (await fleet.connect(), () => rogue(fleet))),
  },
];

type Measured = Awaited<ReturnType<Row['setup']>>;

async function withFleet(size: number, prepare: (fleet: Fleet) => Promise<Measured['round']>): Promise<Measured> {
  const fleet = await Fleet.enrol(size);
  try {
    return { round: await prepare(fleet), teardown: () => fleet.stop() };
  } catch (error) {
    const said = fleet.stack.output();
    await fleet.stop();
    throw new Error(`${(error as Error).message}\n${said}`, { cause: error });
  }
}

/** Both begin with a fresh workerd that has answered some requests. */
async function memory(fleet: Fleet): Promise<Measured['round']> {
  return async () => {
    await fleet.disconnect();
    await fleet.killEdge();
    await people(fleet.stack, 2000);
    const before = residentMiB(fleet.stack.edge.workerdPid);
    await fleet.connect();
    await sleep(settleMs);
    const subject = ((residentMiB(fleet.stack.edge.workerdPid) - before) * 1024) / fleet.size;
    return { subject, peer: await bareMemory(fleet.size) };
  };
}

async function bareMemory(count: number): Promise<number> {
  const bare = await startBare();
  const sockets: WebSocket[] = [];
  try {
    await loadSteadily({ url: `${bare.url}/hello`, connections: 8, durationMs: 2000, perSecond: 100 });
    const before = residentMiB(bare.pid);
    while (sockets.length < count) {
      const some = Array.from({ length: Math.min(dialAtOnce, count - sockets.length) }, async () =>
        dial(`${bare.url.replace('http', 'ws')}/relay?role=agent`),
      );
      sockets.push(...(await Promise.all(some)));
    }
    await sleep(settleMs);
    return ((residentMiB(bare.pid) - before) * 1024) / count;
  } finally {
    for (const socket of sockets) socket.terminate();
    await bare.stop();
  }
}

async function idle(fleet: Fleet): Promise<Round> {
  const { stack } = fleet;
  await whenSettled(stack);
  const watch = new RowWatch(stack.edge.state);
  const look = async () => ({
    sent: (await fleet.state()).sent,
    redis: await redisCommands(stack),
    mib: residentMiB(stack.edge.workerdPid),
    descriptors: readdirSync(`/proc/${stack.edge.workerdPid}/fd`).length,
  });
  const before = await look();
  await sleep(idleMs);
  const after = await look();
  const minutes = idleMs / 60_000;
  const subject = (after.sent - before.sent) / fleet.size / minutes;
  const redis = (after.redis - before.redis) / fleet.size / minutes;
  const grown = after.mib - before.mib;
  const faults = [
    ...(redis > redisBudget ? [`${redis.toFixed(4)} Redis commands a minute`] : []),
    ...(watch.any() ? ['D1 was written'] : []),
    ...(grown > Math.max(flatMiB, before.mib * 0.01 * (minutes / 10)) ? [`memory grew by ${grown} MiB`] : []),
    ...(Math.abs(after.descriptors - before.descriptors) > 8
      ? [`descriptors went from ${before.descriptors} to ${after.descriptors}`]
      : []),
  ];
  process.stderr.write(`  idle: redis ${redis.toFixed(4)}/min an agent, memory ${before.mib} -> ${after.mib} MiB\n`);
  return { subject, ...(faults.length === 0 ? {} : { fault: faults.join('; ') }) };
}

/**
 * Kills the edge and times the return of all; people ask all the while, from when the API answers again. The agents have been
 * there for a minute, so that their last failures are forgotten (SPEC M12).
 */
async function back(fleet: Fleet): Promise<Round> {
  await sleep(limits.stableMs);
  const { drops } = await fleet.state();
  const killedMs = await fleet.killEdge();
  const answeredMs = Date.now();
  const over = new AbortController();
  const asking = askUntil(fleet.stack, over.signal);
  const state = await fleet.untilConnected(drops + fleet.size);
  over.abort();
  const asked = await asking;
  const after = await people(fleet.stack, 2000);
  const mib = residentMiB(fleet.stack.edge.workerdPid);
  const p99 = quantile(asked.timesMs, 0.99);
  const subject = (state.lastConnectedMs - killedMs) / 1000;
  process.stderr.write(
    `  back: people's p99 ${p99.toFixed(0)} ms of ${asked.timesMs.length}, after ${quantile(after, 0.99).toFixed(0)} ms; workerd ${mib} MiB; answers ${JSON.stringify(state.answers)}\n`,
  );
  const faults = [
    ...(mib > memoryLimitMiB ? [`workerd has ${mib} MiB`] : []),
    ...(p99 > p99LimitMs ? [`people's p99 was ${p99.toFixed(0)} ms`] : []),
    ...(asked.failed > 0 ? [`${asked.failed} of people's GETs failed`] : []),
    ...(state.last5xxMs > state.lastConnectedMs ? ['a 5xx came after all were back'] : []),
  ];
  return {
    subject,
    peer: (answeredMs - killedMs) / 1000,
    ...(faults.length === 0 ? {} : { fault: faults.join('; ') }),
  };
}

async function hostile(fleet: Fleet, what: 'dial' | 'ask'): Promise<Round> {
  const words = [what, String(badSockets), ...fleet.ids.slice(0, 20)];
  return beside(fleet, { program: 'hostile.ts', words, afterMs: what === 'ask' ? askBurstMs : beginMs });
}

/** A fresh agent each round: what one has said and dialled is remembered. */
async function rogue(fleet: Fleet): Promise<Round> {
  return beside(fleet, { program: 'rogue.ts', words: [await fleet.stack.client.newJoinToken()], afterMs: beginMs });
}

/** What people feel without, then beside a program that does harm. Of its own: what it costs here is not the edge's time. */
async function beside(
  fleet: Fleet,
  { program, words, afterMs }: { program: string; words: readonly string[]; afterMs: number },
): Promise<Round> {
  const peer = quantile(await people(fleet.stack, watchMs), 0.99);
  const bad = start(process.execPath, [join(import.meta.dirname, '../fleet', program), fleet.stack.url, ...words], {
    name: program,
    stdin: true,
  });
  await bad.line('ready');
  await sleep(afterMs);
  const subject = quantile(await people(fleet.stack, watchMs), 0.99);
  bad.child.stdin!.end();
  const { text } = await bad.line('done');
  await bad.exited;
  process.stderr.write(`  ${program}: ${text}\n`);
  const { connected } = await fleet.state();
  return { subject, peer, ...(connected === fleet.size ? {} : { fault: `only ${connected} agents stayed connected` }) };
}

/** Times in ms of GETs of whoami at a steady rate. */
async function people(stack: Stack, durationMs: number): Promise<number[]> {
  const headers = { authorization: `Bearer ${stack.client.token}` };
  return loadSteadily({ url: `${stack.url}/v1/whoami`, headers, connections: 8, durationMs, perSecond: 100 });
}

/** GETs of whoami, twenty a second whether or not those before were answered, until `signal`. */
async function askUntil(stack: Stack, signal: AbortSignal): Promise<{ timesMs: number[]; failed: number }> {
  const timesMs: number[] = [];
  const under: Promise<void>[] = [];
  let failed = 0;
  while (!signal.aborted) {
    const sentMs = performance.now();
    under.push(
      stack.client.api('GET', '/v1/whoami').then(
        () => void timesMs.push(performance.now() - sentMs),
        () => void failed++,
      ),
    );
    await sleep(50);
  }
  await Promise.all(under);
  return { timesMs, failed };
}

/** What enrolling them left to be done is done: the audit trail of it is sealed. */
async function whenSettled(stack: Stack): Promise<void> {
  const untilMs = Date.now() + settledWithinMs;
  for (let isQuiet = false; !isQuiet && Date.now() < untilMs;) {
    const watch = new RowWatch(stack.edge.state);
    await sleep(quietMs);
    isQuiet = !watch.any();
  }
}

/** What the keeper of Redis asks to see that it lives, and what is asked here, cost no agent anything. */
const ownCommands = new Set(['ping', 'auth', 'info']);

async function redisCommands(stack: Stack): Promise<number> {
  const text = String(await stack.redis!.command('INFO', 'commandstats'));
  const calls = [...text.matchAll(/^cmdstat_([a-z|_]+):calls=(\d+)/gm)];
  return calls.reduce((sum, [, name, count]) => sum + (ownCommands.has(name!) ? 0 : Number(count)), 0);
}

/**
 * Sees whether rows of D1 change. Commits alone say less: who reads after a while wakes the object that holds D1, and that
 * counts itself in a table of its own (the sweep of object storage does so every 15 minutes).
 */
class RowWatch {
  readonly #databases: DatabaseSync[];
  readonly #before: string;

  constructor(state: string) {
    const files = readdirSync(state, { recursive: true, encoding: 'utf8' });
    this.#databases = files
      .filter((file) => file.includes('d1') && file.endsWith('.sqlite'))
      .map((file) => new DatabaseSync(join(state, file), { readOnly: true }));
    if (this.#databases.length === 0) throw new Error(`no D1 below ${state}`);
    this.#before = this.#digest();
  }

  any(): boolean {
    return this.#digest() !== this.#before;
  }

  #digest(): string {
    const hash = createHash('sha256');
    for (const database of this.#databases) {
      const tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").all();
      for (const name of tables.map((table) => String(table['name'])))
        if (!name.startsWith('_cf_')) hash.update(JSON.stringify(database.prepare(`SELECT * FROM "${name}"`).all()));
    }
    return hash.digest('hex');
  }
}
