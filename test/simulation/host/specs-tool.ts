/** A model of `causeway-init kernelspecs`: an image with one kernel of Jupyter. */
import { inside } from '../../../agent-daemon/runtime/docker-spec.ts';
import type { Interpreter, InterpreterPorts } from './interpreters.ts';

/** Name of the one kernelspec of simulated images. */
export const specName = 'simulated';
const kernelJson = { argv: ['a-kernel', '-f', '{connection_file}'], display_name: 'Simulated', language: 'python' };
const takesMs = 20;

/** The tool of an argv; undefined when it is another. */
export function specsToolOf(argv: readonly string[], ports: InterpreterPorts): Interpreter | undefined {
  const [program, tool] = argv;
  if (program !== inside.init || tool !== 'kernelspecs') return undefined;
  let cancel: () => void = () => undefined;
  const list = (): void => {
    const folder = `/usr/share/jupyter/kernels/${specName}`;
    const line = JSON.stringify({ name: specName, folder, text: JSON.stringify(kernelJson) });
    ports.write('stdout', Buffer.from(`${line}\n`));
    ports.exit(0);
  };
  return {
    start: () => {
      cancel = ports.timers.after(takesMs, list);
    },
    read: () => undefined,
    interrupt: () => undefined,
    terminate: () => false,
    end: () => cancel(),
  };
}
