/**
 * What must hold in a simulated world: some after every commit and every start of a container, the rest when the world has
 * come to rest. The rules themselves are those of the real stack (`test/support/invariant-rules.ts`).
 */
import { hasMain } from '../../agent-daemon/sessions/main-process.ts';
import { parseShape } from '../../edge/manager/scheduler/slots.ts';
import type { EnrolledAgent } from '../../edge/manager/scheduler/rpc.ts';
import type { LedgerStore } from '../../edge/manager/scheduler/ledger-store.ts';
import { isTerminal } from '../../schema/api/session-parts.ts';
import { parseSessionId } from '../../schema/ids.ts';
import type { AgentRow, IntentRow } from '../../schema/ledger/agents.ts';
import type { SessionRow } from '../../schema/ledger/sessions.ts';
import type { KernelSpec } from '../../schema/protocol/intents.ts';
import { historyFaults } from '../support/invariant-history.ts';
import { containerFaults, inventoryFaults, networkFaults, runFaults } from '../support/invariant-rules.ts';
import type { WatchLedger } from './edge/watch.ts';
import { exitCodeOf, outputBytesOf } from './host/programs.ts';
import type { SimEdge } from './edge/edge.ts';
import type { WorldHost } from './host-port.ts';
import type { People } from './people.ts';
import { Promises } from './promises.ts';
import type { RareCase, Sometimes } from './sometimes.ts';

export interface Known {
  state: SessionRow['state'];
  version: number;
  where: 'ledger' | 'admission' | 'd1';
  agentId: string | null;
  reason: string | undefined;
}

export class Invariants implements WatchLedger {
  readonly violations: string[] = [];
  readonly promises = new Promises((what) => this.violated(what));
  readonly #sent = new Set<string>();
  /** Agents that a ledger knows as revoked. */
  readonly #revoked = new Set<string>();
  #isTrying = false;
  /** Indices of events that ledgers were given, by journal, and the first that none has confirmed. */
  readonly #given = new Map<string, Set<number>>();
  readonly #confirmedTo = new Map<string, number>();
  readonly announcedIds = new Set<string>();
  readonly #trace: (line: string) => void;
  readonly #sometimes: Sometimes;
  /** Ends, for [I7]: they are final. */
  readonly #ended = new Map<string, string>();

  readonly #hosts: readonly WorldHost[];

  constructor(trace: (line: string) => void, sometimes: Sometimes, hosts: readonly WorldHost[]) {
    this.#trace = trace;
    this.#sometimes = sometimes;
    this.#hosts = hosts;
  }

