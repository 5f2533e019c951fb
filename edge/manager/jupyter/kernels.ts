/**
 * The kernels of the gateway: at `/jupyter` each is a session that was made for it, below a session those that it has.
 * `scope` is that session; undefined: none.
 */
import {
  type JupyterKernel,
  type JupyterKernelspec,
  type JupyterKernelspecs,
  mainKernelOf,
  type NewJupyterKernel,
  parseJupyterKernelId,
  toJupyterKernelId,
} from '../../../schema/api/jupyter.ts';
import type { Kernel, Kernelspec } from '../../../schema/api/kernel-parts.ts';
import { isTerminal } from '../../../schema/api/session-parts.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { UserCtx } from '../../http/context.ts';
import { systemTimers } from '../../platform/clock.ts';
import { actOnKernel, listKernels, listKernelspecs, startKernel } from '../kernels/service.ts';
import { listOwnLive } from '../sessions/list.ts';
import { deleteSession, getSource } from '../sessions/service.ts';
import type { SessionSource } from '../sessions/view.ts';
import { listOffers, toKernelspecs } from './offers.ts';
import { noteRestart, socketsOf } from './places.ts';
import { madeFor, sessionPrefix, startMainKernel, startSession } from './start.ts';

type Scope = string | undefined;

/** A kernel that the actor may use, and its session. */
export interface FoundKernel {
  kernelId: string;
  source: SessionSource;
  /** Set when the session was made for it. */
  made: { name: string; language: string } | undefined;
}

/** Kernels that one list shows; each costs a question to its agent. */
const maxListed = 64;
/** An agent that is slower is shown as `unknown`. */
const listMs = 3_000;
const stop = { force: false, graceMs: 10_000, purge: false };
const toIso = (ms: number) => new Date(ms).toISOString();

/** @throws Refusal `kernel_not_found` for what is none, is over, or is not the actor's to see; `access_denied` */
export async function requireKernel(ctx: UserCtx, scope: Scope, id: string): Promise<FoundKernel> {
  const named = parseJupyterKernelId(id);
  if (!named || (scope !== undefined && named.sessionId !== scope)) throw new Refusal('kernel_not_found');
  const source = await sourceOf(ctx, named.sessionId);
  if (isEnding(source)) throw new Refusal('kernel_not_found', 'Its session is over.');
  const { kernelId } = named;
  return { kernelId, source, made: kernelId === mainKernelOf(named.sessionId) ? madeFor(source) : undefined };
}

/** What is being ended is gone for clients: they take another kernel. */
function isEnding({ state }: SessionSource): boolean {
  return state === 'TERMINATING' || isTerminal(state);
}

async function sourceOf(ctx: UserCtx, sessionId: string): Promise<SessionSource> {
  try {
    return await getSource(ctx, sessionId, 'project:write');
  } catch (error) {
    if (error instanceof Refusal && error.code === 'session_not_found') throw new Refusal('kernel_not_found');
    throw error;
  }
}

export async function showKernel(ctx: UserCtx, scope: Scope, id: string): Promise<JupyterKernel> {
  return describe(ctx, await requireKernel(ctx, scope, id));
}

async function describe(ctx: UserCtx, { kernelId, source, made }: FoundKernel): Promise<JupyterKernel> {
  if (source.state !== 'RUNNING') return ofSession(source, kernelId, made?.name ?? '');
  const known = (await kernelsWithin(ctx, source.sessionId))?.find(({ id }) => id === kernelId);
  if (!known && !made) throw new Refusal('kernel_not_found');
  return known ? ofKernel(source, known, made?.name) : ofSession(source, kernelId, made?.name ?? '');
}

/** All kernels; undefined when the agent can not be asked in time. */
async function kernelsWithin(ctx: UserCtx, sessionId: string): Promise<Kernel[] | undefined> {
  const late = new Promise<undefined>((resolve) => void systemTimers.after(listMs, () => resolve(undefined)));
  return Promise.race([listKernels(ctx, sessionId).catch(() => undefined), late]);
}

/** A kernel of which its agent says nothing: it is to be started, or out of reach. */
function ofSession(source: SessionSource, kernelId: string, name: string): JupyterKernel {
  const { sessionId, state, reason, createdAtMs } = source;
  const why = reason?.detail ?? reason?.code;
  return {
    id: toJupyterKernelId(sessionId, kernelId),
    name,
    last_activity: toIso(source.startedAtMs ?? createdAtMs),
    execution_state: state === 'UNREACHABLE' ? 'unknown' : 'starting',
    connections: socketsOf(kernelId),
    ...(why === undefined ? {} : { reason: why }),
  };
}

function ofKernel({ sessionId }: SessionSource, kernel: Kernel, madeName: string | undefined): JupyterKernel {
  const { id, state, spec, language, startedAtMs, activeAtMs = startedAtMs, death } = kernel;
  return {
    id: toJupyterKernelId(sessionId, id),
    name: madeName ?? spec ?? language ?? '',
    // By it servers end kernels that nobody uses.
    last_activity: toIso(activeAtMs),
    execution_state: state,
    connections: socketsOf(id),
    ...(death ? { reason: death.reason } : {}),
  };
}

