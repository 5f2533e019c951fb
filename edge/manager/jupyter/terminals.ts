/**
 * Terminals as clients of Jupyter know them: by names. `scope` is the session whose terminals they are, and a name is the
 * terminal's own, or else its id; without a scope terminals are those of the sessions that the gateway made for kernels,
 * and a name tells the session too. A new one is opened in the session of the kernel that its user started last.
 */
import {
  type JupyterTerminal,
  type NewJupyterTerminal,
  parseJupyterTerminalName,
  toJupyterTerminalName,
} from '../../../schema/api/jupyter.ts';
import { shellOf, type Terminal, TerminalName } from '../../../schema/api/terminal-parts.ts';
import { NewTerminal } from '../../../schema/api/terminal.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { UserCtx } from '../../http/context.ts';
import { listOwnLive } from '../sessions/list.ts';
import { getSource } from '../sessions/service.ts';
import type { SessionSource } from '../sessions/view.ts';
import { closeTerminal, listTerminals, startTerminal } from '../terminals/service.ts';
import { keepTerminals, knownTerminals } from './places.ts';
import { madeFor, sessionPrefix } from './start.ts';

type Scope = string | undefined;

/** A terminal that the actor may type into. */
export interface FoundTerminal {
  source: SessionSource;
  terminal: Terminal;
}

/** Sessions of which one list shows the terminals; each costs a question to its agent. */
const maxListed = 64;
/** Two that are made at once may choose the same number. */
const maxTries = 5;

const nameOf = ({ name, id }: Terminal) => name ?? id;
const isRunning = ({ state }: Terminal) => state === 'running';

function toModel(scope: Scope, sessionId: string, terminal: Terminal): JupyterTerminal {
  const name = nameOf(terminal);
  const { startedAtMs, activeAtMs = startedAtMs } = terminal;
  return {
    name: scope === undefined ? toJupyterTerminalName(sessionId, name) : name,
    last_activity: new Date(activeAtMs).toISOString(),
  };
}

/** Those that run. A client takes what is not listed for closed: one whose agent is out of reach is listed as before. */
export async function listJupyterTerminals(ctx: UserCtx, scope: Scope): Promise<JupyterTerminal[]> {
  if (scope !== undefined) return listOf(ctx, scope, await getSource(ctx, scope, 'project:write'));
  const sources = await Promise.all(
    (await listOwnLive(ctx, sessionPrefix, maxListed)).map((id) => getSource(ctx, id, 'project:write')),
  );
  const hosts = sources.filter((source) => madeFor(source) !== undefined && hasTerminals(source));
  return (await Promise.all(hosts.map((source) => listOf(ctx, scope, source)))).flat();
}

function hasTerminals({ state }: SessionSource): boolean {
  return state === 'RUNNING' || state === 'UNREACHABLE';
}

async function listOf(ctx: UserCtx, scope: Scope, { sessionId }: SessionSource): Promise<JupyterTerminal[]> {
  try {
    const models = (await listTerminals(ctx, sessionId))
      .filter(isRunning)
      .map((terminal) => toModel(scope, sessionId, terminal));
    if (scope === undefined)
      keepTerminals(
        sessionId,
        models.map(({ name }) => name),
      );
    return models;
  } catch (error) {
    if (scope !== undefined || !(error instanceof Refusal)) throw error;
    const last_activity = new Date(ctx.clock.nowMs()).toISOString();
    return (knownTerminals(sessionId) ?? []).map((name) => ({ name, last_activity }));
  }
}

/** One that runs. @throws Refusal `terminal_not_found` */
export async function showJupyterTerminal(ctx: UserCtx, scope: Scope, name: string): Promise<JupyterTerminal> {
  const { source, terminal } = await requireTerminal(ctx, scope, name);
  if (!isRunning(terminal)) throw new Refusal('terminal_not_found', 'It has ended.');
  return toModel(scope, source.sessionId, terminal);
}

