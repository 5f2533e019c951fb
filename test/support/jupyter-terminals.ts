/** JupyterLab's own client of terminals (`@jupyterlab/services`), in Node, with what a page would show. */
import { createRequire } from 'node:module';
import type * as Services from '@jupyterlab/services';
import { WebSocket } from 'ws';
import type { Server } from './jupyter-client.ts';
import { until } from './wait.ts';

// They are made for bundlers: their ES modules leave out file extensions.
const load = createRequire(import.meta.url);
const services = load('@jupyterlab/services') as typeof Services;
const { PageConfig } = createRequire(load.resolve('@jupyterlab/services'))('@jupyterlab/coreutils') as {
  PageConfig: { setOption(name: string, value: string): string };
};

/** One tab. */
export interface TerminalPage {
  readonly name: string;
  size(rows: number, columns: number): void;
  type(text: string): void;
  /** Waits for text behind the last reset of the terminal. */
  shows(pattern: RegExp): Promise<void>;
  /** How often it was sent the screen. */
  resets(): number;
  isOver(): boolean;
}

export interface LabTerminals {
  start(options: { name?: string; cwd?: string }): Promise<TerminalPage>;
  connect(name: string): TerminalPage;
  names(): Promise<string[]>;
  shutdown(name: string): Promise<void>;
  stop(): void;
}

/** JupyterLab's terminals at a server. */
export function openTerminals({ url, token }: Server): LabTerminals {
  PageConfig.setOption('terminalsAvailable', 'true');
  const serverSettings = services.ServerConnection.makeSettings({
    baseUrl: url,
    wsUrl: url.replace(/^http/, 'ws'),
    token,
    appendToken: true,
    WebSocket: WebSocket as unknown as typeof globalThis.WebSocket,
  });
  const manager = new services.TerminalManager({ serverSettings });
  return {
    start: async (options) => toPage(await manager.startNew(options)),
    connect: (name) => toPage(manager.connectTo({ model: { name } })),
    names: async () => {
      await manager.refreshRunning();
      return [...manager.running()].map(({ name }) => name);
    },
    shutdown: (name) => manager.shutdown(name),
    stop: () => manager.dispose(),
  };
}

function toPage(connection: Services.Terminal.ITerminalConnection): TerminalPage {
  let shown = '';
  let resets = 0;
  connection.messageReceived.connect((_, { type, content }) => {
    if (type !== 'stdout') return;
    for (const text of content ?? []) {
      const parts = String(text).split('\x1bc');
      resets += parts.length - 1;
      shown = parts.length > 1 ? (parts.at(-1) ?? '') : shown + String(text);
    }
  });
  return {
    name: connection.name,
    size: (rows, columns) => connection.send({ type: 'set_size', content: [rows, columns, 16 * rows, 8 * columns] }),
    type: (text) => connection.send({ type: 'stdin', content: [text] }),
    shows: async (pattern) => {
      await until(() => pattern.test(shown), {
        what: `${String(pattern)} in ${JSON.stringify(shown.slice(-500))}`,
        timeoutMs: 60_000,
      });
    },
    resets: () => resets,
    isOver: () => connection.isDisposed,
  };
}
