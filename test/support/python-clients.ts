/** Jupyter's clients in Python (Debian's nbclient, jupyter_client and jupyter_kernel_test), as programs. */
import { join } from 'node:path';
import type { Server } from './jupyter-client.ts';
import { start } from './process.ts';

const script = join(import.meta.dirname, 'python_clients.py');

/** Runs the script against a gateway, with `home` for what its programs write; returns what it printed. */
export async function runPythonClient(
  args: readonly string[],
  { server, home, input = '' }: { server: Server; home: string; input?: string },
): Promise<unknown> {
  // Debian's own interpreter has Debian's packages.
  const running = start('/usr/bin/python3', [script, ...args], {
    stdin: true,
    env: {
      HOME: home,
      LANG: 'C.UTF-8',
      IPYTHONDIR: undefined,
      JUPYTER_GATEWAY_URL: server.url.replace(/\/$/, ''),
      JUPYTER_GATEWAY_AUTH_TOKEN: server.token,
    },
  });
  running.child.stdin?.end(input);
  const { code, signal } = await running.exited;
  const said = running.lines.findLast(({ from, text }) => from === 'stdout' && text !== '');
  if (code !== 0 || said === undefined)
    throw new Error(`${args.join(' ')} ended with ${String(signal ?? code)}:\n${running.output()}`);
  return JSON.parse(said.text) as unknown;
}
