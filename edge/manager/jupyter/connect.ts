/** The socket of a Jupyter client to one kernel: who it is, where it goes on, and what is behind it. */
import type { SessionState } from '../../../schema/api/session-parts.ts';
import { Refusal } from '../../../schema/errors.ts';
import { stillAllowed } from '../../http/access.ts';
import type { UserCtx } from '../../http/context.ts';
import { systemTimers } from '../../platform/clock.ts';
import { machine } from '../../platform/draining.ts';
import { openStream, type OpenedStream } from '../../tunnel/client-stream.ts';
import { getSource, whenLeft } from '../sessions/service.ts';
import { streamTarget } from '../sessions/streams.ts';
import { Askers } from './askers.ts';
import { type BridgeMemory, ChannelBridge } from './channel-bridge.ts';
import { ClientSocket, dialectOf, v1Protocol } from './client-socket.ts';
import type { LogPosition } from '../../../schema/protocol/jupyter-framing.ts';
import { type FoundKernel, requireKernel } from './kernels.ts';
import {
  countSocket,
  executionsOf,
  findPlace,
  isRestarted,
  keepExecutions,
  keepPlace,
  requireRoomForSocket,
} from './places.ts';
import { Replay } from './replay.ts';
import { Requests } from './requests.ts';
import { startMainKernel, whyEnded } from './start.ts';
import { Unproven, unprovenLimits } from './unproven.ts';

/** How long the kernel of a client without a `session_id` may start before its socket is taken all the same: such clients give up after 40 s. */
const startMs = 30_000;
const beforeRunning: readonly SessionState[] = ['PENDING', 'SCHEDULED', 'PREPARING', 'CREATING'];

/** Takes the socket, and answers for it until one of its ends is gone. @throws Refusal as `requireKernel` */
export async function openChannels(
  ctx: UserCtx,
  scope: string | undefined,
  id: string,
  sessionId: string | undefined,
): Promise<Response> {
  const kernel = await requireKernel(ctx, scope, id);
  const { userId } = ctx.actor;
  requireRoomForSocket(userId);
  const { 0: theirs, 1: ours } = new WebSocketPair();
  ours.binaryType = 'arraybuffer';
  ours.accept();
  const dialect = dialectOf(ctx.request);
  const { clock } = ctx;
  const unproven = new Unproven(unprovenLimits[ctx.config.layout], { clock, timers: systemTimers });
  const bridge = new ChannelBridge(
    new ClientSocket(ours, dialect, unproven),
    {
      clock,
      timers: systemTimers,
      random: ctx.random,
      log: ctx.log,
      open: (after, writer) => openKernel(ctx, kernel, after, writer),
      stillAllowed: stillAllowed(ctx, kernel.source.projectId),
      explain: (refusal) => explain(ctx, kernel, refusal),
      whenStarted: (withinMs) => whenLeft(ctx, kernel.source.sessionId, beforeRunning, withinMs),
      isRestarted: () => isRestarted(kernel.kernelId, clock.nowMs()),
      isDraining: () => machine.isDraining,
    },
    memoryOf(kernel, userId, sessionId),
  );
  for (const each of [userId, kernel.kernelId]) countSocket(each, 1);
  ctx.waitUntil(
    bridge.run().finally(() => {
      for (const each of [userId, kernel.kernelId]) countSocket(each, -1);
    }),
  );
  // As at jupyter-server: to jupyter_client a kernel that does not answer within a second is dead. Pages are told that it starts.
  if (sessionId === undefined) await Promise.race([bridge.whenUp, pause(startMs)]);
  const headers: HeadersInit = dialect === 'v1' ? { 'sec-websocket-protocol': v1Protocol } : {};
  return new Response(null, { status: 101, webSocket: theirs, headers });
}

/** Opens the channels; the kernel that a session was made for is started when it is not there yet. */
async function openKernel(
  ctx: UserCtx,
  { kernelId, source, made }: FoundKernel,
  after: LogPosition | undefined,
  writer: string | undefined,
): Promise<OpenedStream> {
  const { hub, claim } = await streamTarget(ctx, source.sessionId, 'project:write', ['channels']);
  const open = {
    op: 'channels' as const,
    kernelId,
    ...(after === undefined ? {} : { after }),
    ...(writer === undefined ? {} : { writer }),
  };
  try {
    return await openStream(ctx.env, hub, claim, open);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    // It was not started so often: it is dead, and may be started again.
    if (error.code === 'session_output_gone' && after?.offset === 0) throw new Refusal('kernel_dead', error.detail);
    if (!made || error.code !== 'kernel_not_found') throw error;
    await startMainKernel(ctx, source.sessionId, made.language);
    return openStream(ctx.env, hub, claim, open);
  }
}

async function explain(ctx: UserCtx, { source }: FoundKernel, refusal: Refusal): Promise<string> {
  const { code } = refusal;
  if (code !== 'session_ended' && code !== 'session_output_gone' && code !== 'session_not_found')
    return refusal.message;
  return whyEnded(await getSource(ctx, source.sessionId, 'project:read'));
}

/** What is known of a client and its kernel. `client`: who it is; `session`: its `session_id`. */
function memoryOf({ kernelId }: FoundKernel, client: string, session: string | undefined): BridgeMemory {
  const executions = executionsOf(kernelId);
  const keep: BridgeMemory['keep'] = (read) => keepExecutions(kernelId, read);
  const common = { executions, session, keep };
  const askers = new Askers(session);
  const requests = new Requests({ isReturning: session !== undefined });
  if (session === undefined) return { ...common, askers, requests, place: undefined, back: undefined };
  const key = `${client} ${kernelId} ${session}`;
  const place = findPlace(key) ?? { starts: -1, sent: 0, safe: 0, askers, requests, owner: undefined };
  keepPlace(key, place);
  const { starts, sent, safe } = place;
  const kept = { ...common, askers: place.askers, requests: place.requests, place };
  if (starts < 0) return { ...kept, back: undefined };
  place.requests.goBackTo(safe);
  const missed = executions.behind(starts, safe).filter((each) => each.from < sent && each.session === session);
  const replay = missed.length === 0 ? undefined : new Replay({ executions: missed, until: sent, session });
  return { ...kept, back: { after: { starts, offset: sent }, replay } };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => void systemTimers.after(ms, resolve));
}
