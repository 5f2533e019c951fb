/**
 * An agent of the release after this one, as the wire shows it: it speaks the next version of the tunnel's protocol too, and
 * says more in its hello than this release knows (SPEC rules K4 and K8). All else is agreed on from that.
 */
import { encodeFrames, frameTypes } from '../../schema/protocol/frame.ts';
import { jsonFrames } from '../../schema/protocol/json.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { ToEdgeHello } from '../../schema/protocol/messages.ts';
import { messageOf } from './promises.ts';

/** A message of an agent of this release, as one of the next says it. */
export function asLaterRelease(bytes: Uint8Array): Uint8Array {
  const hello = messageOf<ToEdgeHello>(bytes, ['hello']);
  if (hello === undefined) return bytes;
  const later = { ...hello, version: limits.version + 1, agentVersion: 'later', saidLater: [{ a: 1 }] };
  return encodeFrames(jsonFrames(frameTypes.message, 0, later));
}
