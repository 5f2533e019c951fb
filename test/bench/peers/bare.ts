/** The bare Worker of `test/edge/workers/bare.ts`, served as the edge is, and a relay through it. */
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { type Edge, startEdge } from '../../../edge/serve/start.ts';
import { start } from '../../support/process.ts';
import { tmpDir } from '../../support/tmp.ts';
import { pingPong } from './tcp.ts';

export interface Bare {
  url: string;
  /** Of workerd. */
  readonly pid: number;
  stop(): Promise<void>;
}

/** @param prepare puts something into the state directory first */
export async function startBare(prepare: (state: string) => void = () => {}): Promise<Bare> {
  const dir = tmpDir('bare');
  prepare(dir.path);
  const worker = fileURLToPath(new URL('../../edge/workers/bare.ts', import.meta.url));
  const edge: Edge = await startEdge({ state: dir.path, worker });
  return {
    url: edge.url,
    pid: edge.workerdPid(),
    stop: async () => {
      await edge.kill9();
      dir.remove();
    },
  };
}

export interface Relay {
  /** Times of 64-byte echoes through the relay to an echoing process and back, in us. */
  echoTimes(count: number): Promise<number[]>;
  stop(): Promise<void>;
}

/** Connects an echoing process to the bare relay, as an agent would be. */
export async function startRelay(bare: Bare): Promise<Relay> {
  const url = `${bare.url.replace('http', 'ws')}/relay`;
  const program = fileURLToPath(new URL('echo-agent.ts', import.meta.url));
  const agent = start(process.execPath, [program, `${url}?role=agent`], { name: 'echo agent' });
  await agent.line('ready');
  const client = await dial(`${url}?role=client`);
  return {
    echoTimes: async (count) => {
      const source = { on: (_: 'data', listener: (data: Uint8Array) => void) => client.on('message', listener) };
      const times = await pingPong(count, (payload) => client.send(payload), source);
      client.removeAllListeners('message');
      return times;
    },
    stop: async () => {
      client.terminate();
      await agent.kill9();
    },
  };
}

/** A client socket as ours are: no compression, no mask over loopback. */
export async function dial(url: string): Promise<WebSocket> {
  const socket = new WebSocket(url, { perMessageDeflate: false, generateMask: (mask) => void mask.fill(0) });
  await new Promise((resolve, reject) => void socket.once('open', resolve).once('error', reject));
  return socket;
}
