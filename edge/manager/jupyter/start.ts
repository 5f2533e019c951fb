/** A session for one kernel, and the kernel in it. */
import {
  kernelMadeFor,
  mainKernelOf,
  mainKernelRestarts,
  type NewJupyterKernel,
  usualSpecOf,
  variablesOfKernel,
} from '../../../schema/api/jupyter.ts';
import { isTerminal } from '../../../schema/api/session-parts.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { UserCtx } from '../../http/context.ts';
import { systemTimers } from '../../platform/clock.ts';
import { listKernelspecs, startKernel } from '../kernels/service.ts';
import { createSession, deleteSession, getSource, whenLeft } from '../sessions/service.ts';
import type { SessionSource } from '../sessions/view.ts';
import { listOffers, requireOffer } from './offers.ts';

/** What the sessions of the gateway are called. */
export const sessionPrefix = 'jupyter-';

/** What a session was made for by the gateway; undefined: it was not. */
export function madeFor({ spec }: SessionSource): { name: string; language: string } | undefined {
  return kernelMadeFor(spec.env);
}

/** A gateway client gives a request up after 42 s, unless KERNEL_LAUNCH_TIMEOUT says otherwise. */
const waitMs = { usual: 30_000, most: 600_000, least: 1_000, spare: 8_000 };
const stopNow = { force: true, graceMs: 0, purge: false };
const maxEnvBytes = 32 * 1024;

/**
 * Makes a session for a kernel, and waits until it has found its place. Its agent starts the kernel with it; where it can not,
 * or is of an earlier version, the kernel is started when somebody connects.
 * @throws Refusal `jupyter_start_waits` with what it waited for; then the session is ended
 */
export function startSession(ctx: UserCtx, wanted: NewJupyterKernel): Promise<SessionSource> {
  return seeThrough(ctx, startAndAwait(ctx, wanted));
}

/**
 * What is not to stop halfway where its client goes away: the runtime ends with a request what it waits for, unless it is told
 * otherwise. The platform lets work go on for 30 s behind that.
 */
export function seeThrough<Result>(ctx: UserCtx, work: Promise<Result>): Promise<Result> {
  const settled = () => undefined;
  ctx.waitUntil(work.then(settled, settled));
  return work;
}

async function startAndAwait(ctx: UserCtx, wanted: NewJupyterKernel): Promise<SessionSource> {
  const offer = requireOffer(await listOffers(ctx), wanted.name);
  const env = variablesIn(wanted.env ?? {});
  const { session } = await createSession(ctx, {
    type: 'interactive',
    name: `${sessionPrefix}${Array.from(ctx.random.bytes(8), (byte) => (byte % 36).toString(36)).join('')}`,
    image: offer.image,
    resources: offer.resources,
    env: { ...env, ...variablesOfKernel(offer) },
  });
  return awaitPlace(ctx, session.id, waitFor(env['KERNEL_LAUNCH_TIMEOUT']));
}

/** What can be a variable of a session, up to 32 KiB in all. */
function variablesIn(env: Record<string, unknown>): Record<string, string> {
  const variables: Record<string, string> = {};
  let bytes = 0;
  for (const [name, value] of Object.entries(env)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(name) || typeof value !== 'string' || value.includes('\0')) continue;
    bytes += name.length + value.length * 3;
    if (bytes > maxEnvBytes) break;
    variables[name] = value;
  }
  return variables;
}

function waitFor(launchTimeout: string | undefined): number {
  const seconds = Number(launchTimeout);
  if (launchTimeout === undefined || !Number.isFinite(seconds) || seconds <= 0) return waitMs.usual;
  return Math.min(Math.max(seconds * 1000 - waitMs.spare, waitMs.least), waitMs.most);
}

async function awaitPlace(ctx: UserCtx, id: string, withinMs: number): Promise<SessionSource> {
  const untilMs = ctx.clock.bootMs() + withinMs;
  for (let pauseMs = 50; ; pauseMs = Math.min(2 * pauseMs, 1_000)) {
    const source = await getSource(ctx, id, 'project:write');
    if (isTerminal(source.state)) throw ended(source);
    if (source.state !== 'PENDING') return source;
    const isHopeless = source.reason?.code === 'no_agents' || source.reason?.code === 'larger_than_agents';
    if (isHopeless || ctx.clock.bootMs() >= untilMs) {
      await deleteSession(ctx, id, stopNow);
      throw new Refusal('jupyter_start_waits', waitedFor(source));
    }
    await pauseWhilePending(ctx, id, pauseMs);
  }
}

/** One that still waits for admission is not known where it would be told that it has its place: it is looked at again. */
async function pauseWhilePending(ctx: UserCtx, id: string, pauseMs: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const cancel = systemTimers.after(pauseMs, resolve);
    void whenLeft(ctx, id, ['PENDING'], pauseMs).then((hasPlace) => {
      if (!hasPlace) return;
      cancel();
      resolve();
    });
  });
}

function waitedFor({ reason }: SessionSource): string {
  const why = reason?.detail ?? reason?.code ?? 'no agent took it';
  return `The kernel waited for resources and was given up: ${why}`;
}

function ended(source: SessionSource): Refusal {
  return new Refusal('session_ended', whyEnded(source));
}

/** Why a session is over, in words. */
export function whyEnded({ state, reason, result }: SessionSource): string {
  const why = reason?.detail ?? reason?.code ?? result?.reason;
  return `The session of the kernel is over (${state.toLowerCase()}${why === undefined ? '' : `: ${why}`}).`;
}

/**
 * Starts the kernel that a session was made for; harmless when it is there, as its agent starts it with the session.
 * @throws Refusal `kernel_spec_missing`
 */
export async function startMainKernel(ctx: UserCtx, sessionId: string, language: string): Promise<void> {
  const start = async (spec: string) => {
    await startKernel(ctx, sessionId, { id: mainKernelOf(sessionId), spec, restarts: mainKernelRestarts });
  };
  const usual = usualSpecOf(language);
  try {
    if (usual !== undefined) return await start(usual);
  } catch (error) {
    if (!(error instanceof Refusal) || error.code !== 'kernel_spec_missing') throw error;
  }
  const specs = await listKernelspecs(ctx, sessionId);
  const spec = specs.find((each) => each.language.toLowerCase() === language.toLowerCase());
  if (!spec) {
    const had = specs.map(({ name }) => name).join(', ');
    throw new Refusal(
      'kernel_spec_missing',
      `The image has no kernel of Jupyter for ${language}${had === '' ? ', nor any other.' : `; it has ${had}.`}`,
    );
  }
  await start(spec.name);
}
