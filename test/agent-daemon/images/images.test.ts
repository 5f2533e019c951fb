import { expect, it } from 'vitest';
import { Images } from '../../../agent-daemon/images/images.ts';
import { type PullLine, PullTally } from '../../../agent-daemon/images/pull-progress.ts';
import { isImageReference, repositoryOf } from '../../../agent-daemon/images/reference.ts';
import { type ContainerRuntime, type ImageFacts, RuntimeError } from '../../../agent-daemon/runtime/runtime.ts';
import { ManualTimers, keptLog } from '../ports.ts';
import { imageFacts } from '../support.ts';

const never = new AbortController().signal;
const digest = `sha256:${'a'.repeat(64)}`;

/** A registry and an engine that hold these images by reference. */
function images(
  has: Record<string, ImageFacts>,
  pull: (reference: string) => void | Promise<void> = () => undefined,
  { begins = true } = {},
) {
  const pulls: string[] = [];
  const signals: AbortSignal[] = [];
  const runtime = {
    findImage: (reference: string) => Promise.resolve(has[reference]),
    listImages: () => Promise.resolve(Object.values(has)),
    pullImage: async (reference: string, onProgress: (progress: { detail: string }) => void, signal: AbortSignal) => {
      pulls.push(reference);
      signals.push(signal);
      await Promise.resolve();
      if (begins) onProgress({ detail: '1 of 1 layers' });
      await pull(reference);
    },
  } as unknown as ContainerRuntime;
  const timers = new ManualTimers();
  return { pulls, signals, timers, images: new Images(runtime, { log: keptLog(), timers, architecture: 'amd64' }) };
}

it.each([
  'busybox',
  'causeway/python',
  'a.b:5000/x/y:1.0',
  'Registry.Lab:5000/x',
  'x_y-z',
  `n@${digest}`,
  `h.io/n:1@${digest}`,
  digest,
])('takes %s as the name of an image', (text) => expect(isImageReference(text)).toBe(true));

it.each([
  '',
  '-v',
  '../x',
  'a/../b',
  'A',
  'h.io/A',
  'a b',
  'a:',
  ':a',
  'a//b',
  '/a',
  'a@sha256:1',
  'a\n',
  'a;b',
  `${'a/'.repeat(300)}a`,
])('refuses %j as the name of an image', (text) => expect(isImageReference(text)).toBe(false));

it('finds the repository of any reference', () => {
  const cases = { a: 'a', 'a:1': 'a', 'h:5000/a': 'h:5000/a', 'h:5000/a:1': 'h:5000/a', [`h/a:1@${digest}`]: 'h/a' };
  for (const [reference, repository] of Object.entries(cases)) expect(repositoryOf(reference)).toBe(repository);
});

it('pins an image to the digest of its registry, and one that is only here to its content', async () => {
  const local = imageFacts();
  const pulled = imageFacts({ digests: [`other/x@sha256:${'b'.repeat(64)}`, `h/a@${digest}`] });
  const { images: of } = images({ local, 'h/a:1': pulled });
  expect((await of.find({ image: 'local', digest: undefined }))?.digest).toBe(local.id);
  expect((await of.find({ image: 'h/a:1', digest: undefined }))?.digest).toBe(digest);
});

it('finds an image again that has a name of this host and the digest of another repository', async () => {
  const tagged = imageFacts({ digests: [`nvcr.io/nvidia/pytorch@${digest}`] });
  const { images: of } = images({ pytorch: tagged });
  const first = await of.find({ image: 'pytorch', digest: undefined });
  expect(first?.digest).toBe(digest);
  expect((await of.find({ image: 'pytorch', digest: first?.digest }))?.facts).toBe(tagged);
  expect(await of.find({ image: 'pytorch', digest: `sha256:${'b'.repeat(64)}` })).toBeUndefined();
});

it('looks for pinned content by digest alone: a moved tag changes nothing', async () => {
  const moved = imageFacts({ id: `sha256:${'c'.repeat(64)}` });
  const pinned = imageFacts({ id: digest });
  expect(await images({ 'h/a:1': moved }).images.find({ image: 'h/a:1', digest })).toBeUndefined();
  const both = images({ 'h/a:1': moved, [digest]: pinned });
  expect((await both.images.find({ image: 'h/a:1', digest }))?.facts.id).toBe(digest);
  await both.images.pull({ image: 'h/a:1', digest }, () => undefined, never);
  expect(both.pulls).toEqual([`h/a@${digest}`]);
});

