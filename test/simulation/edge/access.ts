/** The objects `Access` and `Throttle` of a simulated edge, as their shells in `edge/http/` run them. */
import { AccessCore, type AccessEntry, type AccessIntent, type AccessStore } from '../../../edge/http/access-core.ts';
import type { AccessRpc } from '../../../edge/http/access-rpc.ts';
import type { ThrottleRpc } from '../../../edge/http/throttle-rpc.ts';
import type { Instance, Waking } from './objects.ts';

const sweepMs = 3_600_000;

export function wakeAccess(store: AccessStore, nowMs: () => number, { setAlarm, alarmMs }: Waking): Instance {
  const core = new AccessCore(store);
  let armedMs = alarmMs;
  const arm = (): void => {
    const wanted = Math.min(core.nextIntentMs() ?? Number.POSITIVE_INFINITY, nowMs() + sweepMs);
    if (armedMs !== null && armedMs <= wanted) return;
    armedMs = wanted;
    setAlarm(wanted);
  };
  const rpc: AccessRpc = {
    check: async (principals) => ({
      version: core.version,
      verdicts: principals.map((principal) => core.judge(principal, nowMs())),
    }),
    intend: async (id, subject, restores) => {
      core.intend(id, subject, restores, nowMs());
      arm();
    },
    finish: async (id, subject, outcome) => {
      core.finish(id, subject, outcome, nowMs());
      arm();
    },
  };
  return {
    rpc,
    alarm: async () => {
      armedMs = null;
      if (core.sweep(nowMs())) arm();
    },
  };
}

/** Storage of one `Access` object. */
export function memoryAccessStore(): AccessStore {
  let version = 0;
  let floor = 0;
  const entries = new Map<string, AccessEntry>();
  const intents = new Map<string, AccessIntent>();
  return {
    load: () => ({ version, floor, entries: [...entries.values()], intents: [...intents.values()] }),
    putIntent: (intent) => void intents.set(intent.id, intent),
    dropIntent: (id) => void intents.delete(id),
    put(entry, at) {
      entries.set(entry.subject, entry);
      version = at;
    },
    forget(subjects, to) {
      for (const subject of subjects) entries.delete(subject);
      floor = to;
    },
  };
}

/** Nobody guesses here. */
export const openThrottle: ThrottleRpc = {
  take: async (_, limit) => ({ allowed: true, remaining: limit, resetSeconds: 60 }),
  look: async (_, limit) => ({ allowed: true, remaining: limit, resetSeconds: 60 }),
  clear: async () => undefined,
};
