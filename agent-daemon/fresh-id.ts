/** New ids from the ports. */
import { type IdKind, newId } from '../schema/ids.ts';
import type { Clock, Random } from '../schema/ports.ts';

/** A new id of `kind`. */
export function freshId(kind: IdKind, ports: { clock: Clock; random: Random }): string {
  return newId(kind, ports.clock.nowMs(), ports.random.bytes(10));
}