it('fetches what several want once, with a tag, and tells each how far it is', async () => {
  const gate = Promise.withResolvers<void>();
  const { pulls, images: of } = images({}, () => gate.promise);
  const said: string[] = [];
  const wanted = { image: 'a', digest: undefined };
  const both = [1, 2].map((n) => of.pull(wanted, ({ detail }) => void said.push(`${n}: ${detail}`), never));
  gate.resolve();
  await Promise.all(both);
  expect(pulls).toEqual(['a:latest']);
  expect(said).toContain('1: 1 of 1 layers');
});

it('refuses an image of another architecture, and says which this machine runs', async () => {
  const { images: of } = images({
    arm: imageFacts({ architecture: 'arm64' }),
    old: imageFacts({ architecture: '386' }),
    silent: imageFacts({ architecture: '' }),
  });
  await expect(of.find({ image: 'arm', digest: undefined })).rejects.toMatchObject({
    code: 'session_image_invalid',
    detail: 'arm is built for arm64 and this machine runs amd64: name an image for amd64',
  });
  expect(await of.find({ image: 'old', digest: undefined })).toBeDefined();
  expect(await of.find({ image: 'silent', digest: undefined })).toBeDefined();
});

it('lets a caller that gives up go, the pull go on for another, and ends it when nobody waits', async () => {
  const gate = Promise.withResolvers<void>();
  const { signals, pulls, images: of } = images({}, () => gate.promise);
  const wanted = { image: 'a', digest: undefined };
  const gaveUp = new AbortController();
  const first = of.pull(wanted, () => undefined, gaveUp.signal);
  const second = of.pull(wanted, () => undefined, never);
  gaveUp.abort(new Error('superseded'));
  await expect(first).rejects.toThrow('superseded');
  expect(signals[0]?.aborted).toBe(false);
  gate.resolve();
  await second;
  const never2 = Promise.withResolvers<void>();
  const lonely = images({}, () => never2.promise);
  const last = new AbortController();
  const third = lonely.images.pull(wanted, () => undefined, last.signal);
  last.abort(new Error('superseded'));
  await expect(third).rejects.toThrow('superseded');
  expect(lonely.signals[0]?.aborted).toBe(true);
  // Who wants it afterwards begins anew.
  void lonely.images.pull(wanted, () => undefined, never).catch(() => undefined);
  expect([pulls.length, lonely.pulls.length]).toEqual([1, 2]);
});

it('asks a failing registry again, and refuses at once what it does not have', async () => {
  const wanted = { image: 'a', digest: undefined };
  let tries = 0;
  const flaky = images(
    {},
    () => {
      if (++tries < 3) throw new RuntimeError('failed', 'pull: 500');
    },
    { begins: false },
  );
  const pulling = flaky.images.pull(wanted, () => undefined, never);
  const firing = setInterval(() => flaky.timers.fire(), 5);
  await pulling;
  clearInterval(firing);
  expect(flaky.pulls).toHaveLength(3);
  const cut = images({}, () => {
    throw new RuntimeError('failed', 'pull: unexpected EOF');
  });
  // The engine has tried its layers several times already.
  await expect(cut.images.pull(wanted, () => undefined, never)).rejects.toMatchObject({ retryAfterSeconds: 30 });
  expect(cut.pulls).toHaveLength(1);
  const missing = images({}, () => {
    throw new RuntimeError('not-found', 'pull: manifest unknown');
  });
  const refused = missing.images.pull(wanted, () => undefined, never);
  await expect(refused).rejects.toMatchObject({ code: 'session_image_missing', retryAfterSeconds: undefined });
  expect(missing.pulls).toHaveLength(1);
  const down = images({}, () => {
    throw new RuntimeError('unavailable', 'pull: no engine');
  });
  await expect(down.images.pull(wanted, () => undefined, never)).rejects.toBeInstanceOf(RuntimeError);
});

it('adds up layers as the engine tells of them', () => {
  const tally = new PullTally();
  const lines: PullLine[] = [
    { status: 'Pulling from library/x' },
    { id: 'latest', status: 'Pulling from library/x' },
    { id: 'a', status: 'Pulling fs layer' },
    { id: 'b', status: 'Already exists' },
    { id: 'a', status: 'Downloading', progressDetail: { current: 10, total: 40 } },
  ];
  expect(lines.map((line) => tally.add(line))).toEqual([false, false, true, true, true]);
  expect(tally.progress()).toEqual({ detail: '1 of 2 layers (a 25 %)', doneBytes: 10, totalBytes: 40 });
  expect(tally.add({ id: 'a', status: 'Retrying in 5 seconds' })).toBe(true);
  expect(tally.progress().detail).toBe('1 of 2 layers (a retrying)');
  tally.add({ id: 'a', status: 'Extracting' });
  expect(tally.progress().detail).toBe('1 of 2 layers (a extracting)');
  tally.add({ id: 'a', status: 'Pull complete' });
  expect(tally.progress().detail).toBe('2 of 2 layers');
});
