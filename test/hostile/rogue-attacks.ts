/**
 * What a rogue agent does with a real identity, kind by kind. Each attack makes its bytes from a seed and says how the edge
 * must answer: by closing this socket with a rule's code, by refusing the dial, or by taking no notice. What nobody else may
 * feel is checked by the test around all of them.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import { frameFlags, encodeFrame, frameTypes } from '../../schema/protocol/frame.ts';
import { closeCodes, limits } from '../../schema/protocol/limits.ts';
import type { AgentEvent } from '../../schema/protocol/events.ts';
import type { Rng } from '../support/random.ts';
import { freshId, type RawSocket } from './scripted-agent.ts';
import type { RogueWorld } from './rogue-world.ts';

export interface Attack {
  kind: string;
  /** One round, on the rogue's live control socket. Throws when the edge answered otherwise than it must. */
  run(world: RogueWorld, rng: Rng): Promise<void>;
}

const { message, data, mark, marked, window, open } = frameTypes;
const utf8 = (text: string): Uint8Array => Buffer.from(text);
const some = <T>(rng: Rng, list: readonly T[]): T => list[rng.integer(0, list.length - 1)]!;
const junk = (rng: Rng): string => rng.bytes(rng.integer(1, 40)).toString('base64url');

/** A well-formed frame, to be broken. */
const plain = (payload = utf8('{}')): Uint8Array =>
  encodeFrame({ type: message, flags: 0, stream: 0, offset: 0, payload });
const changed = (bytes: Uint8Array, at: number, value: number): Uint8Array => {
  const copy = bytes.slice();
  copy[at] = value;
  return copy;
};

async function closes(socket: RawSocket, code: number, reason?: string): Promise<void> {
  const end = await Promise.race([socket.closed, sleep(20_000, undefined)]);
  if (end?.code !== code || (reason !== undefined && end.reason !== reason))
    throw new Error(`expected close ${code} ${reason ?? ''}, got ${JSON.stringify(end)}`);
}

/** Breaks a rule of the control socket. */
function breaks(kind: string, rule: string, make: (rng: Rng) => Uint8Array | string): Attack {
  return {
    kind: `${kind} [${rule}]`,
    async run({ rogue }, rng) {
      rogue.control.raw(make(rng));
      await closes(rogue.control, rule === 'F4' ? closeCodes.tooBig : closeCodes.protocolError, rule);
    },
  };
}

/** Says something that has a shape; nothing comes of it, and the socket stays. */
function says(kind: string, make: (world: RogueWorld, rng: Rng) => unknown): Attack {
  return {
    kind,
    async run(world, rng) {
      const { control } = world.rogue;
      control.say(make(world, rng));
      await control.settled();
      if (control.end) throw new Error(`the socket was closed: ${JSON.stringify(control.end)}`);
    },
  };
}

/** Breaks the shape of a message. */
const misshapen = (kind: string, make: (rng: Rng) => unknown): Attack =>
  breaks(kind, 'F6', (rng) => plain(utf8(JSON.stringify(make(rng)))));

/** A dial that must be refused with the status and code. */
const guessed = 'a join token that was used or never was';

function refused(
  kind: string,
  answers: string | readonly string[],
  dial: (world: RogueWorld, rng: Rng) => Promise<unknown>,
): Attack {
  return {
    kind,
    async run(world, rng) {
      const got = await dial(world, rng).then(
        () => 'accepted',
        (error: Error) => error.message,
      );
      if (![answers].flat().includes(got)) throw new Error(`expected ${String(answers)}, got ${got}`);
    },
  };
}

const bodies = (rng: Rng): AgentEvent['body'] =>
  some<AgentEvent['body']>(rng, [
    { kind: 'ended', reason: 'exited', exitCode: 0 },
    { kind: 'failed', code: 'image_not_found', detail: junk(rng), retryable: false },
    { kind: 'removed' },
    { kind: 'running', containerId: junk(rng) },
    { kind: 'pulled', imageDigest: junk(rng) },
  ]);

/** Numbers the events on as its own. */
const events = ({ rogue }: RogueWorld, list: AgentEvent[]): unknown => {
  const numbered = list.map((event, at) => ({ index: rogue.told.length + 1 + at, event }));
  rogue.told.push(...numbered);
  return { type: 'events', journalId: rogue.journalId, events: numbered };
};

