/** A way between agent and edge that forgets one socket, as a NAT does: the hub's end stays open, and nobody is there. */
import { expect, it } from 'vitest';
import { DataHub } from '../../../edge/tunnel/data-hub.ts';
import type { DataSocket } from '../../../edge/tunnel/links.ts';
import { closeCodes, limits } from '../../../schema/protocol/limits.ts';
import { decodeFrames, encodeFrames, frameTypes } from '../../../schema/protocol/frame.ts';
import { jsonFrames } from '../../../schema/protocol/json.ts';
import { VirtualTime } from '../../support/virtual-time.ts';
import { clientClaim, ids } from './peers.ts';

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** A hub in virtual time, with the hub's ends of its sockets. */
function world() {
  const time = new VirtualTime();
  const nobody = () => Promise.reject(new Error('nobody is asked for that'));
  const hub = new DataHub(
    {
      hub: 'hub-1',
      clock: time,
      timers: time,
      random: { bytes: (length) => new Uint8Array(length), fraction: () => 0.5 },
      log: silent,
      checkAccess: (principals) => Promise.resolve(principals.map(() => 'ok' as const)),
      uploadedKeys: nobody,
      ticketEpoch: () => undefined,
      controlHub: () => ({ dial: () => Promise.resolve(true) }),
      route: nobody,
    },
    [],
  );
  const accept = (state: DataSocket['state']) => {
    const seen = { sent: [] as { type: number; text: string }[], closedWith: 0, pongMs: time.nowMs() };
    const socket: DataSocket = {
      state,
      keep: () => undefined,
      send: (bytes) => {
        const frames = decodeFrames(new Uint8Array(bytes as ArrayBuffer));
        for (const { type, payload } of frames) seen.sent.push({ type, text: new TextDecoder().decode(payload) });
      },
      close: (code) => void (seen.closedWith ||= code),
      lastPongMs: () => seen.pongMs,
    };
    hub.opened(socket);
    return { socket, seen };
  };
  const agentId = ids.agent();
  const dialsIn = () => accept(hub.agentState({ agentId, groupNumber: 1, purpose: 'bulk', epoch: 1 }));
  /** A client that follows a log. */
  const follows = () => {
    const client = accept(hub.clientState(clientClaim({ agentId, ops: ['logs'], checkedAtMs: time.nowMs() })));
    const open = { op: 'logs', processId: 'main', streams: 'both', follow: true };
    const [message] = jsonFrames(frameTypes.open, 1, open);
    hub.message(client.socket, encodeFrames([message!]).buffer);
    return client.seen.sent;
  };
  const resets = (sent: { type: number; text: string }[]) =>
    sent.filter(({ type }) => type === frameTypes.reset).map(({ text }) => (JSON.parse(text) as { code: string }).code);
  /** Of `alive`, pings go on arriving. */
  const pass = (ms: number, ...alive: { pongMs: number }[]) => {
    for (let leftMs = ms; leftMs > 0; leftMs -= limits.pingEveryMs) {
      time.advance(Math.min(leftMs, limits.pingEveryMs));
      for (const each of alive) each.pongMs = time.nowMs();
    }
  };
  return { dialsIn, follows, resets, pass };
}

it('[S12] who waits on the socket that is gone is sent to the one that the agent has dialled instead', () => {
  const { dialsIn, follows, resets, pass } = world();
  const gone = dialsIn();
  const before = follows();
  pass(5_000);
  const other = dialsIn();
  pass(limits.silentMs, other.seen);
  expect(gone.seen.closedWith).toBe(closeCodes.goingAway);
  expect(resets(before)).toEqual(['tunnel_closed']);
  expect(other.seen.closedWith).toBe(0);
  follows();
  expect(other.seen.sent.map(({ type }) => type)).toContain(frameTypes.open);
});

it('[S12] a socket that answers stays beside another one of its agent, with its streams', () => {
  const { dialsIn, follows, resets, pass } = world();
  const one = dialsIn();
  const sent = follows();
  const two = dialsIn();
  pass(4 * limits.silentMs, one.seen, two.seen);
  expect([one.seen.closedWith, two.seen.closedWith, resets(sent)]).toEqual([0, 0, []]);
});
