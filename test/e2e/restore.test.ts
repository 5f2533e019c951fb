/**
 * Parts of a control plane put back to an earlier day while the machines went on: what runs goes on, what ended stays ended,
 * nothing is doubled, and quota is what lives. With real agents, engines and files.
 */
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { OrphanList, RebuildReport } from '../../schema/api/recovery.ts';
import { isTerminal } from '../../schema/api/session-parts.ts';
import { HomeEdge } from '../support/home-edge.ts';
import { busyboxImage } from '../support/images.ts';
import { historyFaults } from '../support/invariant-history.ts';
import { type Exit, start } from '../support/process.ts';
import { AgentPart } from '../support/stack-parts.ts';
import { tier } from '../support/tier.ts';
import { type TmpDir, tmpDir } from '../support/tmp.ts';
import { until } from '../support/wait.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

const cli = join(import.meta.dirname, '../../cli/index.ts');
const resources = { cpu: 0.05, mem: '32m' };
const forever = { image: busyboxImage, command: ['sleep', '100000'], type: 'batch', resources } as const;
let folder: TmpDir;
let edge: HomeEdge;
let agents: AgentPart[];

describe.runIf(tier === 'full')('a control plane of which a part is of an earlier day', () => {
  beforeAll(async () => {
    folder = tmpDir('rst');
    mkdirSync(join(folder.path, 'logs'));
    edge = new HomeEdge(join(folder.path, 'home'));
    await edge.start();
    agents = [0, 1].map((number) => new AgentPart({ dir: folder.path, number, env: {} }));
    await Promise.all(agents.map(async (agent) => agent.join(edge.url, await edge.client.newJoinToken())));
    await Promise.all(agents.map((agent) => agent.untilConnected()));
  });
  afterAll(async () => {
    await Promise.all(agents.map((agent) => agent.stop()));
    await edge.stop();
    folder.remove();
  });

  it('takes ledgers of an hour ago: what started, went on and ended since is as the machines have it', async () => {
    const [stays, ends] = [await running('stays'), await running('ends')];
    await edge.stop();
    const snapshot = new Date().toISOString();
    keep('do/causeway-Ledger');
    await edge.start();
    await allConnected();
    const later = await running('later');
    await edge.client.deleteSession(ends.id);
    await edge.client.waitForState(ends.id, ['TERMINATED']);
    const before = await containers();
    await edge.stop();
    putBack('do/causeway-Ledger');
    const recovered = await causeway(['admin', 'recover', '--snapshot', snapshot, '--json']);
    expect(recovered, recovered.stderr).toMatchObject({ code: 0 });
    expect(JSON.parse(recovered.stdout)).toMatchObject({ ledgers: { recalled: 2 } });
    await edge.start();
    await allConnected();
    for (const { id } of [stays, later]) await edge.client.waitForState(id, ['RUNNING']);
    expect((await edge.client.session(ends.id)).state).toBe('TERMINATED');
    expect(await containers()).toEqual(before);
    await agrees([stays.id, ends.id, later.id]);
    await endsWhenAsked(later.id);
  });

  it('takes a ledger that lost everything: live sessions are back where they run', async () => {
    const [one, two] = [await running('one'), await running('two')];
    const before = await containers();
    await edge.stop();
    rmSync(join(edge.path, 'edge/do/causeway-Ledger'), { recursive: true });
    await edge.start();
    const report = await rebuild();
    expect(report.ledgers.begun).toEqual(['default']);
    expect(report.ledgers.recalled).toBeGreaterThanOrEqual(2);
    await allConnected();
    for (const { id } of [one, two]) await edge.client.waitForState(id, ['RUNNING']);
    expect(await containers()).toEqual(before);
    await agrees([one.id, two.id]);
    await endsWhenAsked(one.id);
  });

  it('takes a D1 of an hour ago: lists show what the ledgers hold', async () => {
    const old = await running('old');
    await edge.stop();
    keep('d1');
    await edge.start();
    await allConnected();
    const fresh = await running('fresh');
    await endsWhenAsked(old.id);
    await edge.stop();
    putBack('d1');
    await edge.start();
    await allConnected();
    await rebuild();
    await until(
      async () => {
        const states = new Map((await edge.client.sessions()).map(({ id, state }) => [id, state]));
        return states.get(old.id) === 'TERMINATED' && states.get(fresh.id) === 'RUNNING';
      },
      { what: 'the list to show what the ledgers hold', timeoutMs: 60_000 },
    );
    await agrees([old.id, fresh.id]);
  });

  it('still has the output that was handed over when it is restored in its place', async () => {
    const { id } = await edge.client.createSession({ ...forever, command: ['echo', 'kept'], name: 'says' } as never);
    await edge.client.waitForState(id, ['TERMINATED']);
    const stored = async () => {
      const answer = await edge.client.call('GET', `/v1/sessions/${id}/logs?stream=stdout&source=storage`);
      return answer.status === 200 && String(answer.body);
    };
    expect(await until(stored, { what: 'its output to be handed over', timeoutMs: 60_000 })).toBe('kept\n');
    const file = join(folder.path, 'after-hand-over');
    expect(await causeway(['backup', file])).toMatchObject({ code: 0 });
    await edge.stop();
    const restored = await causeway(['restore', file, '--yes']);
    expect(restored, restored.stderr).toMatchObject({ code: 0 });
    await edge.start();
    expect(await stored()).toBe('kept\n');
    await allConnected();
  });

  it('is backed up under load and restored elsewhere: nothing runs twice, and what is live again is what runs', async () => {
    const stays = await running('anchor');
    const load = { goesOn: true };
    const loading = (async () => {
      for (let n = 0; load.goesOn; n++) {
        const { id } = await edge.client.createSession({
          ...forever,
          command: ['sleep', '1'],
          name: `load-${n}`,
        } as never);
        await edge.client.waitForState(id, ['RUNNING', 'TERMINATED'], 120_000);
      }
    })();
    const file = join(folder.path, 'under-load');
    const made = await causeway(['backup', file]);
    expect(made, made.stderr).toMatchObject({ code: 0 });
    load.goesOn = false;
    await loading;
    const since = await running('since');
    await edge.stop();
    const two = new HomeEdge(join(folder.path, 'elsewhere'), new URL(edge.url).port);
    two.client.token = edge.client.token;
    const restored = await causeway(['restore', file, '--yes'], two.path);
    expect(restored, restored.stderr).toMatchObject({ code: 0 });
    edge = two;
    await edge.start();
    await allConnected();
    await edge.client.waitForState(stays.id, ['RUNNING']);
    // It was born after the backup: nobody knows it any more, and it is spared all the same.
    expect((await edge.client.call('GET', `/v1/sessions/${since.id}`)).status).toBe(404);
    expect(Object.keys(await containers())).toContain(since.id);
    const { items } = (await edge.client.api('GET', '/v1/admin/orphans')) as OrphanList;
    expect(items).toContainEqual(expect.objectContaining({ sessionId: since.id, generation: 1, state: 'running' }));
    const adoption = await causeway(['admin', 'orphans', '--adopt', since.id]);
    expect(adoption).toMatchObject({ code: 1, stderr: expect.stringContaining('makes nobody its owner') });
    await edge.client.api('DELETE', `/v1/admin/orphans/${since.id}`);
    await until(async () => (await containers())[since.id] === undefined, { what: 'the orphan to go' });
    for (const { sessionId } of items)
      if (sessionId !== since.id) await edge.client.api('DELETE', `/v1/admin/orphans/${sessionId}`);
    await until(
      async () => {
        const rest = (await edge.client.sessions()).filter(({ name }) => name.startsWith('load-'));
        return rest.every(({ state }) => isTerminal(state));
      },
      { what: 'the load to end', timeoutMs: 300_000, everyMs: 1000 },
    );
    await agrees([stays.id]);
    await endsWhenAsked(stays.id);
  });

  it('keeps a machine out that was revoked after the backup, here and where only the journal tells', async () => {
    const machine = new AgentPart({ dir: folder.path, number: 2, env: {} });
    try {
      await machine.join(edge.url, await edge.client.newJoinToken());
      await machine.untilConnected();
      const file = join(folder.path, 'before-revocation');
      expect(await causeway(['backup', file])).toMatchObject({ code: 0 });
      await edge.client.api('DELETE', `/v1/agents/${machine.agentId}`);
      await machine.process.stop();
      await edge.stop();
      const journal = join(edge.path, 'revocations.ndjson');
      const three = new HomeEdge(join(folder.path, 'third'), new URL(edge.url).port);
      three.client.token = edge.client.token;
      for (const [home, args] of [
        [edge, []],
        [three, ['--revocations', journal]],
      ] as const) {
        const restored = await causeway(['restore', file, '--yes', ...args], home.path);
        expect(restored, restored.stderr).toMatchObject({ code: 0 });
        expect(restored.stdout).toMatch(/^shut out again: .*, 1 agents$/m);
        await home.start();
        try {
          expect(await home.client.api('GET', `/v1/agents/${machine.agentId}`)).toMatchObject({ state: 'revoked' });
          machine.spawnAgain();
          await machine.process.line(({ text }) => text.includes('agent_revoked'), { timeoutMs: 60_000 });
          expect(machine.process.output()).not.toContain('"connected"');
          await machine.process.stop();
        } finally {
          await home.stop();
        }
      }
    } finally {
      await machine.stop();
    }
  });
});

