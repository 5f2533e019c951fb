/** Lines of output for whoever asked over HTTP: as text for people, as JSON, as events. */
import type { SessionLogsQuery } from '../../../schema/api/session-stream.ts';
import { whenMs } from '../../../schema/log/when.ts';
import { LineItem, type LinesOpen } from '../../../schema/protocol/lines.ts';
import type { StreamItem } from '../../../schema/protocol/inbox.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import { type LogCursor, type Render, renderEvent } from './opened-logs.ts';

/** What the agent is asked for. `after`: offsets to go on behind. */
export function toLinesOpen(
  query: SessionLogsQuery,
  after: { stdout: number; stderr: number } | undefined,
  nowMs: number,
): LinesOpen {
  const { grep, since, until, tailLines } = query;
  return {
    op: 'lines',
    processId: query.process,
    streams: query.stream,
    ...(after === undefined ? {} : { after: { stdout: after.stdout, stderr: after.stderr } }),
    ...(since === undefined ? {} : { sinceMs: whenMs(since, nowMs) }),
    ...(until === undefined ? {} : { untilMs: whenMs(until, nowMs) }),
    ...(grep === undefined ? {} : { match: { pattern: grep, ignoreCase: query.ignoreCase === 'true' } }),
    ...(tailLines === undefined ? {} : { tailLines }),
    follow: query.follow === 'true',
  };
}

/** The lines of a stream of the operation `lines`, as `render` says them. Whatever is cut between two pieces is held. */
function rendering(render: (item: LineItem, cursor: LogCursor) => string): Render {
  const decoder = new TextDecoder();
  let held = '';
  return (piece: StreamItem, cursor) => {
    if (piece.end || piece.channel !== channels.stdout) return '';
    const texts = (held + decoder.decode(piece.bytes, { stream: true })).split('\n');
    held = texts.pop() ?? '';
    return texts.map((text) => render(LineItem.parse(JSON.parse(text)), cursor)).join('');
  };
}

/** As events, each with an id to go on behind. */
export const lineEvents = (): Render =>
  rendering((item, cursor) => {
    if (item.kind === 'line') cursor[item.stream] = item.next;
    else if (item.kind === 'gap') cursor[item.stream] = item.to;
    else if (item.kind === 'at') [cursor.stdout, cursor.stderr] = [item.stdout, item.stderr];
    const { kind, ...rest } = item;
    return renderEvent(kind, rest, cursor);
  });

/** As JSON, one object a line. */
export const lineObjects = (): Render => rendering((item) => `${JSON.stringify(item)}\n`);

/** As text for people. What is missing is said in its place. */
export const lineTexts = (withTimes: boolean): Render =>
  rendering((item) => {
    switch (item.kind) {
      case 'line': {
        const time = withTimes && item.continues !== true ? `${new Date(item.timeMs).toISOString()} ` : '';
        return `${time}${item.text ?? decodeLossy(item.base64 ?? '')}${item.cut === true ? '' : '\n'}`;
      }
      case 'gap':
        return `[${item.to - item.from} bytes of ${item.stream} are missing here: ${item.reason}]\n`;
      case 'at':
      case 'exit':
        return '';
      case 'missing':
        return '[what came behind this was not handed over, and the machine is out of reach]\n';
    }
  });

function decodeLossy(base64: string): string {
  return new TextDecoder().decode(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)));
}
