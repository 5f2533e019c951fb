/** What the API says of terminals. */
import { z } from 'zod';
import { Terminal, TerminalId, TerminalRequest } from './terminal-parts.ts';

export const TerminalList = z.strictObject({ items: z.array(Terminal) });

export const NewTerminal = TerminalRequest.extend({
  /** Makes a repeated request harmless; made up when it is left out. */
  id: TerminalId.optional(),
});
export type NewTerminal = z.infer<typeof NewTerminal>;
