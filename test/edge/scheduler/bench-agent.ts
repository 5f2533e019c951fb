/**
 * An agent in front of a ledger's own door: what a control hub would say for it. The hub of these agents has no socket, so
 * tests hand out intents with the attach, and events as an agent would number them.
 */
import { runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { vi } from 'vitest';
import { ControlHub } from '../../../edge/tunnel/control-hub-object.ts';
import { systemRandom } from '../../../edge/platform/random.ts';
import { ledgerObject } from '../../../edge/platform/objects.ts';
import type { AttachAnswer, LedgerRpc } from '../../../edge/manager/scheduler/rpc.ts';
import { newAgentId, newId } from '../../../schema/ids.ts';
import type { AgentEvent } from '../../../schema/protocol/events.ts';
import type { Slots, ToEdgeHello } from '../../../schema/protocol/messages.ts';

const gib = 1024 ** 3;
export const bigSlots: Slots = { cpu: 16_000, mem: 64 * gib };

/** Has the hub say that it handed everything on, and that every agent is there: what a hub with sockets would say. */
export function haveHubSayAlive(agents: readonly BenchAgent[]): { calls: () => number } {
  const sent = vi.spyOn(ControlHub.prototype, 'sendIntents').mockResolvedValue('sent');
  const asked = vi
    .spyOn(ControlHub.prototype, 'liveness')
    .mockImplementation((ids) =>
      Promise.resolve(
        Object.fromEntries(
          agents
            .filter(({ agentId }) => ids.includes(agentId))
            .map(({ agentId, epoch }) => [agentId, { epoch, silentMs: 0, closing: false }]),
        ),
      ),
    );
  return { calls: () => sent.mock.calls.length + asked.mock.calls.length };
}

export class BenchAgent {
  readonly agentId: string;
  readonly ledger: LedgerRpc;
  readonly journalId = newId('journal', Date.now(), systemRandom.bytes(10));
  readonly groupNumber: number;
  epoch = 0;
  counter = 0;
  index = 0;
  #telling: Promise<void> = Promise.resolve();

  constructor(groupNumber: number) {
    this.groupNumber = groupNumber;
    this.agentId = newAgentId(Date.now(), systemRandom.bytes(10), groupNumber);
    this.ledger = ledgerObject(env, groupNumber);
  }

  async enrol(approved: Slots = bigSlots): Promise<void> {
    await this.ledger.putAgent(this.groupNumber, {
      agentId: this.agentId,
      name: 'bench',
      controlHub: 'bench-hub',
      approved,
      state: 'active',
      draining: false,
      approval: 1,
    });
  }

  /** Says hello with the next join counter. */
  async attach(inventory: ToEdgeHello['inventory'] = []): Promise<Extract<AttachAnswer, { accepted: true }>> {
    this.counter += 1;
    const hello: ToEdgeHello = {
      type: 'hello',
      version: 1,
      minVersion: 1,
      agentVersion: 'test',
      counter: this.counter,
      attemptId: newId('attempt', Date.now(), systemRandom.bytes(10)),
      journalId: this.journalId,
      capacity: bigSlots,
      host: { hostname: 'bench', os: 'test', kernel: 'test', arch: 'x86_64', engine: 'none' },
      inventory,
      images: [],
    };
    const answer = await this.ledger.attach(this.agentId, 'bench-hub', hello, Date.now());
    if (!answer.accepted) throw new Error(`refused: ${answer.code} ${answer.detail}`);
    this.epoch = answer.epoch;
    return answer;
  }

  /** Ids of the intents of a session that the agent has not acknowledged. */
  openIntents(sessionId: string): Promise<string[]> {
    return runInDurableObject(env.LEDGER.getByName(String(this.groupNumber)), (_, { storage }) =>
      storage.sql
        .exec<{ intent_id: string }>('SELECT intent_id FROM intents WHERE session_id = ?', sessionId)
        .toArray()
        .map((row) => row.intent_id),
    );
  }

  /** Acknowledges intents. */
  async acknowledge(intentIds: string[]): Promise<void> {
    await this.ledger.intentsAcked(this.agentId, this.epoch, intentIds);
  }

  /** Tells one thing about a session: one after the other, as a hub does for a socket. */
  tell(sessionId: string, generation: number, body: AgentEvent['body']): Promise<void> {
    const told = this.#telling.then(async () => {
      this.index += 1;
      const event = { sessionId, generation, atMs: Date.now(), body };
      const events = [{ index: this.index, event }];
      const answer = await this.ledger.events(this.agentId, this.epoch, this.journalId, events);
      if (answer === 'stale' || answer.ackedIndex !== this.index) throw new Error('the event was not taken');
    });
    this.#telling = told.catch(() => {});
    return told;
  }
}
