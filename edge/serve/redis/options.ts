/** Reads what the gateway's process is told: flags over environment, nothing else, unknown flags refused. */
import { isAbsolute } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';

const mebibyte = 1024 * 1024;

const Options = z
  .strictObject({
    /** A private redis-server, or a store in memory. */
    mode: z.enum(['server', 'memory']),
    /** Where the redis-server lives; absolute, of its own. Not used by the memory store. */
    dir: z.string().refine(isAbsolute, 'must be an absolute path').optional(),
    host: z.string().min(1).default('127.0.0.1'),
    /** 0 takes a free one. */
    port: z.coerce.number().int().min(0).max(65_535).default(0),
    /** What clients must send; in the environment only, since a process list shows flags to everyone. */
    token: z.string().regex(/^[\w.~+/=-]{16,512}$/, 'must be 16 to 512 characters of a bearer token'),
    /** The kernel ends the redis-server with this process, so that it never outlives a gateway that was killed. */
    diesWithParent: z.boolean().default(false),
    maxMemoryBytes: z.coerce
      .number()
      .int()
      .min(4 * mebibyte)
      .max(2 ** 46)
      .optional(),
  })
  .transform((options, context) => {
    if (options.mode === 'server' && options.dir === undefined) {
      context.addIssue('mode "server" needs a directory (--dir, CAUSEWAY_REDIS_DIR)');
    }
    const maxMemoryBytes = options.maxMemoryBytes ?? (options.mode === 'server' ? 256 : 64) * mebibyte;
    return { ...options, dir: options.dir ?? '', maxMemoryBytes };
  });
export type Options = z.infer<typeof Options>;

/**
 * Flags `--mode --dir --host --port --max-memory --dies-with-parent`, environment `CAUSEWAY_REDIS_MODE`, `_DIR`, `_HOST`,
 * `_PORT`, `_MAX_MEMORY` (bytes) and `_TOKEN`. Takes them out of the environment, so that no child inherits a secret.
 * Throws an error that names every fault.
 */
export function readOptions(args: string[], env: NodeJS.ProcessEnv): Options {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean' } as const;
  const { values } = parseArgs({
    args,
    options: { mode: text, dir: text, host: text, port: text, 'max-memory': text, 'dies-with-parent': flag },
  });
  const take = (name: string) => {
    const value = env[`CAUSEWAY_REDIS_${name}`];
    delete env[`CAUSEWAY_REDIS_${name}`];
    return value === '' ? undefined : value;
  };
  const environment = { mode: take('MODE'), dir: take('DIR'), host: take('HOST'), port: take('PORT') };
  const { 'max-memory': maxMemory, 'dies-with-parent': diesWithParent, ...flags } = values;
  const given = { ...environment, ...flags, diesWithParent, token: take('TOKEN'), maxMemoryBytes: take('MAX_MEMORY') };
  const parsed = Options.safeParse(maxMemory === undefined ? given : { ...given, maxMemoryBytes: maxMemory });
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  return parsed.data;
}
