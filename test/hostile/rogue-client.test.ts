/** A client that breaks the rules of its socket: it gets what SPEC.md says, and nobody else's stream loses a byte. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';

import { decodeFrames, frameTypes } from '../../schema/protocol/frame.ts';
import { clientProtocol, tunnelProtocol } from '../../schema/protocol/limits.ts';
import { ClientSocket, type ClientStream } from '../support/client-socket.ts';
import { until } from '../support/wait.ts';
import { breaches, notAClients } from './client-breaches.ts';
import { type RogueWorld, startRogueWorld, viewOf } from './rogue-world.ts';

let world: RogueWorld;
let path: string;
let bystander: Bystander;
beforeAll(async () => {
  world = await startRogueWorld();
  path = `/v1/sessions/${world.victims[0]}/exec`;
  bystander = await Bystander.start(await dial());
});
afterAll(async () => {
  bystander?.socket.cut();
  for (const agent of [world?.honest, world?.rogue]) agent?.stop();
  await world?.stack.stop();
});

const dial = (token = world.stack.client.token!): Promise<ClientSocket> =>
  ClientSocket.dial(world.stack.url, path, token);

interface EchoStream {
  stream: ClientStream;
  /** What came back so far. */
  back: () => string;
}

/** Another person's streams through the same hub and the same agent's sockets: what is sent must come back, exactly. */
class Bystander {
  readonly socket: ClientSocket;
  readonly #streams: EchoStream[];
  #sent = '';

  private constructor(socket: ClientSocket, streams: EchoStream[]) {
    this.socket = socket;
    this.#streams = streams;
  }

  static async start(socket: ClientSocket): Promise<Bystander> {
    const streams = [true, false].map((interactive) => {
      let back = '';
      const onData = (_: unknown, payload: Uint8Array) => void (back += Buffer.from(payload).toString());
      return { stream: socket.open({ op: 'echo', interactive }, { onData }), back: () => back };
    });
    await Promise.all(streams.map(({ stream }) => stream.opened));
    return new Bystander(socket, streams);
  }

  async checks(word: string): Promise<void> {
    this.#sent += word;
    for (const { stream } of this.#streams) await stream.send(Buffer.from(word));
    await until(() => this.#streams.every(({ back }) => back().length >= this.#sent.length), { what: 'the echo' });
    for (const { back } of this.#streams) expect(back()).toBe(this.#sent);
  }
}

it('has a row or a reason for every rule of SPEC.md', () => {
  const spec = readFileSync(join(import.meta.dirname, '../../schema/protocol/SPEC.md'), 'utf8');
  const rules = [...spec.matchAll(/\*\*([FKMS][0-9]+)\*\*/g)].map((match) => match[1]!);
  expect(rules.length).toBeGreaterThan(30);
  const covered = new Set([...breaches.map(({ rule }) => rule), ...Object.keys(notAClients)]);
  expect(rules.filter((rule) => !covered.has(rule))).toEqual([]);
  expect([...covered].filter((rule) => !rules.includes(rule))).toEqual([]);
});

describe('a client that breaks a rule', () => {
  it.each(breaches.map((breach) => [breach.rule, breach.what, breach] as const))('[%s] %s', async (_, what, breach) => {
    const socket = await dial();
    const resets = new Map<number, string>();
    socket.ws.on('message', (bytes: Buffer, isBinary) => {
      for (const frame of isBinary ? decodeFrames(bytes) : [])
        if (frame.type === frameTypes.reset)
          resets.set(frame.stream, (JSON.parse(Buffer.from(frame.payload).toString()) as { code: string }).code);
    });
    const stream = socket.open({ op: 'echo' });
    await stream.opened;
    breach.act(socket, stream.id);
    const { outcome } = breach;
    if ('close' in outcome) expect(await socket.closed).toEqual({ code: outcome.close, reason: outcome.reason });
    else {
      const id = outcome.id ?? stream.id;
      await until(() => resets.has(id), { what: `a RESET of stream ${id}` });
      expect(resets.get(id)).toBe(outcome.reset);
      // The socket itself is good for another stream.
      const next = socket.open({ op: 'echo' });
      if (outcome.reset !== 'tunnel_stream_limit') await next.opened;
      expect(socket.ws.readyState).toBe(WebSocket.OPEN);
      socket.close();
    }
    await bystander.checks(`after ${what}; `);
  });

  it.each([tunnelProtocol, 'other', undefined])('[K4] by the subprotocol %s is answered 426', async (protocol) => {
    const headers = { authorization: `Bearer ${world.stack.client.token}` };
    const url = new URL(path, world.stack.url.replace(/^http/, 'ws'));
    const ws = new WebSocket(url, protocol === undefined ? [] : [protocol], { headers });
    const answer = await new Promise((resolve) => {
      ws.once('unexpected-response', (_, response) => resolve(response.statusCode));
      ws.once('open', () => resolve('accepted'));
      ws.on('error', () => {});
    });
    ws.terminate();
    expect(answer).toBe(426);
    expect(clientProtocol).not.toBe(protocol);
  });

  it('[S11] by sending on with a token that was revoked is closed with 4401', async () => {
    const { client } = world.stack;
    const made = (await client.api('POST', '/v1/tokens', { name: 'soon-revoked' })) as { id: string; token: string };
    const socket = await dial(made.token);
    const stream = socket.open({ op: 'echo' });
    await stream.opened;
    await client.api('DELETE', `/v1/tokens/${made.id}`);
    const closed = await until(
      async () => {
        await Promise.race([stream.send(Buffer.from('x')), socket.closed]);
        return Promise.race([socket.closed, Promise.resolve(undefined)]);
      },
      { what: 'the socket to be closed', everyMs: 100 },
    );
    expect(closed.code).toBe(4401);
    await bystander.checks('after a revocation; ');
  });
});

it('leaves sessions and agent as they were', async () => {
  const view = (await viewOf(world)) as { agent: { state: string }; sessions: { state: string; version: number }[] };
  expect(view.agent.state).toBe('connected');
  expect(view.sessions.map(({ state }) => state)).toEqual(['RUNNING', 'RUNNING', 'RUNNING']);
  for (const socket of [world.honest.control, ...world.honest.data.values()]) expect(socket.end).toBeUndefined();
});
