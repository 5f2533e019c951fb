/**
 * Bytes of sessions: who may open which streams, and what becomes of a stream over HTTP. The bytes come from the agent's
 * disk through the tunnel, output of agents that are gone from object storage; nothing of them is kept here.
 */
import { type ErrorCode, Refusal } from '../../../schema/errors.ts';
import { isTerminal } from '../../../schema/api/session-parts.ts';
import type { SessionFilesPutQuery, SessionLogsQuery } from '../../../schema/api/session-stream.ts';
import { continuous } from '../../../schema/protocol/continuity.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import type { StreamItem } from '../../../schema/protocol/inbox.ts';
import { parseJson } from '../../../schema/protocol/json.ts';
import type { LinesOpen } from '../../../schema/protocol/lines.ts';
import { ProcessEvent, type StreamOpen } from '../../../schema/protocol/streams.ts';
import { principalOf } from '../../http/access.ts';
import type { UserCtx } from '../../http/context.ts';
import { dataHubObject } from '../../platform/objects.ts';
import { openStream, type OpenedStream, refusalOf, toRefusal } from '../../tunnel/client-stream.ts';
import { type ClientSocketClaim, toHub } from '../../tunnel/rpc.ts';
import type { LogsOpen } from '../archive/read.ts';
import { openStored } from '../archive/service.ts';
import { toLinesOpen } from './log-lines.ts';
import type { LogCursor, OpenedLogs, Render } from './opened-logs.ts';
import { requireReadable, requireRoute } from './service.ts';

/** Operations that a client's socket opens, by its route. */
const socketOps = {
  exec: { verb: 'project:write', ops: ['process', 'logs', 'lines', 'echo'] },
  logs: { verb: 'project:read', ops: ['logs', 'lines'] },
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
  const { agent, generation, projectId, state } = route;
  if (route.isPurged) throw new Refusal('session_output_gone', 'The session was purged, with all that it printed.');
  if (!agent && isTerminal(state)) throw new Refusal('session_output_gone', 'The session ended without a machine.');
  if (!agent) throw new Refusal('session_not_running', 'The session waits to be placed: try again when it runs.');
  // It would say that the session has ended: it knows of none before it has kept the order to make it.
  if (state === 'SCHEDULED')
    throw new Refusal('session_not_running', 'The session is on its way to its agent: try again when it runs.');
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

/**
 * Hands a client's socket to the data hub of the session's agent. `continues`: the generation that the client goes on with,
 * whose processes and offsets mean nothing in another.
 */
export async function openSocket(
  ctx: UserCtx,
  id: string,
  kind: keyof typeof socketOps,
  continues: number | undefined,
): Promise<Response> {
  const { verb, ops } = socketOps[kind];
  const { hub, claim } = await streamTarget(ctx, id, verb, ops);
  mustContinue(continues, claim.generation);
  const answer = await dataHubObject(ctx.env, hub).fetch(toHub(ctx.request, 'client', claim));
  if (answer.webSocket === null) return answer;
  const headers = new Headers(answer.headers);
  headers.set('causeway-generation', String(claim.generation));
  return new Response(null, { status: 101, headers, webSocket: answer.webSocket });
}

function mustContinue(continues: number | undefined, generation: number): void {
  if (continues === undefined || continues === generation) return;
  const detail = `What is to go on ran in generation ${continues} of the session, which is at generation ${generation}.`;
  throw new Refusal('session_generation_stale', detail);
}

export interface LogsWish {
  query: SessionLogsQuery;
  /** By the line, not as bytes. */
  lines: boolean;
  /** To continue behind it. */
  cursor: LogCursor | undefined;
}

/** What is refused at its agent, or for want of one, when output may be in object storage all the same. */
const elsewhere: ReadonlySet<ErrorCode> = new Set([
  'agent_unreachable',
  'session_not_running',
  'session_output_gone',
  'process_not_found',
]);

/** Opens the kept output of a process: at its agent; else what the agent handed over. @throws Refusal of the agent's way */
export async function openLogs(ctx: UserCtx, id: string, wish: LogsWish): Promise<OpenedLogs> {
  const { source } = wish.query;
  try {
    if (source === 'storage') throw new Refusal('session_output_gone', 'Nothing of it lies in object storage.');
    return await openAtAgent(ctx, id, wish);
  } catch (error) {
    if (source === 'agent' || !(error instanceof Refusal) || !elsewhere.has(error.code)) throw error;
    const stored = await openInStorage(ctx, id, wish);
    if (stored) return stored;
    throw error;
  }
}

async function openAtAgent(ctx: UserCtx, id: string, wish: LogsWish): Promise<OpenedLogs> {
  const { hub, claim } = await streamTarget(ctx, id, 'project:read', [wish.lines ? 'lines' : 'logs']);
  const { generation } = claim;
  const open = toOpen(wish, generation, ctx.clock.nowMs());
  const stream = await openStream(ctx.env, hub, claim, open);
  const { stdout, stderr } = open.after ?? { stdout: 0, stderr: 0 };
  const kept = stream.opened.keptFrom ?? { stdout: 0, stderr: 0 };
  const from = { stdout: Math.max(stdout, kept.stdout), stderr: Math.max(stderr, kept.stderr) };
  const items = continuous(stream.stream.read(), wish.lines ? fromBegin : from);
  return { items, close: () => stream.close(), source: 'agent', generation, from };
}

async function openInStorage(ctx: UserCtx, id: string, wish: LogsWish): Promise<OpenedLogs | undefined> {
  const { generation, projectId } = await requireReadable(ctx, id);
  const process = { sessionId: id, generation, process: wish.query.process, projectId };
  const { cursor } = wish;
  const stored = await openStored(ctx, process, (found) =>
    // Who goes on with what runs now waits for that: what ran before is none of it.
    cursor !== undefined && found < cursor.generation ? undefined : toOpen(wish, found, ctx.clock.nowMs()),
  );
  return stored && { ...stored, close: () => undefined, source: 'storage' };
}

function toOpen({ query, lines, cursor }: LogsWish, generation: number, nowMs: number): LogsOpen | LinesOpen {
  mustContinue(query.generation, generation);
  const after = startOf(query, cursor, generation);
  return lines ? toLinesOpen(query, after, nowMs) : toLogsOpen(query, after);
}

/** Offsets to begin behind, if any were named: those of another generation mean nothing here. */
function startOf({ offset, stream }: SessionLogsQuery, cursor: LogCursor | undefined, generation: number) {
  if (cursor !== undefined) return cursor.generation === generation ? cursor : undefined;
  if (offset === undefined) return undefined;
  return { stdout: 0, stderr: 0, [stream]: offset };
}

function toLogsOpen(query: SessionLogsQuery, after: { stdout: number; stderr: number } | undefined): LogsOpen {
  const { stdout, stderr } = after ?? { stdout: 0, stderr: 0 };
  return {
    op: 'logs',
    processId: query.process,
    streams: query.stream,
    after: { stdout, stderr },
    // Who comes again with a cursor has those lines.
    ...(query.tailLines === undefined || after !== undefined ? {} : { tailLines: query.tailLines }),
    follow: query.follow === 'true',
  };
}

const fromBegin = { stdout: 0, stderr: 0 };

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
  const source = { items: continuous(opened.stream.read(), fromBegin), close: () => opened.close() };
  return pumpBody(ctx, source, ({ channel, bytes }) => (channel === channels.control ? undefined : bytes));
}