  /** [K2]: no run is carried out twice in one placement. */
  ran({ sessionId, generation }: { sessionId: string; generation: number }, runId: string): void {
    const key = `${sessionId} ${generation} ${runId}`;
    const times = (this.#ran.get(key) ?? 0) + 1;
    this.#ran.set(key, times);
    if (times > 1 && !this.#hasClone)
      this.violated(`[K2] ${runId} is carried out again in ${sessionId} g${generation}`);
  }
  readonly #ran = new Map<string, number>();

  /** How often a run was carried out in a placement. */
  timesRan({ sessionId, generation }: { sessionId: string; generation: number }, runId: string): number {
    const times = this.#ran.get(`${sessionId} ${generation} ${runId}`) ?? 0;
    return this.#hasClone ? Math.min(times, 1) : times;
  }

  /**
   * A machine whose hardware says nothing was cloned. Until its join counter gives it away the clone is believed, also when
   * it says that nothing of the original's runs any more: then that is placed anew, and so is its room on the original.
   * What [I1] and [I3] say of containers does not hold from here on, nor [K2] of what is run in them.
   */
  copied(host: string): void {
    this.#trace(`${host} has a clone that nothing tells apart`);
    this.#hasClone = true;
  }
  #hasClone = false;

  /** What somebody saw of a program that he followed: where a clone is believed, he may have followed both. */
  seen(what: string): void {
    if (!this.#hasClone) this.violated(what);
  }

  violated(what: string): void {
    if (this.violations.length < 20) this.violations.push(what);
    if (!this.#isTrying) this.#trace(`VIOLATION ${what}`);
  }

  /** A call of an object arrived. */
  asked(method: string, args: readonly unknown[]): void {
    if (method !== 'events') return;
    const journalId = args[2] as string;
    const given = this.#given.get(journalId) ?? new Set();
    this.#given.set(journalId, given);
    for (const { index } of args[3] as { index: number }[]) given.add(index);
  }

  /** A call of an object was answered. */
  answered(method: string, args: readonly unknown[], answer: unknown): void {
    if (method === 'sendIntents')
      for (const { intentId } of args[2] as { intentId: string }[]) {
        if (this.#sent.has(intentId)) this.#sometimes.reached('an order was sent again');
        this.#sent.add(intentId);
      }
    this.promises.answered(method, args, answer);
    if (method === 'events' && answer !== 'stale')
      this.#confirmed(args[2] as string, (answer as { ackedIndex: number }).ackedIndex);
    if (method === 'putAgent') {
      const { agentId, state } = args[1] as EnrolledAgent;
      if (state !== 'revoked' && this.#revoked.has(agentId))
        this.#sometimes.reached('a change came late for an agent that was revoked');
    }
    if (answer === 'stale') this.#sometimes.reached('a stale epoch was refused');
    const destroy = (answer as { answer?: { destroy?: unknown[] } } | undefined)?.answer?.destroy;
    if (method === 'attach' && (destroy?.length ?? 0) > 0)
      this.#sometimes.reached('an inventory named a container to destroy');
  }

  /** [M7]: a ledger confirms no event that it never got. */
  #confirmed(journalId: string, upto: number): void {
    for (let index = this.#confirmedTo.get(journalId) ?? 1; index <= upto; index += 1)
      if (!this.#given.get(journalId)?.has(index))
        this.violated(`[M7] event ${index} of ${journalId} is confirmed, and its ledger never got it`);
    this.#confirmedTo.set(journalId, upto + 1);
  }

  agentMoved(before: AgentRow, after: AgentRow): void {
    if (after.state === 'revoked') this.#revoked.add(after.agentId);
    if (before.state === 'revoked' && after.state !== 'revoked')
      this.violated(`[R4] ${after.agentId} is ${after.state} after it was revoked`);
    if (before.state !== 'suspended' && after.state === 'suspended')
      this.#sometimes.reached('two machines of one identity were suspended');
    if (before.reachable && !after.reachable) this.#sometimes.reached('an agent was lost');
    if (!before.reachable && after.reachable && before.epoch !== null) this.#sometimes.reached('an agent came back');
  }

  kept(orders: readonly IntentRow[], agents: readonly AgentRow[]): void {
    for (const order of orders) this.promises.ordered(order);
    for (const agent of agents) this.promises.committed(agent);
  }

  hubSays(agentId: string, groupNumber: number, bytes: Uint8Array): void {
    this.promises.hubSays(agentId, groupNumber, bytes);
  }

  promoted(): void {
    this.#sometimes.reached('a session went on when quota was free');
  }

  announced(eventIds: readonly string[]): void {
    for (const id of eventIds) this.announcedIds.add(id);
  }

  committed(
    groupNumber: number,
    store: LedgerStore,
    changes: { before: SessionRow | undefined; after: SessionRow }[],
  ): void {
    for (const { before, after } of changes) {
      this.#moved(before, after);
      if (after.again?.reason.detail === 'the agent no longer has it')
        this.#sometimes.reached('an inventory lacked a placement');
    }
    this.#reservations(groupNumber, store);
  }

  #moved(before: SessionRow | undefined, after: SessionRow): void {
    const { sessionId, state, version, generation, agentId, reason } = after;
    if (before?.version === version) return;
    this.#trace(`${sessionId} ${state} v${version} g${generation} ${agentId ?? '-'} ${reason?.code ?? ''}`);
    const end = this.#ended.get(sessionId);
    if (end !== undefined && before !== undefined)
      this.violated(`[I7] ${sessionId} is ${state} after its end as ${end}`);
    if (isTerminal(state)) this.#ended.set(sessionId, state);
    if (before && version < before.version)
      this.violated(`[I7] ${sessionId} goes from version ${before.version} to ${version}`);
    if (before && generation < before.generation)
      this.violated(`[I7] ${sessionId} goes back to generation ${generation}`);
    // A session goes back to the queue only when nothing of its former placement runs any more ([I1], before it shows).
    if (before && state === 'PENDING' && generation > before.generation && !this.#hasClone)
      for (const { name } of this.#running(sessionId)) this.violated(`[I1] ${sessionId} is placed anew, ${name} runs`);
    this.#rare(before, after);
  }

  #running(sessionId: string) {
    return this.#hosts.flatMap((host) => host.running()).filter((each) => each.sessionId === sessionId);
  }

  /** Which rare cases a transition shows. */
  #rare(before: SessionRow | undefined, after: SessionRow): void {
    const { state, reason, trail, agentId, generation } = after;
    const from = before?.state;
    const is: Partial<Record<RareCase, boolean>> = {
      'a session was placed a second time': state === 'SCHEDULED' && generation > 1,
      'a restartable session was placed on another host':
        state === 'SCHEDULED' && trail.some((step) => step.agentId !== undefined && step.agentId !== agentId),
      'a session was UNREACHABLE and RUNNING again': from === 'UNREACHABLE' && state === 'RUNNING',
      'a session was stopped while UNREACHABLE': from === 'UNREACHABLE' && after.stop !== null,
      'a start failed and was tried again': reason?.code === 'start-failed' && state !== 'ERROR',
      'an order was taken back before it was sent':
        reason?.detail === 'its agent could not be reached' ||
        reason?.detail?.includes('before the order was sent') === true,
      'a session waited for room': before === undefined && state === 'PENDING',
      'a session was cancelled while it waited': state === 'CANCELLED',
    };
    for (const [rare, isReached] of Object.entries(is)) if (isReached) this.#sometimes.reached(rare as RareCase);
  }

  /** [I3] at every commit. */
  #reservations(groupNumber: number, store: LedgerStore): void {
    for (const agent of store.agents()) {
      const used: Record<string, number> = {};
      for (const { shape } of store.reservations(agent.agentId))
        for (const [slot, amount] of Object.entries(parseShape(shape))) used[slot] = (used[slot] ?? 0) + amount;
      for (const [slot, amount] of Object.entries(used))
        if (amount > (agent.approved[slot] ?? 0))
          this.violated(
            `[I3] group ${groupNumber} promises ${amount} ${slot} of ${agent.agentId}, which has ${agent.approved[slot]}`,
          );
    }
  }

  /** [I1], [I3] and [I6] at every start of a container. */
  started(host: WorldHost, sessionId: string, generation: number): void {
    this.#trace(`${host.name} runs ${sessionId} g${generation}`);
    const ofSession = this.#running(sessionId);
    if (ofSession.length > 1 && !this.#hasClone)
      this.violated(`[I1] ${ofSession.map(({ name }) => name).join(' and ')} run at once`);
    for (const [slot, amount] of Object.entries(host.used()))
      if (amount > (host.approved[slot] ?? 0) && !this.#hasClone)
        this.violated(`[I3] ${host.name} runs ${amount} ${slot} and has ${host.approved[slot]}`);
  }

  // ---- when the world has come to rest ----

  /** True when nothing that must hold at rest is broken: the world has converged. */
  isAtRest(edge: SimEdge, people: People, hosts: readonly WorldHost[]): boolean {
    const found = this.violations.splice(0);
    this.#isTrying = true;
    this.atRest(edge, people, hosts);
    this.#isTrying = false;
    const isClean = this.violations.length === 0;
    this.violations.splice(0, Number.POSITIVE_INFINITY, ...found);
    return isClean;
  }

  atRest(edge: SimEdge, people: People, hosts: readonly WorldHost[]): void {
    const lives = hosts.flatMap((host) => host.lives());
    for (const fault of this.#hasClone ? [] : runFaults(lives)) this.violated(fault);
    const sessions = this.#allSessions(edge, people);
    this.#loss(people, sessions);
    this.#agreement(edge, hosts, sessions);
    this.#histories(edge);
    this.#ends(edge, people);
    this.#quota(edge);
    this.#events(edge);
    this.#enrolments(edge, hosts);
    for (const fault of edge.d1.chainFaults()) this.violated(fault);
    const noted = edge.noted();
    for (const sessionId of people.promised.keys())
      if (!noted.has(sessionId)) this.violated(`[I13] ${sessionId} was accepted and no audit trail tells of it`);
  }

  /** Where a session is known now, asked in the order of the API. */
  find(edge: SimEdge, sessionId: string): Known | undefined {
    const { groupNumber, domainNumber } = parseSessionId(sessionId)!;
    const row = edge.ledgerStores.get(groupNumber)?.session(sessionId);
    if (row)
      return {
        state: row.state,
        version: row.version,
        where: 'ledger',
        agentId: row.agentId,
        reason: row.reason?.code,
      };
    const claim = edge.admissionStores.get(String(domainNumber))?.claim(sessionId);
    if (claim && claim.place !== 'handed')
      return {
        state: claim.place === 'over' ? 'CANCELLED' : 'PENDING',
        version: claim.version,
        where: 'admission',
        agentId: null,
        reason: claim.reason?.code,
      };
    const listed = edge.d1.sessions.get(sessionId);
    return (
      listed && {
        state: listed.state,
        version: listed.version,
        where: 'd1',
        agentId: listed.agentId,
        reason: listed.reason?.code,
      }
    );
  }

  #allSessions(edge: SimEdge, people: People): Map<string, Known> {
    const found = new Map<string, Known>();
    for (const sessionId of [...people.promised.keys(), ...edge.d1.sessions.keys()]) {
      const known = this.find(edge, sessionId);
      if (known) found.set(sessionId, known);
    }
    return found;
  }

  /** [I2] */
  #loss(people: People, sessions: ReadonlyMap<string, Known>): void {
    for (const sessionId of people.promised.keys())
      if (!sessions.has(sessionId)) this.violated(`[I2] ${sessionId} was accepted and nobody knows it`);
    const unknown = [...sessions.keys()].filter((id) => !people.promised.has(id));
    if (unknown.length > people.unanswered)
      this.violated(`[I6] ${unknown.join()} exist, and ${people.unanswered} requests had no answer`);
  }

  /** [I4] and [I9]: ledger, hosts and read model say the same. */
  #agreement(edge: SimEdge, hosts: readonly WorldHost[], sessions: ReadonlyMap<string, Known>): void {
    const shown = new Map(
      Array.from(sessions, ([id, { state, agentId }]) => [
        id,
        { id, state, resources: {}, ...(agentId === null ? {} : { agentId }) },
      ]),
    );
    const left = hosts.map((host) => host.leftovers());
    const faults = [
      ...hosts.flatMap(({ name, mostInAdvance }, at) =>
        left[at]!.inAdvance > mostInAdvance ? [`${name} holds ${left[at]!.inAdvance} containers in advance`] : [],
      ),
      ...containerFaults(
        shown,
        left.flatMap(({ containers }) => containers),
      ),
      ...networkFaults(
        shown,
        left.flatMap(({ networks }) => networks),
      ),
      ...hosts.flatMap((host) =>
        inventoryFaults(
          host.agentId,
          shown,
          host.inventory().filter(({ state }) => state === 'running'),
        ),
      ),
      ...hosts
        .flatMap((host) => host.hollow().filter((id) => endsWithProgram(specOf(edge, id))))
        .map((id) => `${id} goes on, and its program has ended`),
      ...this.#restless(edge, sessions),
    ];
    for (const fault of faults) this.violated(`[I4] ${fault}`);
  }

  /** Whoever is still on the way, whatever is reserved for nobody, and where the read model is behind. */
  *#restless(edge: SimEdge, sessions: ReadonlyMap<string, Known>): Generator<string> {
    for (const [id, { state, version, where, reason }] of sessions) {
      const settled = state === 'RUNNING' || state === 'PENDING' || isTerminal(state);
      if (!settled) yield `${id} is still ${state} (${reason ?? 'no reason'})`;
      if (where === 'd1') continue;
      const listed = edge.d1.sessions.get(id);
      if (listed === undefined) yield `${id} is not listed`;
      else if (listed.version !== version && state !== 'PENDING')
        yield `${id} is ${state} v${version} and listed as ${listed.state} v${listed.version}`;
    }
    for (const [groupNumber, store] of edge.ledgerStores)
      for (const agent of store.agents())
        for (const { sessionId, generation } of store.reservations(agent.agentId)) {
          const row = store.session(sessionId);
          const isHeld =
            row && !isTerminal(row.state) && row.agentId === agent.agentId && row.generation === generation;
          if (!isHeld)
            yield `group ${groupNumber} holds ${sessionId} g${generation} on ${agent.agentId}, where it does not run`;
        }
    for (const [groupNumber, store] of edge.ledgerStores)
      for (const intent of store.intents())
        yield `group ${groupNumber} still orders ${intent.order.kind} of ${intent.sessionId} g${intent.generation}`;
  }

  /** [I7] */
  #histories(edge: SimEdge): void {
    for (const [, store] of edge.ledgerStores)
      for (const id of this.#idsOf(edge)) {
        const row = store.session(id);
        if (!row) continue;
        for (const fault of historyFaults([...store.trail(id), ...row.trail])) this.violated(`[I7] ${id}: ${fault}`);
      }
  }

  *#idsOf(edge: SimEdge): Generator<string> {
    yield* edge.d1.sessions.keys();
  }

  /** [I2] Whoever ended without being asked to did so by itself: as its program ends, or with the power of its host. */
  #ends(edge: SimEdge, { promised, stopped }: People): void {
    for (const { sessionId, spec } of promised.values()) {
      const result = edge.ledgerStores.get(parseSessionId(sessionId)!.groupNumber)?.session(sessionId)?.result;
      if (!result || stopped.has(sessionId)) continue;
      const { reason, exitCode } = result;
      const isTrue = {
        exited: exitCode !== undefined && exitCode === exitCodeOf(spec.command ?? []),
        'host-lost': this.#hosts.some(({ lostPower }) => lostPower),
        timeout: spec.timeoutMs !== undefined,
        'lease-expired': spec.leaseMs !== undefined,
      }[reason as string];
      if (isTrue !== true)
        this.violated(`[I2] ${sessionId} (${spec.command?.join(' ')}) ended as ${JSON.stringify(result)}`);
    }
  }

  /** [I8]: what is counted, and what has a name, is what lives. */
  #quota(edge: SimEdge): void {
    for (const [domain, store] of edge.admissionStores) {
      for (const { sessionId } of store.claimsAfter('', Number.POSITIVE_INFINITY)) {
        const known = this.find(edge, sessionId);
        if (known && isTerminal(known.state)) this.violated(`[I8] ${sessionId} is ${known.state} and keeps its name`);
      }
      const live = new Map<string, number>();
      for (const [id, row] of edge.d1.sessions) {
        if (String(parseSessionId(id)!.domainNumber) !== domain) continue;
        const known = this.find(edge, id);
        if (known && !isTerminal(known.state)) live.set(row.projectId, (live.get(row.projectId) ?? 0) + 1);
      }
      for (const projectId of new Set([...edge.d1.sessions.values()].map((row) => row.projectId))) {
        const usage = store.usage(projectId);
        if (store.domain() === undefined) continue;
        const isOurs = [...edge.d1.sessions].some(
          ([id, row]) => row.projectId === projectId && String(parseSessionId(id)!.domainNumber) === domain,
        );
        if (isOurs && usage.live !== (live.get(projectId) ?? 0))
          this.violated(`[I8] ${projectId} counts ${usage.live} live sessions and has ${live.get(projectId) ?? 0}`);
      }
    }
  }

