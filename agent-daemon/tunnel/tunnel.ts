/**
 * Keeps the agent connected: dials the control socket for ever with full jitter (SPEC rule M12), hands what arrives to the
 * queue, the calls and the data sockets, and carries what handlers record to the edge. Its loop can not die silently: a
 * fault is logged and the loop goes on; a loop that hangs is cut by its watchdog.
 */
import type { AgentFailpoint } from '../../schema/failpoints.ts';
import type { Failpoints, Random } from '../../schema/ports.ts';
import { Redial } from '../../schema/protocol/backoff.ts';
import { closeCodes } from '../../schema/protocol/limits.ts';
import type { Report } from '../../schema/protocol/messages.ts';
import { findWayError, reachedNobody } from '../../wire/way-error.ts';
import type { Handlers, Services, Workload } from '../dispatch.ts';
import { pause, timeLimit } from '../deadline.ts';
import { Calls } from './calls.ts';
import { type DataPorts, DataSockets } from './data.ts';
import { ControlConnection, type ControlDeps, type ControlEnd } from './control.ts';
import { badgeShown, EdgeRefusal, type Post } from './edge-api.ts';
import { authorization } from './signed.ts';
import { buildHello, fitImages } from './hello.ts';
import type { Identity, Membership } from './identity.ts';
import { IntentQueue } from './intents.ts';
import type { Journal } from './journal.ts';
import { PingLeases } from './leases.ts';
import { ProgressGate } from './progress-gate.ts';
import { Watchdog } from './watchdog.ts';

export interface TunnelPorts extends DataPorts {
  random: Random;
  failpoints: Failpoints<AgentFailpoint>;
  post: Post;
  /** The loop hangs and could not be cut. */
  hung(): void;
}

const dialMs = 30_000;
/** Calls under way get this long before the agent restarts. */
const drainMs = 10_000;
/** Between tries after a refusal that only a person lifts. */
const refusedMs = 30_000;
const beatEveryMs = 30_000;

interface Started {
  workload: Workload;
  intents: IntentQueue;
  calls: Calls;
  data: DataSockets;
}

/** State of the connection, for the local status. */
export interface TunnelStatus {
  state: 'connecting' | 'connected' | 'refused' | 'stopped';
  detail?: string;
  epoch?: number;
  dataSockets: { purpose: string; streams: number; heldBytes: number }[];
}

export class Tunnel {
  readonly services: Services;
  readonly #ports: TunnelPorts;
  readonly #identity: Identity;
  readonly #journal: Journal;
  readonly #leases: PingLeases;
  readonly #gate = new ProgressGate();
  #started: Started | undefined;
  #connection: ControlConnection | undefined;
  #cut = new AbortController();
  readonly #stopping = new AbortController();
  #loop: Promise<void> | undefined;
  #watchdog: Watchdog | undefined;
  #report: Report | undefined;
  #pingMs: number | undefined;
  #status: Omit<TunnelStatus, 'dataSockets'> = { state: 'connecting' };

