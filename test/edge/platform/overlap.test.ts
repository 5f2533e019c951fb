/**
 * Deploys overlap: version N of an object's code wrote its storage, N+1 migrates it (every table gets a column, another
 * table is made, the schema's version goes up), and N wakes on it again, reads what it wrote, and writes. Every class that keeps
 * storage is here; which N+1 N may still read is what N+1 says.
 */
import { runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { objectSchemas } from '../../../schema/home-version.ts';
import { accessObject, admissionObject, ledgerObject, throttleObject } from '../../../edge/platform/objects.ts';
import { mendObject } from '../mend-object.ts';
import { ids } from '../tunnel/peers.ts';
import { evict } from '../evict.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

interface Kept {
  namespace: DurableObjectNamespace;
  name: string;
  write: () => Promise<unknown>;
  /** What must be the same over the overlap. */
  read: () => Promise<unknown>;
}

const agentId = ids.agent();
const key = { actorId: 'usr_a', key: 'a-key', bodyHash: 'hash' };
const classes: Record<keyof typeof objectSchemas, Kept> = {
  Ledger: {
    namespace: env.LEDGER,
    name: '1',
    write: () =>
      ledgerObject(env, 1).putAgent(1, {
        agentId,
        name: 'a',
        controlHub: '0',
        approved: { cpu: 1000 },
        state: 'active',
        draining: false,
        approval: 1,
      }),
    read: async () => (await ledgerObject(env, 1).agents()).map((each) => [each.agentId, each.name, each.approved]),
  },
  Admission: {
    namespace: env.ADMISSION,
    name: 'system',
    write: async () => {
      await admissionObject(env, 'system').begin(key);
      await admissionObject(env, 'system').finish(key, { answer: { status: 201, body: '{"id":"x"}' } });
    },
    read: () => admissionObject(env, 'system').begin(key),
  },
  Access: {
    namespace: env.ACCESS,
    name: '3',
    write: async () => {
      await accessObject(env, 3).intend('one', 'usr_a', false);
      await accessObject(env, 3).finish('one', 'usr_a', 'revoked');
    },
    read: async () =>
      (await accessObject(env, 3).check([{ userId: 'usr_a', tokenId: 'tok_a', accessVersion: 0 }])).verdicts,
  },
  Throttle: {
    namespace: env.THROTTLE,
    name: '3',
    write: async () => {
      await throttleObject(env, 3).take('a', 5, 3_600_000);
    },
    read: async () => (await throttleObject(env, 3).look('a', 5, 3_600_000)).remaining,
  },
};

describe.each(Object.entries(classes))('storage of %s', (name, { namespace, name: object, write, read }) => {
  const { version } = objectSchemas[name as keyof typeof objectSchemas];
  /** What the next release does to it, and a sleep after that. */
  async function migrate(minReader: number): Promise<void> {
    const stub = namespace.getByName(object);
    await runInDurableObject(stub, (_, { storage }) => {
      const tables = storage.sql
        .exec<{ name: string }>("SELECT name FROM sqlite_master WHERE type = 'table'")
        .toArray()
        .filter((each) => !/^(_cf_|sqlite_|__drizzle|schema_state)/.test(each.name));
      expect(tables.length).toBeGreaterThan(0);
      for (const table of tables) storage.sql.exec(`ALTER TABLE ${table.name} ADD COLUMN of_the_next_release TEXT`);
      storage.sql.exec('CREATE TABLE of_the_next_release (id TEXT PRIMARY KEY)');
      storage.sql.exec('UPDATE schema_state SET version = ?, min_reader = ?', version + 1, minReader);
    });
    await evict(stub);
  }
  const state = () =>
    runInDurableObject(namespace.getByName(object), (_, { storage }) =>
      storage.sql.exec('SELECT version, min_reader FROM schema_state').one(),
    );

  it('that the next release migrated is read and written by this one', async () => {
    await write();
    const before = await read();
    await migrate(version);
    expect(await read()).toEqual(before);
    await write();
    expect(await state()).toEqual({ version: version + 1, min_reader: version });
  });

  it('that the next release keeps from this one is left alone', async () => {
    await write();
    await migrate(version + 1);
    await expect(read()).rejects.toThrow('A newer version is being deployed');
    await mendObject(name as keyof typeof objectSchemas, namespace.getByName(object));
  });
});
