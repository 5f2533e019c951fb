/**
 * One failpoint, visited in the real stack: a life of the system (first administrator, enrolment, sessions that run, end by
 * themselves, are stopped, another agent that is fenced and revoked) in which one process dies at the named step, is
 * started again as a supervisor would, and everything must still come out as if nothing had happened.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type FailpointPhase, failpoints } from '../../schema/failpoints.ts';
import { ClientSocket } from './client-socket.ts';
import { newProcessId } from './ids.ts';
import { busyboxImage, importLayered } from './images.ts';
import { type Registry, startRegistry } from './registry.ts';
import { Witness, counterCommand } from './invariants.ts';
import type { AgentPart } from './stack-parts.ts';
import { type Stack, newStack } from './stack.ts';
import { until } from './wait.ts';

export interface Visit {
  /** False when the life never came to that step: then the run proves nothing. */
  visited: boolean;
  faults: string[];
}

/** Runs the life with one failpoint armed. */
export async function visitFailpoint(name: string, phase: FailpointPhase): Promise<Visit> {
  const ofEdge = failpoints.edge.some((each) => each === name);
  const armed = `${name}:${phase}`;
  const stack = newStack(ofEdge ? {} : { agentEnv: { CAUSEWAY_FAILPOINT: armed } });
  const keepers: Keeper[] = [];
  try {
    if (ofEdge) await stack.edge.arm(armed);
    await stack.startEdge();
    const agent = await stack.newAgent();
    keepers.push(new Keeper(agent));
    await agent.untilConnected();
    const faults = await live(stack, name);
    const mark = join(agent.state, `failpoint-${name}-${phase}`);
    return { visited: ofEdge ? stack.edge.failpointHits > 0 : existsSync(mark), faults };
  } catch (error) {
    throw new Error(`${armed}: ${(error as Error).message}\n${stack.output()}`, { cause: error });
  } finally {
    for (const keeper of keepers) keeper.stop();
    await stack.stop();
  }
}

async function live(stack: Stack, name: string): Promise<string[]> {
  const witness = new Witness(stack);
  const registry = name === 'runtime.pull' ? await startRegistry(stack.agents[0]!.engine) : undefined;
  try {
    return await liveWatched(stack, name, witness, registry && (await publish(stack, registry)));
  } finally {
    await witness.stop();
    await registry?.stop();
  }
}

/** Puts an image into the registry that the agent then does not have. Returns its name. */
async function publish(stack: Stack, registry: Registry): Promise<string> {
  const { docker } = stack.agents[0]!.engine;
  const image = `${registry.host}/test/failpoint:1`;
  const id = await importLayered(docker, image, { version: '1', sizes: [100_000] });
  await registry.push(docker, image);
  await docker.getImage(id).remove({ force: true });
  return image;
}

async function liveWatched(
  stack: Stack,
  name: string,
  witness: Witness,
  finiteImage = busyboxImage,
): Promise<string[]> {
  const { client } = stack;
  const create = async (command: string[], counts: boolean, image = busyboxImage): Promise<string> => {
    const session = await client.createSession({
      type: 'batch',
      image,
      command,
      resources: { cpu: 0.1, mem: '32m' },
    });
    witness.accepted(session.id, { counts });
    return session.id;
  };
  const counting = await create(counterCommand({ pauseMs: 50 }), true);
  const finite = await create(counterCommand({ upTo: 100, pauseMs: 5 }), true, finiteImage);
  const failing = await create(['sh', '-c', 'exit 3'], false);
  await client.waitForState(finite, ['TERMINATED']);
  await client.waitForState(failing, ['TERMINATED']);
  await client.waitForState(counting, ['RUNNING']);
  await execOnce(stack, counting);
  if (name === 'ledger.fence') await outOfReach(stack, stack.agents[0]!);
  await until(async () => client.deleteSession(counting, '?graceMs=500').then(() => true), {
    what: 'the stop to be accepted',
  });
  await client.waitForState(counting, ['TERMINATED']);
  await witness.quiesce();
  const faults = await witness.faults({ secrets: [client.password, client.token!] });
  if ((await client.session(failing)).result?.exitCode !== 3) faults.push('[I5] the exit code 3 was lost');
  if (name === 'agents.revoke') await revoke(stack, stack.agents[0]!);
  if (/^accounts\.(intend|rights|tell)$/.test(name)) await takeRole(stack);
  if (name.startsWith('audit.')) await readAudit(stack);
  return faults;
}

