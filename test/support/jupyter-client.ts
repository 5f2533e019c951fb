/** JupyterLab's own client of kernels (`@jupyterlab/services`), in Node. */
import { createRequire } from 'node:module';
import type * as Services from '@jupyterlab/services';
import { WebSocket } from 'ws';

// It is made for bundlers: its ES modules leave out file extensions.
const services = createRequire(import.meta.url)('@jupyterlab/services') as typeof Services;

export type KernelConnection = Services.Kernel.IKernelConnection;
type IOPub = Services.KernelMessage.IIOPubMessage;

/** Where a Jupyter server is, and as whom. */
export interface Server {
  /** With a slash at its end. */
  url: string;
  token: string;
  /** It may miss what a kernel publishes first after its start. */
  missesStarts?: boolean;
}

export interface Lab {
  kernels: Services.KernelManager;
  sessions: Services.SessionManager;
  specs: Services.KernelSpecManager;
  stop(): void;
}

/** JupyterLab at a server, without its pages. */
export function openLab({ url, token }: Server): Lab {
  const serverSettings = services.ServerConnection.makeSettings({
    baseUrl: url,
    wsUrl: url.replace(/^http/, 'ws'),
    token,
    appendToken: true,
    WebSocket: WebSocket as unknown as typeof globalThis.WebSocket,
  });
  const kernels = new services.KernelManager({ serverSettings });
  const sessions = new services.SessionManager({ serverSettings, kernelManager: kernels });
  const specs = new services.KernelSpecManager({ serverSettings });
  const stop = () => {
    sessions.dispose();
    kernels.dispose();
    specs.dispose();
  };
  return { kernels, sessions, specs, stop };
}

/** What a cell showed: its output as a notebook would, `clear_output` heeded, and how it ended. */
export interface Cell {
  /** Streams, values and errors, in order. */
  outputs: string[];
  status: string;
}

/** Runs code as a notebook runs a cell. `answer`: what is typed when it asks for a line. */
export async function runCell(kernel: KernelConnection, code: string, answer?: string): Promise<Cell> {
  const cell = startCell(kernel, code, answer);
  return cell.done;
}

export interface RunningCell {
  cell: Cell;
  done: Promise<Cell>;
}

export function startCell(kernel: KernelConnection, code: string, answer?: string): RunningCell {
  const future = kernel.requestExecute({ code, allow_stdin: answer !== undefined, stop_on_error: true });
  const cell: Cell = { outputs: [], status: '' };
  future.onIOPub = (message) => show(cell, message);
  future.onStdin = (message) => {
    if (message.header.msg_type !== 'input_request') return;
    future.sendInputReply({ status: 'ok', value: answer ?? '' }, message.header as never);
  };
  const done = future.done.then((reply) => {
    cell.status = reply.content.status;
    return cell;
  });
  return { cell, done };
}

function show(cell: Cell, message: IOPub): void {
  const { header, content } = message as { header: { msg_type: string }; content: Record<string, unknown> };
  const add = (text: string) => {
    const last = cell.outputs.length - 1;
    if (header.msg_type === 'stream' && last >= 0) cell.outputs[last] += text;
    else cell.outputs.push(text);
  };
  switch (header.msg_type) {
    case 'stream':
      return add(String(content['text']));
    case 'execute_result':
    case 'display_data':
      return add(String((content['data'] as Record<string, unknown>)['text/plain']));
    case 'error':
      return add(`${String(content['ename'])}: ${String(content['evalue'])}`);
    case 'clear_output':
      cell.outputs = [];
  }
}