const kept = (part: string) => join(folder.path, 'kept', part);
const inState = (part: string) => join(edge.path, 'edge', part);
/** Keeps a part of the state of an edge that is down. */
const keep = (part: string) => cpSync(inState(part), kept(part), { recursive: true });
function putBack(part: string): void {
  rmSync(inState(part), { recursive: true });
  cpSync(kept(part), inState(part), { recursive: true });
}

async function causeway(args: string[], home = edge.path): Promise<Exit & { stdout: string; stderr: string }> {
  const command = start(process.execPath, [cli, ...args], { env: { CAUSEWAY_HOME: home } });
  const exit = await command.exited;
  const textOf = (from: string) => command.lines.filter((line) => line.from === from).map((line) => line.text);
  return { ...exit, stdout: textOf('stdout').join('\n'), stderr: textOf('stderr').join('\n') };
}

async function running(name: string) {
  const { id } = await edge.client.createSession({ ...forever, name } as never);
  return edge.client.waitForState(id, ['RUNNING'], 120_000);
}

const rebuild = async (dryRun = false) =>
  (await edge.client.api('POST', '/v1/admin/rebuild', { dryRun })) as RebuildReport;

async function allConnected(): Promise<void> {
  await until(
    async () => {
      const { items } = (await edge.client.api('GET', '/v1/agents')) as { items: { state: string }[] };
      return items.length === agents.length && items.every(({ state }) => state === 'connected');
    },
    { what: 'every agent to be connected', timeoutMs: 180_000, everyMs: 500 },
  );
}

