/** Our side of the rows: sessions of the real stack and what runs in them. */
import { randomUUID } from 'node:crypto';
import type { NewSession } from '../../../schema/api/session.ts';
import type { StreamOpen } from '../../../schema/protocol/streams.ts';
import { ClientSocket } from '../../support/client-socket.ts';
import { newProcessId } from '../../support/ids.ts';
import { busyboxImage } from '../../support/images.ts';
import type { Stack } from '../../support/stack.ts';
import { until } from '../../support/wait.ts';

export interface RunningSession {
  id: string;
  /** When the ledger noted that it runs, Unix ms. */
  runningMs: number;
}

/** Starts a session of the busybox image and waits until it runs; looked at seldom, so that looking costs little. */
export async function startSession(stack: Stack, spec: Partial<NewSession>): Promise<RunningSession> {
  const { client } = stack;
  const body: NewSession = { type: 'interactive', image: busyboxImage, ...spec };
  const { id } = await client.createSession(body, randomUUID());
  await until(async () => (await client.session(id)).state === 'RUNNING', {
    what: `session ${id} to run`,
    timeoutMs: 120_000,
    everyMs: 100,
  });
  const row = (await client.history(id)).find(({ state }) => state === 'RUNNING');
  return { id, runningMs: row!.atMs };
}

/** Ends sessions at once and waits until their containers are gone. */
export async function endSessions(stack: Stack, ids: readonly string[]): Promise<void> {
  await Promise.all(ids.map(async (id) => stack.client.deleteSession(id, '?force=true')));
  const { docker } = stack.agents[0]!.engine;
  await until(
    async () => {
      const left = await docker.listContainers({ all: true });
      return left.every(({ Labels }) => !ids.includes(Labels['causeway.session'] ?? ''));
    },
    { what: 'the sessions to be gone', timeoutMs: 120_000, everyMs: 100 },
  );
}

/** A socket to a session for these operations; `base` may be a proxy's address. */
export async function dialSession(
  stack: Stack,
  id: string,
  kind: 'exec' | 'logs' = 'exec',
  base = stack.url,
): Promise<ClientSocket> {
  return ClientSocket.dial(base, `/v1/sessions/${id}/${kind}`, stack.client.token!);
}

/** The opening of a process that runs `argv` with a standard input. */
export function spawnOf(argv: string[]): Extract<StreamOpen, { op: 'process' }> {
  return { op: 'process', processId: newProcessId(), spawn: { argv, stdin: true }, input: true };
}
