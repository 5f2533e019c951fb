/** The operation `connect` of the tunnel: one connection to a port of a session, its bytes as they are (SPEC S21). */
import { Refusal } from '../../schema/errors.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { AgentStream, StreamHandler } from '../dispatch.ts';
import type { AttendedOf } from '../processes/attended.ts';
import type { StreamsOf } from '../processes/streams.ts';
import { toolArgv } from '../processes/tools.ts';
import type { Session } from '../sessions/session.ts';
import { ToolConnection } from './connection.ts';

export interface ConnectOf extends StreamsOf, AttendedOf {}

/** Serves connections to ports of all sessions, so many of each at once. */
export function connectStream(of: ConnectOf): StreamHandler<'connect'> {
  const open = new Map<Session, number>();
  return async ({ sessionId, generation, open: { port } }, stream) => {
    const session = of.find(sessionId, generation);
    if (session === undefined || session.state === 'ended')
      throw new Refusal('session_ended', 'The session has ended. Start a new one.');
    if (session.supervisor === undefined)
      throw new Refusal('session_not_running', 'The session is still being started.');
    const count = open.get(session) ?? 0;
    if (count >= limits.portConnectionsPerSession)
      throw new Refusal('port_limit', `A session takes ${limits.portConnectionsPerSession} connections at once.`);
    open.set(session, count + 1);
    try {
      await carry(new ToolConnection(session, of, toolArgv('connect', 'localhost', String(port))), stream);
    } finally {
      const left = (open.get(session) ?? 1) - 1;
      if (left > 0) open.set(session, left);
      else open.delete(session);
    }
  };
}

async function carry(connection: ToolConnection, stream: AgentStream): Promise<void> {
  const abandon = (): void => connection.abandon();
  if (stream.closed.aborted) return;
  stream.closed.addEventListener('abort', abandon);
  try {
    await connection.run({
      opened: () => {
        stream.opened({});
        feed(connection, stream).catch(abandon);
      },
      bytes: (bytes) => stream.write(channels.stdout, bytes),
      ended: () => stream.end(channels.stdout),
    });
  } finally {
    stream.closed.removeEventListener('abort', abandon);
    connection.abandon();
  }
}

async function feed(connection: ToolConnection, stream: AgentStream): Promise<void> {
  for await (const { channel, bytes, end } of stream.read()) {
    if (channel !== channels.input) continue;
    if (end) connection.endInput();
    // What nobody takes any more is read all the same: the stream ends by what the far end says.
    else await connection.write(bytes);
  }
}
