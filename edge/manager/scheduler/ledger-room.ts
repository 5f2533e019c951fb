/**
 * What surrounds a ledger's core in its object, whatever the object runs on: effects that a turn leaves are carried out,
 * the outbox is told, the alarm is kept, every durable step stands between its failpoints. All of it may be lost in a crash
 * and is made again by the alarm. Takes ports, so that a simulator runs this very code.
 */
import type { OutboxRow } from '../../../schema/ledger/book.ts';
import type { SessionRow } from '../../../schema/db/sessions.ts';
import type { EdgeFailpoint } from '../../../schema/failpoints.ts';
import type { Failpoints, Timers } from '../../../schema/ports.ts';
import { publishRows } from '../../event-bus/outbox-sink.ts';
import type { EventPublisher } from '../../event-bus/publish.ts';
import { durably } from '../../platform/failpoint.ts';
import { describeError } from '../../platform/log.ts';
import type { ControlHubRpc, DataHubRpc } from '../../tunnel/rpc.ts';
import type { AdmissionRpc } from '../admission/rpc.ts';
import { type Aftermath, Ledger } from './ledger.ts';
import { OutboxPump } from './outbox.ts';
import type { LedgerRpc } from './rpc.ts';
import { deliverReadModel, deliverReleases } from './sinks.ts';
import type { Effect, LedgerPorts } from './turn.ts';
import { Watchers } from './watchers.ts';

/** For which anybody waits at most for a session to move: as long its object does not sleep. */
const mostWatchMs = 10_000;

export interface LedgerRoomPorts extends LedgerPorts {
  /** Number of the group, which is the name of the object. */
  groupNumber: number;
  failpoints: Failpoints<EdgeFailpoint>;
  after: Timers['after'];
  controlHub(name: string): Pick<ControlHubRpc, 'liveness' | 'fence' | 'sendIntents'>;
  dataHubOf(agentId: string): Pick<DataHubRpc, 'fence'>;
  admission(domainNumber: number): Pick<AdmissionRpc, 'release'>;
  /** Brings the read model up to these rows and takes others off; rejects when it is unknown whether it did. */
  list(rows: readonly SessionRow[], gone: readonly string[]): Promise<void>;
  publisher: EventPublisher;
  /** Part of the commit of the turn: the object is woken then at the latest. */
  setAlarm(atMs: number): void;
  /** Keeps the object awake for work that nobody waits for. */
  keepAlive(work: Promise<void>): void;
}

export class LedgerRoom implements LedgerRpc {
  readonly #ports: LedgerRoomPorts;
  readonly #core: Ledger;
  readonly #pump: OutboxPump;
  readonly #watchers: Watchers;
  /** When the alarm rings, as far as this life knows. */
  #alarmMs = Number.POSITIVE_INFINITY;