/** An exec that leaves a trace each time it really runs; repeated by its process id until its exit is known. */
async function execOnce(stack: Stack, sessionId: string): Promise<void> {
  const processId = newProcessId();
  const spawn = { argv: ['sh', '-c', 'echo ran >> /home/work/runs; cat /home/work/runs'] };
  let said = '';
  await until(
    async () => {
      const socket = await ClientSocket.dial(stack.url, `/v1/sessions/${sessionId}/exec`, stack.client.token!);
      said = '';
      try {
        const stream = socket.open(
          { op: 'process', processId, spawn },
          { onData: (channel, payload) => (said += channel === 1 ? Buffer.from(payload).toString() : '') },
        );
        return await stream.exit();
      } finally {
        socket.cut();
      }
    },
    { what: 'an exec to end', everyMs: 250 },
  );
  if (said !== 'ran\n') throw new Error(`[I6] an exec ran ${said.split('\n').length - 1} times`);
}

/** Silences an agent until the ledger says so, then lets it come back. */
async function outOfReach(stack: Stack, agent: AgentPart): Promise<void> {
  agent.process.kill('SIGSTOP');
  await until(async () => (await agentState(stack, agent)) === 'unreachable', {
    what: 'the agent to be out of reach',
    timeoutMs: 120_000,
  });
  agent.process.kill('SIGCONT');
  await until(async () => (await agentState(stack, agent)) === 'connected', {
    what: 'the agent to come back',
    timeoutMs: 120_000,
  });
}

async function revoke(stack: Stack, agent: AgentPart): Promise<void> {
  await until(async () => stack.client.api('DELETE', `/v1/agents/${agent.agentId}`).then(() => true), {
    what: 'the revocation to be accepted',
  });
  await until(async () => (await agentState(stack, agent)) === 'revoked', { what: 'the agent to be revoked' });
}

/** Takes an administrator's role, asked again until it is accepted; then its token has none, wherever it is asked. */
async function takeRole(stack: Stack): Promise<void> {
  const { client } = stack;
  const user = (await client.api('POST', '/v1/users', { email: 'leaver@causeway.test', role: 'domain-admin' })) as Made;
  const { token } = (await client.api('POST', `/v1/users/${user.id}/tokens`, { name: 'leaver' })) as Made;
  await client.api('GET', '/v1/users', undefined, { token });
  await until(async () => client.api('PATCH', `/v1/users/${user.id}`, { role: null }).then(() => true), {
    what: 'the role to be taken',
  });
  const asked = await client.call('GET', '/v1/users', undefined, { token });
  if (asked.status !== 403) throw new Error(`a role that was taken still works: ${asked.status}`);
}

/** Every session was created once; the chain of records is whole, and each is in it once. */
async function readAudit({ client }: Stack): Promise<void> {
  await until(async () => client.api('GET', '/v1/audit').then(() => true), { what: 'the audit trail to be sealed' });
  const verdict = (await client.api('GET', '/v1/audit/verify')) as { ok: boolean };
  const { items } = (await client.api('GET', '/v1/audit?limit=200')) as { items: { id: string; action: string }[] };
  const created = items.filter(({ action }) => action === 'session.create').length;
  if (!verdict.ok || created !== 3 || new Set(items.map(({ id }) => id)).size !== items.length)
    throw new Error(`the audit trail is not whole: ${JSON.stringify({ verdict, created, items })}`);
}

interface Made {
  id: string;
  token: string;
}

async function agentState(stack: Stack, agent: AgentPart): Promise<string> {
  return ((await stack.client.api('GET', `/v1/agents/${agent.agentId}`)) as { state: string }).state;
}

/** Starts an agent again whenever it ended, as a supervisor does. */
class Keeper {
  #stopped = false;

  constructor(agent: AgentPart) {
    agent.kept = true;
    void this.#keep(agent);
  }

  stop(): void {
    this.#stopped = true;
  }

  async #keep(agent: AgentPart): Promise<void> {
    for (;;) {
      await agent.process.exited;
      if (this.#stopped) return;
      await sleep(200);
      agent.spawnAgain();
    }
  }
}
