/** What the agent and the thread that draws say to each other. Each request has one answer, in order. */
import type { TerminalWindow } from '../../schema/api/terminal-parts.ts';
import type { DrawnScreen } from './screens.ts';

export type ScreenRequest = { screen: number } & (
  | { kind: 'open'; window: TerminalWindow; drawn: DrawnScreen | undefined }
  | { kind: 'write'; bytes: Uint8Array<ArrayBuffer> }
  | { kind: 'resize'; window: TerminalWindow }
  | { kind: 'draw' }
  | { kind: 'close' }
);

/** Of `write`: what a terminal answers. Of `draw`: the screen. */
export interface ScreenAnswer {
  screen: number;
  answers?: string;
  drawn?: DrawnScreen & { held: number };
  error?: string;
}
