/** Why a channel is not opened (RFC 4254, section 5.1), with words that the client shows. */
import type { Connection } from 'ssh2';

export const refusals = { prohibited: 1, connectFailed: 2, resourceShortage: 4 } as const;

interface Protocol {
  channelOpenFail(sender: number, reason: number, text: string): void;
}

/** `reject` is what ssh2 gave with the request: by itself (1.17.0) it has one reason for all, and no words. */
export function refuseChannel(client: Connection, reject: () => unknown, reason: number, text: string): void {
  const { _protocol: protocol } = client as unknown as { _protocol: Protocol };
  const original = protocol.channelOpenFail.bind(protocol);
  protocol.channelOpenFail = (sender) => original(sender, reason, text);
  try {
    reject();
  } finally {
    Reflect.deleteProperty(protocol, 'channelOpenFail');
  }
}