/** Lines as `render` says them. */
export function toLines(ctx: UserCtx, logs: OpenedLogs, render: Render): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const cursor = { generation: logs.generation, ...logs.from };
  return pumpBody(ctx, logs, (item) => encoder.encode(render(item, cursor)));
}

/**
 * Kept output as a body of bytes, which can not say that some are missing: it breaks off where they are. Who asks again
 * from there is told by the header of that answer where the bytes go on.
 */
export function toOutput(ctx: UserCtx, logs: OpenedLogs): ReadableStream<Uint8Array> {
  return pumpBody(ctx, logs, (item) => {
    if (item.channel !== channels.control) return item.bytes;
    const event = ProcessEvent.safeParse(parseJson(item.bytes)).data;
    if ((event?.kind === 'gap' && event.to > logs.from[event.stream]) || event?.kind === 'missing')
      throw new Refusal('session_output_gone', 'Some bytes are missing here: ask on.');
    return undefined;
  });
}

/**
 * Bytes have no heartbeat, and that a client is gone shows at the next write alone: a process that says nothing for so long
 * is followed no further, or each client that left would hold a stream of its agent for as long as it is quiet.
 */
const mostQuietMs = 60 * 60_000;

/** `toBytes`: what the body gets for an item; a refusal that it throws breaks the body off. */
function pumpBody(
  ctx: UserCtx,
  opened: Pick<OpenedLogs, 'items' | 'close'>,
  toBytes: (item: StreamItem) => Uint8Array | undefined,
): ReadableStream<Uint8Array> {
  const { readable, writable } = new IdentityTransformStream();
  const writer = writable.getWriter();
  const pump = async () => {
    const listen = (): ReturnType<typeof setTimeout> => setTimeout(() => opened.close(), mostQuietMs);
    let quiet = listen();
    try {
      for await (const item of opened.items) {
        clearTimeout(quiet);
        quiet = listen();
        if (item.end) continue;
        const bytes = toBytes(item);
        if (bytes !== undefined && bytes.byteLength > 0) await writer.write(bytes);
      }
      await writer.close();
    } catch (error) {
      // Who reads sees a body that breaks off, never one that looks whole.
      await writer.abort(refusalOf(error));
    } finally {
      clearTimeout(quiet);
      opened.close();
    }
  };
  ctx.waitUntil(pump());
  return readable;
}
