/** Processes of an agent's host that die, or stand still, and the loss of its power. */
import { cutUnixSockets } from '../../support/cut-socket.ts';
import { type Fault, fault } from '../fault.ts';
import type { Host } from '../world.ts';
import { signalQuietly } from './signals.ts';

function onHost(name: string, what: string, inject: (host: Host) => Promise<() => Promise<void>>): Fault {
  return fault<Host>({ name, appliesTo: ({ hosts }) => hosts, on: (host) => `${host.name} ${what}`, inject });
}

export const processFaults: Fault[] = [
  onHost('kill -9 of the agent', 'daemon', async ({ part }) => {
    await part.kill9();
    return async () => part.spawnAgain();
  }),
  onHost('SIGTERM of the agent', 'daemon', async ({ part }) => {
    await part.process.stop();
    return async () => part.spawnAgain();
  }),
  onHost('agent stands still', 'daemon', async ({ part }) => {
    const { pid } = part.process;
    signalQuietly(pid, 'SIGSTOP');
    return async () => signalQuietly(pid, 'SIGCONT');
  }),
  onHost('kill -9 of dockerd', 'engine', async ({ part }) => {
    await part.engine.kill9();
    return async () => part.engine.restart();
  }),
  onHost('kill -9 of containerd', 'engine', async ({ part }) => {
    await part.engine.killContainerd9();
    return async () => part.engine.restart();
  }),
  onHost('dockerd stands still', 'engine', async ({ part }) => {
    const { pid } = part.engine;
    signalQuietly(pid, 'SIGSTOP');
    return async () => signalQuietly(pid, 'SIGCONT');
  }),
  onHost('inits cut off', 'inits', async ({ part }) => {
    // The agent listens through descriptors of the sessions' directories.
    await cutUnixSockets(part.process.pid, '/proc/self/fd/').catch(() => 0);
    return async () => {};
  }),
];
