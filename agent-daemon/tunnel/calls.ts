/** Answers calls once (SPEC rule M8): a repeated callId gets the cached answer, a late one `tunnel_deadline`. */
import { Refusal } from '../../schema/errors.ts';
import type { Clock, Log, Timers } from '../../schema/ports.ts';
import { callShapes, type CallOp } from '../../schema/protocol/calls.ts';
import type { ToAgent, ToEdge } from '../../schema/protocol/messages.ts';
import type { Handlers } from '../dispatch.ts';
import { asRefusal } from './refusal.ts';

export type Call = Extract<ToAgent, { type: 'call' }>;
export type Reply = Extract<ToEdge, { type: 'reply' }>;

const keptMs = 300_000;
const keptReplies = 1024;

interface Cached {
  reply: Promise<Reply>;
  atMs: number;
}

export class Calls {
  readonly #handlers: Handlers['calls'];
  readonly #ports: { clock: Clock; timers: Timers; log: Log };
  /** By callId, oldest first. */
  readonly #cache = new Map<string, Cached>();

  constructor(handlers: Handlers['calls'], ports: { clock: Clock; timers: Timers; log: Log }) {
    this.#handlers = handlers;
    this.#ports = ports;
  }

  /** Never rejects. */
  answer(call: Call): Promise<Reply> {
    const nowMs = this.#ports.clock.bootMs();
    for (const [callId, { atMs }] of this.#cache) {
      if (this.#cache.size < keptReplies && nowMs - atMs < keptMs) break;
      this.#cache.delete(callId);
    }
    const known = this.#cache.get(call.callId);
    if (known) return known.reply;
    const reply = this.#run(call);
    this.#cache.set(call.callId, { reply, atMs: nowMs });
    return reply;
  }

  /** Resolves when every call that came has its answer. */
  async idle(): Promise<void> {
    await Promise.all(Array.from(this.#cache.values(), ({ reply }) => reply));
  }

  async #run(call: Call): Promise<Reply> {
    const deadline = new AbortController();
    const cancel = this.#ports.timers.after(call.deadlineMs, () =>
      deadline.abort(new Refusal('tunnel_deadline', `The agent took longer than ${call.deadlineMs} ms.`)),
    );
    const late = new Promise<never>((_, reject) => {
      deadline.signal.addEventListener('abort', () => reject(deadline.signal.reason as Error));
    });
    try {
      const result = await Promise.race([this.#handle(call, deadline.signal), late]);
      return { type: 'reply', callId: call.callId, ok: true, result };
    } catch (error) {
      return this.#refuse(call, error);
    } finally {
      cancel();
    }
  }

  async #handle(call: Call, deadline: AbortSignal): Promise<unknown> {
    if (!Object.hasOwn(callShapes, call.op))
      throw new Refusal('tunnel_op_unknown', `This agent has no operation ${JSON.stringify(call.op)}.`);
    const op = call.op as CallOp;
    const input = callShapes[op].input.safeParse(call.input);
    if (!input.success) throw new Refusal('request_body_invalid', `The input of ${op} is not valid.`);
    // The table ties each handler to the shape of its own operation; TypeScript can not follow that through `op`.
    const handler = this.#handlers[op] as (input: unknown, deadline: AbortSignal) => Promise<unknown>;
    return callShapes[op].result.parse(await handler(input.data, deadline));
  }

  #refuse(call: Call, error: unknown): Reply {
    const refusal = asRefusal(error);
    if (refusal) {
      const detail = refusal.detail === undefined ? {} : { detail: refusal.detail.slice(0, 1024) };
      return { type: 'reply', callId: call.callId, ok: false, code: refusal.code, ...detail };
    }
    this.#ports.log.error('a call failed', { op: call.op, error: String(error) });
    return { type: 'reply', callId: call.callId, ok: false, code: 'internal' };
  }
}