  constructor(ports: LedgerRoomPorts) {
    this.#ports = ports;
    this.#core = new Ledger(ports, (aftermath) => this.#after(aftermath));
    this.#watchers = new Watchers(ports.after);
    this.#pump = new OutboxPump({
      undelivered: (sink, limit) => this.#core.undelivered(sink, limit),
      delivered: (cursors) => this.#core.delivered(cursors),
      deliver: {
        readModel: (rows) =>
          this.#told(rows, () =>
            deliverReadModel((...listed) => ports.list(...listed), this.#core.view, ports.groupNumber, rows),
          ),
        events: (rows) => this.#publish(rows),
        admission: (rows) => this.#told(rows, () => deliverReleases((domain) => ports.admission(domain), rows)),
      },
      after: ports.after,
      timers: ports.timers,
      log: ports.log,
    });
  }

  /** The alarm that an earlier life left. */
  woke(alarmMs: number | null): void {
    this.#alarmMs = alarmMs ?? Number.POSITIVE_INFINITY;
  }

  async #told(rows: readonly OutboxRow[], deliver: () => Promise<void>): Promise<number | undefined> {
    await durably(this.#ports.failpoints, 'ledger.outbox', deliver);
    return rows.at(-1)?.seq;
  }

  #publish(rows: readonly OutboxRow[]): Promise<number | undefined> {
    const events = rows.map(({ seq, body }) => ({ seq, events: body.events }));
    return publishRows(this.#ports.publisher, events, this.#core.lastOutboxSeq() - (rows.at(-1)?.seq ?? 0));
  }

  /** The alarm is part of the same commit as the turn; a crash after it loses effects, never work. */
  #after({ effects, alarmMs, touched }: Aftermath): void {
    this.#watchers.touch(touched);
    if (alarmMs !== undefined && alarmMs < this.#alarmMs) {
      this.#alarmMs = alarmMs;
      this.#ports.setAlarm(alarmMs);
    }
    for (const effect of effects) this.#ports.keepAlive(this.#carryOut(effect));
  }

  async #carryOut(effect: Effect): Promise<void> {
    try {
      await this.#attempt(effect);
    } catch (error) {
      // The alarm comes back to it.
      this.#ports.log.warn('an effect failed', { effect: effect.kind, error: describeError(error).cause });
    }
  }

  async #attempt(effect: Effect): Promise<void> {
    const ports = this.#ports;
    switch (effect.kind) {
      case 'outbox':
        return this.#pump.kick();
      case 'liveness': {
        const sockets = await ports.controlHub(effect.controlHub).liveness(effect.agentIds);
        this.#core.seen(effect.agentIds, sockets);
        return;
      }
      case 'fence': {
        const { agentId, epoch, controlHub } = effect;
        await durably(ports.failpoints, 'ledger.fence', async () => {
          if (controlHub !== undefined) await ports.controlHub(controlHub).fence(agentId, epoch);
          await ports.dataHubOf(agentId).fence(agentId, epoch);
          this.#core.fenced(agentId, epoch);
        });
        return;
      }
      case 'intents':
        return this.#sendIntents(effect);
    }
  }

  async #sendIntents({ agentId, epoch, controlHub, intents }: Extract<Effect, { kind: 'intents' }>): Promise<void> {
    const ids = intents.map(({ intentId }) => intentId);
    let outcome: 'sent' | 'not_sent' | 'unknown' = 'unknown';
    try {
      outcome = await durably(this.#ports.failpoints, 'ledger.sendIntent', () =>
        this.#ports.controlHub(controlHub).sendIntents(agentId, epoch, intents),
      );
    } finally {
      this.#core.sent(agentId, epoch, ids, outcome);
    }
  }

  /** Never throws: an alarm that does would be repeated by the runtime, and given up. */
  async alarm(): Promise<void> {
    this.#alarmMs = Number.POSITIVE_INFINITY;
    try {
      this.#core.alarm();
    } catch (error) {
      this.#ports.log.error('the alarm failed', { error: describeError(error).cause });
      this.#after({ effects: [], alarmMs: this.#ports.clock.nowMs() + 1000, touched: new Set() });
    }
    await this.#pump.kick();
  }

  /** Runs a synchronous step of the core between its failpoints. */
  #step<Result>(name: EdgeFailpoint, step: () => Result): Promise<Result> {
    return durably(this.#ports.failpoints, name, async () => step());
  }

  admit(...[groupNumber, sessions]: Parameters<LedgerRpc['admit']>) {
    const { failpoints } = this.#ports;
    return durably(failpoints, 'ledger.admit', () =>
      this.#step('ledger.place', () => this.#core.admit(groupNumber, sessions)),
    );
  }
  async get(sessionId: string) {
    return this.#core.view.get(sessionId);
  }
  async left(...[sessionId, states, withinMs]: Parameters<LedgerRpc['left']>) {
    const untilMs = this.#ports.clock.nowMs() + Math.min(withinMs, mostWatchMs);
    for (;;) {
      const state = this.#core.view.stateOf(sessionId);
      if (state === undefined) return false;
      if (!states.includes(state)) return true;
      if (!(await this.#watchers.touched(sessionId, untilMs - this.#ports.clock.nowMs()))) return false;
    }
  }
  async show(sessionId: string) {
    return this.#core.view.show(sessionId);
  }
  async history(sessionId: string) {
    return this.#core.view.history(sessionId);
  }
  async route(sessionId: string) {
    return this.#core.view.route(sessionId);
  }
  terminate(...[sessionId, order]: Parameters<LedgerRpc['terminate']>) {
    return this.#step('ledger.terminate', () => this.#core.terminate(sessionId, order));
  }
  async shape() {
    return this.#core.view.shape();
  }
  async stats() {
    return this.#core.view.stats();
  }
  async setClosing(groupNumber: number, closing: boolean) {
    return this.#core.setClosing(groupNumber, closing);
  }
  async restored(groupNumber: number, snapshotAtMs: number) {
    this.#core.restored(groupNumber, snapshotAtMs);
  }
  async isBound() {
    return this.#core.isBound();
  }
  async known(after: string, limit: number) {
    return this.#core.view.known(after, Math.min(limit, 500));
  }
  async relist(sessionIds: string[]) {
    this.#core.relist(sessionIds);
  }
  async believe(...[rows]: Parameters<LedgerRpc['believe']>) {
    return this.#core.believe(rows);
  }
  async orphans() {
    return this.#core.view.orphans();
  }
  async endOrphan(sessionId: string) {
    return this.#core.endOrphan(sessionId);
  }
  async putAgent(...[groupNumber, agent]: Parameters<LedgerRpc['putAgent']>) {
    this.#core.putAgent(groupNumber, agent);
  }
  async agents() {
    return this.#core.view.agents();
  }
  attach(...given: Parameters<LedgerRpc['attach']>) {
    return this.#step('ledger.attach', () => this.#core.attach(...given));
  }
  async carries(...[agentId, epoch]: Parameters<LedgerRpc['carries']>) {
    return this.#core.view.carries(agentId, epoch);
  }
  events(...[agentId, epoch, journalId, events]: Parameters<LedgerRpc['events']>) {
    return this.#step('ledger.event', () => this.#core.events(agentId, epoch, journalId, events));
  }
  intentsAcked(...[agentId, epoch, intentIds]: Parameters<LedgerRpc['intentsAcked']>) {
    return this.#step('ledger.intentAcked', () => this.#core.intentsAcked(agentId, epoch, intentIds));
  }
  async progress(agentId: string, epoch: number, progress: Parameters<Ledger['progress']>[2]) {
    this.#core.progress(agentId, epoch, progress);
  }
  async agentImages(...[agentId, epoch, images]: Parameters<LedgerRpc['agentImages']>) {
    this.#core.agentImages(agentId, epoch, images);
  }
  async images() {
    return this.#core.view.images();
  }
  async detached(agentId: string, epoch: number) {
    this.#core.detached(agentId, epoch);
  }
}