/** At `/jupyter` the actor's own that were made there; below a session all of its kernels of Jupyter. */
export async function listJupyterKernels(ctx: UserCtx, scope: Scope): Promise<JupyterKernel[]> {
  if (scope !== undefined) {
    const source = await getSource(ctx, scope, 'project:write');
    const ofJupyter = (await listKernels(ctx, scope)).filter(({ spec }) => spec !== undefined);
    return ofJupyter.map((each) => ofKernel(source, each, nameIn(source, each)));
  }
  const ids = await listOwnLive(ctx, sessionPrefix, maxListed);
  return (await Promise.all(ids.map((id) => listMain(ctx, id)))).flat();
}

/** The kernel that a session was made for, as it is now: the list of sessions is a while behind. */
async function listMain(ctx: UserCtx, sessionId: string): Promise<JupyterKernel[]> {
  const source = await getSource(ctx, sessionId, 'project:write');
  const made = madeFor(source);
  return made && !isEnding(source) ? [await describe(ctx, { kernelId: mainKernelOf(sessionId), source, made })] : [];
}

function nameIn(source: SessionSource, { id }: Kernel): string | undefined {
  return id === mainKernelOf(source.sessionId) ? madeFor(source)?.name : undefined;
}

/** Starts a kernel, at `/jupyter` with a session of its own. */
export async function startJupyterKernel(ctx: UserCtx, scope: Scope, wanted: NewJupyterKernel): Promise<JupyterKernel> {
  if (scope === undefined) {
    const source = await startSession(ctx, wanted);
    return ofSession(source, mainKernelOf(source.sessionId), madeFor(source)?.name ?? '');
  }
  const source = await getSource(ctx, scope, 'project:write');
  const spec = chooseSpec(await listKernelspecs(ctx, scope), wanted.name);
  return ofKernel(source, await startKernel(ctx, scope, { spec: spec.name, restarts: { perMinute: 5 } }), undefined);
}

function chooseSpec(specs: readonly Kernelspec[], name: string | null | undefined): Kernelspec {
  const spec = name
    ? specs.find((each) => each.name === name)
    : (specs.find((each) => each.name === 'python3') ?? specs[0]);
  if (spec) return spec;
  throw new Refusal(
    'jupyter_kernelspec_missing',
    `The image has: ${specs.map((each) => each.name).join(', ') || 'none'}.`,
  );
}

/** Ends a kernel, with the session if that was made for it. */
export async function endJupyterKernel(ctx: UserCtx, scope: Scope, id: string): Promise<void> {
  const { kernelId, source, made } = await requireKernel(ctx, scope, id);
  if (made && scope === undefined) await deleteSession(ctx, source.sessionId, stop);
  else await actOnKernel(ctx, source.sessionId, kernelId, { kind: 'shutdown' });
}

export async function interruptJupyterKernel(ctx: UserCtx, scope: Scope, id: string): Promise<void> {
  const { kernelId, source } = await requireKernel(ctx, scope, id);
  await actOnKernel(ctx, source.sessionId, kernelId, { kind: 'interrupt' });
}

export async function restartJupyterKernel(ctx: UserCtx, scope: Scope, id: string): Promise<JupyterKernel> {
  const { kernelId, source, made } = await requireKernel(ctx, scope, id);
  noteRestart(kernelId, ctx.clock.nowMs());
  try {
    return ofKernel(source, await actOnKernel(ctx, source.sessionId, kernelId, { kind: 'restart' }), made?.name);
  } catch (error) {
    // Nobody has connected to it yet.
    if (!made || !(error instanceof Refusal) || error.code !== 'kernel_not_found') throw error;
    await startMainKernel(ctx, source.sessionId, made.language);
    return showKernel(ctx, scope, id);
  }
}

/** What can be started. */
export async function listJupyterKernelspecs(ctx: UserCtx, scope: Scope): Promise<JupyterKernelspecs> {
  if (scope === undefined) return toKernelspecs(await listOffers(ctx));
  const specs = await listKernelspecs(ctx, scope);
  const kernelspecs = Object.fromEntries(specs.map((spec) => [spec.name, toJupyterKernelspec(spec)]));
  const [first] = specs;
  return { default: 'python3' in kernelspecs ? 'python3' : (first?.name ?? ''), kernelspecs };
}

function toJupyterKernelspec({ name, argv, env, displayName, language, interruptMode, metadata }: Kernelspec) {
  const spec = { argv, env, display_name: displayName, language, interrupt_mode: interruptMode, metadata };
  return { name, spec, resources: {} };
}

/** One of them. @throws Refusal `jupyter_kernelspec_missing` */
export async function getJupyterKernelspec(ctx: UserCtx, scope: Scope, name: string): Promise<JupyterKernelspec> {
  const { kernelspecs } = await listJupyterKernelspecs(ctx, scope);
  const found = Object.hasOwn(kernelspecs, name) ? kernelspecs[name] : undefined;
  if (!found) throw new Refusal('jupyter_kernelspec_missing');
  return found;
}
