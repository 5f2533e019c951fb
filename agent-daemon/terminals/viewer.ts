/** Carries a terminal to one client: the screen where it has none, then every byte, sizes in their place, the exit behind all. */
import { channels } from '../../schema/protocol/frame.ts';
import type { TerminalEvent } from '../../schema/protocol/terminal.ts';
import type { AgentStream } from '../dispatch.ts';
import type { StreamLog } from '../output/stream-log.ts';
import { StreamReader } from '../output/stream-reader.ts';
import { whenDue } from '../wake.ts';
import type { Terminal } from './terminal.ts';

/** What the client has. */
interface Place {
  /** Undefined: nothing that can be gone on with. */
  at: number | undefined;
  rows: number;
  columns: number;
  /** Bytes of screens that were sent. */
  screenBytes: number;
}

/** Sends what lies behind `after`, or else the screen, and what follows, until the terminal has ended. */
export async function pumpTerminal(stream: AgentStream, terminal: Terminal, after: number | undefined): Promise<void> {
  const spool = await terminal.spool();
  const log = spool.log('stdout');
  const place: Place = { at: after, ...terminal.window, screenBytes: 0 };
  if (after !== undefined) {
    stream.seek(channels.stdout, after);
    await send(stream, { kind: 'window', ...terminal.window });
  }
  while (!stream.closed.aborted) {
    if (place.at === undefined || place.at > log.end || log.keptFrom(place.at) > place.at)
      await sendScreen(stream, terminal, place);
    if (await follow(stream, terminal, log, place)) break;
  }
  const { exit } = spool.record;
  if (stream.closed.aborted || exit === undefined) return;
  const { exitCode, signal, reason } = exit;
  await send(stream, {
    kind: 'exit',
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(signal === undefined ? {} : { signal }),
    reason,
    end: log.end,
  });
}

async function sendScreen(stream: AgentStream, terminal: Terminal, place: Place): Promise<void> {
  const { at, window, text } = await terminal.screen();
  if (stream.closed.aborted) return;
  const bytes = Buffer.from(text);
  Object.assign(place, { at, ...window });
  await send(stream, { kind: 'screen', at, bytes: bytes.byteLength, ...window });
  stream.seek(channels.stderr, place.screenBytes);
  place.screenBytes += bytes.byteLength;
  await stream.write(channels.stderr, bytes);
  stream.seek(channels.stdout, at);
}

/** Sends output as far as it is there. True when there is no more, false where bytes are missing. */
async function follow(stream: AgentStream, terminal: Terminal, log: StreamLog, place: Place): Promise<boolean> {
  // The log does not wait for it: who is too slow gets the screen.
  const reader = new StreamReader(log, place.at ?? 0, { live: false });
  try {
    while (!stream.closed.aborted) {
      const { turn } = terminal.bell;
      const item = await reader.next();
      if (item?.kind === 'gap') {
        await send(stream, { kind: 'gap', stream: 'stdout', ...item.gap });
        place.at = undefined;
        return false;
      }
      if (item === undefined) {
        await sendSize(stream, terminal, place);
        if (log.isFinal && reader.position >= log.end) return true;
        const isDue = () => log.isBeyond(reader.position) || terminal.bell.turn > turn;
        await whenDue(isDue, [log, terminal.bell], stream.closed);
        continue;
      }
      await sendBytes(stream, terminal, place, item);
    }
    return true;
  } finally {
    await reader.close();
  }
}

/** Bytes, and between them what became of the size. */
async function sendBytes(
  stream: AgentStream,
  terminal: Terminal,
  place: Place,
  { offset, bytes }: { offset: number; bytes: Uint8Array },
): Promise<void> {
  for (let from = 0; from < bytes.byteLength;) {
    place.at = offset + from;
    await sendSize(stream, terminal, place);
    const next = terminal.sizes.find((size) => size.at > offset + from)?.at ?? Number.POSITIVE_INFINITY;
    const to = Math.min(bytes.byteLength, next - offset);
    await stream.lend(channels.stdout, bytes.subarray(from, to));
    from = to;
  }
  place.at = offset + bytes.byteLength;
}

async function sendSize(stream: AgentStream, terminal: Terminal, place: Place): Promise<void> {
  const size = terminal.sizes.findLast(({ at }) => at <= (place.at ?? 0)) ?? terminal.sizes[0]!;
  const { rows, columns } = size;
  if (rows === place.rows && columns === place.columns) return;
  Object.assign(place, { rows, columns });
  await send(stream, { kind: 'window', rows, columns });
}

export function send(stream: AgentStream, event: TerminalEvent): Promise<void> {
  return stream.writeControl(event);
}
