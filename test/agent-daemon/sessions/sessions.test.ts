import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { InitTransport } from '../../../agent-daemon/init/link-options.ts';
import { executeStream, kernelCall } from '../../../agent-daemon/kernels/streams.ts';
import { systemRandom } from '../../../agent-daemon/platform.ts';
import { newId } from '../../../schema/ids.ts';
import { mainProcessId } from '../../../agent-daemon/sessions/main-process.ts';
import type { PlacementFile } from '../../../agent-daemon/sessions/placement.ts';
import { labels } from '../../../agent-daemon/runtime/docker-spec.ts';
import { RuntimeError } from '../../../agent-daemon/runtime/runtime.ts';
import { type Dockerd, startDockerd } from '../../support/dockerd.ts';
import { busyboxImage, importBusybox } from '../../support/images.ts';
import { byTier } from '../../support/tier.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { agentId } from '../support.ts';
import { freshRunId, RunReader } from '../kernels/bench.ts';
import { CoreBench, freshSessionId, never } from './bench.ts';

/** Every session must behave the same whichever way its init is reached. */
const transports = byTier<InitTransport[]>({ daily: ['socket'], full: ['socket', 'stdio'] });

describe.each(transports)('sessions over %s', (transport) => {
  const dir = tmpDir('core');
  let engine: Dockerd;
  let core: CoreBench;

  beforeAll(async () => {
    engine = await startDockerd();
    await importBusybox(engine.docker);
    core = new CoreBench(engine.socket, join(dir.path, 'a'));
    core.transport = transport;
    await core.start();
  }, 120_000);

  afterAll(async () => {
    await core?.stop();
    await engine?.stop();
    dir.remove();
  }, 60_000);

  /** Whatever a test did: nothing of it is left, and nothing was logged as an error. */
  afterEach(async () => {
    for (const { sessionId, generation } of core.sessions.inventory()) await core.remove(sessionId, generation);
    const containers = await engine.docker.listContainers({ all: true, filters: { label: [labels.agent] } });
    expect(containers.map((container) => container.Names[0])).toEqual([]);
    const networks = await core.runtime.listNetworks({ [labels.agent]: agentId });
    expect(networks.length).toBeLessThanOrEqual(1);
    expect(readdirSync(join(dir.path, 'a', 'run'))).toEqual([]);
    expect(readdirSync(join(dir.path, 'a', 'sessions'))).toEqual([]);
    expect(core.log.lines.filter((line) => line.level === 'error')).toEqual([]);
  });

  const sh = (script: string) => ['sh', '-c', script];
  const counting = sh('i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done');

  /** Processes in a container, as its host sees them. */
  async function processesOf(id: string): Promise<number> {
    const { Processes } = (await engine.docker.getContainer(id).top()) as { Processes: string[][] };
    return Processes.length;
  }

  /** True when the text is 0, 1, 2 ... each on a line, once. */
  function isCount(text: string): boolean {
    const lines = text.split('\n').slice(0, -1);
    return lines.every((line, index) => line === String(index));
  }

  it('runs a batch session from the order to its end, with output and exit code, and removes everything of it', async () => {
    const id = freshSessionId();
    await core.create(id, { command: sh('echo out; echo err >&2; id -u; pwd; exit 7') });
    const ended = await core.event(id, 'ended');
    expect(ended).toMatchObject({ reason: 'exited', exitCode: 7, outputBytes: { stdout: 20, stderr: 4, missing: 0 } });
    expect(await core.output(id)).toEqual({ stdout: 'out\n1000\n/home/work\n', stderr: 'err\n', gaps: 0 });
    expect(core.kindsOf(id)).toEqual(['pulled', 'creating', 'running', 'ended']);
    await core.remove(id);
    expect(core.kindsOf(id).at(-1)).toBe('removed');
    expect(core.sessions.inventory()).toEqual([]);
    // What it printed is kept for its time, unless it is purged.
    expect((await core.output(id)).stdout).toContain('/home/work');
    await core.remove(id, 1, true);
    await expect(core.output(id)).rejects.toThrow('nothing is kept');
    expect(readdirSync(join(dir.path, 'a', 'homes')).filter((name) => name.startsWith(id))).toEqual([]);
  });

  it('starts nothing twice when the order comes again', async () => {
    const id = freshSessionId();
    await core.create(id, { command: sh('echo once; sleep 60') });
    await core.create(id, { command: sh('echo once; sleep 60') });
    await until(async () => (await core.output(id)).stdout === 'once\n', { what: 'its output' });
    expect(core.kindsOf(id).filter((kind) => kind === 'running')).toHaveLength(1);
    await core.stopSession(id);
    expect(await core.event(id, 'ended')).toMatchObject({ reason: 'stopped', signal: 'SIGTERM' });
    expect((await core.output(id)).stdout).toBe('once\n');
  });

  it('passes a stop to the command, kills it after its grace, and at once by force', async () => {
    const polite = freshSessionId();
    await core.create(polite, { command: sh('trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.05; done') });
    await until(async () => (await core.output(polite)).stdout === 'up\n', { what: 'its start' });
    await core.stopSession(polite);
    expect(await core.event(polite, 'ended')).toMatchObject({ reason: 'stopped', exitCode: 3 });
    expect((await core.output(polite)).stdout).toBe('up\nbye\n');

    const deaf = freshSessionId();
    await core.create(deaf, { command: sh('trap "" TERM; echo up; while :; do sleep 0.05; done') });
    await until(async () => (await core.output(deaf)).stdout === 'up\n', { what: 'its start' });
    await core.stopSession(deaf, { graceMs: 200 });
    expect(await core.event(deaf, 'ended')).toMatchObject({ reason: 'killed', signal: 'SIGKILL' });

    const forced = freshSessionId();
    await core.create(forced, { command: sh('trap "" TERM; sleep 60') });
    await core.stopSession(forced, { force: true, graceMs: 60_000 });
    expect(await core.event(forced, 'ended')).toMatchObject({ reason: 'killed' });
  });

  it('keeps an idle interactive session until it is stopped', async () => {
    const id = freshSessionId();
    await core.create(id, { type: 'interactive' });
    expect(core.sessions.inventory()).toEqual([{ sessionId: id, generation: 1, state: 'running' }]);
    await core.stopSession(id);
    expect(await core.event(id, 'ended')).toEqual({ kind: 'ended', reason: 'stopped' });
    expect(core.sessions.inventory()).toEqual([{ sessionId: id, generation: 1, state: 'ended' }]);
  });

  it('ends a session when its time is over', async () => {
    const id = freshSessionId();
    await core.create(id, { command: ['sleep', '60'], timeoutMs: 300 });
    expect(await core.event(id, 'ended')).toMatchObject({ reason: 'timeout' });
  });

  it('holds a restartable session by its lease, and tells its end when nobody renewed it', async () => {
    const id = freshSessionId();
    core.runLeaseMs = 1_000;
    await core.create(id, { command: ['sleep', '60'], leaseMs: 1_000 });
    core.runLeaseMs = 1_500;
    core.renew();
    expect(await core.event(id, 'ended')).toMatchObject({ reason: 'lease-expired', signal: 'SIGKILL' });
  });

  it('tells what the memory killer ended from what ended by itself, whatever the exit code', async () => {
    const hog = 'dd if=/dev/zero of=/dev/null bs=128M count=1';
    const killed = freshSessionId();
    await core.create(killed, { command: sh(`exec ${hog}`), slots: { cpu: 500, mem: 48 * 1024 * 1024 } });
    expect(await core.event(killed, 'ended')).toMatchObject({ reason: 'oom', signal: 'SIGKILL' });
    const passedOn = freshSessionId();
    await core.create(passedOn, { command: sh(`${hog}; exit $?`), slots: { cpu: 500, mem: 48 * 1024 * 1024 } });
    expect(await core.event(passedOn, 'ended')).toMatchObject({ reason: 'oom', exitCode: 137 });
    const handled = freshSessionId();
    await core.create(handled, { command: sh(`${hog}; exit 0`), slots: { cpu: 500, mem: 48 * 1024 * 1024 } });
    expect(await core.event(handled, 'ended')).toMatchObject({ reason: 'exited', exitCode: 0 });
    const pretended = freshSessionId();
    await core.create(pretended, { command: sh('exit 137') });
    expect(await core.event(pretended, 'ended')).toMatchObject({ reason: 'exited', exitCode: 137 });
  });

  it('reports a container that somebody else killed or removed as lost', async () => {
    for (const how of ['kill', 'remove'] as const) {
      const id = freshSessionId();
      await core.create(id, { command: sh('echo here; sleep 60') });
      await until(async () => (await core.output(id)).stdout === 'here\n', { what: 'its output' });
      const container = engine.docker.getContainer(`${id}-main1-g1`);
      if (how === 'kill') await container.kill();
      else await container.remove({ force: true });
      const ended = await core.event(id, 'ended');
      expect(ended).toMatchObject({ reason: 'host-lost', outputBytes: { stdout: 5, stderr: 0, missing: 0 } });
      expect(ended).not.toHaveProperty('exitCode');
    }
  });

  it('takes a running session up after a restart, without a line lost or doubled', async () => {
    const id = freshSessionId();
    await core.create(id, { command: counting });
    for (let restarts = 0; restarts < 3; restarts++) {
      const before = (await core.output(id)).stdout.length;
      await core.restart();
      expect(core.sessions.inventory()).toEqual([{ sessionId: id, generation: 1, state: 'running' }]);
      await until(async () => (await core.output(id)).stdout.length > before, { what: 'more output' });
    }
    await core.stopSession(id);
    const { stdout, gaps } = await core.output(id);
    expect([isCount(stdout), gaps]).toEqual([true, 0]);
    expect(core.kindsOf(id)).toEqual(['pulled', 'creating', 'running', 'ended']);
  });

  it('reports what ended while the agent was away, with its output and its exit code', async () => {
    const id = freshSessionId();
    await core.create(id, { command: sh('sleep 0.5; seq 1000; exit 9') });
    await core.stop();
    const { Id } = await engine.docker.getContainer(`${id}-main1-g1`).inspect();
    await until(async () => (await processesOf(Id)) === 1, { what: 'only the init to be left' });
    await core.start();
    expect(await core.event(id, 'ended')).toMatchObject({ reason: 'exited', exitCode: 9 });
    expect((await core.output(id)).stdout.split('\n')).toHaveLength(1001);
  });

  it('reports a session as lost whose container went while the agent was away', async () => {
    const id = freshSessionId();
    await core.create(id, { command: ['sleep', '60'] });
    await core.stop();
    await engine.docker.getContainer(`${id}-main1-g1`).remove({ force: true });
    await core.start();
    expect(await core.event(id, 'ended')).toMatchObject({ reason: 'host-lost' });
  });

  it('gives nothing to a kernel that ended with its host, and shows nothing of a run that nobody knows of any more', async () => {
    const id = freshSessionId();
    const perl = `mkdir bin; printf '#!/bin/sh\n[ "$1" = -e ] || exec sh "$1"\n' >bin/perl; chmod +x bin/perl; echo up; sleep 60`;
    await core.create(id, { command: sh(perl), env: { PATH: '/home/work/bin:/bin' } });
    await until(async () => (await core.output(id)).stdout === 'up\n', { what: 'its start' });
    const of = { find: () => core.sessions.find(id, 1), timers: core.host.timers };
    const kernelId = newId('kernel', Date.now(), systemRandom.bytes(10));
    const act = { kind: 'start' as const, language: 'perl' as const };
    await kernelCall(of)({ sessionId: id, generation: 1, kernelId, act }, never);
    const { path } = core.host.store.kernelsOf({ sessionId: id, generation: 1 });
    const kept = readFileSync(path);
    const run = (code: string) =>
      new RunReader({ runId: freshRunId(), kernelId, request: { mode: 'query', code } }, executeStream(of));
    const lost = run('echo of another');
    expect(await lost.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
    await core.stop();
    // The power goes: the container with it, and what was not synced.
    await engine.docker.getContainer(`${id}-main1-g1`).remove({ force: true });
    writeFileSync(path, kept);
    core.beforeAdopt = () => expect(run('echo next').outcome()).rejects.toMatchObject({ code: 'session_not_running' });
    await core.start();
    core.beforeAdopt = () => Promise.resolve();
    expect(await core.event(id, 'ended')).toMatchObject({ reason: 'host-lost' });
    const next = run('echo next');
    expect([await next.outcome(), next.text()]).toEqual([{ reason: 'session-ended' }, '']);
  });

  it('refuses images that can not be had or may not run, and says why', async () => {
    const missing = freshSessionId();
    await core.create(missing, { image: 'causeway-test/none:1' });
    expect(await core.event(missing, 'failed')).toMatchObject({ code: 'session_image_missing' });
    for (const image of ['../../etc/passwd', 'UPPER', 'a b', '', '-v', 'x@sha256:1', 'x'.repeat(600)]) {
      const id = freshSessionId();
      await core.create(id, { image });
      expect(await core.event(id, 'failed')).toMatchObject({ code: 'session_image_invalid' });
    }
    const tiny = freshSessionId();
    await core.create(tiny, { slots: { cpu: 100, mem: 4096 } });
    expect(await core.event(tiny, 'failed')).toMatchObject({ code: 'session_start_failed' });
  });

  it('runs the content that is pinned, or nothing', async () => {
    const { Id } = await engine.docker.getImage(busyboxImage).inspect();
    const pinned = freshSessionId();
    await core.create(pinned, { imageDigest: Id, command: ['true'] });
    expect(await core.event(pinned, 'ended')).toMatchObject({ exitCode: 0 });
    expect(core.kindsOf(pinned)).not.toContain('pulled');
    const other = freshSessionId();
    await core.create(other, { imageDigest: `sha256:${'1'.repeat(64)}`, command: ['true'] });
    expect(await core.event(other, 'failed')).toMatchObject({ code: 'session_image_missing' });
  });

  it('says that a program is not there by its exit code and a line', async () => {
    const id = freshSessionId();
    await core.create(id, { command: ['/no/such/program'] });
    expect(await core.event(id, 'ended')).toMatchObject({ reason: 'exited', exitCode: 127 });
    expect((await core.output(id)).stderr).toContain('/no/such/program');
  });

  it('[M5] ends the older generation before it starts a newer one, and keeps the home', async () => {
    const id = freshSessionId();
    await core.create(id, { command: sh('echo kept > note; sleep 60') });
    await until(() => readdirSync(join(dir.path, 'a', 'homes', id)).includes('note'), { what: 'the note' });
    await core.create(id, { command: sh('cat note; exit 0') }, 2);
    await until(() => core.events.some((event) => event.generation === 2 && event.body.kind === 'ended'), {
      what: 'the end of the second generation',
    });
    const second = await core.output(id, mainProcessId(id, 2), 2);
    expect(second.stdout).toBe('kept\n');
    const of1 = core.events.filter((event) => event.sessionId === id && event.generation === 1);
    const started2 = core.events.findIndex((event) => event.generation === 2 && event.body.kind === 'running');
    expect(of1.map((event) => event.body.kind)).toEqual(['pulled', 'creating', 'running', 'ended', 'removed']);
    expect(core.events.indexOf(of1.at(-1) ?? core.events[0]!)).toBeLessThan(started2);
    expect(statSync(join(dir.path, 'a', 'homes', id))).toMatchObject({ uid: 1000, gid: 1000 });
  });

  it('gives up a start when a stop waits behind it, and leaves nothing', async () => {
    const id = freshSessionId();
    const superseded = new AbortController();
    core.leaseHeld = false;
    await expect(core.create(id, { command: ['sleep', '60'] })).rejects.toThrow('lease');
    superseded.abort();
    await core.create(id, { command: ['sleep', '60'] }, 1, superseded.signal);
    core.leaseHeld = true;
    await core.stopSession(id);
    expect(await core.event(id, 'ended')).toMatchObject({ reason: 'stopped' });
    expect(core.kindsOf(id)).not.toContain('running');
  });

  it('tells the end again when it is ordered to end what has ended: who orders has not heard of it', async () => {
    const id = freshSessionId();
    await core.create(id, { command: sh('exit 4') });
    await core.event(id, 'ended');
    await core.stopSession(id, { force: true });
    expect(core.kindsOf(id)).toEqual(['pulled', 'creating', 'running', 'ended', 'running', 'ended']);
    const failed = freshSessionId();
    await core.create(failed, { image: 'nobody/has-this' });
    await core.event(failed, 'failed');
    await core.stopSession(failed);
    expect(core.kindsOf(failed).filter((kind) => kind === 'failed')).toHaveLength(2);
  });

  it('fails alone when its start is given up and what it told can not be kept any more', async () => {
    const id = freshSessionId();
    core.leaseHeld = false;
    core.isJournalClosed = true;
    // A rejection that nobody handles would end the agent, and fails this test.
    await expect(core.create(id, { command: ['sleep', '60'] })).rejects.toThrow('the start lease ran out');
    core.leaseHeld = true;
    core.isJournalClosed = false;
    await core.stopSession(id);
    expect(core.kindsOf(id)).toEqual([expect.stringMatching(/^(?:failed|ended)$/)]);
  });

  it('ends what it finds dead, also where that can not be kept at first', async () => {
    const id = freshSessionId();
    const refuseOnce = (isIt: (file: PlacementFile) => boolean) => {
      const { store } = core.host;
      const save = store.save.bind(store);
      store.save = (file) => {
        if (!isIt(file)) return save(file);
        store.save = save;
        return Promise.reject(new RuntimeError('unavailable', 'i/o error'));
      };
    };
    const create = () => core.create(id, { command: ['sleep', '60'] });
    refuseOnce(({ containerId, startedAtMs }) => containerId !== undefined && startedAtMs === undefined);
    await expect(create()).rejects.toThrow('i/o error');
    const container = engine.docker.getContainer(`${id}-main1-g1`);
    const runs = async () => (await container.inspect()).State.Running;
    await until(runs, { what: 'the container' });
    // It dies while no agent is there to hear of it.
    await core.stop();
    await container.kill();
    await until(async () => !(await runs()), { what: 'its end' });
    await core.start();
    refuseOnce(({ startedAtMs }) => startedAtMs !== undefined);
    await expect(create()).rejects.toThrow('i/o error');
    await create();
    expect(core.kindsOf(id)).toContain('ended');
  });

  it('makes no second door while it makes the first, though there is no network', async () => {
    const id = freshSessionId();
    const { host } = core;
    const { networks } = host;
    const chosen = host.transport.bind(host);
    const take = networks.take.bind(networks);
    let isMade = false;
    networks.take = () => {
      networks.take = take;
      return Promise.reject(new RuntimeError('unavailable', 'no network now'));
    };
    host.transport = async () => {
      host.transport = chosen;
      await sleep(300);
      isMade = true;
      return chosen();
    };
    await expect(core.create(id, { command: sh('exit 3') })).rejects.toThrow('no network now');
    expect(isMade).toBe(true);
    await core.create(id, { command: sh('exit 3') });
    expect(await core.event(id, 'ended')).toMatchObject({ exitCode: 3 });
  });

  it('answers an order to stop or remove what it does not have', async () => {
    const id = freshSessionId();
    await core.stopSession(id);
    expect(await core.event(id, 'ended')).toMatchObject({ reason: 'host-lost' });
    await core.remove(id);
    expect(core.kindsOf(id)).toEqual(['ended', 'removed']);
  });

  it('[M9] reports containers of its own that no file tells of, destroys them only when named, and never touches others', async () => {
    const orphan = freshSessionId();
    const make = (name: string, Labels: Record<string, string>) =>
      engine.docker.createContainer({ Image: busyboxImage, Cmd: ['sleep', '600'], name, Labels });
    const ours = { [labels.agent]: agentId, [labels.session]: orphan, [labels.generation]: '4' };
    const left = await make(`${orphan}-main1-g4`, ours);
    const other = await make('other', { ...ours, [labels.agent]: 'agt_other' });
    const plain = await make('plain', {});
    await Promise.all([left.start(), other.start(), plain.start()]);
    try {
      await core.restart();
      expect(core.sessions.inventory()).toEqual([{ sessionId: orphan, generation: 4, state: 'running' }]);
      core.sessions.reconcile({ destroy: [] });
      await core.remove(orphan, 4);
      expect(core.sessions.inventory()).toEqual([]);
      await expect(left.inspect()).rejects.toThrow();
      expect((await other.inspect()).State.Running).toBe(true);
      expect((await plain.inspect()).State.Running).toBe(true);
    } finally {
      await Promise.all([other.remove({ force: true }), plain.remove({ force: true })]);
    }
  });

  it('refuses to run beside a container of somebody else that has its name', async () => {
    const id = freshSessionId();
    const taken = await engine.docker.createContainer({ Image: busyboxImage, name: `${id}-main1-g1` });
    await core.create(id, { command: ['true'] });
    expect(await core.event(id, 'failed')).toMatchObject({ code: 'session_start_failed' });
    await core.remove(id);
    expect((await taken.inspect()).Id).toBe(taken.id);
    await taken.remove();
  });

  it('gives a tenant no way to the host: no capability, no privilege, not even as root of the image', async () => {
    const id = freshSessionId();
    const probe = [
      'grep -E "CapEff|CapBnd|NoNewPrivs|Seccomp:" /proc/self/status',
      'id -u',
      'mount -t tmpfs x /mnt 2>&1 | head -1',
      'mknod /tmp/d b 8 0 2>&1',
      'touch /causeway/run/x /causeway/x 2>&1',
      'ls /causeway/run 2>&1',
      'echo x > /proc/sys/kernel/core_pattern 2>&1',
      'ls /var/run/docker.sock 2>&1',
      'cat /proc/1/environ 2>&1 | wc -c',
      'ls -l /proc/1/exe 2>&1 | grep -c causeway',
    ].join('; ');
    await core.create(id, { command: sh(probe), env: { SECRET: 'not-in-inspect' } });
    await core.event(id, 'ended');
    const { stdout } = await core.output(id);
    expect(stdout).toContain('CapEff:\t0000000000000000');
    expect(stdout).toContain('CapBnd:\t0000000000000000');
    expect(stdout).toContain('NoNewPrivs:\t1');
    expect(stdout).toContain('Seccomp:\t2');
    expect(stdout).toMatch(/^1000$/m);
    expect(stdout.match(/denied|not permitted|Read-only|No such file|can't create/gi)?.length).toBeGreaterThanOrEqual(
      6,
    );
  });

  it('keeps no secret of a session in the container, its labels, its files or the log', async () => {
    const id = freshSessionId();
    await core.create(id, { command: ['sleep', '60'], env: { TOKEN: 'canary-7d1f' } });
    const facts = JSON.stringify(await engine.docker.getContainer(`${id}-main1-g1`).inspect());
    expect(facts).not.toContain('canary-7d1f');
    expect(JSON.stringify(core.log.lines)).not.toContain('canary-7d1f');
  });

  it('[M9] removes networks of its own that no session has, and leaves those of others', async () => {
    const make = (name: string, subnet: string, agent: string) =>
      core.runtime.createNetwork(name, subnet, { [labels.agent]: agent });
    // Of the agent's pool: one of them becomes its ready one.
    await make('left-1', '10.213.254.0/28', agentId);
    await make('left-2', '10.213.254.16/28', agentId);
    await make('other', '10.214.3.0/28', 'agt_other');
    await core.runtime.createNetwork('plain', '10.214.4.0/28', {});
    try {
      await core.restart();
      // One is kept ready; the garbage beyond it goes.
      expect(await core.runtime.listNetworks({ [labels.agent]: agentId })).toHaveLength(1);
      const names = (await engine.docker.listNetworks()).map(({ Name }) => Name);
      expect(names).toEqual(expect.arrayContaining(['other', 'plain']));
    } finally {
      await Promise.all([core.runtime.removeNetwork('other'), core.runtime.removeNetwork('plain')]);
    }
  });

  it('takes networks from its own pool, ready before they are wanted, and gives them back', async () => {
    const path = join(dir.path, 'b');
    mkdirSync(path);
    writeFileSync(join(path, 'mark'), '');
    const [one, two] = [freshSessionId(), freshSessionId()];
    await core.create(one, { type: 'interactive' });
    await core.create(two, { type: 'interactive' });
    const networks = await core.runtime.listNetworks({ [labels.agent]: agentId });
    const subnets = networks.flatMap((network) => network.subnets);
    expect(new Set(subnets).size).toBe(subnets.length);
    for (const subnet of subnets) expect(subnet).toMatch(/^10\.213\.\d+\.\d+\/28$/);
    const of = async (id: string) =>
      Object.keys((await engine.docker.getContainer(`${id}-main1-g1`).inspect()).NetworkSettings.Networks);
    expect(await of(one)).not.toEqual(await of(two));
  });

  it('starts at the first try after somebody has removed the networks that no container is in', async () => {
    const names = async () => (await core.runtime.listNetworks({ [labels.agent]: agentId })).map(({ name }) => name);
    await until(async () => (await names()).length > 0, { what: 'a network to be ready' });
    const before = await names();
    await engine.docker.pruneNetworks();
    const isAnother = async () => {
      const now = await names();
      return now.length > 0 && !now.some((name) => before.includes(name));
    };
    await until(isAnother, { what: 'another network to be ready' });
    const id = freshSessionId();
    await core.create(id, { command: ['true'] });
    expect(await core.event(id, 'ended')).toMatchObject({ reason: 'exited', exitCode: 0 });
    expect(core.kindsOf(id)).not.toContain('failed');
  });
});
