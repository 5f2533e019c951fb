/** An object whose storage newer code wrote can not wake, and would keep that storage for the tests that follow. */
import { runInDurableObject } from 'cloudflare:test';
import { objectSchemas } from '../../schema/home-version.ts';
import { evict } from './evict.ts';

/** Lets this code read the object again: wakes it as if it were newer, for the time of one statement. */
export async function mendObject(kind: keyof typeof objectSchemas, stub: DurableObjectStub): Promise<void> {
  const schema = objectSchemas[kind] as { version: number };
  const { version } = schema;
  schema.version = 1_000;
  try {
    await runInDurableObject(stub, (_, { storage }) => void storage.sql.exec('UPDATE schema_state SET min_reader = 1'));
  } finally {
    schema.version = version;
  }
  await evict(stub);
}
