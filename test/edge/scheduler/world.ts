/**
 * A ledger's core in a world that a test moves by hand: clock, storage in memory, and agents that are only what they say.
 * Every few steps the core may be thrown away and read again from its storage (`crash`), as an eviction would.
 */
import { type Aftermath, Ledger } from '../../../edge/manager/scheduler/ledger.ts';
import { type MemoryStore, memoryStore } from '../../../edge/manager/scheduler/memory-store.ts';
import type { AdmittedSession, AttachAnswer } from '../../../edge/manager/scheduler/rpc.ts';
import { productionTimers } from '../../../edge/manager/scheduler/timers.ts';
import type { Effect } from '../../../edge/manager/scheduler/turn.ts';
import { newAgentId, newId, newSessionId } from '../../../schema/ids.ts';
import type { AgentEvent } from '../../../schema/protocol/events.ts';
import type { Intent, KernelSpec } from '../../../schema/protocol/intents.ts';
import type { InventoryItem, Slots, ToEdgeHello } from '../../../schema/protocol/messages.ts';
import { anySpec } from './rows.ts';

const gib = 1024 ** 3;
export const group = 7;
const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

export class World {
  readonly store: MemoryStore = memoryStore();
  readonly timers = productionTimers;
  nowMs = Date.UTC(2026, 10, 24);
  ledger: Ledger;
  effects: Effect[] = [];
  alarmMs: number | undefined;
  #seed = 1;

  constructor() {
    this.ledger = this.#open();
  }

