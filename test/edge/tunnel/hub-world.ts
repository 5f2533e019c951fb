/** A data hub in virtual time, with its ends of the sockets: what many quiet seconds and a wake do to it. */
import { DataHub, type DataHubPorts } from '../../../edge/tunnel/data-hub.ts';
import type { DataSocket } from '../../../edge/tunnel/links.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import { type Channel, channelFlags, decodeFrames, encodeFrames, frameTypes } from '../../../schema/protocol/frame.ts';
import { jsonFrames } from '../../../schema/protocol/json.ts';
import { VirtualTime } from '../../support/virtual-time.ts';
import { clientClaim, ids } from './peers.ts';

const allGood: DataHubPorts['checkAccess'] = (principals) => Promise.resolve(principals.map(() => 'ok' as const));
const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** A hub in virtual time, with the hub's ends of its sockets. `checkAccess`: how clients are judged. */
export function world({ checkAccess = allGood }: { checkAccess?: DataHubPorts['checkAccess'] } = {}) {
  const time = new VirtualTime();
  const nobody = () => Promise.reject(new Error('nobody is asked for that'));
  const sockets: DataSocket[] = [];
  const ports: DataHubPorts = {
    hub: 'hub-1',
    clock: time,
    timers: time,
    random: { bytes: (length) => new Uint8Array(length), fraction: () => 0.5 },
    log: silent,
    checkAccess,
    uploadedKeys: nobody,
    ticketEpoch: () => undefined,
    controlHub: () => ({ dial: () => Promise.resolve(true) }),
    route: nobody,
  };
  let hub = new DataHub(ports, []);
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
    sockets.push(socket);
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
    return client;
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
  /** A frame of DATA comes in on a socket. */
  const says = ({ socket }: ReturnType<typeof accept>, stream: number, channel: Channel, text: string) => {
    const payload = new TextEncoder().encode(text);
    hub.message(
      socket,
      encodeFrames([{ type: frameTypes.data, flags: channelFlags(channel), stream, offset: 0, payload }]).buffer,
    );
  };
  const texts = ({ seen }: ReturnType<typeof accept>) =>
    seen.sent.filter(({ type }) => type === frameTypes.data).map(({ text }) => text);
  const fence = (epoch: number) => hub.fence(agentId, epoch);
  /** The hub has hibernated, and finds its sockets. */
  const wake = () => void (hub = new DataHub(ports, sockets));
  return { dialsIn, follows, resets, pass, says, texts, fence, wake };
}
