/**
 * A client that reads nothing, claims credit without end, and makes up the marks by which a hub would know that it has read
 * (K6, S5): the hub must hold for it no more than for anybody.
 */
import { encodeFrame, encodeFrames, frameTypes } from '../../schema/protocol/frame.ts';
import { jsonFrames } from '../../schema/protocol/json.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { StreamOpen } from '../../schema/protocol/streams.ts';
import type { Chance } from './chance.ts';
import type { VirtualTime } from './clock.ts';
import type { SimEdge } from './edge/edge.ts';
import { Way } from './edge/links.ts';
import type { Sometimes } from './sometimes.ts';

export interface LiarPorts {
  time: VirtualTime;
  chance: Chance;
  sometimes: Sometimes;
  edge: SimEdge;
  token: string;
}

const streams = 8;
const lies = 20;
const lieMs = 300;
const open: StreamOpen = {
  op: 'logs',
  processId: 'main',
  streams: 'stdout',
  after: { stdout: 0, stderr: 0 },
  follow: true,
};

/** Opens the output of a session several times and takes none of it; never rejects. */
export async function lie(sessionId: string, { time, chance, sometimes, edge, token }: LiarPorts): Promise<void> {
  const way = new Way();
  const end = { message: () => undefined, text: () => undefined, closed: () => undefined };
  const opened = await edge.worker.openClient(way, { sessionId, op: 'logs', token }, end).catch(() => undefined);
  if (opened === undefined) return;
  const { link } = opened;
  way.downIsCut = true;
  const grant = new Uint8Array(4);
  new DataView(grant.buffer).setUint32(0, limits.maxWindowBytes);
  for (let stream = 1; stream <= streams; stream += 1) {
    link.agentSend(encodeFrames(jsonFrames(frameTypes.open, stream, open)));
    link.agentSend(encodeFrame({ type: frameTypes.window, flags: 0, stream, offset: 0, payload: grant }));
  }
  for (let told = 0; told < lies; told += 1) {
    await time.sleep(chance.delayMs(lieMs));
    if (link.heldBytes > limits.markEveryBytes) sometimes.reached('a client claimed to have read what it had not');
    const payload = chance.port().bytes(8);
    link.agentSend(encodeFrame({ type: frameTypes.marked, flags: 0, stream: 0, offset: 0, payload }));
  }
  link.agentDestroy();
}
