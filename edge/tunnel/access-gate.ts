/**
 * Nothing passes on a client's socket later than 3 s after its access was last seen to hold (SPEC rule S11). One question
 * serves all clients of the hub that want to know; while bytes flow it is asked ahead of time, so that nothing waits.
 */
import type { Clock, Log } from '../../schema/ports.ts';
import { closeCodes, limits } from '../../schema/protocol/limits.ts';
import type { Principal, Verdict } from '../http/access-rpc.ts';
import type { ClientLink } from './links.ts';

export interface AccessGatePorts {
  clock: Clock;
  log: Log;
  checkAccess(principals: readonly Principal[]): Promise<Verdict[]>;
}

/** Asked again at this age, while bytes still pass. */
const refreshMs = limits.accessCheckMs - 1_000;

export class AccessGate {
  readonly #ports: AccessGatePorts;
  readonly #close: (client: ClientLink, code: number, reason: string) => void;
  readonly #wanting = new Set<ClientLink>();
  #asking = false;

  constructor(ports: AccessGatePorts, close: (client: ClientLink, code: number, reason: string) => void) {
    this.#ports = ports;
    this.#close = close;
  }

  /** True when bytes may pass now. Else put what is to be done into `client.stalled`. */
  isOpen(client: ClientLink): boolean {
    const ageMs = this.#ageMs(client.checkedAtMs);
    if (ageMs < refreshMs) return client.stalled.length === 0;
    this.#wanting.add(client);
    if (!this.#asking) void this.#ask();
    return ageMs < limits.accessCheckMs && client.stalled.length === 0;
  }

  async #ask(): Promise<void> {
    this.#asking = true;
    while (this.#wanting.size > 0) {
      const clients = [...this.#wanting];
      this.#wanting.clear();
      const askedAtMs = this.#ports.clock.nowMs();
      try {
        const verdicts = await this.#ports.checkAccess(clients.map(({ state }) => state.claim.principal));
        for (const [at, client] of clients.entries()) this.#judge(client, verdicts[at], askedAtMs);
      } catch (error) {
        this.#ports.log.warn('access could not be checked', { error: String(error) });
        for (const client of clients) this.#giveUp(client);
      }
    }
    this.#asking = false;
  }

  #judge(client: ClientLink, verdict: Verdict | undefined, askedAtMs: number): void {
    if (verdict === 'ok') {
      client.checkedAtMs = askedAtMs;
      client.stalledMessages = 0;
      for (const task of client.stalled.splice(0)) task();
    } else if (verdict === 'revoked') this.#close(client, closeCodes.revoked, 'auth_revoked');
    else this.#close(client, closeCodes.moved, 'access changed');
  }

  /** Who has waited too long is sent away to be judged anew; the others ask again with their next byte. */
  #giveUp(client: ClientLink): void {
    if (this.#ageMs(client.checkedAtMs) >= limits.accessCheckMs)
      this.#close(client, closeCodes.moved, 'access could not be checked');
  }

  /** A clock that was set back tells nothing of how old a check is: it counts as too old. */
  #ageMs(checkedAtMs: number): number {
    const ageMs = this.#ports.clock.nowMs() - checkedAtMs;
    return ageMs >= 0 ? ageMs : Number.POSITIVE_INFINITY;
  }
}
