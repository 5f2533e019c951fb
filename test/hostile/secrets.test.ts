/**
 * Forty secrets and more are put through a whole life: people, tokens, machines, sessions. Afterwards everything that was
 * written anywhere is searched: logs, databases of the edge, Redis, the agent's files, containers as the engine knows them,
 * and what the API tells of events. Each secret may lie where it is kept on purpose, and nowhere else.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { ClientSocket } from '../support/client-socket.ts';
import { newProcessId } from '../support/ids.ts';
import { busyboxImage } from '../support/images.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

const fresh = (kind: string): string => `canary-${kind}-${randomBytes(16).toString('hex')}`;

/** Where a secret may be found, as the beginning of a path in the stack's folder. */
interface Secret {
  what: string;
  text: string;
  kept: readonly string[];
}

describe.runIf(tier === 'full')('secrets', () => {
  let stack: Stack;
  const secrets: Secret[] = [];
  const keep = (what: string, text: string, ...kept: string[]): string => {
    secrets.push({ what, text, kept });
    return text;
  };
  let inspected = '';
  let events = '';
  beforeAll(async () => {
    stack = await startStack({ redis: 'server' });
    keep("the administrator's password", stack.client.password);
    keep("the administrator's token", stack.client.token!);
    await people(stack, keep);
    inspected = await work(stack, keep);
    events = JSON.stringify([
      await stack.client.api('GET', '/v1/sessions?limit=100'),
      await stack.client.api('GET', '/v1/users'),
      await stack.client.api('GET', '/v1/tokens'),
      await stack.client.api('GET', '/v1/agents'),
      await stack.client.api('GET', '/v1/audit'),
    ]);
    // Everything is on the disk when everything has stopped.
    await stack.agents[0]?.process.stop();
    await stack.edge.stop();
    await stack.redis?.stop();
  });
  afterAll(async () => {
    await stack?.stop();
  });

  it('are forty and more, each its own', () => {
    expect(new Set(secrets.map(({ text }) => text)).size).toBe(secrets.length);
    expect(secrets.length).toBeGreaterThanOrEqual(40);
  });

  it('lie in no file but where they are kept', () => {
    const files = filesBelow(stack.dir);
    const names = files.map((file) => relative(stack.dir, file));
    for (const part of ['logs/edge.log', 'logs/agent-0.log', 'edge/', 'redis/', 'agent-0/output/'])
      expect(
        names.some((name) => name.startsWith(part)),
        part,
      ).toBe(true);
    const found = files.flatMap((file) => {
      const bytes = readFileSync(file);
      const name = relative(stack.dir, file);
      return secrets
        .filter(({ text, kept }) => bytes.includes(text) && !kept.some((place) => name.startsWith(place)))
        .map(({ what }) => `${what} in ${name}`);
    });
    expect(found).toEqual([]);
    // The search finds what is there: a specification is kept on purpose.
    const variable = secrets.find(({ what }) => what === "a session's variable")?.text ?? '';
    const holders = names.filter((_, at) => readFileSync(files[at]!).includes(variable));
    expect(holders.some((name) => name.startsWith('edge/'))).toBe(true);
  });

  it('are unknown to the engine, and to whoever lists or reads the audit', () => {
    expect(inspected).toContain('causeway.session');
    expect(events).toContain('example.test');
    const leaked = secrets.filter(({ text }) => inspected.includes(text) || events.includes(text));
    expect(leaked.map(({ what }) => what)).toEqual([]);
  });
});

type Keep = (what: string, text: string, ...kept: string[]) => string;

/** Users who sign in, fail to, and make tokens; tokens for machines that never come. */
async function people(stack: Stack, keep: Keep): Promise<void> {
  const { client } = stack;
  for (let n = 0; n < 8; n++) {
    const email = `person-${n}@example.test`;
    const password = keep(`password ${n}`, fresh('password'));
    await client.api('POST', '/v1/users', { email, password });
    const login = async (password: string) =>
      until(
        async () => {
          const answer = await client.call('POST', '/v1/auth/login', { email, password }, { token: null });
          return answer.status === 429 ? undefined : answer;
        },
        { what: 'a sign-in', everyMs: 300 },
      );
    expect((await login(keep(`wrong password ${n}`, fresh('wrong')))).status).toBe(401);
    keep(`token of a sign-in ${n}`, ((await login(password)).body as { token: string }).token);
    const made = (await client.api('POST', '/v1/tokens', { name: `token-${n}` })) as { token: string };
    keep(`API token ${n}`, made.token);
  }
  for (let n = 0; n < 4; n++) keep(`join token ${n}`, await client.newJoinToken());
  const misplaced = keep('a token in an address', fresh('address'));
  await client.call('GET', `/v1/whoami?token=${misplaced}`, undefined, { headers: { 'x-secret': misplaced } });
  await client.call('GET', '/v1/whoami', undefined, { token: keep('a wrong token', fresh('wrong-token')) });
}

/** A session with secrets in its environment, and a process in it with another. Answers what the engine knows. */
async function work(stack: Stack, keep: Keep): Promise<string> {
  const { client } = stack;
  // What a session needs to run is in its specification: the edge's databases, and the agent's orders and placements.
  const specified = ['edge/', 'agent-0/journal', 'agent-0/sessions/'];
  const env = { SECRET: keep("a session's variable", fresh('session-env'), ...specified) };
  const command = ['sh', '-c', 'echo ready; sleep 100000'];
  const { id } = await client.createSession({ name: 'secretive', type: 'batch', image: busyboxImage, command, env });
  await client.waitForState(id, ['RUNNING']);
  const socket = await ClientSocket.dial(stack.url, `/v1/sessions/${id}/exec`, client.token!);
  const spawn = {
    argv: ['sh', '-c', 'cat > /dev/null; test -n "$SECRET"'],
    env: { SECRET: keep("a process's variable", fresh('exec-env')) },
    stdin: true,
  };
  const stream = socket.open({ op: 'process', processId: newProcessId(), spawn });
  await stream.opened;
  await stream.send(Buffer.from(keep('a word typed into a process', fresh('stdin'))));
  stream.end();
  expect(await stream.exit()).toMatchObject({ exitCode: 0 });
  socket.close();
  const { docker } = stack.agents[0]!.engine;
  const containers = await docker.listContainers({ all: true });
  const details = await Promise.all(containers.map(({ Id }) => docker.getContainer(Id).inspect()));
  await client.deleteSession(id);
  await client.waitForState(id, ['TERMINATED']);
  return JSON.stringify([containers, details]);
}

function filesBelow(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) return filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
}
