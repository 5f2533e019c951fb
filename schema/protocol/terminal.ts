/**
 * The operation `terminal` of the tunnel: one client at a terminal that goes on without it (SPEC rules S18, S19). stdout is
 * what the terminal wrote, at the offsets of its log; stderr carries screens, each announced by its event; control the rest.
 */
import { z } from 'zod';
import { TerminalId, TerminalWindow } from '../api/terminal-parts.ts';
import { OutputGap } from './output-gap.ts';

const count = z.int().nonnegative();

export const terminalOpen = z.strictObject({
  op: z.literal('terminal'),
  terminalId: TerminalId,
  /**
   * The client types, as this writer: a name of its own choice that it keeps over cuts. `from`: bytes that it has sent so
   * far, where it goes on if the agent has forgotten it. Left out: it only looks.
   */
  input: z.strictObject({ writer: z.string().regex(/^[A-Za-z0-9_-]{8,64}$/), from: count }).optional(),
  /** Of a client that types: the terminal becomes so large. */
  window: TerminalWindow.optional(),
  /** Go on behind this offset of the output; left out: with the screen. */
  after: count.optional(),
});

/** Client to agent on the control channel; from a client that types. */
export const TerminalControl = z.discriminatedUnion('kind', [
  TerminalWindow.extend({ kind: z.literal('resize') }),
  z.strictObject({ kind: z.literal('signal'), signal: z.enum(['INT', 'TERM', 'HUP', 'QUIT', 'KILL']) }),
]);
export type TerminalControl = z.infer<typeof TerminalControl>;

/** Agent to client on the control channel. */
export const TerminalEvent = z.discriminatedUnion('kind', [
  /**
   * The next so many bytes of stderr draw, on an empty terminal of this size, what stood there at the offset `at` of the
   * output; stdout goes on at `at`.
   */
  TerminalWindow.extend({ kind: z.literal('screen'), at: count, bytes: count }),
  /** It is so large from here on. */
  TerminalWindow.extend({ kind: z.literal('window') }),
  /** A screen comes in the place of bytes that are not kept. */
  OutputGap,
  /** Nobody takes input any more. */
  z.strictObject({ kind: z.literal('inputEnded') }),
  /** After everything else. `end`: where the output ends. */
  z.strictObject({
    kind: z.literal('exit'),
    exitCode: z.int().min(0).max(255).optional(),
    signal: z.string().max(16).optional(),
    reason: z.string().max(32),
    end: count,
  }),
]);
export type TerminalEvent = z.infer<typeof TerminalEvent>;
