/**
 * Images that come from a registry, through the front door: what a person sees while they wait, what they are told when
 * it can not be, and what becomes of a pull when somebody dies or loses interest.
 */
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { NewSession, Session } from '../../schema/api/session.ts';
import { Cli } from '../support/cli.ts';
import { importLayered } from '../support/images.ts';
import { Witness } from '../support/invariants.ts';
import { type Registry, startRegistry } from '../support/registry.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

let stack: Stack;
let registry: Registry;
let witness: Witness;

beforeAll(async () => {
  stack = await startStack();
  registry = await startRegistry(stack.agents[0]!.engine);
  witness = new Witness(stack);
}, 300_000);
afterAll(async () => {
  await witness?.stop();
  await registry?.stop();
  await stack?.stop();
}, 120_000);
afterEach(() => registry.set({}));

/** A transfer that takes seconds: three layers come at a time. */
const slow = { bytesPerSecond: 150_000 };
const threeLayers = [400_000, 400_000, 400_000];

/** Puts an image into the registry and forgets it on the agent. Returns its name and digest. */
async function publish(
  name: string,
  { version = 'one', sizes = threeLayers, architecture = 'amd64' } = {},
): Promise<{ image: string; repository: string; digest: string }> {
  const { docker } = stack.agents[0]!.engine;
  const image = `${registry.host}/test/${name}`;
  const id = await importLayered(docker, image, { version, sizes, architecture });
  const digest = await registry.push(docker, image);
  await docker.getImage(id).remove({ force: true });
  return { image, repository: image.slice(0, image.lastIndexOf(':')), digest };
}

async function create(image: string, changes: Partial<NewSession> = {}): Promise<Session> {
  const spec = { type: 'batch' as const, image, command: ['cat', '/version'], resources: { cpu: 0.1, mem: '32m' } };
  const session = await stack.client.createSession({ ...spec, ...changes });
  witness.accepted(session.id);
  return session;
}

const output = async ({ id }: Session): Promise<string> => (await stack.client.logs(id)).toString();
const underWay = () => until(() => registry.transfers > 0, { what: 'a layer to be under way' });

