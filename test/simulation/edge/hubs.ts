/** The production hubs in objects of a simulated edge: their sockets outlive their memory. */
import { ControlHub, type ControlState } from '../../../edge/tunnel/control-hub.ts';
import { DataHub, type DataHubPorts } from '../../../edge/tunnel/data-hub.ts';
import type { HubSocket } from '../../../edge/tunnel/hub-socket.ts';
import type { DataSocket } from '../../../edge/tunnel/links.ts';
import type { AgentSocketClaim, ControlHubRpc, DataHubRpc, DataHubStatus } from '../../../edge/tunnel/rpc.ts';
import type { LedgerRpc } from '../../../edge/manager/scheduler/rpc.ts';
import { copyOf } from '../../../edge/platform/undo-map.ts';
import { closeCodes } from '../../../schema/protocol/limits.ts';
import { parseSessionId } from '../../../schema/ids.ts';
import type { Clock, Log, Random } from '../../../schema/ports.ts';
import type { Link } from './links.ts';
import type { Instance, Waking } from './objects.ts';
import type { WatchLedger } from './watch.ts';

export interface HubInstance extends Instance {
  opened(link: Link, state: unknown): void;
  agentState?(claim: AgentSocketClaim): DataSocket['state'];
  clientState?(claim: Parameters<DataHub['clientState']>[0]): DataSocket['state'];
  message(link: Link, message: ArrayBuffer): void;
  closed(link: Link): void;
  status?(): DataHubStatus;
}

export interface HubPorts {
  clock: Clock;
  log: Log;
  random: Random;
  /** Sockets that are there at the wake. */
  links: Iterable<Link>;
  watch: WatchLedger;
  ledger: (groupNumber: number) => LedgerRpc;
  controlHub: (name: string) => ControlHubRpc;
  checkAccess: (...given: Parameters<DataHubPorts['checkAccess']>) => ReturnType<DataHubPorts['checkAccess']>;
  /** A client is given bytes. */
  clientHears: (tokenId: string, bytes: Uint8Array) => void;
  ticketEpoch: (ticket: string, agentId: string, hub: string) => number | undefined;
}

const reportsMs = 60_000;

export function wakeControlHub(name: string, { timers, setAlarm, alarmMs }: Waking, ports: HubPorts): HubInstance {
  const { clock, log, watch, ledger } = ports;
  let armed = alarmMs !== null;
  const arm = () => {
    if (armed) return;
    armed = true;
    setAlarm(clock.nowMs() + reportsMs);
  };
  const { sockets, find } = hubSockets<ControlState>(ports.links, ({ agentId, groupNumber }, bytes) =>
    watch.hubSays(agentId, groupNumber, bytes),
  );
  const core = new ControlHub(
    { hub: name, clock, timers, log, ledger, armReports: arm, writeReports: () => Promise.resolve() },
    sockets,
  );
  const rpc: ControlHubRpc = {
    sendIntents: async (agentId, epoch, intents) => core.sendIntents(agentId, epoch, intents),
    call: (agentId, callId, op, input, deadlineMs) => core.call(agentId, callId, op, input, deadlineMs),
    liveness: async (agentIds) => core.liveness(agentIds),
    fence: async (agentId, epoch) => core.fence(agentId, epoch),
    dial: async (agentId, epoch, purpose, dataHub, dataTicket) =>
      core.dial(agentId, epoch, { purpose, dataHub, dataTicket }),
    drain: async () => core.drain('restarting'),
  };
  return {
    rpc,
    alarm: async () => {
      armed = false;
      await core.flushReports().catch(arm);
    },
    opened: (link, state) => core.opened(find(link, state as ControlState)),
    message: (link, message) => core.message(find(link), message),
    closed: (link) => core.closed(find(link)),
  };
}

export function wakeDataHub(name: string, { timers }: Waking, ports: HubPorts): HubInstance {
  const { clock, log, random, ledger, controlHub, checkAccess } = ports;
  const { sockets, find, all } = hubSockets<DataSocket['state']>(ports.links, (state, bytes) => {
    if (state.kind === 'client') ports.clientHears(state.claim.principal.tokenId, bytes);
  });
  const core = new DataHub(
    {
      hub: name,
      clock,
      timers,
      random,
      log,
      checkAccess,
      controlHub,
      uploadedKeys: () => Promise.resolve([]),
      route: (sessionId) => ledger(parseSessionId(sessionId)?.groupNumber ?? 0).route(sessionId),
      ticketEpoch: (ticket, agentId) => ports.ticketEpoch(ticket, agentId, name),
    },
    sockets,
  );
  const rpc: DataHubRpc = {
    fence: async (agentId, epoch) => core.fence(agentId, epoch),
    status: async () => core.status(),
    drain: async () => {
      for (const socket of all()) socket.close(closeCodes.goingAway, 'restarting');
    },
  };
  return {
    rpc,
    opened: (link, state) => core.opened(find(link, state as DataSocket['state'])),
    agentState: (claim) => core.agentState(claim),
    clientState: (claim) => core.clientState(claim),
    message: (link, message) => core.message(find(link), message),
    closed: (link) => core.closed(find(link)),
    status: () => core.status(),
  };
}

/** The sockets of an object at its wake, with the state that their attachments kept. */
function hubSockets<State>(links: Iterable<Link>, says: (state: State, bytes: Uint8Array) => void = () => undefined) {
  const known = new Map<Link, HubSocket<State>>();
  const wrap = (link: Link, state: State): HubSocket<State> => {
    const socket: HubSocket<State> = {
      state,
      keep: () => void (link.attachment = copyOf(state)),
      send: (bytes) => {
        if (bytes instanceof Uint8Array) says(state, bytes);
        link.hubSend(bytes);
      },
      close: (code, reason) => {
        link.attachment = copyOf(state);
        link.hubClose(code, reason);
      },
      lastPongMs: () => link.lastPongMs,
    };
    known.set(link, socket);
    return socket;
  };
  for (const link of links)
    if (link.isHubOpen && link.attachment !== undefined) {
      link.hubWakes();
      wrap(link, copyOf(link.attachment) as State);
    }
  const sockets = [...known.values()];
  const find = (link: Link, fresh?: State): HubSocket<State> => {
    if (fresh === undefined) return known.get(link) ?? wrap(link, copyOf(link.attachment) as State);
    const socket = wrap(link, fresh);
    socket.keep();
    return socket;
  };
  return { sockets, find, all: () => [...known.values()] };
}
