/** What the supervisor writes down for `status`, `down` and `up` in other terminals: the whole picture, replaced at each change. */
import { existsSync } from 'node:fs';
import { z } from 'zod';

import { CliFailure } from '../exit.ts';
import { findJson } from './files.ts';
import { homePaths } from './home.ts';
import { isLocked } from './lock.ts';

const count = z.int().nonnegative();
export const PartState = z.object({
  name: z.string(),
  state: z.enum(['starting', 'running', 'waiting', 'stopped']),
  pid: count.optional(),
  /** How often it was started again since the supervisor started. */
  restarts: count,
  /** When it became what `state` says. */
  sinceMs: count,
  /** How it ended last, and what it said then. */
  lastExit: z.object({ atMs: count, how: z.string(), said: z.string().optional() }).optional(),
});
export type PartState = z.infer<typeof PartState>;

export const ImageState = z.object({
  state: z.enum(['checking', 'building', 'ready', 'failed']),
  percent: count,
  what: z.string(),
});
export type ImageState = z.infer<typeof ImageState>;

export const InstanceState = z.object({
  /** The supervisor. */
  pid: count,
  startedAtMs: count,
  phase: z.enum(['starting', 'running', 'stopping']),
  url: z.string(),
  /** Where other machines reach it. */
  publicUrl: z.string().optional(),
  /** Pin of the server's key and the end of its certificate, over TLS; `public`: everybody's programs believe it. */
  tls: z.object({ pin: z.string(), endsAtMs: count, public: z.boolean() }).optional(),
  instance: z.string(),
  engine: z.object({ socket: z.string(), version: z.string() }).optional(),
  redis: z.object({ mode: z.enum(['upstash', 'server', 'memory']) }).optional(),
  agent: z.object({ id: z.string(), connected: z.boolean() }).optional(),
  image: ImageState.optional(),
  parts: z.array(PartState),
  versions: z.object({ causeway: z.string(), node: z.string(), workerd: z.string() }),
});
export type InstanceState = z.infer<typeof InstanceState>;

/** True when a person can use the instance: every part runs and the agent of this machine is connected. */
export function isReady(state: InstanceState): boolean {
  return (
    state.phase === 'running' &&
    state.parts.every((part) => part.state === 'running') &&
    state.agent?.connected === true
  );
}

/** The state of a supervisor that lives; undefined when none does. */
export function findLiveState(home: string): InstanceState | undefined {
  const { state } = homePaths(home);
  if (!existsSync(state) || !isLocked(home)) return undefined;
  try {
    return findJson(state, InstanceState);
  } catch {
    throw new CliFailure(`the instance in ${home} is run by another version of Causeway`, {
      hint: 'stop it with the checkout that started it (causeway down there), or by the process that holds run/lock',
    });
  }
}

/** For when somebody holds the lock of a home and is no supervisor that can be spoken to. */
export function busyHome(home: string): CliFailure {
  return new CliFailure(`another command is at work on the instance in ${home}: a start, a backup or a restore`, {
    hint: 'causeway status, and the same again when it has ended',
  });
}