/** Running containers by session, sorted by id. More than one of a session is a fault at once. */
async function containers(): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const { engine } of agents)
    for (const { Names, Id } of await engine.docker.listContainers()) {
      const session = /(ses_[0-9a-z_]+)-main1-g\d+$/.exec(Names[0] ?? '')?.[1];
      if (session === undefined) continue;
      if (found[session] !== undefined) throw new Error(`${session} runs twice`);
      found[session] = Id;
    }
  return found;
}

/** Everything that keeps a copy agrees with what it copies, and histories have no holes. */
async function agrees(ids: readonly string[]): Promise<void> {
  await until(
    async () => {
      const { readModel, ledgers, admission } = await rebuild(true);
      const wrong = readModel.written + readModel.closed + ledgers.recalled + admission.claimed + admission.released;
      return wrong === 0 && admission.projects.length === 0;
    },
    { what: 'all copies to agree', timeoutMs: 60_000, everyMs: 500 },
  );
  for (const id of ids) expect(historyFaults(await edge.client.history(id)), id).toEqual([]);
}

/** Orders reach the container, its end comes back, and its quota with it. */
async function endsWhenAsked(id: string): Promise<void> {
  await edge.client.deleteSession(id);
  await edge.client.waitForState(id, ['TERMINATED'], 120_000);
  await until(async () => (await containers())[id] === undefined, { what: 'its container to go', timeoutMs: 60_000 });
}
