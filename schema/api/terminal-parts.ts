/** Parts of terminals that both their API and the tunnel use. */
import { z } from 'zod';
import { idPattern } from '../ids.ts';
import { Argument, EnvName } from './session-parts.ts';

const count = z.int().nonnegative();

export const TerminalId = z
  .string()
  .regex(idPattern('terminal'), 'must be the id of a terminal: trm_ and 26 characters');

/** Bounds of a window: what a screen takes in the agent's memory follows from them. */
export const terminalBounds = { rows: 300, columns: 600 } as const;
export const TerminalWindow = z.strictObject({
  rows: z.int().min(1).max(terminalBounds.rows),
  columns: z.int().min(2).max(terminalBounds.columns),
});
export type TerminalWindow = z.infer<typeof TerminalWindow>;

/** By which people and Jupyter know a terminal, beside its id: unique among those of a session that run. */
export const TerminalName = z
  .string()
  .regex(/^(?!trm_)[A-Za-z0-9_]{1,64}$/, 'must be 1 to 64 of A-Z, a-z, 0-9 and _, and no id');

/** The name of the terminal of a session's main process; no other may have it. */
export const mainTerminalName = 'main';

/** The shell of the image: bash, or whatever its `sh` is. `cwd`: where it begins, if there is such a directory. */
export function shellOf(cwd?: string): string[] {
  const shell = 'if command -v bash >/dev/null 2>&1; then exec bash; fi; exec /bin/sh';
  if (cwd === undefined) return ['/bin/sh', '-c', shell];
  return ['/bin/sh', '-c', `cd -- "$1" 2>/dev/null; ${shell}`, 'sh', cwd];
}

/** What is asked for when a terminal is made. */
export const TerminalRequest = z.strictObject({
  name: TerminalName.optional(),
  /** Left out: the shell of the image, bash or else sh. */
  argv: z.array(Argument).min(1).max(1024).optional(),
  env: z.record(EnvName, Argument.max(32_768)).optional(),
  cwd: Argument.max(4096).optional(),
  window: TerminalWindow.default({ rows: 24, columns: 80 }),
  /** One client at a time may type. */
  exclusive: z.boolean().default(false),
  /** Hung up when nobody has looked at it for so long; left out: never. */
  closeAfterMs: z.int().min(1_000).max(2_592_000_000).optional(),
});
export type TerminalRequest = z.infer<typeof TerminalRequest>;

export const Terminal = z.strictObject({
  id: TerminalId,
  name: TerminalName.optional(),
  argv: z.array(z.string()),
  state: z.enum(['running', 'ended']),
  window: TerminalWindow,
  /** Clients that look at it now, and how many of them may type. */
  viewers: count,
  writers: count,
  exclusive: z.boolean(),
  closeAfterMs: count.optional(),
  startedAtMs: count,
  /** When it last wrote, or was typed into; not known over the death of its agent. */
  activeAtMs: count.optional(),
  /** Bytes that it has written so far. */
  outputBytes: count,
  exit: z
    .strictObject({
      exitCode: z.int().min(0).max(255).optional(),
      signal: z.string().max(16).optional(),
      reason: z.string().max(32),
    })
    .optional(),
});
export type Terminal = z.infer<typeof Terminal>;
