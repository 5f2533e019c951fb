/**
 * What is kept of the terminals of a session so that another agent process goes on with them: a file of records, of which
 * each adds to what is known of its terminal. It need not outlive the host's power: terminals do not either.
 */
import { z } from 'zod';
import { TerminalId, TerminalRequest, TerminalWindow } from '../../schema/api/terminal-parts.ts';

const count = z.int().nonnegative();

/** The terminal is so large from this offset of its output on. */
export const Size = TerminalWindow.extend({ at: count });
export type Size = z.infer<typeof Size>;

/**
 * What one client typed without another one between: its bytes from `from` on are the terminal's input from `at` on, to `to`,
 * or as far as there is any.
 */
export const Turn = z.strictObject({ writer: z.string().max(64), from: count, at: count, to: count.optional() });
export type Turn = z.infer<typeof Turn>;

export const SavedTerminal = z.strictObject({
  terminalId: TerminalId,
  request: TerminalRequest.required({ argv: true }),
  /** SHA-256 of what was asked for: the same id with another request is a conflict. */
  digest: z.string().max(64),
  startedAtMs: count,
  /** It was closed by a client: it is not listed any more. */
  closed: z.boolean(),
});
export type SavedTerminal = z.infer<typeof SavedTerminal>;

const SavedRecord = z.union([
  z.strictObject({ terminal: SavedTerminal }),
  z.strictObject({ terminalId: TerminalId, closed: z.literal(true) }),
  z.strictObject({ terminalId: TerminalId, size: Size }),
  z.strictObject({ terminalId: TerminalId, turns: z.array(Turn) }),
]);
export type SavedRecord = z.infer<typeof SavedRecord>;

export interface KeptTerminal {
  saved: SavedTerminal;
  sizes: Size[];
  /** The last of each writer, the newest at the end. */
  turns: Turn[];
}

/** What the records of a file make together; whatever is no record is passed over. */
export function restore(records: readonly unknown[]): KeptTerminal[] {
  const found = new Map<string, KeptTerminal>();
  for (const record of records) {
    const parsed = SavedRecord.safeParse(record).data;
    if (parsed === undefined) continue;
    if ('terminal' in parsed) {
      found.set(parsed.terminal.terminalId, { saved: parsed.terminal, sizes: [], turns: [] });
      continue;
    }
    const kept = found.get(parsed.terminalId);
    if (kept === undefined) continue;
    if ('closed' in parsed) kept.saved.closed = true;
    else if ('size' in parsed) kept.sizes.push(parsed.size);
    else
      for (const turn of parsed.turns)
        kept.turns = [...kept.turns.filter(({ writer }) => writer !== turn.writer), turn];
  }
  return [...found.values()];
}
