/**
 * The Durable Object `ControlHub`, one for about 128 agents: a shell that gives the hub's core its sockets, clock and
 * doors. It stores nothing; its alarm only says that reports wait to be written.
 */
import { DurableObject } from 'cloudflare:workers';
import type { Intent } from '../../schema/protocol/intents.ts';
import { tunnelProtocol } from '../../schema/protocol/limits.ts';
import { systemClock, systemTimers } from '../platform/clock.ts';
import { readConfig } from '../platform/config.ts';
import { machine } from '../platform/draining.ts';
import { consoleLog } from '../platform/log.ts';
import { ledgerObject } from '../platform/objects.ts';
import { redisOf } from '../platform/redis.ts';
import { type AgentReport, writeAgentReports } from './agent-reports.ts';
import { ControlHub as Core, type ControlState } from './control-hub.ts';
import { answerClose, HubSockets, upgraded } from './hub-socket.ts';
import { Newcomers } from './newcomers.ts';
import { type AgentLiveness, type AgentSocketClaim, type CallOutcome, type ControlHubRpc, hubHeaders } from './rpc.ts';

const reportsMs = 60_000;
/** Of all hubs in this isolate. */
const newcomers = new Newcomers(
  { atOnce: 32, quietMs: 1_000, mostWaitMs: 3_000 },
  { clock: systemClock, timers: systemTimers },
);

export class ControlHub extends DurableObject<Env> implements ControlHubRpc {
  readonly #sockets: HubSockets<ControlState>;
  readonly #core: Core;
  readonly #log = consoleLog({ controlHub: this.ctx.id.name });
  #armed = false;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    const hub = ctx.id.name ?? '';
    this.#sockets = new HubSockets(ctx);
    const ports = {
      hub,
      clock: systemClock,
      timers: systemTimers,
      log: this.#log,
      ledger: (groupNumber: number) => ledgerObject(env, groupNumber),
      armReports: () => this.#arm(),
      writeReports: (reports: readonly AgentReport[]) => writeAgentReports(redisOf(env), hub, reports),
    };
    this.#core = new Core(ports, this.#sockets.all());
  }

  override async fetch(request: Request): Promise<Response> {
    const claim = request.headers.get(hubHeaders.agent);
    if (claim === null) return new Response(null, { status: 403 });
    if (readConfig(this.env).layout === 'machine') machine.controlHubs.add(this.ctx.id.name ?? '');
    const { agentId, groupNumber } = JSON.parse(claim) as AgentSocketClaim;
    const { 0: client, 1: server } = new WebSocketPair();
    const socket = await newcomers.open(() => {
      const openedAtMs = systemClock.nowMs();
      return this.#sockets.accept(server, {
        agentId,
        groupNumber,
        phase: 'greeting',
        epoch: 0,
        openedAtMs,
        reportDirty: false,
      });
    });
    this.#core.opened(socket);
    return upgraded(client, tunnelProtocol);
  }

  override webSocketMessage(socket: WebSocket, message: ArrayBuffer | string): void {
    const known = this.#sockets.find(socket);
    if (known) this.#core.message(known, message);
  }

  override webSocketClose(socket: WebSocket, code: number, reason: string): void {
    answerClose(socket, code, reason);
    this.#gone(socket);
  }

  override webSocketError(socket: WebSocket): void {
    this.#gone(socket);
  }

  override async alarm(): Promise<void> {
    this.#armed = false;
    try {
      await this.#core.flushReports();
    } catch (error) {
      // They stay dirty: the next minute writes them.
      this.#log.warn('reports could not be written', { error: String(error) });
      this.#arm();
    }
  }

  sendIntents(agentId: string, epoch: number, intents: Intent[]): Promise<'sent' | 'not_sent'> {
    return Promise.resolve(this.#core.sendIntents(agentId, epoch, intents));
  }

  call(agentId: string, callId: string, op: string, input: unknown, deadlineMs: number): Promise<CallOutcome> {
    return this.#core.call(agentId, callId, op, input, deadlineMs);
  }

  liveness(agentIds: string[]): Promise<Record<string, AgentLiveness>> {
    return Promise.resolve(this.#core.liveness(agentIds));
  }

  fence(agentId: string, epoch: number): Promise<void> {
    this.#core.fence(agentId, epoch);
    return Promise.resolve();
  }

  dial(
    agentId: string,
    epoch: number,
    purpose: 'interactive' | 'bulk',
    dataHub: string,
    dataTicket: string,
  ): Promise<boolean> {
    return Promise.resolve(this.#core.dial(agentId, epoch, { purpose, dataHub, dataTicket }));
  }

  drain(): Promise<void> {
    this.#core.drain('restarting');
    return Promise.resolve();
  }

  #gone(socket: WebSocket): void {
    const known = this.#sockets.find(socket);
    if (!known) return;
    this.#sockets.forget(socket);
    this.#core.closed(known);
  }

  #arm(): void {
    if (this.#armed) return;
    this.#armed = true;
    void this.ctx.storage.setAlarm(systemClock.nowMs() + reportsMs);
  }
}