  #open(): Ledger {
    return new Ledger(
      {
        store: this.store,
        clock: { nowMs: () => this.nowMs, bootMs: () => this.nowMs },
        random: { bytes: (count) => this.bytes(count), fraction: () => 0.5 },
        timers: this.timers,
        log: silent,
        dataHub: (agentId) => `data of ${agentId}`,
        dataTicket: (agentId, epoch) => `${agentId} ${epoch}`,
      },
      (aftermath) => this.#after(aftermath),
    );
  }
  #after({ effects, alarmMs }: Aftermath): void {
    this.effects.push(...effects);
    this.alarmMs = alarmMs;
  }
  bytes(count: number): Uint8Array {
    return Uint8Array.from({ length: count }, () => (this.#seed = (this.#seed * 1103515245 + 12345) >>> 0) >>> 24);
  }

  /** The object is evicted: memory is gone, and what was to be done after the last commit with it. */
  crash(): void {
    this.effects = [];
    this.ledger = this.#open();
  }

  /** Effects of a kind since the last look, taken off the list. */
  take<Kind extends Effect['kind']>(kind: Kind): Extract<Effect, { kind: Kind }>[] {
    const taken = this.effects.filter((effect) => effect.kind === kind);
    this.effects = this.effects.filter((effect) => effect.kind !== kind);
    return taken as Extract<Effect, { kind: Kind }>[];
  }

  /** Time passes, the alarm rings as often as it wants. `hubs` answers questions for liveness and fences. */
  pass(ms: number, hubs: (effect: Effect) => void = () => {}): void {
    const until = this.nowMs + ms;
    for (let rounds = 0; rounds < 10_000 && this.alarmMs !== undefined && this.alarmMs <= until; rounds += 1) {
      this.nowMs = Math.max(this.nowMs + 1, this.alarmMs);
      this.ledger.alarm();
      for (const effect of this.effects.splice(0)) hubs(effect);
    }
    this.nowMs = until;
  }

  session(spec: Partial<KernelSpec> = {}): AdmittedSession {
    const sessionId = newSessionId(this.nowMs, this.bytes(10), group, 1);
    this.nowMs += 1;
    return {
      sessionId,
      domainId: 'dom_00000000000000000000000001',
      domainNumber: 1,
      projectId: anySpec.projectId,
      ownerId: anySpec.ownerId,
      createdAtMs: this.nowMs,
      trail: [{ version: 1, state: 'PENDING', generation: 1, atMs: this.nowMs }],
      spec: { ...anySpec, ...spec },
    };
  }

  /** Admits one session and answers its id. */
  admit(spec: Partial<KernelSpec> = {}): string {
    const session = this.session(spec);
    const [answer] = this.ledger.admit(group, [session]);
    if (answer !== 'accepted') throw new Error(`not accepted: ${answer}`);
    return session.sessionId;
  }

  state(sessionId: string): string | undefined {
    return this.ledger.view.get(sessionId)?.state;
  }
  states(sessionId: string): string[] {
    return (this.ledger.view.history(sessionId) ?? []).map(({ state }) => state);
  }

  /** Reservations never exceed what an agent has, and are what the ledger says of the agent. */
  checkReservations(): void {
    for (const agent of this.ledger.view.agents()) {
      const sum: Slots = {};
      for (const { sessionId } of this.store.reservations(agent.agentId)) {
        const slots = this.store.spec(sessionId)?.slots ?? {};
        for (const [name, amount] of Object.entries(slots)) sum[name] = (sum[name] ?? 0) + amount;
      }
      for (const [name, amount] of Object.entries(sum)) {
        if (amount > (agent.approved[name] ?? 0)) throw new Error(`${agent.name} is overcommitted in ${name}`);
        if (agent.reserved[name] !== amount) throw new Error(`${agent.name} counts ${name} wrong`);
      }
    }
  }
}

export class FakeAgent {
  readonly world: World;
  readonly agentId: string;
  readonly approved: Slots;
  journalId: string;
  epoch = 0;
  counter = 0;
  index = 0;
  intents: Intent[] = [];
  lastAttempt = '';
  isUnanswered = false;

  constructor(world: World, approved: Slots = { cpu: 4000, mem: 4 * gib }) {
    this.world = world;
    this.approved = approved;
    this.agentId = newAgentId(world.nowMs, world.bytes(10), group);
    this.journalId = newId('journal', world.nowMs, world.bytes(10));
    this.put({});
  }

  put(
    change: Partial<{ approved: Slots; state: 'active' | 'revoked' | 'pending'; draining: boolean; approval: number }>,
  ): void {
    this.world.ledger.putAgent(group, {
      agentId: this.agentId,
      name: `host-${this.agentId.slice(-6, -2)}`,
      controlHub: 'hub',
      approved: this.approved,
      state: 'active',
      draining: false,
      approval: 1,
      ...change,
    });
  }

  /** Says hello on a socket that was opened at `openedAtMs`. */
  hello(
    counter: number,
    attemptId: string,
    inventory: InventoryItem[] = [],
    capacity = this.approved,
    openedAtMs = this.world.nowMs,
  ): AttachAnswer {
    const hello: ToEdgeHello = {
      type: 'hello',
      version: 1,
      minVersion: 1,
      agentVersion: '1',
      counter,
      attemptId,
      journalId: this.journalId,
      capacity,
      host: { hostname: 'h', os: 'o', kernel: 'k', arch: 'x86_64', engine: 'e' },
      inventory,
      images: [],
    };
    return this.world.ledger.attach(this.agentId, 'hub', hello, openedAtMs);
  }

  attach(inventory: InventoryItem[] = [], capacity = this.approved): Extract<AttachAnswer, { accepted: true }> {
    // An attempt without an answer is sent again unchanged.
    if (!this.isUnanswered) {
      this.counter += 1;
      this.lastAttempt = newId('attempt', this.world.nowMs, this.world.bytes(10));
    }
    this.isUnanswered = true;
    const answer = this.hello(this.counter, this.lastAttempt, inventory, capacity);
    this.isUnanswered = false;
    if (!answer.accepted) throw new Error(`refused: ${answer.code}`);
    this.epoch = answer.epoch;
    this.intents = answer.intents;
    // Well after an attach: a hub that says `not_sent` means it.
    this.world.nowMs += this.world.timers.attachSettlesMs;
    return answer;
  }

  /** Goes on as another journal, as it does when the ledger has forgotten what it confirmed. */
  renewJournal(): void {
    this.journalId = newId('journal', this.world.nowMs, this.world.bytes(10));
    this.index = 0;
  }

  /** Takes what hubs were given for it, as sent. */
  receive(): Intent[] {
    const mine = this.world.effects.filter((effect) => effect.kind === 'intents' && effect.agentId === this.agentId);
    this.world.effects = this.world.effects.filter((effect) => !mine.includes(effect));
    for (const effect of mine) {
      if (effect.kind !== 'intents') continue;
      this.world.ledger.sent(
        this.agentId,
        effect.epoch,
        effect.intents.map(({ intentId }) => intentId),
        'sent',
      );
      this.intents.push(...effect.intents);
    }
    return this.intents;
  }

  /** Acknowledges everything it received. */
  acknowledge(): Intent[] {
    const intents = this.receive();
    this.intents = [];
    this.world.ledger.intentsAcked(
      this.agentId,
      this.epoch,
      intents.map(({ intentId }) => intentId),
    );
    return intents;
  }

  tell(sessionId: string, generation: number, body: AgentEvent['body']): 'stale' | { ackedIndex: number } {
    this.index += 1;
    const event = { sessionId, generation, atMs: this.world.nowMs, body };
    return this.world.ledger.events(this.agentId, this.epoch, this.journalId, [{ index: this.index, event }]);
  }

  /** Acknowledges and runs what it was told to create. */
  run(sessionId: string, generation = 1): void {
    this.acknowledge();
    this.tell(sessionId, generation, { kind: 'creating' });
    this.tell(sessionId, generation, { kind: 'running', containerId: 'c' });
  }

  /** An inventory with these sessions. */
  holding(...items: [sessionId: string, generation: number, state?: InventoryItem['state']][]): InventoryItem[] {
    return items.map(([sessionId, generation, state = 'running']) => ({ sessionId, generation, state }));
  }

  /** Answers every question about this agent as alive, and confirms fences. */
  alive = (effect: Effect): void => {
    if (effect.kind === 'liveness')
      this.world.ledger.seen(effect.agentIds, {
        [this.agentId]: { epoch: this.epoch, silentMs: 1000, closing: false },
      });
    if (effect.kind === 'fence') this.world.ledger.fenced(effect.agentId, effect.epoch);
  };
  /** Has no socket any more; hubs confirm fences. */
  gone = (effect: Effect): void => {
    if (effect.kind === 'liveness') this.world.ledger.seen(effect.agentIds, {});
    if (effect.kind === 'fence') this.world.ledger.fenced(effect.agentId, effect.epoch);
  };
}
