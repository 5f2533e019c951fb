import { cloudflareTest, readD1Migrations } from '@cloudflare/vitest-plugin';
import { defineConfig } from 'vitest/config';

/** Three projects: `edge` runs inside workerd, `node` needs nothing but Node, `e2e` drives the real stack one file at a time. */
export default defineConfig({
  test: {
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
          environment: 'node',
          include: ['test/{schema,wire,cli,agent-daemon,contract,simulation,fuzz,hygiene}/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'e2e',
          environment: 'node',
          include: ['test/{e2e,hostile}/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
