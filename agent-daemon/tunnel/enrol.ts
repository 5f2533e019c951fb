/** Joins the control plane once: spends the join token for this host's key, again and again with the same key until it is answered. */
import type { Enrol } from '../../schema/api/agent.ts';
import type { Clock, Log, Random, Timers } from '../../schema/ports.ts';
import { backoffMs } from '../../schema/protocol/backoff.ts';
import { findWayError } from '../../wire/way-error.ts';
import type { Workload } from '../dispatch.ts';
import { agentVersion } from '../version.ts';
import { timeLimit } from '../deadline.ts';
import { EdgeRefusal, enrol, type Post } from './edge-api.ts';
import type { Identity, Membership } from './identity.ts';

export interface EnrolSettings {
  url(): string;
  token: string | undefined;
  name: string | undefined;
}

const tryMs = 30_000;

/** The agent can not join, and trying again would not help; worded for the person who started it. */
export class JoinError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'JoinError';
  }
}

/** The membership of this host; enrols first when there is none. @throws JoinError */
export async function joinOnce(
  identity: Identity,
  settings: EnrolSettings,
  workload: Workload,
  ports: { clock: Clock; timers: Timers; random: Random; log: Log; post: Post },
  signal: AbortSignal,
): Promise<Membership> {
  if (identity.membership) return identity.membership;
  const { token } = settings;
  if (token === undefined)
    throw new JoinError('this host has not joined yet: give a join token (causeway agent token create prints one)');
  for (let attempt = 0; ; attempt++) {
    signal.throwIfAborted();
    const limit = timeLimit(ports.timers, tryMs, signal);
    try {
      const request = await describeHost(identity, token, settings.name, workload);
      const enrolled = await enrol(ports.post, settings.url(), request, limit.signal);
      const membership = { ...enrolled, url: settings.url() };
      await identity.recordMembership(membership);
      ports.log.info('joined', { agentId: enrolled.agentId, name: enrolled.name, approved: enrolled.approved });
      return membership;
    } catch (error) {
      if (error instanceof EdgeRefusal && !error.retryable)
        throw new JoinError(`the edge refused to enrol: ${error.message}`);
      const inTheWay = findWayError(error);
      if (inTheWay?.final) throw new JoinError(String(inTheWay));
      signal.throwIfAborted();
      ports.log.warn('enrolment is tried again', { error: String(error) });
      const leastMs = error instanceof EdgeRefusal ? (error.retryAfterMs ?? 0) : 0;
      const waitMs = Math.max(leastMs, backoffMs(attempt, ports.random.fraction()));
      await new Promise<void>((resolve) => void ports.timers.after(waitMs, resolve));
    } finally {
      limit.cancel();
    }
  }
}

async function describeHost(
  identity: Identity,
  token: string,
  name: string | undefined,
  workload: Workload,
): Promise<Enrol> {
  const [capacity, host] = await Promise.all([workload.capacity(), workload.host()]);
  return {
    token,
    publicKey: identity.publicKey,
    ...(name === undefined ? {} : { name }),
    capacity,
    host,
    agentVersion,
  };
}