/** Hangs it up. @throws Refusal `terminal_not_found` */
export async function endJupyterTerminal(ctx: UserCtx, scope: Scope, name: string): Promise<void> {
  const { source, terminal } = await requireTerminal(ctx, scope, name);
  await closeTerminal(ctx, source.sessionId, terminal.id);
}

/** @throws Refusal `terminal_not_found` for what is none, or is not the actor's to see; `access_denied` */
export async function requireTerminal(ctx: UserCtx, scope: Scope, text: string): Promise<FoundTerminal> {
  const named = scope === undefined ? parseJupyterTerminalName(text) : { sessionId: scope, name: text };
  if (named === undefined) throw new Refusal('terminal_not_found');
  const source = await sourceOf(ctx, scope, named.sessionId);
  const all = (await listTerminals(ctx, source.sessionId)).filter(
    ({ name, id }) => name === named.name || id === named.name,
  );
  // One that has ended may have left its name to another.
  const terminal = all.find(isRunning) ?? all.at(-1);
  if (terminal === undefined) throw new Refusal('terminal_not_found');
  return { source, terminal };
}

async function sourceOf(ctx: UserCtx, scope: Scope, sessionId: string): Promise<SessionSource> {
  try {
    return await getSource(ctx, sessionId, 'project:write');
  } catch (error) {
    if (scope === undefined && error instanceof Refusal && error.code === 'session_not_found')
      throw new Refusal('terminal_not_found');
    throw error;
  }
}

/**
 * Opens a terminal, or answers the one that runs under the name. A client that opens its terminals again asks for names
 * that it had: the same session is taken where it is still there.
 * @throws Refusal `jupyter_session_required` without a scope and a kernel
 */
export async function startJupyterTerminal(
  ctx: UserCtx,
  scope: Scope,
  wanted: NewJupyterTerminal,
): Promise<JupyterTerminal> {
  const { sessionId, name } = await placeFor(ctx, scope, wanted.name ?? undefined);
  const cwd = wanted.cwd ? wanted.cwd : undefined;
  for (let tries = 1; ; tries++) {
    const running = (await listTerminals(ctx, sessionId)).filter(isRunning);
    const found = running.find((each) => nameOf(each) === name || each.id === name);
    if (found) return toModel(scope, sessionId, found);
    const free = TerminalName.safeParse(name).data ?? firstFree(running);
    try {
      const request = NewTerminal.parse({ name: free, argv: shellOf(cwd) });
      return toModel(scope, sessionId, await startTerminal(ctx, sessionId, request));
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'terminal_conflict' || tries === maxTries) throw error;
    }
  }
}

/** As jupyter-server counts: the smallest number that none of them has. */
function firstFree(running: readonly Terminal[]): string {
  const taken = new Set(running.map(nameOf));
  let number = 1;
  while (taken.has(String(number))) number++;
  return String(number);
}

/** The session of a new terminal, and what it is called there. */
async function placeFor(
  ctx: UserCtx,
  scope: Scope,
  wanted: string | undefined,
): Promise<{ sessionId: string; name: string | undefined }> {
  if (scope !== undefined) return { sessionId: (await getSource(ctx, scope, 'project:write')).sessionId, name: wanted };
  const named = wanted === undefined ? undefined : parseJupyterTerminalName(wanted);
  const name = named?.name ?? wanted;
  if (named !== undefined) {
    const source = await getSource(ctx, named.sessionId, 'project:write').catch(() => undefined);
    if (source && hasTerminals(source)) return { sessionId: source.sessionId, name };
  }
  for (const id of await listOwnLive(ctx, sessionPrefix, maxListed)) {
    const source = await getSource(ctx, id, 'project:write');
    if (madeFor(source) !== undefined && hasTerminals(source)) return { sessionId: id, name };
  }
  throw new Refusal(
    'jupyter_session_required',
    'Start a kernel first: a terminal opens in the session of the last one. Or use /v1/sessions/{id}/jupyter.',
  );
}
