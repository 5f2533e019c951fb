/** Measures use and health and offers them to the tunnel, which decides when they travel. One loop, for ever. */
import type { Clock } from '../../schema/ports.ts';
import type { Report, Slots } from '../../schema/protocol/messages.ts';
import type { InitTransport } from '../init/link-options.ts';
import type { Disk } from '../disk.ts';
import type { EngineInfo } from '../runtime/runtime.ts';
import type { Loop, Loops } from '../loops.ts';
import type { OversizedHome } from '../sessions/home-sizes.ts';
import { diskOf } from './capacity.ts';
import { type Finding, findProblems, type ProblemInput } from './problems.ts';

export interface ReporterOptions {
  clock: Clock;
  disk: Disk;
  loops: Loops;
  /** Directory of the agent's state. */
  stateDir: string;
  engine(): {
    info: EngineInfo | undefined;
    error: string | undefined;
    /** How inits are reached, when that is known. */
    transport: InitTransport | undefined;
  };
  /** Homes that are larger than they should be. */
  homes(): readonly OversizedHome[];
  /** Findings of other rooms. */
  others?: () => readonly Finding[];
  /** Slots promised to sessions, and how many sessions there are. */
  work(): { used: Slots; sessions: number };
  report(report: Report): void;
}

type MeasuredDisk = ProblemInput['disks'][number];

const everyMs = 15_000;

export class Reporter {
  readonly #options: ReporterOptions;
  #latest: Report | undefined;
  #loop: Loop | undefined;
  #stopped = false;

  constructor(options: ReporterOptions) {
    this.#options = options;
  }

  /** The last report; undefined before the first. */
  get latest(): Report | undefined {
    return this.#latest;
  }

  start(): void {
    this.#loop = this.#options.loops.every('report of use and health', everyMs, () => this.#measure());
  }

  /** Measures now: something has changed. */
  poke(): void {
    this.#loop?.soon();
  }

  stop(): void {
    this.#stopped = true;
    void this.#loop?.stop();
  }

  async #measure(): Promise<void> {
    this.#latest = (await this.look()).report;
    if (!this.#stopped) this.#options.report(this.#latest);
  }

  /** Measures for whoever asks. */
  async look(): Promise<{ report: Report; disks: MeasuredDisk[] }> {
    const disks = await this.#disks();
    const findings = this.#findings(disks);
    const { used, sessions } = this.#options.work();
    const report: Report = {
      used,
      sessions,
      health: findings.some((finding) => finding.degrades) ? 'degraded' : 'ok',
      problems: findings.map(({ code, detail }) => ({ code, detail })),
      atMs: this.#options.clock.nowMs(),
    };
    return { report, disks };
  }

  async #disks(): Promise<MeasuredDisk[]> {
    const { info } = this.#options.engine();
    const places = [{ what: 'the agent', path: this.#options.stateDir }];
    if (info !== undefined) places.push({ what: 'the container engine', path: info.dataRoot });
    return Promise.all(
      places.map(async (place) => ({
        ...place,
        ...((await diskOf(this.#options.disk, place.path)) ?? { freeBytes: 0, totalBytes: 0 }),
      })),
    );
  }

  #findings(disks: MeasuredDisk[]): Finding[] {
    const { info, error, transport } = this.#options.engine();
    const homes = this.#options.homes();
    const others = this.#options.others?.() ?? [];
    return findProblems({ engine: info, engineError: error, transport, homes, disks, others });
  }
}
