/** An edge whose read model holds many ended sessions, written into its database while it stands still. */
import { cpSync, readdirSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { dirname, join, relative } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { newSessionId } from '../../../schema/ids.ts';
import { busyboxImage } from '../../support/images.ts';
import { type Stack, newStack } from '../../support/stack.ts';

/** Starts an edge alone, with `count` ended sessions of the administrator's project. */
export async function edgeWithSessions(count: number): Promise<Stack> {
  const stack = newStack();
  await stack.startEdge();
  const me = (await stack.client.api('GET', '/v1/whoami')) as {
    userId: string;
    domainId: string;
    projects: { id: string }[];
  };
  await stack.edge.stop();
  fill(databaseFile(stack.edge.state), count, { ...me, projectId: me.projects[0]!.id });
  await stack.edge.start();
  return stack;
}

/** Copies the database of a stopped edge to where another edge with this state directory will find it. */
export function copyDatabase(fromState: string, toState: string): void {
  const folder = dirname(databaseFile(fromState));
  cpSync(folder, join(toState, relative(fromState, folder)), { recursive: true });
}

function databaseFile(state: string): string {
  const files = readdirSync(state, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.sqlite'));
  for (const file of files) {
    const path = join(state, file);
    const database = new DatabaseSync(path);
    const found = database.prepare("SELECT name FROM sqlite_master WHERE name = 'sessions'").get();
    database.close();
    if (found !== undefined && file.includes('d1')) return path;
  }
  throw new Error(`no database with a table of sessions below ${state}`);
}

function fill(file: string, count: number, me: { userId: string; domainId: string; projectId: string }): void {
  const database = new DatabaseSync(file);
  database.exec('BEGIN');
  const columns = {
    id: '',
    domain_id: me.domainId,
    project_id: me.projectId,
    owner_id: me.userId,
    name: '',
    type: 'batch',
    group_number: 1,
    created_at_ms: 0,
    state: 'TERMINATED',
    version: 6,
    generation: 1,
    started_at_ms: 0,
    ended_at_ms: 0,
    result: JSON.stringify({ exitCode: 0, reason: 'exited' }),
    spec: '',
  };
  const names = Object.keys(columns);
  const insert = database.prepare(`INSERT INTO sessions (${names.join()}) VALUES (${names.map(() => '?').join()})`);
  const startMs = Date.now() - count * 1000;
  for (let n = 0; n < count; n++) {
    const atMs = startMs + n * 1000;
    const name = `session-${n}`;
    const spec = JSON.stringify(specOf(name, me));
    const times = { created_at_ms: atMs, started_at_ms: atMs + 200, ended_at_ms: atMs + 900 };
    const row = { ...columns, ...times, name, spec, id: newSessionId(atMs, randomBytes(10), 1, 1) };
    insert.run(...Object.values(row));
  }
  database.exec('COMMIT');
  database.close();
}

function specOf(name: string, me: { userId: string; projectId: string }): Record<string, unknown> {
  return {
    kernel: 'main1',
    projectId: me.projectId,
    ownerId: me.userId,
    name,
    type: 'batch',
    image: busyboxImage,
    command: ['sh', '-c', 'echo hello'],
    env: {},
    stdin: false,
    tty: false,
    slots: { cpu: 1000, mem: 268_435_456 },
    output: { onFull: 'block', blockMs: 600_000, spoolBytes: 67_108_864 },
  };
}
