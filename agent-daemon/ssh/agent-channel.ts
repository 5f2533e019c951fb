/** A channel to the agent of a client: OpenSSH's `auth-agent@openssh.com` (PROTOCOL.agent), which ssh2 (1.17.0) has no method for. */
import type { Connection, ServerChannel } from 'ssh2';

/** As ssh2 opens all others. */
const windowBytes = 2 * 1024 * 1024;
const packetBytes = 32 * 1024;
const type = 'auth-agent@openssh.com';

type Opened = (error: Error | undefined, channel: ServerChannel) => void;

interface Internals {
  _chanMgr: { add(opened: Opened & { type: string }): number };
  _protocol: { openssh_authAgent(channel: number, windowBytes: number, packetBytes: number): void };
}

/** `opened` is told when the client has taken it, or that it has not. */
export function openAgentChannel(client: Connection, opened: Opened): void {
  const { _chanMgr: channels, _protocol: protocol } = client as unknown as Internals;
  const number = channels.add(Object.assign(opened, { type }));
  if (number !== -1) return protocol.openssh_authAgent(number, windowBytes, packetBytes);
  opened(new Error('no channel is free'), undefined as never);
}
