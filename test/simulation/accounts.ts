/**
 * Users with tokens, and administrators who take rights away and give them back, make join tokens, and approve, drain and
 * revoke agents: by the production's own verbs, again and again until there is an answer. D1 alone says who is in.
 */
import { authenticateToken, forgetActors } from '../../edge/manager/accounts/authenticate.ts';
import { patchUser } from '../../edge/manager/accounts/manage-users.ts';
import { revokeTokenOf } from '../../edge/manager/accounts/service.ts';
import { makeToken } from '../../edge/manager/accounts/tokens.ts';
import { createJoinToken } from '../../edge/manager/agents/enrol.ts';
import { approveAgent, revokeAgent, setDraining } from '../../edge/manager/agents/roster.ts';
import type { UserActor, UserCtx } from '../../edge/http/context.ts';
import { errors, Refusal } from '../../schema/errors.ts';
import { newId } from '../../schema/ids.ts';
import type { Chance } from './chance.ts';
import type { VirtualTime } from './clock.ts';
import type { SimEdge } from './edge/edge.ts';
import { keys } from './edge/request.ts';
import { within } from './client.ts';
import type { Sometimes } from './sometimes.ts';
import { outWithinMs } from './edge/worker.ts';

export interface AccountsPorts {
  time: VirtualTime;
  chance: Chance;
  sometimes: Sometimes;
  edge: SimEdge;
  domains: readonly { id: string; number: number }[];
  groups: readonly number[];
}

export interface Token {
  id: string;
  userId: string;
  text: string;
}

/** Agents that are gone: with some more of them the next are of another control hub. */
const formerAgents = 124;
const users = 3;
const tokensOfUser = 2;
const answerMs = 8_000;
/** Each verb asks D1 several times: who asks again at once only asks more in bad weather. */
const againMs = 6_000;

export class Accounts {
  readonly tokens: Token[] = [];
  /** Never taken out. */
  readonly owner: Token;
  readonly #ports: AccountsPorts;
  readonly #domain: { id: string; number: number };
  readonly #admin: UserActor;

  constructor(ports: AccountsPorts) {
    this.#ports = ports;
    const { edge, domains, groups } = ports;
    this.#domain = domains[0]!;
    for (const { id, number } of domains)
      edge.accounts.now('INSERT INTO domains VALUES (?, ?, ?, 0)', number, id, `domain-${number}`);
    for (const number of groups)
      edge.accounts.now('INSERT INTO resource_groups VALUES (?, ?, ?, 0)', number, `rgp_${number}`, `group-${number}`);
    edge.accounts.now(
      `WITH RECURSIVE former(at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM former WHERE at < ?)
        INSERT INTO agents SELECT 'agt_' || at, 1, 'former-' || at, 'key-' || at, '0', 'revoked', 0, '{}', 1, '{}', '{}', '', 0, 0
        FROM former`,
      formerAgents,
    );
    for (let at = 0; at < users; at += 1) {
      const userId = this.#addUser(at);
      for (let of = 0; of < tokensOfUser; of += 1) this.tokens.push(this.#addToken(userId));
    }
    this.owner = this.#addToken(this.#addUser(users));
    this.#admin = {
      kind: 'user',
      userId: this.owner.userId,
      tokenId: this.owner.id,
      email: 'owner@example.org',
      domainId: this.#domain.id,
      domainNumber: this.#domain.number,
      role: 'superadmin',
      projects: [],
      projectId: undefined,
      tokenRole: undefined,
      scopes: [],
      tokenExpiresAtMs: undefined,
      accessVersion: 0,
      checkedAtMs: 0,
    };
  }

  #addUser(at: number): string {
    const { edge, chance } = this.#ports;
    const userId = newId('user', edge.clock.nowMs(), chance.port().bytes(10));
    const email = `user-${at}@example.org`;
    edge.accounts.now('INSERT INTO users VALUES (?, ?, ?, NULL, NULL, 1, 0, 1)', userId, this.#domain.id, email);
    return userId;
  }

