import { availableParallelism } from 'node:os';
import { cloudflareTest, readD1Migrations } from '@cloudflare/vitest-plugin';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { byTier } from './test/support/tier.ts';

/** Files at a time. They wait for something real so often that two keep two cores busy, no more. */
const workers = Math.max(2, availableParallelism() - 1);

/** What takes longest begins first, so that nothing long is left alone at the end. The others follow, as Vitest finds best. */
const longestFirst = [
  'simulation/simulate',
  'init/build',
  'instance/backup',
  'sessions/sessions',
  'sessions/verbs',
  'accounts/passwords',
  'e2e/python-image',
  'e2e/failpoints',
  'e2e/kills',
  'e2e/instance',
  'e2e/events',
  'e2e/output',
  'e2e/chaos',
  'e2e/serve',
  'e2e/main-job', // loads the image that e2e/python-image has built by then
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification): number => {
      const found = longestFirst.findIndex((name) => moduleId.endsWith(`${name}.test.ts`));
      return found === -1 ? longestFirst.length : found;
    };
    return (await super.sort(files)).toSorted((a, b) => place(a) - place(b));
  }
}

/** They compute and wait for nothing: at a low priority beside `e2e`, which waits a lot, they are nearly free. */
const worlds = 'test/simulation/simulate.test.ts';

/** In the full tier these want to break the machine, or measure one beside them: they have it for themselves. */
const alone = [
  'test/e2e/{chaos,floods,kernel-cuts,output,power}.test.ts',
  'test/hostile/{rogue-agent,rogue-client,rogue-tenant}.test.ts',
];
const stack = {
  environment: 'node',
  testTimeout: 180_000,
  hookTimeout: 300_000,
} as const;

/**
 * Three projects: `edge` runs inside workerd, `node` needs nothing but Node, `e2e` drives the real stack. Each of its files
 * has engines, networks, homes and ports of its own, so that two share the machine beside the simulated worlds. The full tier
 * has a fourth, `alone`, of which one file runs at a time.
 */
export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    /** What an object's constructor refuses is told to whoever called it, and by workerd to nobody a second time. */
    onUnhandledError: (error) =>
      !('durableObjectReset' in error && 'code' in error && error['code'] === 'deploy_overlap'),
    projects: [
      {
        plugins: [
          cloudflareTest(async () => ({
            wrangler: { configPath: './wrangler.toml' },
            miniflare: {
              bindings: {
                MIGRATIONS: await readD1Migrations('schema/db/migrations'),
                CAUSEWAY_KEYS: JSON.stringify({ hmac: [{ version: 1, key: 'test-key-'.padEnd(43, '0') }] }),
                CAUSEWAY_BOOTSTRAP: 'test-bootstrap-secret',
                // Tests read it as `process.env` (test/support/tier.ts).
                CAUSEWAY_TIER: process.env['CAUSEWAY_TIER'] ?? 'daily',
              },
            },
          })),
        ],
        test: {
          name: 'edge',
          maxWorkers: workers,
          testTimeout: 60_000,
          isolate: false,
          hookTimeout: 60_000,
          include: ['test/edge/**/*.test.ts'],
          setupFiles: ['test/edge/fresh.ts'],
        },
      },
      {
        test: {
          name: 'node',
          maxWorkers: workers,
          environment: 'node',
          include: ['test/{schema,wire,cli,agent-daemon,contract,simulation,fuzz,hygiene}/**/*.test.ts'],
          exclude: [worlds],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          ...stack,
          name: 'e2e',
          include: ['test/{e2e,hostile}/**/*.test.ts', worlds],
          exclude: byTier({ daily: [], full: alone }),
          maxWorkers: byTier({ daily: 3, full: 2 }),
          sequence: { groupOrder: 1 },
        },
      },
      ...byTier({
        daily: [],
        full: [{ test: { ...stack, name: 'alone', include: alone, maxWorkers: 1, sequence: { groupOrder: 2 } } }],
      }),
    ],
  },
});