/** Greets on a fresh socket with a hello that is changed, and goes on with it when it is accepted. */
function greets(kind: string, change: (world: RogueWorld, rng: Rng) => Record<string, unknown>): Attack {
  return {
    kind,
    async run(world, rng) {
      await world.rogue.connect(change(world, rng));
    },
  };
}

export const attacks: readonly Attack[] = [
  breaks('another version', 'F1', (rng) => changed(plain(), 0, rng.integer(2, 255))),
  breaks('an unknown type', 'F5', (rng) => changed(plain(), 1, rng.integer(10, 255))),
  breaks('unknown flags', 'F5', (rng) => changed(plain(), 2, 1 << rng.integer(3, 7))),
  breaks('a payload over the limit', 'F3', (rng) => changed(plain(), 3, rng.integer(2, 255))),
  breaks('a message over the limit', 'F4', () => new Uint8Array(limits.messageBytes + 1)),
  breaks('a truncated header', 'F2', (rng) => plain().subarray(0, rng.integer(1, 15))),
  breaks('a truncated payload', 'F2', (rng) => plain(rng.bytes(50)).subarray(0, rng.integer(16, 65))),
  breaks('a stream on the control socket', 'M1', (rng) =>
    encodeFrame({ type: message, flags: 0, stream: rng.integer(1, 0xffff), offset: 0, payload: utf8('{}') }),
  ),
  breaks('frames of data on the control socket', 'M1', (rng) =>
    encodeFrame({ type: some(rng, [data, window, open]), flags: 0, stream: 1, offset: 0, payload: rng.bytes(8) }),
  ),
  breaks('forged marks', 'M1', (rng) =>
    encodeFrame({ type: some(rng, [mark, marked]), flags: 0, stream: 0, offset: 0, payload: rng.bytes(8) }),
  ),
  breaks('truncated JSON', 'F6', (rng) => plain(utf8(`{"type":"report","report":${junk(rng)}`))),
  breaks('broken UTF-8', 'F6', (rng) => plain(Buffer.concat([utf8('{"type":"'), Buffer.from([0xff]), rng.bytes(4)]))),
  breaks('JSON that is nested too deep', 'F6', (rng) => plain(utf8('['.repeat(rng.integer(33, 60_000))))),
  breaks('a text that is no ping', 'K5', (rng) => junk(rng)),
  {
    kind: 'a second hello [M1]',
    async run({ rogue }) {
      rogue.control.say(rogue.hello({ attemptId: freshId('attempt') }));
      await closes(rogue.control, closeCodes.protocolError, 'M1');
    },
  },
  {
    kind: 'JSON without an end [F6]',
    async run({ rogue: { control } }, rng) {
      const part = encodeFrame({
        type: message,
        flags: frameFlags.more,
        stream: 0,
        offset: 0,
        payload: rng.bytes(60_000),
      });
      for (let sent = 0; sent <= limits.jsonBytes; sent += 60_000) control.raw(part);
      await closes(control, closeCodes.protocolError, 'F6');
    },
  },
  misshapen('an unknown message', (rng) => ({ type: some(rng, ['welcome', 'intents', 'dial', 'fence', junk(rng)]) })),
  misshapen('an unknown key', (rng) => ({ type: 'images', images: [], [junk(rng)]: 1 })),
  misshapen('numbers that are none', (rng) => ({
    type: 'report',
    report: {
      used: { cpu: some(rng, [-1, 0.5, Number.MAX_VALUE, '1', null]) },
      health: 'ok',
      problems: [],
      sessions: 0,
      atMs: 0,
    },
  })),
  says('a key that every object has', () => {
    const used = JSON.parse('{"__proto__":1,"constructor":2}') as unknown;
    return { type: 'report', report: { used, health: 'ok', problems: [], sessions: 0, atMs: 0 } };
  }),
  misshapen('a flood of events in one message', (rng) => ({
    type: 'events',
    journalId: freshId('journal'),
    events: Array.from({ length: 101 }, (_, at) => ({
      index: at + 1,
      event: { sessionId: freshId('session'), generation: 1, atMs: 0, body: bodies(rng) },
    })),
  })),
  says('events of sessions of others', (world, rng) =>
    events(
      world,
      world.victims.map((sessionId) => ({ sessionId, generation: 1, atMs: 0, body: bodies(rng) })),
    ),
  ),
  says('events of other generations of its own session', (world, rng) =>
    events(world, [{ sessionId: world.own, generation: some(rng, [0, 2, 999]), atMs: 0, body: bodies(rng) }]),
  ),
  says('events of sessions that never were', (world, rng) =>
    events(world, [{ sessionId: `${freshId('session')}_1_1`, generation: 1, atMs: 0, body: bodies(rng) }]),
  ),
  {
    kind: 'events with a hole before them',
    async run({ rogue, own }, rng) {
      const index = rogue.told.length + rng.integer(2, 2 ** 40);
      const event = { sessionId: own, generation: 1, atMs: 0, body: { kind: 'ended', reason: 'exited' } };
      rogue.control.say({ type: 'events', journalId: rogue.journalId, events: [{ index, event }] });
      await closes(rogue.control, closeCodes.moved, 'events are missing');
    },
  },
  says('events that were taken before, with another content', ({ rogue, own }, rng) => ({
    type: 'events',
    journalId: rogue.journalId,
    events: [
      {
        index: rng.integer(1, rogue.told.length),
        event: { sessionId: own, generation: 1, atMs: 0, body: { kind: 'ended', reason: 'exited' } },
      },
    ],
  })),
  {
    kind: 'events of the journal of another',
    async run({ rogue, honest, victims }, rng) {
      const event = { sessionId: some(rng, victims), generation: 1, atMs: 0, body: bodies(rng) };
      rogue.control.say({ type: 'events', journalId: honest.journalId, events: [{ index: 1, event }] });
      await closes(rogue.control, closeCodes.moved);
    },
  },
  says('acknowledgements of orders of others', ({ honest }) => ({
    type: 'intentAck',
    intentIds: [
      freshId('intent'),
      ...honest.control.messages.flatMap((each) =>
        each.type === 'intents' ? each.intents.map(({ intentId }) => intentId) : [],
      ),
    ],
  })),
  says('answers to calls that nobody made', (_, rng) => ({
    type: 'reply',
    callId: freshId('call'),
    ok: rng.next() < 0.5,
    result: { processes: [] },
  })),
  says('progress of sessions of others', ({ victims }, rng) => ({
    type: 'progress',
    sessionId: some(rng, victims),
    generation: 1,
    phase: 'pulling',
    detail: junk(rng),
    doneBytes: rng.integer(0, 2 ** 40),
  })),
  {
    kind: 'a flood of progress and reports',
    async run({ rogue: { control }, own }, rng) {
      const report = { used: { cpu: 1e15 }, health: 'degraded', problems: [], sessions: 1e9, atMs: 0 };
      for (let left = 200; left > 0; left--)
        control.say(
          left % 2 === 0
            ? { type: 'report', report }
            : { type: 'progress', sessionId: own, generation: 1, phase: 'pulling', detail: junk(rng) },
        );
      await control.settled();
      if (control.end) throw new Error('a flood of what has a shape is let go by, not punished');
    },
  },
  greets('an inventory with sessions of others', ({ victims, own, rogue }, rng) => ({
    inventory: [
      { sessionId: own, generation: rogue.placements.get(own) ?? 1, state: 'running' },
      ...victims.map((sessionId) => ({
        sessionId,
        generation: some(rng, [0, 1, 2, 1000]),
        state: some(rng, ['present', 'running', 'ended']),
      })),
      { sessionId: `${freshId('session')}_1_1`, generation: 1, state: 'running' },
    ],
  })),
  greets('capacities beyond what was approved', (_, rng) => ({
    capacity: { cpu: 1e15, mem: Number.MAX_SAFE_INTEGER, 'cuda.device': rng.integer(1, 1e6), constructor: 5 },
  })),
  {
    kind: 'a captured hello, again',
    async run({ rogue }) {
      // Counter and attempt that the ledger accepted last: the same machine whose answer was lost (M2).
      await rogue.connect({ counter: rogue.counter, attemptId: rogue.attemptId });
    },
  },
  {
    kind: 'words before the hello [M1]',
    async run({ rogue, victims }, rng) {
      const socket = await rogue.dialControl(await rogue.credential());
      socket.say({ type: 'progress', sessionId: some(rng, victims), generation: 1, phase: 'pulling', detail: '' });
      await closes(socket, closeCodes.protocolError, 'M1');
    },
  },
  {
    kind: 'a version that nobody speaks [K4]',
    async run({ rogue }, rng) {
      const socket = await rogue.dialControl(await rogue.credential());
      socket.say(rogue.hello({ version: rng.integer(99, 1e6), minVersion: 99, attemptId: freshId('attempt') }));
      await closes(socket, closeCodes.refused, 'agent_version_unsupported');
    },
  },
  refused('a signature for another agent', '401 agent_signature_invalid', async ({ rogue, honest }) =>
    rogue.dialControl(await rogue.credential({}, honest.id)),
  ),
  refused('a signature for another host', '401 agent_signature_invalid', async ({ rogue }, rng) =>
    rogue.dialControl(await rogue.credential({ host: junk(rng) })),
  ),
  refused('a signature for another instance', '401 agent_signature_invalid', async ({ rogue }, rng) =>
    rogue.dialControl(await rogue.credential({ instance: junk(rng) })),
  ),
  refused('a challenge of its own making', '401 agent_signature_invalid', async ({ rogue }, rng) => {
    const forged = `${Date.now() + 20_000}.${rng.bytes(16).toString('base64url')}.1.${rng.bytes(32).toString('base64url')}`;
    return rogue.dialControl((await rogue.credential()).replace(/nonce=[^,]+/, `nonce=${forged}`));
  }),
  refused('a signature with a flipped bit', '401 agent_signature_invalid', async ({ rogue }, rng) => {
    const header = await rogue.credential();
    const at = header.length - rng.integer(3, 80);
    const letter = header[at] === 'A' ? 'B' : 'A';
    return rogue.dialControl(header.slice(0, at) + letter + header.slice(at + 1));
  }),
  refused('a data socket with the ticket of another', '401 auth_invalid', ({ rogue, honest }, rng) =>
    rogue.dialData(some(rng, ['interactive', 'bulk']), honest.welcome.dataHub, honest.welcome.dataTicket),
  ),
  refused("a data socket on another's hub", '401 auth_invalid', ({ rogue }, rng) =>
    rogue.dialData('bulk', String(rng.integer(64, 999)), rogue.welcome.dataTicket),
  ),
  refused('a data socket with a ticket of another epoch', '401 auth_invalid', ({ rogue }, rng) =>
    rogue.dialData(
      'bulk',
      rogue.welcome.dataHub,
      rogue.welcome.dataTicket.replace(/^\d+/, String(rng.integer(0, 1e15))),
    ),
  ),
  {
    kind: 'a rebind with the ticket of another [S13]',
    async run({ rogue, honest }) {
      const socket = await rogue.dialData('bulk', rogue.welcome.dataHub, rogue.welcome.dataTicket);
      socket.say({ type: 'rebind', epoch: honest.welcome.epoch, dataTicket: honest.welcome.dataTicket });
      await closes(socket, closeCodes.refused);
    },
  },
  {
    kind: 'data, ends and credit for streams of others [S8]',
    async run({ rogue }, rng) {
      const socket = await rogue.dialData('bulk', rogue.welcome.dataHub, rogue.welcome.dataTicket);
      for (let stream = 1; stream <= 5; stream++) {
        socket.send({ type: data, flags: 2, stream, payload: rng.bytes(100) });
        socket.send(
          { type: frameTypes.end, flags: 2, stream },
          { type: window, stream, payload: Buffer.alloc(4, 255) },
        );
        socket.send(
          { type: frameTypes.opened, stream, payload: utf8('{}') },
          { type: frameTypes.reset, stream, payload: utf8('{}') },
        );
      }
      await socket.settled();
      const resets = socket.frames.filter(({ type }) => type === frameTypes.reset).length;
      if (socket.end || resets !== 5) throw new Error(`closed ${JSON.stringify(socket.end)}, ${resets} resets`);
      socket.ws.terminate();
    },
  },
  {
    kind: 'marks on a data socket that it was never sent [S5]',
    async run({ rogue }, rng) {
      const socket = await rogue.dialData('interactive', rogue.welcome.dataHub, rogue.welcome.dataTicket);
      for (let left = 10; left > 0; left--) socket.send({ type: marked, payload: rng.bytes(8) });
      await socket.settled();
      if (socket.end) throw new Error('a mark that the hub does not know is ignored');
      socket.send({ type: marked, payload: rng.bytes(7) });
      await closes(socket, closeCodes.protocolError, 'S5');
    },
  },
  // From one address so many guesses are looked at, and no more.
  refused(guessed, ['401 agent_join_token_invalid', '429 request_rate_limited'], ({ rogue }, rng) =>
    rogue.post('/agent/v1/enrol', {
      token: `cwj_${rng.bytes(32).toString('base64url')}`,
      publicKey: rogue.publicKey,
      capacity: {},
      host: rogue.hello().host,
      agentVersion: '0',
    }),
  ),
];
