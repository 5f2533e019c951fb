/** W3C trace context (https://www.w3.org/TR/trace-context/): keeps the caller's trace, with a span of our own. */
import type { Random } from '../../schema/ports.ts';

const pattern = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})$/;

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The `traceparent` of this request: of the caller's trace when its header is valid, else of a new one. */
export function nextTraceparent(incoming: string | null, random: Random): string {
  const [, trace, flags] = pattern.exec(incoming ?? '') ?? [];
  return `00-${trace ?? hex(random.bytes(16))}-${hex(random.bytes(8))}-${flags ?? '00'}`;
}
