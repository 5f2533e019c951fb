/**
 * Keeps containers away from their host: what comes from the agent's pool of addresses opens no connection to the host
 * itself, and none to link-local addresses, where clouds keep the credentials of the machine. Rules of the host's packet
 * filter, by source address, which containers can not forge (they have no raw sockets). It never takes a rule away: they
 * are worth nothing without the pool, and containers outlive the agent.
 */
import { guardChain, linkLocal } from '../../schema/guard.ts';
import type { Log } from '../../schema/ports.ts';
import type { Finding } from '../capacity/problems.ts';
import { overlaps, parseCidr, parseRoutes } from './subnets.ts';

export interface HostGuardOptions {
  /** CIDR of all networks of sessions. */
  pool: string;
  /** The host's routing table. */
  readRoutes(): Promise<string>;
  /** Runs `iptables` with these arguments; resolves with what it said when it failed. */
  iptables(args: readonly string[]): Promise<string | undefined>;
  log: Log;
}

const refuse = ['-j', 'REJECT'];

export class HostGuard {
  readonly #options: HostGuardOptions;
  #problem: string | undefined;
  #isSet = false;

  constructor(options: HostGuardOptions) {
    this.#options = options;
  }

  /** That containers may reach the host, and why; empty when they do not. */
  get findings(): Finding[] {
    return this.#problem === undefined ? [] : [{ code: 'host_open', detail: this.#problem, degrades: false }];
  }

  /** Resolves when the rules stand, or can not be set. Call it before the first container of a network that was just made. */
  async ensure(subnet: string): Promise<void> {
    if (!this.#isSet && (await this.#isHere(subnet))) await this.#set();
  }

  /** Sets what somebody else took away meanwhile: a firewall that was loaded anew. */
  async check(): Promise<void> {
    if (this.#isSet || this.#problem !== undefined) await this.#set();
  }

  /** False when the engine has a network of its own, where rules of ours would guard nothing. */
  async #isHere(subnet: string): Promise<boolean> {
    const mine = parseCidr(subnet);
    const routes = parseRoutes(await this.#options.readRoutes());
    return mine !== undefined && routes.some((route) => overlaps(route, mine));
  }

  async #set(): Promise<void> {
    const { pool } = this.#options;
    const from = ['-s', pool];
    const before = this.#problem;
    const failed =
      (await this.#chain()) ??
      // Answers to what the host asks of a container pass.
      (await this.#rule('-A', guardChain, [
        ...from,
        '-m',
        'conntrack',
        '--ctstate',
        'ESTABLISHED,RELATED',
        '-j',
        'RETURN',
      ])) ??
      (await this.#rule('-A', guardChain, [...from, ...refuse])) ??
      (await this.#rule('-I', 'INPUT', ['-j', guardChain])) ??
      (await this.#forward([...from, '-d', linkLocal, ...refuse]));
    this.#isSet = failed === undefined;
    this.#problem =
      failed === undefined
        ? undefined
        : `Containers reach what listens on this host: its packet filter could not be set (${failed}). Run the agent as ` +
          `root, or set it yourself: iptables -I INPUT -s ${pool} -j REJECT`;
    if (this.#problem !== undefined && this.#problem !== before) this.#options.log.warn(this.#problem);
  }

  async #chain(): Promise<string | undefined> {
    if ((await this.#run(['-n', '-L', guardChain])) === undefined) return undefined;
    return this.#run(['-N', guardChain]);
  }

  /** The engine's own rules stand before everything in FORWARD but this chain of its users. */
  async #forward(rule: readonly string[]): Promise<string | undefined> {
    const users = (await this.#run(['-n', '-L', 'DOCKER-USER'])) === undefined;
    return this.#rule('-I', users ? 'DOCKER-USER' : 'FORWARD', rule);
  }

  async #rule(how: '-A' | '-I', where: string, rule: readonly string[]): Promise<string | undefined> {
    if ((await this.#run(['-C', where, ...rule])) === undefined) return undefined;
    return this.#run([how, where, ...rule]);
  }

  #run(args: readonly string[]): Promise<string | undefined> {
    return this.#options.iptables(['-w', ...args]);
  }
}