  /** [E1]: every host has joined once, is who D1 says it is, and its ledger knows of it what D1 does. */
  #enrolments(edge: SimEdge, hosts: readonly WorldHost[]): void {
    const known = new Map(
      [...edge.ledgerStores.values()].flatMap((store) => store.agents().map((row) => [row.agentId, row])),
    );
    for (const name of edge.worker.joinedForNothing()) this.violated(`[E3] ${name} has joined, and spent no token`);
    for (const host of hosts) {
      const agent = edge.worker.agentOf(host.name);
      if (agent === undefined || agent.agentId !== host.identity()) {
        this.violated(`[E1] ${host.name} is ${host.identity() ?? 'nobody'}, and D1 has ${agent?.agentId ?? 'nobody'}`);
        continue;
      }
      const row = known.get(agent.agentId);
      if (row?.reachable !== true) this.violated(`[E1] ${host.name} is not connected: ${row?.reason ?? row?.state}`);
      // Who drains twice at once may be heard in the other order.
      const { state, approval, approved } = agent;
      const wanted = JSON.stringify({ state, approval, approved });
      const told = row && JSON.stringify({ state: row.state, approval: row.approval, approved: row.approved });
      if (told !== wanted) this.violated(`[E2] D1 has ${host.name} as ${wanted}, its ledger as ${told}`);
    }
  }

  /** [I9]: all that a commit announced was published. */
  #events(edge: SimEdge): void {
    let missing = 0;
    for (const id of this.announcedIds) if (!edge.redis.published.has(id)) missing += 1;
    if (missing > 0) this.violated(`[I9] ${missing} of ${this.announcedIds.size} events were never published`);
  }
}

/** As its ledger has it: who asked may never have heard of the session. */
function specOf(edge: SimEdge, sessionId: string): KernelSpec | undefined {
  return edge.ledgerStores.get(parseSessionId(sessionId)!.groupNumber)?.spec(sessionId);
}

/** False for one that has no program of its own, and while a full log holds up its end. */
function endsWithProgram(spec: KernelSpec | undefined): boolean {
  return (spec === undefined || hasMain(spec)) && !waitsForRoom(spec);
}

/** A full log that nobody reads holds up the end, as its owner wants it. */
export function waitsForRoom(spec: KernelSpec | undefined): boolean {
  return spec?.output.onFull === 'block' && (outputBytesOf(spec.command ?? []) ?? Infinity) > spec.output.spoolBytes;
}
