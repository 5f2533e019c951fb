/** What a Jupyter kernel is asked for a run, as it is kept (JSON) and as it is said (a record, SPEC.md rule J1). Pure. */
import { joinRecord } from '../../schema/protocol/jupyter-framing.ts';
import type { SavedRun } from './saved.ts';

/** What the msg_id of each request of a run begins with: by it the log tells what belongs to the run. */
export function requestsOf(runId: string): string {
  return `run.${runId}.`;
}

/** The request for a run, which is asked for the `asked`th time. A batch has none. */
export function runRequest({ runId, request, asked }: SavedRun, nowMs: number): string {
  const id = `${requestsOf(runId)}${asked}`;
  if (request.mode === 'batch') throw new Error('a kernel of Jupyter runs no batch');
  const { code } = request;
  if (request.mode === 'complete') {
    // In Unicode's characters.
    const content = { code, cursor_pos: Array.from(code).length };
    return toText('shell', 'complete_request', { id, content, nowMs });
  }
  const content = {
    code,
    silent: false,
    store_history: true,
    user_expressions: {},
    allow_stdin: true,
    // What others have asked for meanwhile is run all the same.
    stop_on_error: false,
  };
  return toText('shell', 'execute_request', { id, content, nowMs });
}

/** A question that a kernel answers when what it was asked for before is done. */
export function idleQuestion(id: string, nowMs: number): string {
  return toText('shell', 'kernel_info_request', { id, content: {}, nowMs });
}

export function inputReply(runId: string, value: string, nowMs: number): string {
  const content = { value, status: 'ok' };
  return toText('stdin', 'input_reply', { id: `${requestsOf(runId)}input`, content, nowMs });
}

/** Sweden writes times as ISO 8601 does. */
const times = new Intl.DateTimeFormat('sv-SE', { timeZone: 'UTC', dateStyle: 'short', timeStyle: 'medium' });

function toText(
  channel: string,
  type: string,
  { id, content, nowMs }: { id: string; content: object; nowMs: number },
): string {
  const header = {
    msg_id: id,
    msg_type: type,
    session: 'causeway',
    username: 'causeway',
    date: `${times.format(nowMs).replace(' ', 'T')}Z`,
    version: '5.3',
  };
  return JSON.stringify([channel, header, content]);
}

/** The record of what was kept as text. */
export function toRequestRecord(text: string): Uint8Array {
  const [channel, header, content] = JSON.parse(text) as [string, object, object];
  const parts = [header, {}, {}, content].map((part) => Buffer.from(JSON.stringify(part)));
  return joinRecord({ channel, parts });
}
