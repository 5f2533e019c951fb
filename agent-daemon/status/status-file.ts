/**
 * What the agent would say if asked, in a file of its state directory (`status.json`, 0600): readable without the edge,
 * without a socket, and after the agent's death. Replaced as a whole when something changed, at least every minute, so
 * that whoever reads it can tell by `atMs` and `pid` whether it is still true. Holds no secret.
 */
import { join } from 'node:path';
import type { Clock, Log } from '../../schema/ports.ts';
import type { Disk } from '../disk.ts';
import type { Host } from '../host.ts';
import type { Loop, LoopState, Loops } from '../loops.ts';
import type { InitTransport } from '../init/link-options.ts';
import type { HostInfo, Report, Slots } from '../../schema/protocol/messages.ts';

export interface AgentStatus {
  version: string;
  agentId: string | undefined;
  url: string;
  tunnel: { state: 'connecting' | 'connected' | 'refused' | 'stopped'; detail?: string; epoch?: number };
  host: HostInfo;
  capacity: Slots;
  /** Use, health and problems as last measured. */
  report: Report | undefined;
  sessions: { sessionId: string; generation: number; state: string; name: string; image: string }[];
  outputBytes: number;
  /** How inits of new containers are reached; absent until that was tried. */
  transport: InitTransport | undefined;
  /** Loops that failed or hang. */
  loops: LoopState[];
  /** What this host can not do, in words. */
  limits: string[];
}

export interface StatusFilePorts {
  clock: Clock;
  disk: Disk;
  host: Pick<Host, 'pid'>;
  loops: Loops;
  log: Log;
}

export const statusFileName = 'status.json';
const lookEveryMs = 2_000;
const rewriteEveryMs = 60_000;

export class StatusFile {
  readonly #path: string;
  readonly #ports: StatusFilePorts;
  readonly #read: () => AgentStatus;
  #written = '';
  #writtenAtMs = 0;
  #loop: Loop | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(stateDir: string, ports: StatusFilePorts, read: () => AgentStatus) {
    this.#path = join(stateDir, statusFileName);
    this.#ports = ports;
    this.#read = read;
  }

  start(): void {
    this.#loop = this.#ports.loops.every('status file', lookEveryMs, () => this.#writeIfChanged());
  }

  /** Writes the last word. */
  async stop(): Promise<void> {
    await this.#loop?.stop();
    this.#writeIfChanged();
    await this.#writing;
  }

  #writeIfChanged(): void {
    const { clock } = this.#ports;
    const bootMs = clock.bootMs();
    const text = JSON.stringify(this.#read());
    if (text === this.#written && bootMs - this.#writtenAtMs < rewriteEveryMs) return;
    this.#written = text;
    this.#writtenAtMs = bootMs;
    const nowMs = clock.nowMs();
    this.#writing = this.#writing.then(() => this.#replace(text, nowMs));
  }

  async #replace(text: string, atMs: number): Promise<void> {
    try {
      const { disk, host } = this.#ports;
      const whole = { pid: host.pid, atMs, ...(JSON.parse(text) as object) };
      await disk.writeFile(`${this.#path}.new`, `${JSON.stringify(whole, undefined, 2)}\n`, { mode: 0o600 });
      await disk.rename(`${this.#path}.new`, this.#path);
    } catch (error) {
      this.#ports.log.warn('the status file could not be written', { error: String(error) });
    }
  }
}
