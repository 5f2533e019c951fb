/** The verbs of terminals: calls of the agent of the session, and streams to one. @throws Refusal, the agent's own among them */
import type { NewTerminal } from '../../../schema/api/terminal.ts';
import type { Terminal } from '../../../schema/api/terminal-parts.ts';
import { Refusal } from '../../../schema/errors.ts';
import { newId } from '../../../schema/ids.ts';
import type { UserCtx } from '../../http/context.ts';
import type { StreamOpen } from '../../../schema/protocol/streams.ts';
import { dataHubObject } from '../../platform/objects.ts';
import { openStream, type OpenedStream } from '../../tunnel/client-stream.ts';
import { type ClientSocketClaim, toHub } from '../../tunnel/rpc.ts';
import { askAgent } from '../sessions/ask-agent.ts';
import { streamTarget } from '../sessions/streams.ts';

/** The terminals of a session that were not closed. */
export async function listTerminals(ctx: UserCtx, sessionId: string): Promise<Terminal[]> {
  return (await askAgent(ctx, sessionId, 'project:read', 'terminals', {})).terminals;
}

/** Makes a terminal, once for an id. */
export async function startTerminal(
  ctx: UserCtx,
  sessionId: string,
  { id, ...request }: NewTerminal,
): Promise<Terminal> {
  const terminalId = id ?? newId('terminal', ctx.clock.nowMs(), ctx.random.bytes(10));
  const act = { kind: 'start', request };
  return (await askAgent(ctx, sessionId, 'project:write', 'terminal', { terminalId, act })).terminal;
}

/** Hangs a terminal up, and answers how it ended. */
export async function closeTerminal(ctx: UserCtx, sessionId: string, terminalId: string): Promise<Terminal> {
  const act = { kind: 'close' };
  return (await askAgent(ctx, sessionId, 'project:write', 'terminal', { terminalId, act })).terminal;
}

/** Hands a client's socket to the data hub of the session's agent, for this one terminal. */
export async function openTerminalSocket(ctx: UserCtx, sessionId: string, terminalId: string): Promise<Response> {
  const { hub, claim } = await terminalTarget(ctx, sessionId, terminalId);
  return dataHubObject(ctx.env, hub).fetch(toHub(ctx.request, 'client', claim));
}

/** A stream to a terminal for the Worker itself, as somebody who may type. */
export async function openTerminalStream(
  ctx: UserCtx,
  sessionId: string,
  open: Extract<StreamOpen, { op: 'terminal' }>,
): Promise<OpenedStream> {
  const { hub, claim } = await streamTarget(ctx, sessionId, 'project:write', [open.op]);
  return openStream(ctx.env, hub, { ...claim, terminalId: open.terminalId }, open);
}

/** Where the streams to a terminal go: who may write in the project may type, who may read it may look. */
async function terminalTarget(
  ctx: UserCtx,
  sessionId: string,
  terminalId: string,
): Promise<{ hub: string; claim: ClientSocketClaim }> {
  const ops = ['terminal'];
  const target = await streamTarget(ctx, sessionId, 'project:write', ops).catch((error: unknown) => {
    if (error instanceof Refusal && error.code === 'access_denied')
      return streamTarget(ctx, sessionId, 'project:read', ops);
    throw error;
  });
  return { ...target, claim: { ...target.claim, terminalId } };
}
