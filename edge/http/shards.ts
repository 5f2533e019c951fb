/** Which of the 16 shards of `Access` and `Throttle` a name belongs to. Fixed for ever: revocations live there. */
const shards = 16;

/** FNV-1a of the name, modulo 16. */
export function shardOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193);
  return (hash >>> 0) % shards;
}
