/** From wrangler.toml to Miniflare's options: the same bindings as in production, on a direct socket of workerd. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Log, MiniflareOptions } from 'miniflare';
import { parse } from 'smol-toml';
import { z } from 'zod';

import type { Bundle } from './bundle.ts';

const Wrangler = z.object({
  name: z.string(),
  compatibility_date: z.string(),
  compatibility_flags: z.array(z.string()),
  vars: z.record(z.string(), z.string()),
  d1_databases: z
    .array(z.object({ binding: z.string(), database_id: z.string(), migrations_dir: z.string() }))
    .length(1),
  r2_buckets: z.array(z.object({ binding: z.string(), bucket_name: z.string() })),
  durable_objects: z.object({ bindings: z.array(z.object({ name: z.string(), class_name: z.string() })) }),
});
type Wrangler = z.infer<typeof Wrangler>;

/** wrangler.toml as far as serving needs it. */
export function readWrangler(root: string): Wrangler {
  return Wrangler.parse(parse(readFileSync(join(root, 'wrangler.toml'), 'utf8')));
}

/**
 * The entrypoint that has the listening socket. It is a named one because Miniflare puts a Worker of its own in front of
 * the default one in some configurations, which costs two thirds of the speed.
 */
export const ENTRYPOINT = 'Front';

export type Serving = {
  root: string;
  /** Folder of D1 and Durable Objects; keyed by the Worker's name and the database's id, so neither may ever change. */
  state: string;
  host: string;
  port: number;
  wrangler: Wrangler;
  bundle: Bundle;
  /** False for a Worker of a test or a bench, which may lack some of the Durable Object classes. */
  withObjects: boolean;
  /** Text bindings over those of wrangler.toml: secrets, instance, layout, knobs of tests. */
  vars: Record<string, string>;
  log: Log;
  onLog: (entry: { timestamp: number; level: string; message: string }) => void;
  onRestart: () => void;
};

/** Buckets of production that are files of the home here. */
const asFiles = new Set(['RELEASES']);

/** Refuses a bundle that lacks the entrypoint or a class that wrangler.toml binds. */
export function toMiniflareOptions(serving: Serving): MiniflareOptions {
  const { wrangler, bundle } = serving;
  const { bindings } = wrangler.durable_objects;
  const objects = serving.withObjects ? bindings : bindings.filter((o) => bundle.exports.includes(o.class_name));
  const lacking = [ENTRYPOINT, ...objects.map((o) => o.class_name)].filter((name) => !bundle.exports.includes(name));
  if (lacking.length > 0) throw new Error(`the Worker does not export ${lacking.join(', ')}`);
  return {
    host: '127.0.0.1',
    port: 0,
    cf: false,
    log: serving.log,
    logRequests: false,
    telemetry: { enabled: false },
    enableDevRegistry: false,
    resourcePersistencePath: serving.state,
    handleStructuredLogs: serving.onLog,
    unsafeHandleRuntimeRestart: serving.onRestart,
    workers: [
      {
        config: {
          name: wrangler.name,
          compatibilityDate: wrangler.compatibility_date,
          compatibilityFlags: wrangler.compatibility_flags,
          manifest: {
            mainModule: 'index.js',
            modulesRoot: serving.root,
            modules: { 'index.js': { type: 'esm', contents: bundle.code } },
          },
          env: Object.fromEntries([
            ...Object.entries({ ...wrangler.vars, ...serving.vars }).map(([name, value]) => [
              name,
              { type: 'text' as const, value },
            ]),
            ...wrangler.d1_databases.map((d) => [d.binding, { type: 'd1' as const, id: d.database_id }]),
            ...wrangler.r2_buckets
              .filter(({ binding }) => !asFiles.has(binding))
              .map((bucket) => [bucket.binding, { type: 'r2' as const, name: bucket.bucket_name }]),
            ...objects.map((o) => [
              o.name,
              { type: 'durable-object' as const, worker: wrangler.name, exportName: o.class_name },
            ]),
          ]),
          exports: Object.fromEntries(
            objects.map((o) => [o.class_name, { type: 'durable-object' as const, storage: 'sqlite' as const }]),
          ),
        },
        dev: {
          rootPath: serving.root,
          unsafeDirectSockets: [{ host: serving.host, port: serving.port, entrypoint: ENTRYPOINT }],
          stripCfConnectingIp: false,
        },
      },
    ],
  };
}
