/**
 * The Worker of a simulated edge: the production's accounts and enrolment over D1, and the upgrades that let hosts and
 * people in.
 */
import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { principalOf } from '../../../edge/http/access.ts';
import type { Actor, AnonymousActor, Ctx } from '../../../edge/http/context.ts';
import { authenticateToken } from '../../../edge/manager/accounts/authenticate.ts';
import { judgeChallenge, makeChallenge } from '../../../edge/manager/agents/challenge.ts';
import { enrol } from '../../../edge/manager/agents/enrol.ts';
import { type AgentRow, findAgent } from '../../../edge/manager/agents/store.ts';
import type { EnrolledAgent } from '../../../edge/manager/scheduler/rpc.ts';
import { database } from '../../../edge/platform/database.ts';
import { verifyDataTicket } from '../../../edge/tunnel/tickets.ts';
import type { AgentSocketClaim, ClientSocketClaim } from '../../../edge/tunnel/rpc.ts';
import { Challenge, Enrol, tunnelSigningText } from '../../../schema/api/agent.ts';
import { errors, Refusal } from '../../../schema/errors.ts';
import { parseAgentId, parseSessionId } from '../../../schema/ids.ts';
import { frameTypes } from '../../../schema/protocol/frame.ts';
import type { Slots } from '../../../schema/protocol/messages.ts';
import type { Clock, Log } from '../../../schema/ports.ts';
import type { Chance } from '../chance.ts';
import type { Life } from '../life.ts';
import type { ClientRoute } from './client-route.ts';
import type { HubInstance } from './hubs.ts';
import { type AgentEnd, type HubEnd, Link, type Way } from './links.ts';
import type { Cell, WorldPorts } from './objects.ts';
import { bindingsOf, type Bound, failpointsOf, instance, keys, requestOf, type RequestPorts } from './request.ts';
import type { SqliteD1 } from './sqlite-d1.ts';

/** Nothing passes later than this after D1 has a revocation. */
export const outWithinMs = 5_000;
/** Marks themselves, which a hub does not count. */
const mostMarkBytes = 4096;
const anonymous: AnonymousActor = { kind: 'anonymous' };
const signed = /^causeway-agent id=([a-z0-9_]+),nonce=([A-Za-z0-9._-]+),signature=([A-Za-z0-9_-]+)$/i;

export interface WorkerPorts extends WorldPorts {
  layout: 'production' | 'machine';
  log: Log;
  watch: { violated: (what: string) => void };
  /** The isolate is gone with its memory. */
  forgets: () => void;
}

/** The edge behind the Worker. */
export interface Behind extends Bound {
  readonly clock: Clock;
  /** The life of the isolate that serves requests. */
  readonly front: Life;
  readonly accounts: SqliteD1;
  /** Open sockets by the names of their objects. */
  readonly links: Map<string, Set<Link>>;
  controlCell: (name: string) => Cell;
  dataCell: (name: string) => Cell;
}

/** As SQLite gives them. */
interface EnrolledText {
  approved: string;
  draining: number;
}

export class SimWorker {
  readonly #edge: Behind;
  readonly #ports: WorkerPorts;
  readonly #chance: Chance;
  readonly #requests: Pick<RequestPorts, 'random' | 'failpoints' | 'layout' | 'log'>;
  #bindings: Env;
  /** Tokens that D1 does not let in, and since when; and those that it did not let in for some time. */
  readonly #outSince = new Map<string, number>();
  readonly #everOut = new Set<string>();
  readonly #keys = new Map<string, KeyObject>();
  #overtakes = false;

