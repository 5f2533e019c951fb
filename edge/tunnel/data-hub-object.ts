/**
 * The Durable Object `DataHub`, one for each agent in production, one of 64 shards on one machine: a shell that gives the
 * hub's core its sockets, clock and doors. It stores nothing.
 */
import { DurableObject } from 'cloudflare:workers';
import { parseSessionId } from '../../schema/ids.ts';
import { clientProtocol, closeCodes, tunnelProtocol } from '../../schema/protocol/limits.ts';
import { checkAccess } from '../http/access.ts';
import { uploadedKeys } from '../manager/ssh-keys/service.ts';
import { systemClock, systemTimers } from '../platform/clock.ts';
import { readConfig } from '../platform/config.ts';
import { machine } from '../platform/draining.ts';
import { consoleLog } from '../platform/log.ts';
import { controlHubObject, ledgerObject } from '../platform/objects.ts';
import { systemRandom } from '../platform/random.ts';
import { DataHub as Core } from './data-hub.ts';
import { answerClose, HubSockets, upgraded } from './hub-socket.ts';
import type { DataSocket } from './links.ts';
import {
  type AgentSocketClaim,
  type ClientSocketClaim,
  type DataHubRpc,
  type DataHubStatus,
  hubHeaders,
} from './rpc.ts';
import { verifyDataTicket } from './tickets.ts';

export class DataHub extends DurableObject<Env> implements DataHubRpc {
  readonly #sockets: HubSockets<DataSocket['state']>;
  readonly #core: Core;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    const hub = ctx.id.name ?? '';
    this.#sockets = new HubSockets(ctx);
    const ports = {
      hub,
      clock: systemClock,
      timers: systemTimers,
      random: systemRandom,
      log: consoleLog({ dataHub: hub }),
      checkAccess: (principals: Parameters<typeof checkAccess>[1]) => checkAccess(env, principals),
      uploadedKeys: (userId: string) => uploadedKeys(env, userId, systemClock.nowMs()),
      controlHub: (name: string) => controlHubObject(env, name),
      route: (sessionId: string) => ledgerObject(env, parseSessionId(sessionId)?.groupNumber ?? 0).route(sessionId),
      ticketEpoch: (ticket: string, agentId: string) =>
        verifyDataTicket(readConfig(env).keys, ticket, { agentId, hub }),
    };
    this.#core = new Core(ports, this.#sockets.all());
  }

  override fetch(request: Request): Response {
    const agent = request.headers.get(hubHeaders.agent);
    const client = request.headers.get(hubHeaders.client);
    if (readConfig(this.env).layout === 'machine') machine.dataHubs.add(this.ctx.id.name ?? '');
    const { 0: theirs, 1: ours } = new WebSocketPair();
    if (agent !== null) {
      this.#open(ours, this.#core.agentState(JSON.parse(agent) as AgentSocketClaim));
      return upgraded(theirs, tunnelProtocol);
    }
    if (client === null) return new Response(null, { status: 403 });
    this.#open(ours, this.#core.clientState(JSON.parse(client) as ClientSocketClaim));
    return upgraded(theirs, clientProtocol);
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

  fence(agentId: string, epoch: number): Promise<void> {
    this.#core.fence(agentId, epoch);
    return Promise.resolve();
  }

  status(): Promise<DataHubStatus> {
    return Promise.resolve(this.#core.status());
  }

  drain(): Promise<void> {
    for (const socket of this.#sockets.all()) socket.close(closeCodes.goingAway, 'restarting');
    return Promise.resolve();
  }

  #open(socket: WebSocket, state: DataSocket['state']): void {
    this.#core.opened(this.#sockets.accept(socket, state));
  }

  #gone(socket: WebSocket): void {
    const known = this.#sockets.find(socket);
    if (!known) return;
    this.#sockets.forget(socket);
    this.#core.closed(known);
  }
}
