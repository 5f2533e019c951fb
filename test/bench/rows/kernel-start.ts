/** From nothing to the first result of a kernel. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type Docker from 'dockerode';
import type { AgentShown } from '../../../schema/api/agent.ts';
import { type JupyterKernel, type JupyterKernelspecs, parseJupyterKernelId } from '../../../schema/api/jupyter.ts';
import type { Stack } from '../../support/stack.ts';
import { type TmpDir, tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { startBoxedKernel, writeConnection } from '../peers/boxed-kernel.ts';
import { createNetwork } from '../peers/docker.ts';
import { KernelClient } from '../peers/kernel-client.ts';
import { type Row, median } from '../row.ts';
import { bringImage, kernelSession } from '../subjects/kernel-lab.ts';

const peer = 'dockerode: network, container with ipykernel, connect by ZeroMQ, execute, on the same engine';
const startsPerRound = 3;
const preset = 'bench';
/** In a network of its own every container has the same. */
const firstPort = 5001;
/** Of its network; others count from 0. */
const networkNumber = 4000;

export const rows: Row[] = [
  {
    name: 'create-to-result',
    title:
      'create to first result of a kernel, cold, by the Jupyter gateway: POST, connect, execute `1` to reply and idle',
    peer,
    unit: 'ms',
    goal: { kind: 'ratio', atMost: 1.05 },
    setup: async (context) => prepare(await context.stack(), startOurs),
  },
  {
    name: 'create-to-result-warm',
    title: 'the same with a container and a kernel in it that were started in advance',
    peer,
    unit: 'ms',
    goal: { kind: 'ratio', atMost: 0.04 },
    setup: async (context) => prepare(await context.stackInAdvance(), startInAdvance),
  },
];

type Start = (stack: Stack, client: KernelClient, name: string) => Promise<number>;

async function prepare(stack: Stack, start: Start): ReturnType<Row['setup']> {
  const { docker, netns } = stack.agents[0]!.engine;
  await bringImage(stack);
  await stack.client.api('PUT', `/v1/resource-presets/${preset}`, { resources: kernelSession.resources });
  const { kernelspecs } = (await stack.client.api('GET', '/jupyter/api/kernelspecs')) as JupyterKernelspecs;
  const name = Object.keys(kernelspecs).find((each) => each.endsWith(`.${preset}`));
  if (name === undefined) throw new Error(`no kernelspec of ${preset} in ${Object.keys(kernelspecs).join(', ')}`);
  const clients = { ours: new KernelClient('ws'), theirs: new KernelClient('zmq', netns) };
  const dir = tmpDir('box');
  // The first brings nothing but the demand that those in advance follow.
  await startOurs(stack, clients.ours, name);
  return {
    round: async () => {
      const [ours, theirs]: number[][] = [[], []];
      for (let n = 0; n < startsPerRound; n++) {
        ours!.push(await start(stack, clients.ours, name));
        theirs!.push(await startTheirs(docker, clients.theirs, dir));
      }
      return { subject: median(ours!)!, peer: median(theirs!)! };
    },
    teardown: async () => {
      for (const client of Object.values(clients)) await client.stop();
      dir.remove();
      await stack.client.api('DELETE', `/v1/resource-presets/${preset}`);
    },
  };
}

/** In ms, of a session for which there is a container. */
async function startInAdvance(stack: Stack, client: KernelClient, name: string): Promise<number> {
  const agent = `/v1/agents/${stack.agents[0]!.agentId}`;
  await until(
    async () => {
      const { diagnosis } = (await stack.client.api('GET', agent)) as AgentShown;
      return (diagnosis?.inAdvance?.kernels ?? 0) > 0;
    },
    { what: 'a kernel in advance', timeoutMs: 60_000, everyMs: 200 },
  );
  return startOurs(stack, client, name, true);
}

/** In ms, by the client's own clock from where it is told: how soon its answer is read here is none of it. */
async function startOurs(stack: Stack, client: KernelClient, name: string, isWarm = false): Promise<number> {
  const path = '/jupyter/api/kernels';
  const startedMs = performance.now();
  const { id } = (await stack.client.api('POST', path, { name })) as JupyterKernel;
  const madeMs = performance.now() - startedMs;
  const base = stack.url.replace(/^http/, 'ws');
  const url = `${base}${path}/${id}/channels?session_id=first&token=${stack.client.token}`;
  const tookMs = madeMs + (await client.first({ url }, '1'));
  const { sessionId } = parseJupyterKernelId(id)!;
  const { start } = await stack.client.session(sessionId);
  if ((start?.warm ?? false) !== isWarm) throw new Error(`started ${JSON.stringify(start)}`);
  await stack.client.api('DELETE', `${path}/${id}`);
  const { docker } = stack.agents[0]!.engine;
  await until(
    async () =>
      (await docker.listContainers({ all: true })).every(
        ({ Labels }) => !id.includes(Labels['causeway.session'] ?? 'none'),
      ),
    { what: 'the session of the kernel to be gone', timeoutMs: 60_000, everyMs: 100 },
  );
  return tookMs;
}

/** In ms. */
async function startTheirs(docker: Docker, client: KernelClient, dir: TmpDir): Promise<number> {
  const file = join(dir.path, 'kernel.json');
  const startedMs = performance.now();
  writeConnection(file, '0.0.0.0', firstPort);
  const network = await createNetwork(docker, networkNumber);
  const container = await startBoxedKernel(docker, file, { network: `peer-${networkNumber}` });
  const { NetworkSettings } = await container.inspect();
  const ip = Object.values(NetworkSettings.Networks)[0]!.IPAddress;
  const reached = join(dir.path, 'reached.json');
  writeFileSync(reached, JSON.stringify({ ...(JSON.parse(readFileSync(file, 'utf8')) as object), ip }));
  const madeMs = performance.now() - startedMs;
  const tookMs = madeMs + (await client.first({ file: reached }, '1'));
  await container.remove({ force: true });
  await network.remove();
  return tookMs;
}
