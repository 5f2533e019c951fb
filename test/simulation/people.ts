/**
 * People of a simulated world, who start and stop sessions and do what clients do: wait for an answer for so long, then ask
 * again with the same key. What they were promised is remembered, for the invariants.
 */
import type { CreateAnswer, SessionRequest } from '../../edge/manager/admission/rpc.ts';
import { newId, parseSessionId } from '../../schema/ids.ts';
import type { KernelSpec } from '../../schema/protocol/intents.ts';
import type { Chance } from './chance.ts';
import type { VirtualTime } from './clock.ts';
import type { SimEdge } from './edge/edge.ts';
import { within } from './client.ts';
import type { Sometimes } from './sometimes.ts';

export interface Domain {
  id: string;
  number: number;
  projects: string[];
}

export interface PeoplePorts {
  time: VirtualTime;
  chance: Chance;
  sometimes: Sometimes;
  edge: SimEdge;
  domains: readonly Domain[];
  groups: readonly number[];
}

/** A session that somebody was told exists. */
export interface Promised {
  sessionId: string;
  spec: KernelSpec;
}

const answerMs = 8_000;
const repeatMs = 1_500;
const attempts = 40;
const mib = 1024 * 1024;

export class People {
  readonly promised = new Map<string, Promised>();
  /** Requests that have no answer yet, or were given up without one: what they made may exist. */
  unanswered = 0;
  asked = 0;
  /** Sessions that somebody wanted to end. */
  readonly stopped = new Set<string>();
  readonly #ports: PeoplePorts;
  /** Most sessions are made for kernels alone. */
  readonly areForKernels: boolean;
  #names = 0;

  constructor(ports: PeoplePorts) {
    this.#ports = ports;
    this.areForKernels = ports.chance.fork('kernels').isTrue(0.25);
  }

  /** Asks for one more session and repeats until there is an answer. */
  create(): void {
    const { chance, domains, groups } = this.#ports;
    const domain = chance.pick(domains)!;
    const projectId = chance.pick(domain.projects)!;
    const spec = this.#drawSpec(projectId);
    this.asked += 1;
    const request: SessionRequest = {
      key: { actorId: spec.ownerId, key: `key-${this.asked}`, bodyHash: 'body' },
      groupNumber: chance.pick(groups)!,
      spec,
      audit: {
        id: this.#id('audit'),
        atMs: this.#ports.edge.clock.nowMs(),
        action: 'session.create',
        outcome: 'done',
        actor: { kind: 'user', id: spec.ownerId },
        address: '192.0.2.1',
        requestId: `req-${this.asked}`,
      },
    };
    void this.#submit(domain, request);
  }

  async #submit(domain: Domain, request: SessionRequest): Promise<void> {
    const { edge, sometimes } = this.#ports;
    this.unanswered += 1;
    for (let attempt = 0; attempt < attempts; attempt += 1) {
      if (attempt > 0) sometimes.reached('a create was repeated with its key');
      const answer = await this.#within(
        edge.admission(String(domain.number)).create({ id: domain.id, number: domain.number }, request),
      );
      if (answer !== undefined) {
        this.unanswered -= 1;
        this.#heard(answer, request.spec);
        return;
      }
      await this.#ports.time.sleep(this.#ports.chance.delayMs(repeatMs));
    }
  }

  #heard(answer: CreateAnswer, spec: KernelSpec): void {
    const { sometimes } = this.#ports;
    if (answer.kind === 'refused') {
      if (answer.code === 'session_name_taken') sometimes.reached('a create was refused for its name');
      if (answer.code === 'session_quota_exceeded') sometimes.reached('a session was refused over the hard limit');
      return;
    }
    const sessionId = answer.kind === 'created' ? answer.session.sessionId : answer.sessionId;
    if (answer.kind === 'created' && answer.session.reason?.code === 'quota_sessions')
      sometimes.reached('a session waited for quota');
    if (!this.promised.has(sessionId)) this.promised.set(sessionId, { sessionId, spec });
  }

  /** Ends somebody's session, as `deleteSession` does, and repeats until it is accepted. */
  stop(force: boolean): void {
    const { chance } = this.#ports;
    const chosen = chance.pick([...this.promised.values()].slice(-40));
    if (!chosen) return;
    this.stopped.add(chosen.sessionId);
    void this.#end(chosen, force);
  }

  async #end({ sessionId }: Promised, force: boolean): Promise<void> {
    const { edge, time, chance, sometimes } = this.#ports;
    const { groupNumber, domainNumber } = parseSessionId(sessionId)!;
    const order = { graceMs: chance.pick([0, 1_000, 10_000])!, force, reason: 'stopped' };
    for (let attempt = 0; attempt < attempts; attempt += 1) {
      let answer = await this.#within(edge.ledger(groupNumber).terminate(sessionId, order));
      if (answer === 'unknown') {
        answer = await this.#within(edge.admission(String(domainNumber)).terminate(sessionId, order));
        if (answer === 'accepted') sometimes.reached('a stop followed a session that was on its way');
      }
      if (answer !== undefined) return;
      await time.sleep(chance.delayMs(repeatMs));
    }
  }

  /** The answer, or undefined when there is none in time: whoever was asked may have done it all the same. */
  #within<Answer>(asked: Promise<Answer>): Promise<Answer | undefined> {
    return within(this.#ports.time, answerMs, asked);
  }

  #drawSpec(projectId: string): KernelSpec {
    const { chance } = this.#ports;
    // Of one shape, so that containers and kernels that were started in advance fit.
    const isForKernels = chance.isTrue(this.areForKernels ? 0.8 : 0.05);
    const isRestartable = !isForKernels && chance.isTrue(0.3);
    this.#names += 1;
    const type = !isForKernels && (isRestartable || chance.isTrue(0.6)) ? 'batch' : 'interactive';
    return {
      kernel: 'main1',
      projectId,
      ownerId: 'usr_00000000000000000000000001',
      name: chance.isTrue(0.1) ? `shared-${chance.integer(1, 3)}` : chance.isTrue(0.5) ? '' : `s-${this.#names}`,
      type,
      image: 'busybox',
      ...(isForKernels ? {} : { command: this.#drawCommand() }),
      env: {},
      stdin: false,
      tty: false,
      slots: isForKernels
        ? { cpu: 500, mem: 256 * mib }
        : { cpu: chance.pick([500, 1000, 2000])!, mem: chance.pick([256, 1024])! * mib },
      ...(chance.isTrue(0.1) ? { timeoutMs: chance.integer(5_000, 120_000) } : {}),
      ...(isRestartable ? { leaseMs: chance.pick([30_000, 60_000])! } : {}),
      output: {
        onFull: chance.isTrue(0.2) ? 'drop' : 'block',
        blockMs: chance.pick([0, 10_000, 600_000])!,
        spoolBytes: chance.pick([64 * 1024, mib])!,
      },
    };
  }

  #drawCommand(): string[] {
    const { chance } = this.#ports;
    const u = chance.next();
    if (u < 0.4) return ['count', String(chance.integer(1, 40)), String(chance.integer(500, 5000))];
    if (u < 0.55) return ['sleep', String(chance.integer(1_000, 300_000))];
    if (u < 0.7) return ['exit', String(chance.integer(0, 3))];
    if (u < 0.85) return ['burst', String(chance.integer(1_000, 300_000))];
    return ['count', '1000000', String(chance.integer(5_000, 30_000))];
  }

  #id(kind: 'audit'): string {
    return newId(kind, this.#ports.edge.clock.nowMs(), this.#ports.chance.port().bytes(10));
  }
}
