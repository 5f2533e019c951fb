/** Containers that are started in advance, on a real engine. */
import { mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { labels } from '../../../agent-daemon/runtime/docker-spec.ts';
import { type Dockerd, startDockerd } from '../../support/dockerd.ts';
import { busyboxImage, importBusybox } from '../../support/images.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { agentId } from '../support.ts';
import { CoreBench, freshSessionId } from '../sessions/bench.ts';

describe('containers in advance', () => {
  const dir = tmpDir('pool');
  let engine: Dockerd;
  let core: CoreBench;

  beforeAll(async () => {
    engine = await startDockerd();
    await importBusybox(engine.docker);
    core = new CoreBench(engine.socket, join(dir.path, 'a'));
    core.warmContainers = 2;
    await core.start();
  }, 120_000);

  afterAll(async () => {
    await core?.stop();
    await engine?.stop();
    dir.remove();
  }, 60_000);

  /** Whatever a test did: no session is left, and nothing was logged as an error. */
  afterEach(async () => {
    for (const { sessionId, generation } of core.sessions.inventory()) await core.remove(sessionId, generation, true);
    core.memory = undefined;
    expect(readdirSync(join(dir.path, 'a', 'sessions')).filter((name) => !name.startsWith('wrm_'))).toEqual([]);
    expect(core.log.lines.filter((line) => line.level === 'error')).toEqual([]);
  });

  const sh = (script: string) => ['sh', '-c', script];
  const containers = () =>
    engine.docker.listContainers({ all: true, filters: { label: [`${labels.agent}=${agentId}`] } });
  const warm = async () => (await containers()).filter(({ Labels }) => labels.warm in Labels);

  const ready = () => core.warm.found?.ready ?? 0;

  /** Runs a session of its kind to its end, so that one like it is wanted, and waits until one is ready. */
  async function oneReady(): Promise<void> {
    if (ready() > 0) return;
    const id = freshSessionId();
    await core.create(id, { command: ['true'] });
    await core.event(id, 'ended');
    await core.remove(id, 1, true);
    await until(() => ready() > 0, { what: 'a container in advance', timeoutMs: 30_000 });
  }

  /** Creates a session and answers in which container it runs. */
  async function createIn(
    id: string,
    command?: string[],
    image = busyboxImage,
  ): Promise<{ id: string; isWarm: boolean }> {
    await core.create(id, command === undefined ? { type: 'interactive', image } : { command, image });
    const { containerId, start } = await core.event(id, 'running');
    const found = await core.runtime.findContainer(containerId);
    const isWarm = found !== undefined && labels.warm in found.labels;
    expect(start === 'started-warm').toBe(isWarm);
    return { id: containerId, isWarm };
  }

  it('are taken by sessions of their kind, and are like others from then on', async () => {
    await oneReady();
    const [before] = await warm();
    const id = freshSessionId();
    const script = 'id -u; pwd; ls -A; hostname; echo x > mine; cat /proc/1/comm; ls /home /causeway; exit 7';
    const found = await createIn(id, sh(script));
    expect(found).toEqual({ id: before?.Id, isWarm: true });
    const ended = await core.event(id, 'ended');
    expect(ended).toMatchObject({ reason: 'exited', exitCode: 7 });
    const { stdout } = await core.output(id);
    expect(stdout.split('\n').slice(0, 4)).toEqual(['1000', '/home/work', 'main1', 'init']);
    expect(core.kindsOf(id)).toEqual(['pulled', 'creating', 'running', 'ended']);
    // Its home is the session's, by its name.
    expect(readdirSync(join(dir.path, 'a', 'homes', id))).toEqual(['mine']);
    await core.remove(id);
    expect((await containers()).map(({ Id }) => Id)).not.toContain(before?.Id);
    expect(readdirSync(join(dir.path, 'a', 'run')).filter((name) => !name.startsWith('wrm_'))).toEqual([]);
  });

  it('have the name of their session, by which the engine refuses a second one', async () => {
    await oneReady();
    const id = freshSessionId();
    const { id: containerId, isWarm } = await createIn(id, sh('sleep 10'));
    expect(isWarm).toBe(true);
    expect((await core.runtime.findContainer(containerId))?.name).toBe(`${id}-main1-g1`);
    await expect(
      core.runtime.createContainer({ name: `${id}-main1-g1`, Image: busyboxImage, Cmd: ['true'] }),
    ).rejects.toMatchObject({ kind: 'conflict' });
  });

  it('are used once: what a session leaves in one, no other finds', async () => {
    const seen = new Set<string>();
    for (let round = 0; round < 3; round++) {
      await oneReady();
      const id = freshSessionId();
      const found = await createIn(
        id,
        sh('ls -A /home/work /tmp /dev/shm; echo left > a; echo left > /tmp/b; echo left > /dev/shm/c'),
      );
      expect(found.isWarm).toBe(true);
      await core.event(id, 'ended');
      const { stdout } = await core.output(id);
      expect(stdout).not.toMatch(/^[abc]$/m);
      seen.add(found.id);
      await core.remove(id, 1, true);
    }
    expect(seen.size).toBe(3);
  });

  it('fit only what has their shape and image, and a home that is new', async () => {
    await oneReady();
    const other = freshSessionId();
    await core.create(other, { type: 'interactive', slots: { cpu: 500, mem: 48 * 1024 ** 2 } });
    const { containerId, start } = await core.event(other, 'running');
    expect(start).toBe('none-ready');
    expect((await core.runtime.findContainer(containerId))?.labels).not.toHaveProperty(labels.warm);
    const again = freshSessionId();
    await core.host.homes.ensure(again);
    expect(await createIn(again, sh('sleep 1'))).toMatchObject({ isWarm: false });
    expect(await core.event(again, 'running')).toMatchObject({ start: 'home-kept' });
  });

  it('that were not taken are removed when the agent starts again, those that were go on', async () => {
    await oneReady();
    const id = freshSessionId();
    const taken = await createIn(id, sh('i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done'));
    expect(taken.isWarm).toBe(true);
    await oneReady();
    const left = (await warm()).map(({ Id }) => Id).filter((each) => each !== taken.id);
    expect(left.length).toBeGreaterThan(0);
    await core.restart();
    const now = (await containers()).map(({ Id }) => Id);
    expect(now).toContain(taken.id);
    for (const each of left) expect(now).not.toContain(each);
    const before = (await core.output(id)).stdout.length;
    await until(async () => (await core.output(id)).stdout.length > before, { what: 'more output' });
    await core.stopSession(id, { force: true });
    const { stdout, gaps } = await core.output(id);
    expect(gaps).toBe(0);
    expect(stdout.split('\n').slice(0, -1)).toEqual(
      stdout
        .split('\n')
        .slice(0, -1)
        .map((_, at) => String(at)),
    );
  });

  it('are there also where a session can not be taken up', async () => {
    const id = freshSessionId();
    await core.create(id, { type: 'interactive' });
    await core.stop();
    const { path } = core.host.store.kernelsOf({ sessionId: id, generation: 1 });
    mkdirSync(path);
    await expect(core.start()).rejects.toThrow('EISDIR');
    await oneReady();
    rmdirSync(path);
    await core.sessions.adopt();
  });

  it("that a session takes while what is nobody's is cleared keep what they need", async () => {
    await oneReady();
    const warmId = `wrm_${'0'.repeat(26)}`;
    const nobodys = await engine.docker.createContainer({
      Image: busyboxImage,
      name: `causeway-${warmId}`,
      Labels: { [labels.agent]: agentId, [labels.warm]: warmId },
    });
    const { runtime } = core;
    const remove = runtime.removeContainer.bind(runtime);
    const [asked, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    runtime.removeContainer = async (id) => {
      if (id === nobodys.id) {
        asked.resolve();
        await gate.promise;
      }
      return remove(id);
    };
    // As when the engine has been away.
    const adopting = core.sessions.adopt();
    await asked.promise;
    const id = freshSessionId();
    expect(await createIn(id, sh('sleep 600'))).toMatchObject({ isWarm: true });
    gate.resolve();
    await adopting;
    runtime.removeContainer = remove;
    await core.restart();
    await core.stopSession(id);
    expect(await core.event(id, 'ended')).toMatchObject({ reason: 'stopped', signal: 'SIGTERM' });
  });

  it('that has died is not given to anybody', async () => {
    await oneReady();
    for (const { Id } of await warm()) await core.runtime.removeContainer(Id);
    const id = freshSessionId();
    // Before or after the pool has noticed it.
    await core.create(id, { command: sh('echo ran') }).catch(() => undefined);
    await core.event(id, 'ended');
    expect((await core.output(id)).stdout).toBe('ran\n');
  });

  it('are given back when the host needs its memory, and come again', async () => {
    await oneReady();
    core.memory = { freeBytes: 1, totalBytes: 8 * 1024 ** 3 };
    await until(async () => (await warm()).length === 0, { what: 'them to go', timeoutMs: 30_000 });
    expect(ready()).toBe(0);
    core.memory = undefined;
    await oneReady();
  });

  it('are held apart for sessions with a command and for those without, in which kernels are started', async () => {
    await oneReady();
    expect(await createIn(freshSessionId())).toMatchObject({ isWarm: false });
    await until(async () => (await createIn(freshSessionId())).isWarm, {
      what: 'one for a session without a command',
      timeoutMs: 60_000,
      everyMs: 1_500,
    });
  });

  it('are of whom their name says, whatever labels their image brings', async () => {
    // A pool that has not heard of other images.
    await core.restart();
    const of = freshSessionId();
    await createIn(of);
    // What `docker commit` of a session's container leaves, or somebody writes into an image.
    const image = 'causeway-test/labelled:latest';
    const brings = { [labels.session]: of, [labels.generation]: '1' };
    const source = await engine.docker.createContainer({ Image: busyboxImage, Labels: brings });
    await source.commit({ repo: 'causeway-test/labelled', tag: 'latest' });
    await source.remove();

    let taken = '';
    const takeOne = async () => (await createIn((taken = freshSessionId()), sh('sleep 600'), image)).isWarm;
    await until(takeOne, { what: 'one of that image', timeoutMs: 60_000, everyMs: 1_500 });
    await core.stopSession(taken, { force: true });
    await core.remove(taken, 1, true);
    // Events come in their order: behind that of this one, those of the others were heard.
    const last = freshSessionId();
    const { id: lastContainer } = await createIn(last, sh('sleep 600'));
    await engine.docker.getContainer(lastContainer).kill();
    expect(await core.event(last, 'ended')).toMatchObject({ reason: 'host-lost' });
    expect(core.sessions.find(of, 1)?.state).toBe('running');

    await until(takeOne, { what: 'another of that image', timeoutMs: 60_000, everyMs: 1_500 });
    for (const { sessionId, generation } of core.sessions.inventory())
      if (sessionId !== taken) await core.remove(sessionId, generation, true);
    await core.restart();
    expect(core.sessions.inventory()).toEqual([{ sessionId: taken, generation: 1, state: 'running' }]);
  });
});
