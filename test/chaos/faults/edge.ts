/** The edge dies, hangs, is deployed anew, or finds another one on its data. */
import { join } from 'node:path';
import { start } from '../../support/process.ts';
import { type Fault, Violation, fault } from '../fault.ts';
import type { World } from '../world.ts';
import { signalQuietly } from './signals.ts';

const root = join(import.meta.dirname, '../../..');
/** The exit status of an edge that finds its state directory taken. */
const inUse = 75;
const refusalMs = 60_000;

function onEdge(name: string, inject: (world: World) => Promise<() => Promise<void>>): Fault {
  return fault<World>({ name, appliesTo: (world) => [world], on: () => 'edge', inject });
}

/** Starts a second edge on the same data, which must refuse before it touches any of it. */
async function secondEdge({ stack }: World): Promise<void> {
  const args = ['edge/serve/index.ts', '--state', stack.edge.state, '--port', '0'];
  const second = start(process.execPath, args, { name: 'second edge', cwd: root });
  const late = setTimeout(() => second.kill('SIGKILL'), refusalMs);
  const { code, signal } = await second.exited;
  clearTimeout(late);
  if (code !== inUse)
    throw new Violation(`[I3] a second edge on the same data ended with ${signal ?? code}:\n${second.output()}`);
}

export const edgeFaults: Fault[] = [
  onEdge('kill -9 of workerd', async ({ stack }) => {
    stack.edge.killWorkerd9();
    return async () => {};
  }),
  onEdge('workerd stands still', async ({ stack }) => {
    const pid = stack.edge.workerdPid;
    signalQuietly(pid, 'SIGSTOP');
    return async () => signalQuietly(pid, 'SIGCONT');
  }),
  onEdge('kill -9 of the keeper of workerd', async ({ stack }) => {
    await stack.edge.kill9();
    return async () => stack.edge.start();
  }),
  onEdge('the keeper of workerd stands still', async ({ stack }) => {
    const { pid } = stack.edge.process;
    signalQuietly(pid, 'SIGSTOP');
    return async () => signalQuietly(pid, 'SIGCONT');
  }),
  onEdge('deploy', async ({ stack }) => {
    await stack.edge.stop();
    return async () => stack.edge.start();
  }),
  onEdge('second edge on the same data', async (world) => {
    await secondEdge(world);
    return async () => {};
  }),
];