it('pulls what the machine does not have, layer by layer for whoever looks, and pins what it got', async () => {
  const { image, digest } = await publish('seen:1');
  registry.set(slow);
  const cli = new Cli(stack.url, stack.client.token!, stack.dir);
  const running = cli.run(['run', '--image', image, '--name', 'seen', '--', 'cat', '/version']);
  const named = async () => (await stack.client.sessions()).find(({ name }) => name === 'seen');
  const { id } = await until(named, { what: 'the session to be in the list' });
  const told = await until(
    async () => {
      const { progress } = await stack.client.session(id);
      return progress?.detail.includes('(') === true ? progress : undefined;
    },
    { what: 'progress of the pull' },
  );
  expect(told.phase).toBe('pulling');
  expect(told.detail).toMatch(/^\d of 4 layers \(([0-9a-f]{12} (\d+ %|loading|extracting)(, )?)+\)$/);
  const ran = await running;
  expect(ran).toMatchObject({ status: 0, stdout: 'one' });
  expect(ran.stderr).toMatch(/pulling: pulling \d of 4 layers \([0-9a-f]{12} \d+ %/);
  witness.accepted(id);
  expect(await stack.client.waitForState(id, ['TERMINATED'])).toMatchObject({ imageDigest: digest });
  const states = (await stack.client.history(id)).map(({ state }) => state);
  expect(states).toEqual(expect.arrayContaining(['PULLING', 'CREATING', 'RUNNING', 'TERMINATED']));
});

it('runs the content that was named, wherever its tag has moved to', async () => {
  const old = await publish('moved:1', { version: 'old', sizes: [10_000] });
  const moved = await publish('moved:1', { version: 'new', sizes: [10_000] });
  const pinned = await create(`${old.image}@${old.digest}`);
  expect(pinned.imageDigest).toBe(old.digest);
  const newest = await create(moved.image);
  await stack.client.waitForState(pinned.id, ['TERMINATED']);
  expect([await output(pinned), (await stack.client.session(pinned.id)).imageDigest]).toEqual(['old', old.digest]);
  await stack.client.waitForState(newest.id, ['TERMINATED']);
  expect([await output(newest), (await stack.client.session(newest.id)).imageDigest]).toEqual(['new', moved.digest]);
});

it('pulls once for all who want it', async () => {
  const { image } = await publish('shared:1');
  registry.set(slow);
  const before = new Map(registry.fetched);
  const sessions = await Promise.all([create(image), create(image), create(image)]);
  for (const session of sessions) {
    await stack.client.waitForState(session.id, ['TERMINATED']);
    expect(await output(session)).toBe('one');
  }
  const fetched = [...registry.fetched].filter(([digest]) => !before.has(digest));
  // Three layers and the configuration, each once.
  expect(fetched.map(([, times]) => times)).toEqual([1, 1, 1, 1]);
});

it('says what is wrong with an image that can not be had', async () => {
  for (const image of ['../../etc/passwd', 'UPPER/case', 'a b', `${registry.host}/x@sha256:12`]) {
    const answer = await stack.client.call('POST', '/v1/sessions', { type: 'batch', image, command: ['true'] });
    expect(answer).toMatchObject({ status: 400, body: { code: 'session_image_invalid' } });
  }
  const { repository } = await publish('known:1', { sizes: [1000] });
  const foreign = await publish('foreign:1', { sizes: [1000], architecture: 'arm64' });
  const cases: [string, string, RegExp][] = [
    [`${registry.host}/test/unknown:1`, 'session_image_missing', /gives none: .*(not found|name unknown)/],
    [`${repository}:2`, 'session_image_missing', /gives none: .*manifest unknown/],
    [foreign.image, 'session_image_invalid', /is built for arm64 and this machine runs amd64: name an image for amd64/],
  ];
  // Asked three times at each of three placements.
  if (tier === 'full')
    cases.push(['127.0.0.1:1/test/nowhere:1', 'session_image_missing', /could not be asked: .*connection refused/]);
  const sessions = await Promise.all(cases.map(async ([image]) => create(image)));
  for (const [index, session] of sessions.entries()) {
    const { reason } = await stack.client.waitForState(session.id, ['ERROR'], 150_000);
    const [, code, detail] = cases[index]!;
    expect(reason).toMatchObject({ code });
    expect(reason?.detail).toMatch(detail);
  }
});

it('ends a pull with the last session that waited for it', async () => {
  const { image } = await publish('cancelled:1');
  registry.set({ bytesPerSecond: 20_000 });
  const [first, second] = await Promise.all([create(image), create(image)]);
  await stack.client.waitForState(first.id, ['PULLING']);
  await stack.client.waitForState(second.id, ['PULLING']);
  await underWay();
  await stack.client.deleteSession(first.id);
  await stack.client.waitForState(first.id, ['TERMINATED', 'CANCELLED']);
  expect(registry.transfers).toBeGreaterThan(0);
  await stack.client.deleteSession(second.id);
  await stack.client.waitForState(second.id, ['TERMINATED', 'CANCELLED']);
  await until(() => registry.transfers === 0, { what: 'the transfers to end' });
  // What was given up is no obstacle.
  registry.set({});
  const third = await create(image);
  await stack.client.waitForState(third.id, ['TERMINATED']);
  expect(await output(third)).toBe('one');
});

it('takes up a pull in which the agent was killed', async () => {
  const { image, digest } = await publish('killed:1');
  registry.set({ bytesPerSecond: 50_000 });
  const session = await create(image);
  await underWay();
  await stack.agents[0]!.kill9();
  registry.set({});
  await stack.agents[0]!.start();
  expect(await stack.client.waitForState(session.id, ['TERMINATED'])).toMatchObject({ imageDigest: digest });
  expect(await output(session)).toBe('one');
});

it.runIf(tier === 'full')('gives a registry up that cuts every layer, after a bounded number of tries', async () => {
  const { image } = await publish('cut:1');
  registry.set({ cutAfterBytes: 100_000 });
  const fetches = () => [...registry.fetched.values()].reduce((sum, times) => sum + times, 0);
  const before = fetches();
  const session = await create(image);
  const { reason } = await stack.client.waitForState(session.id, ['ERROR'], 150_000);
  expect(reason).toMatchObject({ code: 'session_image_missing' });
  expect(reason?.detail).toMatch(/could not be asked: pull: unexpected EOF/);
  // Three placements, of which each lets the engine ask twice for three layers, and once for the configuration.
  expect(fetches() - before).toBeLessThanOrEqual(3 * (3 * 2 + 1));
});

it.runIf(tier === 'full')('comes over a layer that is cut once', async () => {
  const { image } = await publish('cut-once:1');
  registry.set({ cutAfterBytes: 100_000, cuts: 1 });
  const session = await create(image);
  await stack.client.waitForState(session.id, ['TERMINATED']);
  expect(await output(session)).toBe('one');
});

it.runIf(tier === 'full')('takes up a pull in which the engine was killed', async () => {
  const { image } = await publish('engine:1');
  registry.set({ bytesPerSecond: 50_000 });
  const session = await create(image);
  await underWay();
  await stack.agents[0]!.engine.kill9();
  registry.set({});
  await stack.agents[0]!.engine.restart();
  await stack.client.waitForState(session.id, ['TERMINATED']);
  expect(await output(session)).toBe('one');
});

it('[I1-I7] loses, doubles and leaks nothing by all that', async () => {
  await witness.quiesce();
  expect(await witness.faults()).toEqual([]);
});