  constructor(ports: TunnelPorts, identity: Identity, journal: Journal) {
    this.#ports = ports;
    this.#identity = identity;
    this.#journal = journal;
    this.#leases = new PingLeases(ports.clock);
    this.services = {
      ...ports,
      leases: this.#leases,
      recordEvent: async (event) => {
        await ports.failpoints.before('journal.event');
        await journal.recordEvent(event);
        await ports.failpoints.after('journal.event');
        // What is not sent now goes with the next event, ping or socket.
        if (!ports.failpoints.unknown('journal.event')) this.#connection?.sendEvents();
      },
      progress: (progress) => {
        if (this.#gate.passes(progress.sessionId, progress.phase, ports.clock.bootMs()))
          this.#connection?.offer({ type: 'progress', ...progress });
      },
      report: (report) => {
        this.#report = report;
        this.#sendReport().catch((error: unknown) => this.#noticed('report', error));
      },
      imagesChanged: () => {
        this.#sendImages().catch((error: unknown) => this.#noticed('images', error));
      },
    };
  }

  /** How long the answer to the last ping took, ms. */
  get pingMs(): number | undefined {
    return this.#pingMs;
  }

  get status(): TunnelStatus {
    return { ...this.#status, dataSockets: this.#started?.data.status() ?? [] };
  }

  /** This socket was accepted, carried a report, and answered after it. */
  get proven(): boolean {
    return this.#connection?.proven ?? false;
  }

  /** Resolves when no call waits for its answer, after a while in any case. */
  async drain(): Promise<void> {
    await Promise.race([
      this.#started?.calls.idle(),
      new Promise<void>((resolve) => void this.#ports.timers.after(drainMs, resolve)),
    ]);
  }

  /** Takes up what an earlier run left and dials. The agent must be enrolled. */
  start(membership: Membership, workload: Workload, handlers: Handlers): void {
    const ports = this.#ports;
    const intents = new IntentQueue(this.#journal, handlers.intents, ports);
    const state = {
      liveSessions: () => workload.liveSessions(),
      isConnected: () => this.#connection?.live === true,
    };
    const data = new DataSockets(membership.agentId, handlers.streams, state, ports);
    this.#started = { workload, intents, calls: new Calls(handlers.calls, ports), data };
    this.#watchdog = new Watchdog(
      ports,
      () => this.#cut.abort(new Error('cut by the watchdog')),
      () => ports.hung(),
    );
    intents.resume();
    this.#loop = this.#run(this.#started);
  }

  /** Closes the sockets and ends the loop. Containers are not touched. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the agent stops'));
    this.#watchdog?.stop();
    this.#started?.intents.stop();
    this.#started?.data.stop();
    this.#connection?.close(closeCodes.goingAway, 'the agent stops');
    await this.#loop;
    this.#status = { state: 'stopped' };
  }

  async #run(started: Started): Promise<void> {
    const { signal } = this.#stopping;
    const { clock, random } = this.#ports;
    const redial = new Redial();
    while (!signal.aborted) {
      this.#watchdog?.beat();
      this.#cut = new AbortController();
      let leastMs = 0;
      let goAwayMs: number | undefined;
      let isNobodyThere = false;
      let isSentAway = false;
      try {
        const end = await this.#connectOnce(started, redial, AbortSignal.any([signal, this.#cut.signal]));
        if (end.acceptedMs > 0) redial.lost(end.acceptedMs, clock.bootMs(), end.wasReset && !this.#cut.signal.aborted);
        goAwayMs = end.goAwayMs;
        leastMs = this.#describeEnd(end);
      } catch (error) {
        leastMs = this.#describeFailure(error);
        isNobodyThere = reachedNobody(error);
        isSentAway = error instanceof EdgeRefusal && error.isAppointment;
      } finally {
        this.#connection = undefined;
      }
      if (signal.aborted) break;
      const waitMs = isSentAway ? 0 : redial.waitMs(clock.bootMs(), random.fraction(), isNobodyThere);
      await this.#wait(goAwayMs ?? Math.max(leastMs, waitMs), signal);
    }
  }

  /** One dial and all that follows, to the end of the socket. */
  async #connectOnce(started: Started, redial: Redial, cut: AbortSignal): Promise<ControlEnd> {
    const limit = timeLimit(this.#ports.timers, dialMs, cut);
    const { socket, connection } = await this.#dial(started, limit.signal).finally(limit.cancel);
    this.#connection = connection;
    if (socket.spreadMs !== undefined) redial.spread(socket.spreadMs);
    this.#identity.badge = socket.badge;
    const abort = () => socket.destroy();
    // A stop that came during the dial has been told to nobody.
    if (cut.aborted) abort();
    cut.addEventListener('abort', abort, { once: true });
    connection.start(socket.spreadMs);
    return connection.ended.finally(() => cut.removeEventListener('abort', abort));
  }

  async #dial({ workload, intents, calls, data }: Started, signal: AbortSignal) {
    const ports = this.#ports;
    const url = ports.url();
    const signed = await authorization(ports, this.#identity, signal);
    const attempt = await this.#identity.nextAttempt();
    const deps: ControlDeps = {
      ...ports,
      fraction: () => ports.random.fraction(),
      journal: this.#journal,
      intents,
      calls,
      leases: this.#leases,
      hello: await buildHello(workload, attempt, this.#journal),
      retell: () => workload.retell(),
      welcomed: async (welcome) => {
        this.#identity.markAccepted(attempt);
        this.#status = { state: 'connected', epoch: welcome.epoch };
        ports.log.info('connected', { epoch: welcome.epoch });
        data.rebind(welcome.epoch, welcome.dataTicket);
        await workload.reconcile(welcome.answer);
        await this.#sendReport();
      },
      dial: (order) => data.dial(order),
      beat: () => this.#watchdog?.beat(),
      pinged: (tookMs) => (this.#pingMs = tookMs),
    };
    let connection!: ControlConnection;
    const headers = { authorization: signed, ...badgeShown(this.#identity.badge) };
    const request = { url: `${url}/agent/v1/tunnel?purpose=control`, headers, signal };
    const socket = await ports.dial(request, (opened) => (connection = new ControlConnection(opened, deps)));
    return { socket, connection };
  }

  /** Milliseconds to wait at least. */
  #describeEnd(end: ControlEnd): number {
    if (end.refused) {
      // What the catalogue says of it now may be another thing.
      this.#identity.badge = undefined;
      this.#status = { state: 'refused', detail: `${end.refused.code}: ${end.refused.detail}` };
      this.#ports.log.error('the edge refused this agent', end.refused);
      return end.refused.retryAfterMs ?? refusedMs;
    }
    this.#status = { state: 'connecting', detail: `the socket closed with ${end.closeCode}` };
    this.#ports.log.warn('the control socket closed', { code: end.closeCode, acceptedMs: end.acceptedMs });
    const lastWord = end.closeCode === closeCodes.revoked || end.closeCode === closeCodes.refused;
    return lastWord ? refusedMs : 0;
  }

  #describeFailure(error: unknown): number {
    // What only a person can change is tried on, slowly: the person may be at the other end.
    const refused = error instanceof EdgeRefusal ? !error.retryable : findWayError(error)?.final === true;
    if (refused) this.#identity.badge = undefined;
    this.#status = { state: refused ? 'refused' : 'connecting', detail: String(error) };
    if (!this.#stopping.signal.aborted) this.#ports.log.warn('the edge was not reached', { error: String(error) });
    const waitMs = error instanceof EdgeRefusal ? error.retryAfterMs : undefined;
    return waitMs ?? (refused ? refusedMs : 0);
  }

  async #sendReport(): Promise<void> {
    const connection = this.#connection;
    if (!this.#report || !connection?.live || !this.#started) return;
    connection.report(this.#report, await this.#started.workload.capacity());
  }

  async #sendImages(): Promise<void> {
    const connection = this.#connection;
    if (!connection?.live || !this.#started) return;
    connection.offer({ type: 'images', images: fitImages(await this.#started.workload.images()) });
  }

  #noticed(what: string, error: unknown): void {
    this.#ports.log.warn('not told to the edge', { what, error: String(error) });
  }

  async #wait(delayMs: number, signal: AbortSignal): Promise<void> {
    for (let leftMs = delayMs; leftMs >= 0 && !signal.aborted; leftMs -= beatEveryMs) {
      await pause(this.#ports.timers, Math.min(leftMs, beatEveryMs), signal);
      this.#watchdog?.beat();
    }
  }
}
