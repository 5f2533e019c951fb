/** Calls on their way to agents: one outcome per callId, whoever asks for it, and no call that waits for ever (SPEC rule M8). */
import type { Timers } from '../../schema/ports.ts';
import type { ToEdge } from '../../schema/protocol/messages.ts';
import type { CallOutcome } from './rpc.ts';

interface Pending {
  agentId: string;
  outcome: Promise<CallOutcome>;
  settle: (outcome: CallOutcome) => void;
}

/** An answer may travel this much longer than the agent may take. */
const graceMs = 2_000;

export class HubCalls {
  readonly #timers: Timers;
  readonly #pending = new Map<string, Pending>();

  constructor({ timers }: { timers: Timers }) {
    this.#timers = timers;
  }

  /** The outcome of this call; `isNew` when it must be sent. */
  expect(agentId: string, callId: string, deadlineMs: number): { outcome: Promise<CallOutcome>; isNew: boolean } {
    const known = this.#pending.get(callId);
    if (known?.agentId === agentId) return { outcome: known.outcome, isNew: false };
    let cancel = () => {};
    let settle: (outcome: CallOutcome) => void = () => {};
    const outcome = new Promise<CallOutcome>((resolve) => {
      settle = (result) => {
        cancel();
        this.#pending.delete(callId);
        resolve(result);
      };
    });
    cancel = this.#timers.after(deadlineMs + graceMs, () => settle({ ok: false, code: 'tunnel_deadline' }));
    this.#pending.set(callId, { agentId, outcome, settle });
    return { outcome, isNew: true };
  }

  /** Ignores an answer that nobody waits for any more, and one from another agent. */
  answered(agentId: string, reply: Extract<ToEdge, { type: 'reply' }>): void {
    const pending = this.#pending.get(reply.callId);
    if (pending?.agentId !== agentId) return;
    if (reply.ok) pending.settle({ ok: true, result: reply.result });
    else {
      const detail = reply.detail === undefined ? {} : { detail: reply.detail };
      pending.settle({ ok: false, code: reply.code ?? 'internal', ...detail });
    }
  }

  /** The agent's last socket is gone: its answers will not come. */
  lost(agentId: string): void {
    for (const pending of this.#pending.values())
      if (pending.agentId === agentId) pending.settle({ ok: false, code: 'tunnel_closed' });
  }
}
