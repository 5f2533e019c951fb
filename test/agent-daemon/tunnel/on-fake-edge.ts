/** For each test of a file that imports this: a fake edge, and agents in a directory of their own, which end with the test. */
import { afterEach, beforeEach } from 'vitest';
import { FakeEdge } from '../../support/fake-edge.ts';
import { type TmpDir, tmpDir } from '../../support/tmp.ts';
import { type AgentBench, type BenchOptions, startAgent } from './bench.ts';

export let edge: FakeEdge;
let dir: TmpDir;
const running: AgentBench[] = [];

beforeEach(async () => {
  edge = await FakeEdge.start();
  dir = tmpDir('tun');
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((agent) => agent.stop()));
  await edge.stop();
  dir.remove();
});

/** The next one, elsewhere. */
export async function startAnotherEdge(): Promise<void> {
  edge = await FakeEdge.start();
}

export async function agentOn(options: BenchOptions = {}): Promise<AgentBench> {
  const agent = await startAgent(() => edge, dir.path, options);
  running.push(agent);
  return agent;
}

export async function restart(agent: AgentBench, options: BenchOptions = {}): Promise<AgentBench> {
  running.splice(running.indexOf(agent), 1);
  await agent.stop();
  return agentOn(options);
}
