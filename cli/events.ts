/** `causeway events -f`: the event stream, resumed after every cut. */
import type { Command } from 'commander';
import { CausewayEvent } from '../schema/api/event.ts';
import { CliFailure } from './exit.ts';
import { Api } from './http/api.ts';
import { plain } from './terminal/table.ts';
import { mayPass } from './tunnel/patience.ts';

/** A parsed server-sent event; without data it says alone from where to go on. */
export interface ServerSentEvent {
  id: string | undefined;
  event: string;
  data: string;
}
const reconnectMs = 1000;
const maxLineBytes = 1024 * 1024;

/** Registers `events`. */
export function registerEvents(program: Command): void {
  program
    .command('events')
    .description('what happened last: sessions, agents (-f: what happens from now on, until Ctrl-C)')
    .option('-f, --follow', 'go on, over every cut of the connection')
    .option('--since <id>', 'continue after this event id')
    .option('--type <type>', 'only this type, for example session.state')
    .option('--json', 'one JSON object a line')
    .action(showEvents);
}

async function showEvents(options: { follow?: boolean; since?: string; type?: string; json?: boolean }): Promise<void> {
  const api = new Api();
  let lastId = options.since;
  let wasOpen = false;
  do {
    try {
      const { body } = await api.follow('/v1/events', {
        query: { type: options.type, follow: options.follow ? undefined : false },
        typed: { type: '--type', 'last-event-id': '--since' },
        headers: { accept: 'text/event-stream', ...(lastId === undefined ? {} : { 'last-event-id': lastId }) },
      });
      wasOpen = true;
      for await (const event of parseEvents(body)) {
        lastId = event.id ?? lastId;
        if (event.data !== '') print(event, Boolean(options.json));
      }
    } catch (error) {
      if (!options.follow || !wasOpen || !isPassing(error)) throw error;
      process.stderr.write('causeway: the connection was cut; going on ...\n');
    }
    if (options.follow) await new Promise((resolve) => setTimeout(resolve, reconnectMs));
  } while (options.follow);
}

/** A cut, or a refusal that is over in a while. */
function isPassing(error: unknown): boolean {
  return !(error instanceof CliFailure) || mayPass(error);
}

function print(event: ServerSentEvent, json: boolean): void {
  if (event.event === 'cursor_expired') {
    process.stderr.write('causeway: some events are no longer kept; going on with what is\n');
    return;
  }
  const parsed = CausewayEvent.safeParse(JSON.parse(event.data));
  if (!parsed.success) return;
  const { type, objectId, atMs, data } = parsed.data;
  if (json) process.stdout.write(`${JSON.stringify({ id: event.id, ...parsed.data })}\n`);
  else {
    const time = new Date(atMs).toISOString().slice(0, 19).replace('T', ' ');
    process.stdout.write(`${plain(`${time}  ${type.padEnd(15)} ${objectId}  ${dataText(data)}`.trimEnd())}\n`);
  }
}

/** What changed, in a few words; `--json` has all of it. */
export function dataText(data: CausewayEvent['data']): string {
  const { state, reason, result, ...rest } = data as {
    state?: unknown;
    reason?: { code?: unknown; detail?: unknown };
    result?: { exitCode?: unknown; signal?: unknown };
  };
  if (typeof state !== 'string') return Object.keys(rest).length === 0 ? '' : JSON.stringify(rest);
  const ended = result?.signal ?? result?.exitCode;
  const why = [reason?.detail ?? reason?.code, ended].filter((each) => each !== undefined).join(' ');
  return why === '' ? state : `${state} (${why})`;
}

/** Parses a text/event-stream body. @throws Error when a line is longer than 1 MiB. */
export async function* parseEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder();
  let held = '';
  let id: string | undefined;
  let saidId: string | undefined;
  let name = 'message';
  let data: string[] = [];
  for await (const chunk of body) {
    held += decoder.decode(chunk, { stream: true });
    if (held.length > maxLineBytes) throw new Error('an event is longer than 1 MiB');
    const lines = held.split(/\r?\n/);
    held = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0 || id !== saidId) yield { id, event: name, data: data.join('\n') };
        saidId = id;
        name = 'message';
        data = [];
      } else if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''));
      else if (line.startsWith('event:')) name = line.slice(6).trim();
      else if (line.startsWith('id:')) id = line.slice(3).trim();
    }
  }
}
