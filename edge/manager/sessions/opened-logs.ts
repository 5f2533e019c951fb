/** What those that open output and those that render it have in common: the output, its cursor, and an event. */
import type { StreamItem } from '../../../schema/protocol/inbox.ts';

/** Kept output as it comes, wherever from. */
export interface OpenedLogs {
  items: AsyncIterable<StreamItem>;
  close(): void;
  source: 'agent' | 'storage';
  generation: number;
  /** Offsets of the first bytes that come. */
  from: { stdout: number; stderr: number };
}

export interface LogCursor {
  generation: number;
  stdout: number;
  stderr: number;
}

/** Parses the id of an event; undefined when it is none of ours. */
export function parseLogCursor(text: string): LogCursor | undefined {
  const matched = /^([0-9]{1,15})\.([0-9]{1,15})\.([0-9]{1,15})$/.exec(text);
  if (!matched) return undefined;
  return { generation: Number(matched[1]), stdout: Number(matched[2]), stderr: Number(matched[3]) };
}

/** An item as text for whoever asked; moves the cursor behind it. */
export type Render = (item: StreamItem, cursor: LogCursor) => string;

/** One server-sent event. */
export function renderEvent(name: string, value: object, { generation, stdout, stderr }: LogCursor): string {
  return `event: ${name}\nid: ${generation}.${stdout}.${stderr}\ndata: ${JSON.stringify(value)}\n\n`;
}
