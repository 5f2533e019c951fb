/** Every test of the edge begins with an empty D1 and without objects: one Worker for all files, storage of its own for each test. */
import { applyD1Migrations, type D1Migration, listDurableObjectIds, reset, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { afterEach, beforeEach } from 'vitest';
import { realMs } from './boot-clock.ts';
import { wakeEvicted } from './evict.ts';

/** An object that nobody used for 10 s sleeps. */
const sleepMs = 10_000;
let startedMs = 0;

beforeEach(async () => {
  startedMs = realMs();
  await applyD1Migrations(env.DB, (env as unknown as { MIGRATIONS: D1Migration[] }).MIGRATIONS);
});
// Right after the test: `reset` forgets the objects that live, and one that sleeps would keep its storage for the next test.
afterEach(async () => {
  await wakeEvicted();
  if (realMs() - startedMs > sleepMs / 2) await wakeAll();
  await reset();
});

async function wakeAll(): Promise<void> {
  await env.DB.exec('SELECT 1');
  const namespaces: unknown[] = [env.ADMISSION, env.LEDGER, env.ACCESS, env.THROTTLE, env.CONTROL_HUB, env.DATA_HUB];
  for (const namespace of namespaces as DurableObjectNamespace[])
    for (const id of await listDurableObjectIds(namespace))
      // One that newer code has written can not wake, and has nothing that the next test would meet.
      await runInDurableObject(namespace.get(id), () => undefined).catch(() => undefined);
  // On a busy machine the objects take so long that the database sleeps again.
  await env.DB.exec('SELECT 1');
}
