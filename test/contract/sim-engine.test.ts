/** The simulated engine against a real one: the same random calls, the same answers and kinds of refusal, the same events. */
import type { ContainerCreateOptions } from 'dockerode';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DockerRuntime } from '../../agent-daemon/runtime/docker.ts';
import { type ContainerRuntime, type EngineEvent, RuntimeError } from '../../agent-daemon/runtime/runtime.ts';
import { VirtualTime } from '../simulation/clock.ts';
import { SimEngine } from '../simulation/host/engine.ts';
import { type Dockerd, startDockerd } from '../support/dockerd.ts';
import { busyboxImage, importBusybox } from '../support/images.ts';
import { type Rng, seededRandom } from '../support/random.ts';
import { byTier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

const wallMs = 1_800_000_000_000;
const label = { 'causeway.test': 'differential' };
const endedCode = 3;

/** An engine that can be asked, and whose containers can be waited for. */
interface Side {
  runtime: ContainerRuntime;
  events: string[];
  /** Lets everything that was asked happen. */
  settle<T>(asked: Promise<T>): Promise<T>;
  clean(): Promise<void>;
}

/** One step: what is asked of both, by names alone. */
interface Step {
  what: string;
  ask(runtime: ContainerRuntime): Promise<unknown>;
}

let engine: Dockerd;
beforeAll(async () => {
  engine = await startDockerd();
  await importBusybox(engine.docker);
}, 120_000);
afterAll(() => engine?.stop(), 60_000);

const seeds = Array.from({ length: byTier({ daily: 2, full: 40 }) }, (_, at) => at + 1);

it.each(seeds)('answers as a real engine does, call by call, and tells the same events (seed %i)', async (seed) => {
  const rng = seededRandom(seed);
  const steps = Array.from({ length: byTier({ daily: 30, full: 60 }) }, () => nextStep(rng));
  const [real, model] = [await realSide(), modelSide(seed)];
  try {
    for (const [at, step] of steps.entries()) {
      const answers = [await answer(model, step), await answer(real, step)];
      expect(answers[0], `seed ${seed}, step ${at}: ${step.what}`).toEqual(answers[1]);
    }
    await real.clean();
    await model.clean();
    await until(() => real.events.length >= model.events.length, { what: 'the events of the engine' });
    expect(model.events, `events of seed ${seed}`).toEqual(real.events);
  } finally {
    await real.clean();
  }
});

function nextStep(rng: Rng): Step {
  const pick = <T>(...of: T[]): T => of[rng.integer(0, of.length - 1)] as T;
  const name = pick('sim-a', 'sim-b', 'sim-c');
  const network = pick('sim-net-a', 'sim-net-b');
  const image = pick(busyboxImage, 'none:1');
  const subnet = pick('10.77.0.0/28', '10.77.0.16/28');
  const kinds: (() => Step)[] = [
    () =>
      createStep(
        name,
        pick(busyboxImage, busyboxImage, 'causeway-test/none:latest'),
        pick(network, undefined),
        pick(true, false),
      ),
    () => createStep(name, busyboxImage, network, true),
    () => ({ what: `start ${name}`, ask: (runtime) => startAndWait(runtime, name) }),
    () => ({ what: `start ${name}`, ask: (runtime) => startAndWait(runtime, name) }),
    () => ({ what: `kill ${name}`, ask: (runtime) => killAndWait(runtime, name) }),
    () => {
      const other = pick('sim-a', 'sim-b', 'sim-c', 'sim-d');
      return { what: `rename ${name} to ${other}`, ask: (runtime) => runtime.renameContainer(name, other) };
    },
    () => ({ what: `remove ${name}`, ask: (runtime) => runtime.removeContainer(name) }),
    () => ({ what: `find ${name}`, ask: (runtime) => look(runtime, name) }),
    () => ({ what: 'list', ask: (runtime) => list(runtime) }),
    () => ({
      what: `network create ${network} ${subnet}`,
      ask: (runtime) => made(runtime.createNetwork(network, subnet, label)),
    }),
    () => ({ what: `network remove ${network}`, ask: (runtime) => runtime.removeNetwork(network) }),
    () => ({ what: 'network list', ask: (runtime) => networks(runtime) }),
    () => ({
      what: `find image ${image}`,
      ask: async (runtime) => (await runtime.findImage(image)) !== undefined,
    }),
  ];
  return pick(...kinds)();
}

function createStep(name: string, image: string, network: string | undefined, stays: boolean): Step {
  const options: ContainerCreateOptions = {
    name,
    Image: image,
    Entrypoint: stays ? ['sleep', '600'] : ['sh', '-c', `exit ${endedCode}`],
    Cmd: [],
    Labels: label,
    HostConfig: { NetworkMode: network ?? 'none' },
    ...(network === undefined ? {} : { NetworkingConfig: { EndpointsConfig: { [network]: {} } } }),
  };
  const what = `create ${name} of ${image} in ${network}${stays ? '' : ', which ends'}`;
  return { what, ask: (runtime) => made(runtime.createContainer(options)) };
}

const made = async (id: Promise<string>): Promise<string> => ((await id).length === 64 ? 'made' : 'an odd id');

async function look(runtime: ContainerRuntime, name: string): Promise<unknown> {
  const found = await runtime.findContainer(name);
  if (found === undefined) return undefined;
  const { status, exitCode, oomKilled, labels } = found;
  const times = [found.createdAtMs > 0, found.startedAtMs > 0, found.finishedAtMs > 0];
  return { name: found.name, status, exitCode, oomKilled, labels, runs: found.pid > 0, times };
}

async function list(runtime: ContainerRuntime): Promise<unknown> {
  const listed = await runtime.listContainers(label);
  return listed.map(({ name, status }) => `${name} ${status}`).toSorted();
}

async function networks(runtime: ContainerRuntime): Promise<unknown> {
  const listed = await runtime.listNetworks(label);
  return listed.map(({ name, subnets }) => `${name} ${subnets.join()}`).toSorted();
}

/** A container that ends at once has ended before the next step. */
async function startAndWait(runtime: ContainerRuntime, name: string): Promise<void> {
  await runtime.startContainer(name);
  const before = await runtime.findContainer(name);
  if (before?.labels['causeway.test'] === undefined) throw new Error('not ours');
  await whenQuiet(runtime, name, (status) => status !== 'running');
}

async function killAndWait(runtime: ContainerRuntime, name: string): Promise<void> {
  await runtime.killContainer(name);
  await whenQuiet(runtime, name, (status) => status !== 'running');
}

/** Looks until it is so, for a while: what runs on does so on both sides. */
async function whenQuiet(runtime: ContainerRuntime, name: string, isSo: (status: string) => boolean): Promise<void> {
  for (let looks = 0; looks < 20; looks++) {
    const found = await runtime.findContainer(name);
    if (found === undefined || isSo(found.status)) return;
    await pauses.get(runtime)?.();
  }
}

const pauses = new Map<ContainerRuntime, () => Promise<void>>();

async function answer(side: Side, step: Step): Promise<unknown> {
  try {
    return (await side.settle(step.ask(side.runtime))) ?? 'done';
  } catch (error) {
    if (error instanceof RuntimeError) return `refused ${error.kind}`;
    throw error;
  }
}

function noteTo(events: string[]): (event: EngineEvent) => void {
  const told = new Set([
    'container create',
    'container start',
    'container die',
    'container rename',
    'container destroy',
    'network create',
    'network destroy',
  ]);
  return ({ kind, action, labels }) => {
    const name = `${kind} ${action}`;
    if (told.has(name)) events.push(`${name} ${labels['name'] ?? ''}`);
  };
}

/** Removes what carries the label. */
async function clean(runtime: ContainerRuntime): Promise<void> {
  for (const { id } of byName(await runtime.listContainers(label))) await runtime.removeContainer(id);
  for (const { id } of byName(await runtime.listNetworks(label))) await runtime.removeNetwork(id);
}

function byName<T extends { name: string }>(all: T[]): T[] {
  return all.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

async function realSide(): Promise<Side> {
  const runtime = new DockerRuntime(engine.socket);
  const events: string[] = [];
  const stopping = new AbortController();
  let isWatching = false;
  const note = noteTo(events);
  const take = (event: EngineEvent): void => {
    if (event.labels['name'] === 'sim-net-probe') isWatching = true;
    else note(event);
  };
  runtime.watch(undefined, take, stopping.signal).catch(() => undefined);
  pauses.set(runtime, () => new Promise((resolve) => void setTimeout(resolve, 20)));
  // The subscription is there when the engine tells of something.
  await until(
    async () => {
      await runtime.createNetwork('sim-net-probe', '10.78.0.0/28', label);
      await runtime.removeNetwork('sim-net-probe');
      return isWatching;
    },
    { what: 'the first event' },
  );
  return { runtime, events, settle: (asked) => asked, clean: () => clean(runtime) };
}

function modelSide(seed: number): Side {
  const time = new VirtualTime();
  const rng = seededRandom(seed);
  const model = new SimEngine({
    clock: { nowMs: () => wallMs + time.nowMs, bootMs: () => time.nowMs },
    timers: time,
    random: { bytes: (count) => rng.bytes(count), fraction: () => rng.next() },
    run: ({ options }, exited) => {
      const ends = options.Entrypoint?.[0] !== 'sleep';
      const cancel = ends ? time.after(1, () => exited(endedCode)) : () => undefined;
      return {
        kill: () => {
          cancel();
          exited(137);
        },
      };
    },
  });
  model.addImage({ name: busyboxImage });
  const events: string[] = [];
  model.watch(undefined, noteTo(events), new AbortController().signal).catch(() => undefined);
  const settle = async <T>(asked: Promise<T>): Promise<T> => {
    let over = false;
    void asked.catch(() => undefined).finally(() => (over = true));
    await time.runWhile(() => !over, time.nowMs + 3_600_000);
    return asked;
  };
  pauses.set(model, () => time.sleep(20));
  return { runtime: model, events, settle, clean: () => settle(clean(model)) };
}