  #addToken(userId: string): Token {
    const { edge, chance } = this.#ports;
    const id = newId('token', edge.clock.nowMs(), chance.port().bytes(10));
    const { text, prefix, hash } = makeToken(keys, chance.port());
    edge.accounts.now(
      "INSERT INTO tokens VALUES (?, ?, 'simulated', ?, ?, NULL, NULL, '[]', 0, NULL, NULL)",
      id,
      userId,
      prefix,
      hash,
    );
    return { id, userId, text };
  }

  /** The token by which somebody began to read last. */
  lastRead: Token | undefined;

  /** An administrator takes a token out, or a user for a while, or changes what one may. */
  change(later: (delayMs: number, task: () => void) => void): void {
    const { chance, sometimes } = this.#ports;
    // Whoever reads now has the most to lose.
    const { id, userId } = (chance.isTrue(0.7) ? this.lastRead : undefined) ?? chance.pick(this.tokens)!;
    const which = chance.next();
    if (which < 0.3) {
      sometimes.reached('a token was revoked');
      void this.#until((ctx) => revokeTokenOf(ctx, { id: userId, domainId: this.#domain.id }, id, 'token.revoke'));
    } else if (which < 0.7) {
      sometimes.reached('a user was switched off');
      void this.#until((ctx) => patchUser(ctx, userId, { active: false }));
      const back = () => void this.#until((ctx) => patchUser(ctx, userId, { active: true }));
      later(chance.integer(2_000, 60_000), back);
    } else void this.#until((ctx) => patchUser(ctx, userId, { role: chance.isTrue(0.5) ? 'domain-admin' : null }));
  }

  /** A join token for one host of a group. */
  async joinToken(groupNumber: number, autoApprove: boolean): Promise<string> {
    const made = await this.#until((ctx) =>
      createJoinToken(ctx, { resourceGroup: `group-${groupNumber}`, autoApprove }),
    );
    return made?.token ?? '';
  }
  async approve(agentId: string): Promise<void> {
    await this.#until((ctx) => approveAgent(ctx, agentId));
  }
  async drain(agentId: string, draining: boolean): Promise<void> {
    await this.#until((ctx) => setDraining(ctx, agentId, draining));
  }
  async revoke(agentId: string): Promise<void> {
    await this.#until((ctx) => revokeAgent(ctx, agentId));
  }

  /** Asks until there is an answer; undefined when that is a refusal. */
  async #until<Answer>(verb: (ctx: UserCtx) => Promise<Answer>): Promise<Answer | undefined> {
    const { edge, time, chance } = this.#ports;
    for (;;) {
      const asked = verb(edge.worker.request(this.#admin)).then(
        (answer) => ({ answer }),
        (error: unknown) => {
          if (error instanceof Refusal && errors[error.code].status < 500) return { answer: undefined };
          throw error;
        },
      );
      const said = await within(time, answerMs, asked);
      if (said !== undefined) return said.answer;
      await time.sleep(againMs * (0.5 + chance.next()));
    }
  }

  /** An isolate of the Worker is gone with what it remembers of rights. */
  forget(): void {
    for (const { userId } of [...this.tokens, this.owner]) forgetActors(userId);
  }

  /** Whom the Worker takes in otherwise than D1 wants it; for a world at rest. */
  async faults(): Promise<string[]> {
    const { edge, time } = this.#ports;
    const found: string[] = [];
    for (const { id, text } of [...this.tokens, this.owner]) {
      const said = await authenticateToken(edge.worker.request(this.#admin), text).then(
        () => 'in',
        (error: unknown) => (error instanceof Refusal && error.code === 'auth_revoked' ? 'out' : String(error)),
      );
      const sinceMs = edge.worker.outSinceMs(id);
      // What somebody asked for in the storm may come only now, and everybody has time to hear of it.
      if (sinceMs !== undefined && time.nowMs - sinceMs <= outWithinMs) continue;
      const wanted = sinceMs === undefined ? 'in' : 'out';
      if (said !== wanted) found.push(`[A3] ${id} is ${wanted} and is told ${said}`);
    }
    return found;
  }
}
