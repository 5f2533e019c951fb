/**
 * The engine under a running agent hangs (it takes connections and never answers) or dies: sessions are the init's and the
 * kernel's, so they and their output go on; the agent says what is wrong and asks again without piling up calls.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Agent } from '../../schema/api/agent.ts';
import { Cli } from '../support/cli.ts';
import { busyboxImage } from '../support/images.ts';
import { Witness, counterCommand } from '../support/invariants.ts';
import type { AgentPart } from '../support/stack-parts.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

/** Beyond every deadline of a call. */
const hangMs = 60_000;
/** A minute of silence is too long for every day, on which `kills.test.ts` kills the engine and brings it back. */
const inFull = it.runIf(tier === 'full');

let stack: Stack;
let agent: AgentPart;
let witness: Witness;
const sessions: string[] = [];

beforeAll(async () => {
  stack = await startStack();
  agent = stack.agents[0]!;
  witness = new Witness(stack);
  for (let n = 0; n < 3; n++) sessions.push(await create(counterCommand({ pauseMs: 50 }), true));
  for (const id of sessions) await stack.client.waitForState(id, ['RUNNING']);
}, 300_000);
afterAll(async () => {
  await witness?.stop();
  await stack?.stop();
}, 120_000);

async function create(command: string[], counts: boolean): Promise<string> {
  const resources = { cpu: 0.1, mem: '32m' };
  const session = await stack.client.createSession({ type: 'batch', image: busyboxImage, command, resources });
  witness.accepted(session.id, { counts });
  return session.id;
}

/** What the agent says of itself, in its local status and to the edge. */
function localProblems(): string[] {
  const status = JSON.parse(readFileSync(join(agent.state, 'status.json'), 'utf8')) as {
    report?: { problems: { code: string }[] };
  };
  return status.report?.problems.map(({ code }) => code) ?? [];
}
const saysUnavailable = (says: boolean) =>
  until(() => localProblems().includes('engine_unavailable') === says, {
    what: `the agent to ${says ? 'say' : 'say no more'} that its engine does not answer`,
    timeoutMs: 90_000,
  });

const agentNow = async () => (await stack.client.api('GET', `/v1/agents/${agent.agentId}`)) as Agent;
const openSockets = (): number => readdirSync(`/proc/${agent.process.pid}/fd`).length;

async function outputGoesOn(): Promise<void> {
  for (const id of sessions) {
    const { length } = await stack.client.logs(id);
    await until(async () => (await stack.client.logs(id, 'stdout', length)).length > 0, { what: `more of ${id}` });
  }
}

inFull(
  '[I1-I7] [I12] goes through a hang of the engine, says it, and asks again without piling up calls',
  async () => {
    const before = openSockets();
    process.kill(agent.engine.pid, 'SIGSTOP');
    try {
      await saysUnavailable(true);
      await outputGoesOn();
      expect((await agentNow()).state).toBe('connected');
      // Orders that need the engine wait for it.
      const late = await create(counterCommand({ pauseMs: 50 }), true);
      const stopped = sessions.shift()!;
      await stack.client.deleteSession(stopped, '?graceMs=500');
      // The way to the edge does not lead through the engine.
      stack.edge.killWorkerd9();
      await until(async () => (await agentNow()).state !== 'connected', { what: 'the cut', timeoutMs: 5000 }).catch(
        () => {},
      );
      await stack.edge.untilHealthy();
      await until(async () => (await agentNow()).state === 'connected', {
        what: 'the agent to connect',
        timeoutMs: 40_000,
      });
      await sleep(hangMs);
      await outputGoesOn();
      // The calls that are under way, and the start that waits.
      expect(openSockets()).toBeLessThan(before + 15);
      process.kill(agent.engine.pid, 'SIGCONT');
      await saysUnavailable(false);
      await stack.client.waitForState(stopped, ['TERMINATED']);
      await stack.client.waitForState(late, ['RUNNING'], 120_000);
      sessions.push(late);
    } finally {
      process.kill(agent.engine.pid, 'SIGCONT');
    }
    await outputGoesOn();
    await until(() => openSockets() < before + 15, { what: 'the calls to be over' });
    expect(agent.process.exit).toBeUndefined();
    await witness.quiesce();
    expect(await witness.faults()).toEqual([]);
  },
  300_000,
);

// Its death for a moment is a test of every day (`kills.test.ts`).
it.runIf(tier === 'full')(
  '[I1-I7] says that the engine is dead while it is, starts processes meanwhile, and goes on with it',
  async () => {
    // It remembers nothing of its images then.
    await agent.restart();
    await outputGoesOn();
    await agent.engine.kill9();
    await saysUnavailable(true);
    await outputGoesOn();
    const cli = new Cli(stack.url, stack.client.token!, stack.dir);
    const ran = await cli.run(['exec', sessions[0]!, '--', 'sh', '-c', 'echo $PATH']);
    expect(ran, ran.stderr).toMatchObject({ status: 0, stdout: expect.stringContaining('/bin') as string });
    await agent.engine.restart();
    await saysUnavailable(false);
    const id = await create(['true'], false);
    await stack.client.waitForState(id, ['TERMINATED']);
    await witness.quiesce();
    expect(await witness.faults()).toEqual([]);
  },
  300_000,
);
