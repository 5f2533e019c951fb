/**
 * Code in, console out: one slice of a run as one answer over HTTP. The run is the agent's; this only opens its stream,
 * reads for a moment, and says where to go on.
 */
import type { Execute, Executed, ExecuteStatus } from '../../../schema/api/kernel.ts';
import { continuous } from '../../../schema/protocol/continuity.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import { ExecuteEvent, type ExecuteOutcome } from '../../../schema/protocol/execute.ts';
import { parseJson } from '../../../schema/protocol/json.ts';
import { StreamOver } from '../../../schema/protocol/stream.ts';
import type { StreamItem } from '../../../schema/protocol/inbox.ts';
import type { StreamOpen } from '../../../schema/protocol/streams.ts';
import { openStream, toRefusal } from '../../tunnel/client-stream.ts';
import type { UserCtx } from '../../http/context.ts';
import { streamTarget } from '../sessions/streams.ts';
import { openRunLog } from '../../../schema/protocol/run-log.ts';
import { Console } from './console.ts';

/** Of console in one answer; the next one goes on. */
const sliceBytes = 1024 * 1024;

/** What an answer ends with; without it, more follows. */
interface End {
  status: ExecuteStatus;
  exitCode?: number | null;
  reason?: string;
  options?: { prompt: string; isPassword: boolean };
}

/** Asks for a run, or goes on with one, and answers with what it wrote until it is over, waits, or time is up. @throws Refusal */
export async function execute(ctx: UserCtx, sessionId: string, body: Execute): Promise<Executed> {
  const runId = body.runId ?? newRunId(ctx);
  const { hub, claim } = await streamTarget(ctx, sessionId, 'project:write', ['execute']);
  const opened = await openStream(ctx.env, hub, claim, toOpen(runId, body));
  let isTimeUp = false;
  const timer = setTimeout(() => {
    isTimeUp = true;
    opened.close();
  }, body.options.sliceMs);
  const slice = new Slice(runId, 'after' in body ? body.after : { stdout: 0, stderr: 0 });
  try {
    for await (const item of continuous(opened.stream.read())) if (!slice.take(item)) break;
  } catch (error) {
    if (!(error instanceof StreamOver)) throw error;
    const refusal = toRefusal(error);
    if (!isTimeUp && !(slice.isWorthAnswering && cuts.has(refusal.code))) throw refusal;
  } finally {
    clearTimeout(timer);
    opened.close();
  }
  return slice.answer();
}

/** What a caller goes on behind, with what it is answered before. */
const cuts: ReadonlySet<string> = new Set(['tunnel_closed', 'agent_replaced', 'agent_unreachable']);

function newRunId(ctx: UserCtx): string {
  return `run-${Array.from(ctx.random.bytes(12), (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}

function toOpen(runId: string, body: Execute): StreamOpen {
  const open = { op: 'execute' as const, runId };
  if (body.mode === 'continue') return { ...open, after: body.after };
  if (body.mode === 'input')
    return { ...open, after: body.after, input: { kind: 'input', at: body.after.stdout, text: body.code } };
  const { kernel, spec, language } = body;
  const which = {
    ...(kernel === undefined ? {} : { kernelId: kernel }),
    ...(spec === undefined ? {} : { spec }),
    ...(language === undefined ? {} : { language }),
  };
  if (body.mode === 'complete') return { ...open, ...which, request: { mode: 'complete', code: body.code } };
  const { timeoutMs } = body.options;
  const limited = { ...open, ...which, ...(timeoutMs === undefined ? {} : { timeoutMs }) };
  if (body.mode === 'query') return { ...limited, request: { mode: 'query', code: body.code } };
  const { clean, build, exec } = body.options;
  return { ...limited, request: { mode: 'batch', clean, build, exec } };
}

/** What comes of a run, until an answer is whole. */
class Slice {
  readonly #runId: string;
  readonly #after: { stdout: number; stderr: number };
  #kernelId: string | undefined;
  #console: Console | undefined;
  #end: End = { status: 'continued' };

  constructor(runId: string, after: { stdout: number; stderr: number }) {
    this.#runId = runId;
    this.#after = after;
  }

  /** False when the answer is whole. */
  take({ channel, offset, bytes, end }: StreamItem): boolean {
    if (end) return true;
    if (channel === channels.control) return this.#hear(ExecuteEvent.parse(parseJson(bytes)));
    this.#console?.push(channel === channels.stdout ? 'stdout' : 'stderr', offset, bytes);
    return (this.#console?.sizeBytes ?? 0) < sliceBytes;
  }

  /** True when something came: a cut takes none of that from the caller. */
  get isWorthAnswering(): boolean {
    return (this.#console?.items.length ?? 0) > 0;
  }

  answer(): Executed {
    const { completion, error, items = [], position = this.#after } = this.#console ?? {};
    return {
      runId: this.#runId,
      ...(this.#kernelId === undefined ? {} : { kernel: this.#kernelId }),
      ...this.#end,
      console: items,
      ...(completion === undefined ? {} : { completion }),
      ...(error === undefined ? {} : { error }),
      after: position,
    };
  }

  #hear(event: ExecuteEvent): boolean {
    switch (event.kind) {
      case 'begun':
        this.#kernelId = event.kernelId;
        this.#console = new Console(openRunLog(event, this.#runId));
        return true;
      case 'gap':
        this.#console?.gap(event.stream, event);
        return true;
      case 'waiting':
        this.#end = { status: 'waiting-input', options: { prompt: event.prompt, isPassword: event.password } };
        return false;
      case 'step':
        this.#console?.ended();
        this.#end = { status: `${event.step}-finished`, exitCode: event.exitCode };
        return false;
      case 'finished':
        this.#console?.finish();
        this.#end = this.#endOf(event.outcome);
        return false;
    }
  }

  #endOf({ reason, exitCode, signal }: ExecuteOutcome): End {
    const isOurs = reason === 'finished' || reason === 'timeout';
    if (!isOurs) this.#console?.log(`the kernel ended (${[reason, signal].filter(Boolean).join(', ')})\n`);
    return { status: reason === 'timeout' ? 'exec-timeout' : 'finished', exitCode: exitCode ?? null, reason };
  }
}
