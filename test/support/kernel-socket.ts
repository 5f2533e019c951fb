/**
 * A socket to a kernel behind any Jupyter server, in either dialect, that keeps all it is sent and knows nothing of the
 * product: two servers are asked the same by it and compared.
 */
import { WebSocket } from 'ws';
import type { Server } from './jupyter-client.ts';
import { type JupyterMessage, parseJupyterMessage, toJupyterRecord } from './jupyter-messages.ts';
import { until } from './wait.ts';

const v1Protocol = 'v1.kernel.websocket.jupyter.org';

export type Dialect = 'v1' | 'text';

/** A message as a client makes it. */
export interface Said {
  channel: string;
  header: Record<string, unknown>;
  parent?: Record<string, unknown>;
  metadata?: Record<string, unknown>;
  content: Record<string, unknown>;
  buffers?: readonly Uint8Array[];
}

export class KernelSocket {
  readonly messages: JupyterMessage[] = [];
  /** Close code, once it is closed. */
  closed: number | undefined;
  readonly #ws: WebSocket;
  readonly #dialect: Dialect;

  private constructor(ws: WebSocket, dialect: Dialect) {
    this.#ws = ws;
    this.#dialect = dialect;
    ws.on('message', (data: Buffer, isBinary) => void this.messages.push(read(data, isBinary, dialect)));
    ws.on('close', (code) => (this.closed = code));
    ws.on('error', () => {}); // a close follows
  }

  /** Rejects with the HTTP status when it is refused. */
  static async open(server: Server, kernelId: string, session: string, dialect: Dialect): Promise<KernelSocket> {
    const url = `${server.url.replace(/^http/, 'ws')}api/kernels/${kernelId}/channels?session_id=${session}`;
    const ws = new WebSocket(url, dialect === 'v1' ? [v1Protocol] : [], {
      headers: { authorization: `token ${server.token}` },
      maxPayload: 64 * 1024 * 1024,
    });
    // Before it is open: the first message may come with the answer.
    const socket = new KernelSocket(ws, dialect);
    await new Promise<void>((resolve, reject) => {
      ws.once('open', resolve);
      ws.once('error', reject);
      ws.once('unexpected-response', (_, response) =>
        reject(new Error(`the socket was refused: ${response.statusCode}`)),
      );
    });
    return socket;
  }

  say({ channel, header, parent = {}, metadata = {}, content, buffers = [] }: Said): void {
    if (this.#dialect === 'v1') {
      const parts = [header, parent, metadata, content].map((part) => Buffer.from(JSON.stringify(part)));
      this.#ws.send(toJupyterRecord(channel, [...parts, ...buffers]).subarray(4));
      return;
    }
    const message = { channel, header, parent_header: parent, metadata, content, buffers: [] };
    const text = JSON.stringify(message);
    this.#ws.send(buffers.length === 0 ? text : joinParts([Buffer.from(text), ...buffers]));
  }

  /** Sends what may be no message at all. */
  sendRaw(data: string | Uint8Array): void {
    this.#ws.send(data);
  }

  /** Waits for a message; fails when the socket is closed before. */
  whenSaid(fits: (message: JupyterMessage) => boolean, what: string, timeoutMs = 60_000): Promise<JupyterMessage> {
    return until(() => this.messages.find(fits), {
      what,
      everyMs: 5,
      timeoutMs,
      giveUp: () => {
        const last = () =>
          this.messages
            .slice(-6)
            .map((each) =>
              JSON.stringify([each.channel, each.header['msg_type'], each.parent['msg_id'], each.content]).slice(
                0,
                200,
              ),
            );
        return this.closed === undefined || this.messages.some(fits)
          ? undefined
          : `closed with ${this.closed}; ${last().join(' ')}`;
      },
    });
  }

  async close(): Promise<void> {
    this.#ws.close();
    await until(() => this.closed !== undefined, { what: 'the socket to close' }).catch(() => this.#ws.terminate());
  }
}

/** Number of parts, where each begins, and the parts. */
function joinParts(parts: readonly Uint8Array[]): Buffer {
  const head = Buffer.alloc(4 * (1 + parts.length));
  head.writeUInt32BE(parts.length);
  let at = head.byteLength;
  for (const [index, part] of parts.entries()) {
    head.writeUInt32BE(at, 4 * (1 + index));
    at += part.byteLength;
  }
  return Buffer.concat([head, ...parts]);
}

function read(data: Buffer, isBinary: boolean, dialect: Dialect): JupyterMessage {
  if (dialect === 'v1') return parseJupyterMessage(data);
  const count = isBinary ? data.readUInt32BE(0) : 1;
  const offsets = Array.from({ length: count }, (_, i) => (isBinary ? data.readUInt32BE(4 * (1 + i)) : 0));
  const [json, ...buffers] = offsets.map((from, i) => data.subarray(from, offsets[i + 1] ?? data.byteLength));
  // Python writes numbers that JSON has none of.
  const text = json!.toString().replaceAll(/([:[,] ?)(-?Infinity|NaN)(?=[,\]}])/g, '$1"$2"');
  const said = JSON.parse(text) as JupyterMessage & { parent_header: JupyterMessage['parent'] };
  const { channel, header, parent_header: parent, metadata, content } = said;
  return { channel, header, parent, metadata, content, buffers };
}
