/**
 * Puts an object to sleep in the middle of a test. One that still sleeps at its end would keep its storage for the next test,
 * of whatever file: `wakeEvicted` wakes it before storage is reset.
 */
import { evictDurableObject, runInDurableObject } from 'cloudflare:test';

const evicted = new Set<DurableObjectStub>();

export async function evict(stub: DurableObjectStub): Promise<void> {
  evicted.add(stub);
  await evictDurableObject(stub);
}

export async function wakeEvicted(): Promise<void> {
  for (const stub of evicted)
    // One that newer code has written can not wake, and has nothing that the next test would meet.
    await runInDurableObject(stub, () => undefined).catch(() => undefined);
  evicted.clear();
}
