/**
 * Bytes of sessions: who may open which streams, and what becomes of a stream over HTTP. The bytes come from the agent's
 * disk through the tunnel; nothing of them is kept here.
 */
import { Refusal } from '../../../schema/errors.ts';
import type { SessionFilesPutQuery, SessionLogsQuery } from '../../../schema/api/session-stream.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import type { StreamItem } from '../../../schema/protocol/inbox.ts';
import { parseJson } from '../../../schema/protocol/json.ts';
import { ProcessEvent, type StreamOpen } from '../../../schema/protocol/streams.ts';
import { principalOf } from '../../http/access.ts';
import type { UserCtx } from '../../http/context.ts';
import { dataHubObject } from '../../platform/objects.ts';
import { openStream, type OpenedStream, refusalOf, toRefusal } from '../../tunnel/client-stream.ts';
import { type ClientSocketClaim, toHub } from '../../tunnel/rpc.ts';
import { requireRoute } from './service.ts';

/** Operations that a client's socket opens, by its route. */
const socketOps = {
  exec: { verb: 'project:write', ops: ['process', 'logs', 'echo'] },
  logs: { verb: 'project:read', ops: ['logs'] },
  execute: { verb: 'project:write', ops: ['execute', 'channels'] },
  ssh: { verb: 'project:write', ops: ['ssh'] },
  ports: { verb: 'project:write', ops: ['connect'] },
} as const;

interface Target {
  hub: string;
  claim: ClientSocketClaim;
}

/** Where the streams of a session go, and what may be opened there. @throws Refusal */
export async function streamTarget(
  ctx: UserCtx,
  id: string,
  verb: 'project:read' | 'project:write',
  ops: readonly string[],
): Promise<Target> {
  const route = await requireRoute(ctx, id, verb);
  const { agent, generation, projectId } = route;
  if (!agent) throw new Refusal('session_not_running', 'The session waits to be placed: try again when it runs.');
  if (!agent.reachable)
    throw new Refusal('agent_unreachable', 'The agent of the session is out of reach; its output is kept there.', {
      retryAfterSeconds: 5,
    });
  const { agentId, epoch, controlHub, dataTicket, dataHub } = agent;
  const actorId = ctx.actor.userId;
  const principal = principalOf(ctx.actor, projectId);
  const { checkedAtMs } = ctx.actor;
  const write = verb === 'project:write';
  const way = { agentId, epoch, controlHub, dataTicket };
  return {
    hub: dataHub,
    claim: { sessionId: id, generation, ...way, actorId, principal, checkedAtMs, ops, write },
  };
}

/** Hands a client's socket to the data hub of the session's agent. */
export async function openSocket(ctx: UserCtx, id: string, kind: keyof typeof socketOps): Promise<Response> {
  const { verb, ops } = socketOps[kind];
  const { hub, claim } = await streamTarget(ctx, id, verb, ops);
  return dataHubObject(ctx.env, hub).fetch(toHub(ctx.request, 'client', claim));
}

export interface OpenedLogs extends OpenedStream {
  generation: number;
  /** Offsets of the first bytes that come. */
  from: { stdout: number; stderr: number };
}

/** Opens the kept output of a process. `after`: offsets to continue behind. */
export async function openLogs(
  ctx: UserCtx,
  id: string,
  query: SessionLogsQuery,
  after: { stdout: number; stderr: number; generation?: number },
): Promise<OpenedLogs> {
  const { hub, claim } = await streamTarget(ctx, id, 'project:read', ['logs']);
  const isCurrent = after.generation === undefined || after.generation === claim.generation;
  const { stdout, stderr } = isCurrent ? after : { stdout: 0, stderr: 0 };
  const open: StreamOpen = {
    op: 'logs',
    processId: query.process,
    streams: query.stream,
    after: { stdout, stderr },
    ...(query.tailLines === undefined ? {} : { tailLines: query.tailLines }),
    follow: query.follow === 'true',
  };
  const opened = await openStream(ctx.env, hub, claim, open);
  const kept = opened.opened.keptFrom ?? { stdout: 0, stderr: 0 };
  const from = { stdout: Math.max(stdout, kept.stdout), stderr: Math.max(stderr, kept.stderr) };
  return { ...opened, generation: claim.generation, from };
}

/** A tar archive of a path below `/home/work`. */
export async function openDownload(ctx: UserCtx, id: string, path: string): Promise<OpenedStream> {
  const { hub, claim } = await streamTarget(ctx, id, 'project:read', ['get']);
  return openStream(ctx.env, hub, claim, { op: 'get', path });
}

/** Sends one part of an archive, and resolves when the agent has it on its disk (or, with the last, unpacked). */
export async function uploadPart(
  ctx: UserCtx,
  id: string,
  query: SessionFilesPutQuery,
  body: ReadableStream<Uint8Array> | null,
): Promise<void> {
  const { hub, claim } = await streamTarget(ctx, id, 'project:write', ['put']);
  const { path, uploadId, offset } = query;
  const put: StreamOpen = { op: 'put', path, uploadId, offset, last: query.last === 'true' };
  const opened = await openStream(ctx.env, hub, claim, put);
  const { stream } = opened;
  try {
    stream.seek(channels.input, offset);
    for await (const chunk of body ?? []) await stream.write(channels.input, chunk);
    stream.finish();
    const end = await stream.whenOver;
    if (end.code !== 'ended') throw toRefusal(end);
  } catch (error) {
    throw refusalOf(error);
  } finally {
    opened.close();
  }
}

/** The bytes of the output channels as a body, in the order in which they come; read only as fast as they are taken. */
export function toBody(ctx: UserCtx, opened: OpenedStream): ReadableStream<Uint8Array> {
  return pumpBody(ctx, opened, () => false);
}

/**
 * Kept output as a body of bytes, which can not say that some are missing: it breaks off where they are. Who asks again
 * from there is told by the header of that answer where the bytes go on.
 */
export function toOutput(ctx: UserCtx, logs: OpenedLogs): ReadableStream<Uint8Array> {
  return pumpBody(ctx, logs, (item) => {
    const event = ProcessEvent.safeParse(parseJson(item.bytes)).data;
    return event?.kind === 'gap' && event.to > logs.from[event.stream];
  });
}

/** `breaksOff` sees what comes on the control channel. */
function pumpBody(
  ctx: UserCtx,
  opened: OpenedStream,
  breaksOff: (item: StreamItem) => boolean,
): ReadableStream<Uint8Array> {
  const { readable, writable } = new IdentityTransformStream();
  const writer = writable.getWriter();
  const pump = async () => {
    try {
      for await (const item of opened.stream.read()) {
        if (item.end) continue;
        if (item.channel !== channels.control) await writer.write(item.bytes);
        else if (breaksOff(item)) throw new Refusal('session_output_gone', 'Some bytes are missing here: ask on.');
      }
      await writer.close();
    } catch (error) {
      // Who reads sees a body that breaks off, never one that looks whole.
      await writer.abort(refusalOf(error));
    } finally {
      opened.close();
    }
  };
  ctx.waitUntil(pump());
  return readable;
}