  constructor(edge: Behind, ports: WorkerPorts) {
    this.#edge = edge;
    this.#ports = ports;
    this.#chance = ports.chance.fork('edge');
    const steps = ports.chance.fork('steps of requests');
    this.#requests = {
      layout: ports.layout,
      log: ports.log,
      random: ports.chance.fork('random of requests').port(),
      failpoints: failpointsOf(() => steps.isTrue(ports.weather.edgeStep)),
    };
    this.#bindings = bindingsOf(edge, edge.front);
  }

  /** The isolate died with what it remembered. */
  restarts(): void {
    this.#bindings = bindingsOf(this.#edge, this.#edge.front);
    this.#ports.forgets();
  }

  /** A request to the Worker's own code. */
  request<A extends Actor>(actor: A): Ctx<A> {
    return requestOf(actor, { ...this.#requests, env: this.#bindings, clock: this.#edge.clock });
  }

  // ---- rights ----

  /** Since when D1 does not let a token in. */
  outSinceMs(tokenId: string): number | undefined {
    return this.#outSince.get(tokenId);
  }

  /** D1 did not let it in for some time. */
  wasOut(tokenId: string): boolean {
    return this.#everOut.has(tokenId);
  }

  /** After a change of D1. */
  lookWhoIsOut(): void {
    const rows = this.#edge.accounts.now<{ id: string; isOut: number }>(
      'SELECT t.id, revoked_at_ms IS NOT NULL OR NOT active AS isOut FROM tokens t JOIN users u ON u.id = user_id',
    );
    for (const { id, isOut } of rows) {
      if (isOut === 1) this.#everOut.add(id);
      if (isOut === 0) this.#outSince.delete(id);
      else if (!this.#outSince.has(id)) this.#outSince.set(id, this.#ports.time.nowMs);
    }
  }

  /** [A1]: no byte of a session passes later than 5 s after a revocation, also on a socket that was open before. */
  mustBeIn(tokenId: string, bytes: Uint8Array): void {
    const { time, sometimes, watch } = this.#ports;
    const sinceMs = this.#outSince.get(tokenId);
    if (sinceMs === undefined || bytes[1] !== frameTypes.data) return;
    sometimes.reached('a stream was open while its token was taken out');
    const lateMs = time.nowMs - sinceMs;
    if (lateMs > outWithinMs) watch.violated(`[A1] ${tokenId} is given bytes ${lateMs} ms after it was out`);
  }

  // ---- agents ----

  /** What D1 has of the agent of a host; undefined before it has joined. */
  agentOf(name: string): EnrolledAgent | undefined {
    const [row] = this.#edge.accounts.now<Omit<EnrolledAgent, 'approved' | 'draining'> & EnrolledText>(
      `SELECT id AS agentId, name, control_hub AS controlHub, approved, state, draining, approval FROM agents
        WHERE name = ?`,
      name,
    );
    return row && { ...row, approved: JSON.parse(row.approved) as Slots, draining: row.draining === 1 };
  }

  /** Names of hosts that joined by a token that another spent. */
  joinedForNothing(): string[] {
    const rows = this.#edge.accounts.now<{ name: string }>(
      `SELECT name FROM agents WHERE name LIKE 'host-%'
        AND id NOT IN (SELECT agent_id FROM join_tokens WHERE agent_id IS NOT NULL)`,
    );
    return rows.map(({ name }) => name);
  }

  // ---- what is asked over HTTP ----

  /** An agent's call, answered as the corridor would: a refusal by its status and code, any other failure as a fault. */
  async post(path: string, body: string): Promise<{ status: number; text: string }> {
    const ctx = this.request(anonymous);
    try {
      const answer = await this.#answer(ctx, path, JSON.parse(body));
      return { status: 200, text: JSON.stringify(answer) };
    } catch (error) {
      if (!(error instanceof Refusal)) {
        this.#ports.log.warn('a request failed', { path, error: String(error) });
        return { status: 503, text: '{}' };
      }
      if (error.code === 'agent_join_token_used')
        this.#ports.sometimes.reached('a join token was refused to a second host');
      return { status: errors[error.code].status, text: JSON.stringify({ code: error.code }) };
    }
  }

  #answer(ctx: Ctx<AnonymousActor>, path: string, body: unknown): object | Promise<object> {
    if (path !== '/agent/v1/challenge') return enrol(ctx, Enrol.parse(body));
    return makeChallenge(keys, Challenge.parse(body).agentId, ctx.clock.nowMs(), ctx.random);
  }

  // ---- upgrades ----

  /** An agent's upgrade, as `manager/agents/tunnel.ts` judges it. Rejects with a Refusal, or as a way that is closed. */
  dial(way: Way, url: URL, headers: Record<string, string>, end: AgentEnd): Promise<Link> {
    const { time } = this.#ports;
    const { front } = this.#edge;
    return new Promise((resolve, reject) => {
      time.after(this.#chance.delayMs(2 * way.latencyMs), () => {
        if (way.upIsCut || way.downIsCut || !front.isAlive) {
          if (!way.upIsCut) reject(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }));
          return; // packets are dropped: the caller's own time-out speaks
        }
        this.#admit(url, headers)
          .then(({ cell, claim }) => this.#open(cell, way, claim, end))
          .then(resolve, (error: unknown) => reject(error instanceof Error ? error : new Error(String(error))));
      });
    });
  }

  /** A client's upgrade, as `manager/sessions/streams.ts` judges it. Undefined when there is nowhere to go. */
  async openClient(
    way: Way,
    { sessionId, token, op, terminalId, isReadOnly }: ClientRoute & { sessionId: string; token: string },
    end: AgentEnd,
  ): Promise<{ link: Link; generation: number } | undefined> {
    const actor = await authenticateToken(this.request(anonymous), token);
    const route = await this.#edge
      .ledger(parseSessionId(sessionId)?.groupNumber ?? 0, this.#edge.front)
      .route(sessionId);
    if (!route?.agent?.reachable) return undefined;
    const { generation, projectId, agent } = route;
    const { agentId, epoch, controlHub, dataTicket, dataHub } = agent;
    const claim: ClientSocketClaim = {
      sessionId,
      generation,
      agentId,
      epoch,
      controlHub,
      dataTicket,
      actorId: actor.userId,
      principal: principalOf(actor, projectId),
      checkedAtMs: actor.checkedAtMs,
      ops: [op],
      write: op !== 'logs' && isReadOnly !== true,
      ...(terminalId === undefined ? {} : { terminalId }),
    };
    const cell = this.#edge.dataCell(dataHub);
    const state = (cell.instance() as HubInstance).clientState!(claim);
    return { link: this.#connect(cell, way, `${sessionId} ${agentId}`, end, state), generation };
  }

  async #admit(url: URL, headers: Record<string, string>): Promise<{ cell: Cell; claim: AgentSocketClaim }> {
    const purpose = url.searchParams.get('purpose');
    if (purpose === 'interactive' || purpose === 'bulk') {
      const agentId = headers['x-causeway-agent'] ?? '';
      const hub = url.searchParams.get('hub') ?? '';
      const epoch = verifyDataTicket(keys, headers['x-causeway-ticket'] ?? '', { agentId, hub });
      const groupNumber = parseAgentId(agentId)?.groupNumber;
      if (epoch === undefined || groupNumber === undefined) throw new Refusal('auth_invalid');
      return { cell: this.#edge.dataCell(hub), claim: { agentId, groupNumber, purpose, epoch } };
    }
    const [, agentId = '', nonce = '', signature = ''] = signed.exec(headers['authorization'] ?? '') ?? [];
    const judged = judgeChallenge(keys, agentId, nonce, this.#edge.clock.nowMs());
    if (judged === 'expired') throw new Refusal('agent_challenge_expired');
    const agent = await findAgent(database(this.#bindings), agentId);
    const text = tunnelSigningText({ instance, agentId, nonce, host: url.host });
    if (judged === 'forged' || !agent || !this.#isSigned(agent, text, signature))
      throw new Refusal('agent_signature_invalid');
    if (agent.state === 'revoked') throw new Refusal('agent_revoked');
    const { groupNumber, controlHub } = agent;
    return { cell: this.#edge.controlCell(controlHub), claim: { agentId, groupNumber, purpose: 'control' } };
  }

  /** At once: WebCrypto takes a real moment, and a world has none. */
  #isSigned({ id, publicKey }: AgentRow, text: string, signature: string): boolean {
    const key =
      this.#keys.get(id) ?? createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: publicKey }, format: 'jwk' });
    this.#keys.set(id, key);
    return verify(null, Buffer.from(text), key, Buffer.from(signature, 'base64url'));
  }

  #open(cell: Cell, way: Way, claim: AgentSocketClaim, end: AgentEnd): Link {
    const { agentId, groupNumber } = claim;
    const state = (cell.instance() as HubInstance).agentState?.(claim) ?? {
      agentId,
      groupNumber,
      phase: 'greeting',
      epoch: 0,
      openedAtMs: this.#edge.clock.nowMs(),
      reportDirty: false,
    };
    return this.#connect(cell, way, agentId, end, state);
  }

  #connect(cell: Cell, way: Way, name: string, end: AgentEnd, state: unknown): Link {
    const { links: ofCells } = this.#edge;
    const hub: HubEnd = {
      message: (link, message) => {
        const woken = cell.instance() as HubInstance;
        woken.message(link, message);
        if (new Uint8Array(message)[1] === frameTypes.marked) this.#proven(cell, woken);
      },
      closed: (link) => {
        const woken = cell.instance() as HubInstance;
        ofCells.get(cell.name)?.delete(link);
        woken.closed(link);
      },
    };
    const chance = this.#chance.fork(`${name} ${this.#ports.time.events}`);
    const link = new Link(way, { ...this.#ports, chance }, end, hub);
    const links = ofCells.get(cell.name) ?? new Set();
    ofCells.set(cell.name, links);
    const woken = cell.instance() as HubInstance;
    links.add(link);
    woken.opened(link, state);
    return link;
  }

  /** [S5]: a hub believes nobody that bytes were read, but a mark that came back. */
  #proven({ name }: Cell, woken: HubInstance): void {
    const { weather, watch } = this.#ports;
    // A mark that overtook the bytes before it proves too much; no TCP does that.
    this.#overtakes ||= weather.reorder > 0;
    if (this.#overtakes) return;
    let held = 0;
    for (const link of this.#edge.links.get(name) ?? []) held += link.heldBytes;
    const counted = woken.status?.().unprovenBytes ?? 0;
    if (held > counted + mostMarkBytes)
      watch.violated(`[S5] ${name} counts ${counted} bytes as not read, and ${held} are not`);
  }
}
