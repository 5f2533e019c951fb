/**
 * The sessions of a chaos run: they count, train (with a checkpoint after each step), print binary, or read their standard
 * input, which somebody types into over all faults. Sessions that ended with their host's power are replaced.
 */
import { isTerminal } from '../../schema/api/session-parts.ts';
import { dialSession } from '../../cli/tunnel/dial.ts';
import { InputLog } from '../../schema/protocol/input-log.ts';
import { ProcessFollower, processTarget } from '../../cli/process/follow.ts';
import { busyboxImage } from '../support/images.ts';
import type { Witness } from '../support/invariants.ts';
import { LogReader } from '../support/log-reader.ts';
import { until } from '../support/wait.ts';
import { type TapeKind, tapeFault, tapePiece, tapeScript } from './tape.ts';
import type { World } from './world.ts';

const kinds = ['count', 'train', 'binary', 'talk'] as const;
type Kind = (typeof kinds)[number];

const pauseMs = 250;
/** How long a fresh look may take. */
const lookMs = 15_000;
const wholeRunMs = 24 * 3_600_000;
const scripts: Record<Exclude<Kind, 'talk'>, string> = {
  count: tapeScript('lines', pauseMs),
  train: tapeScript('lines', pauseMs, '(echo $i > ckpt.new && mv ckpt.new ckpt) 2>/dev/null'),
  binary: tapeScript('blocks', pauseMs),
};
const resources = { cpu: 0.05, mem: '24m' };

export class Resident {
  readonly id: string;
  readonly kind: Kind;
  /** Of those who read their input. */
  talker: Talker | undefined;
  /** Of those who print a tape. */
  listener: Listener | undefined;

  constructor(id: string, kind: Kind) {
    this.id = id;
    this.kind = kind;
  }

  get tape(): TapeKind | undefined {
    return this.kind === 'talk' ? undefined : this.kind === 'binary' ? 'blocks' : 'lines';
  }
}

/** Types numbered lines into a session that sends them back, through any cut, as the CLI does. */
export class Talker {
  readonly #world: World;
  readonly #id: string;
  readonly #input = new InputLog();
  readonly #following: ProcessFollower;
  readonly #timer: NodeJS.Timeout;
  readonly over: Promise<void>;
  typed = 0;
  heard = '';
  fault: string | undefined;

  constructor(world: World, id: string) {
    this.#world = world;
    this.#id = id;
    this.#timer = setInterval(() => this.#type(), pauseMs);
    this.#following = new ProcessFollower(
      dialSession(world.api, id, 'exec'),
      processTarget('main', undefined, this.#input),
      {
        writeStdout: async (bytes) => this.#hear(Buffer.from(bytes).toString()),
        writeStderr: async () => {},
        say: () => {},
        warn: () => {},
      },
    );
    this.over = this.#follow();
  }

  #type(): void {
    this.typed++;
    this.#input.push(Buffer.from(`${this.typed}\n`), () => {});
  }

  #hear(text: string): void {
    this.heard += text;
  }

  async #follow(): Promise<void> {
    try {
      await this.#following.run();
    } catch (error) {
      const { state } = await this.#world.client.session(this.#id);
      if (!isTerminal(state)) this.fault = `[I5] the input of ${this.#id} could not go on: ${(error as Error).message}`;
    }
  }

  /** Everything typed so far came back, in order, each line once. */
  async faults(): Promise<string[]> {
    if (this.fault !== undefined) return [this.fault];
    const { typed } = this;
    const all = (): string[] => this.heard.split('\n').slice(0, -1);
    const here = await until(() => all().length >= typed, {
      what: `line ${typed} to come back`,
      timeoutMs: 60_000,
      giveUp: () => this.fault,
    }).catch((error: Error) => error.message);
    const wrong = all().findIndex((line, at) => line !== String(at + 1));
    if (wrong >= 0) return [`[I5] line ${wrong + 1} of ${this.#id} came back as ${JSON.stringify(all()[wrong])}`];
    if (here === true) return [];
    const printed = (await this.#world.client.logs(this.#id)).toString().split('\n').length - 1;
    return [`[I5] ${this.#id}: ${String(here)}; ${all().length} of ${this.typed} came back, ${printed} were printed`];
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#following.detach();
  }
}

/** Follows a tape through any cut and judges each byte that comes. */
class Listener {
  readonly #world: World;
  readonly #reader: LogReader;
  readonly #id: string;
  readonly #faults: string[] = [];
  readonly over: Promise<void>;

  constructor(world: World, id: string, tape: TapeKind) {
    this.#world = world;
    this.#id = id;
    this.#reader = new LogReader(
      () => world.users.url,
      world.users.token!,
      id,
      (bytes, offset) => {
        const fault = tapeFault(tape, offset, bytes);
        if (fault !== undefined) this.#faults.push(`${fault} in ${id}`);
      },
      { doubts: true },
    );
    this.over = this.#reader.untilExit(wholeRunMs).then(
      () => {},
      (error: Error) => void (error.message.startsWith('[I5]') && this.#faults.push(`${error.message} in ${id}`)),
    );
  }

  get offset(): number {
    return this.#reader.offset;
  }

  get gapBytes(): number {
    return this.#reader.gaps.reduce((sum, { from, to }) => sum + (to - from), 0);
  }

  /** What was wrong so far, and whether it goes on. */
  async faults(): Promise<string[]> {
    const before = this.#reader.offset;
    const stuck = await until(() => this.#reader.offset > before || this.#faults.length > 0, {
      what: `more of ${this.#id} after byte ${before} (${this.#reader.phase} for ${this.#reader.phaseSeconds} s, ${this.#reader.reconnects} cuts)`,
      timeoutMs: 60_000,
    }).then(
      () => [],
      async (error: Error) => [`[I5] ${error.message}; ${await this.#lookAfresh()}`],
    );
    return [...this.#faults.splice(0), ...stuck];
  }

  /** Whether it is the session that is silent, or the way of this reader. */
  async #lookAfresh(): Promise<string> {
    const other = new LogReader(
      () => this.#world.client.url,
      this.#world.client.token!,
      this.#id,
      () => {},
    );
    other.offset = this.#reader.offset;
    const reading = other.untilExit(lookMs).catch(() => {});
    await until(() => other.offset > this.#reader.offset, { what: 'more', timeoutMs: lookMs }).catch(() => {});
    other.stop();
    await reading;
    return `a fresh reader came to ${other.offset} (${other.phase})`;
  }

  stop(): void {
    this.#reader.stop();
  }
}

export class Population {
  readonly residents: Resident[] = [];
  readonly #world: World;
  readonly #witness: Witness;
  readonly #size: number;
  #born = 0;

  constructor(world: World, witness: Witness, size: number) {
    this.#world = world;
    this.#witness = witness;
    this.#size = size;
  }

  /** Brings the number of residents up again, and returns when all of them run. */
  async complete(): Promise<void> {
    const missing = this.#size - this.residents.length;
    await Promise.all(Array.from({ length: missing }, async () => this.settle()));
    for (const resident of this.residents) {
      await this.#world.client.waitForState(resident.id, ['RUNNING'], 180_000);
      if (resident.tape === undefined) resident.talker ??= new Talker(this.#world, resident.id);
      else resident.listener ??= new Listener(this.#world, resident.id, resident.tape);
    }
  }

  /** Creates one more. */
  async settle(): Promise<void> {
    const kind = kinds[this.#born++ % kinds.length]!;
    const command = kind === 'talk' ? ['cat'] : ['sh', '-c', `cd /home/work; ${scripts[kind]}`];
    const spec = { type: 'batch' as const, image: busyboxImage, command, resources, stdin: kind === 'talk' };
    const { id } = await this.#world.users.createSession(spec);
    this.#witness.accepted(id);
    this.residents.push(new Resident(id, kind));
  }

  /** Takes one out; whoever calls stops it. */
  take(index: number): Resident | undefined {
    const [resident] = this.residents.splice(index, 1);
    resident?.talker?.stop();
    resident?.listener?.stop();
    return resident;
  }

  /** Forgets those that ended with their host; ends of any other cause are returned as faults. Call it at rest. */
  async bury(): Promise<string[]> {
    const faults: string[] = [];
    const sessions = await Promise.all(this.residents.map(async ({ id }) => this.#world.client.session(id)));
    for (const session of sessions) {
      if (!isTerminal(session.state)) continue;
      const resident = this.take(this.residents.findIndex(({ id }) => id === session.id))!;
      const host = this.#world.hosts.find(({ part }) => part.agentId === session.agentId);
      if (host === undefined || host.powerLosses === 0)
        faults.push(
          `[I2] ${resident.id} (${resident.kind}) ended as ${session.state}: ${JSON.stringify(session.result ?? session.reason ?? null)}`,
        );
    }
    return faults;
  }

  /** [I5] Judges all output since the last time, and that it goes on. */
  async faults(): Promise<string[]> {
    const found = await Promise.all(this.residents.map(async (resident) => this.#judge(resident)));
    return found.flat();
  }

  async #judge(resident: Resident): Promise<string[]> {
    const { talker, listener } = resident;
    if (talker !== undefined) return talker.faults();
    if (listener === undefined) return [];
    const faults = await listener.faults();
    const { agentId } = await this.#world.client.session(resident.id);
    const host = this.#world.hosts.find(({ part }) => part.agentId === agentId);
    if (listener.gapBytes > 0 && host?.mayHaveGaps !== true)
      faults.push(`[I5] ${listener.gapBytes} bytes of ${resident.id} are missing, and no disk was full`);
    if (resident.kind === 'train') faults.push(...(await this.#checkpointFaults(resident, listener.offset)));
    return faults;
  }

  /** The checkpoint in the home is that of a step which the output knows, and goes on. */
  async #checkpointFaults(resident: Resident, offset: number): Promise<string[]> {
    const step = tapePiece('lines', offset);
    const read = async (): Promise<number> => {
      const { body } = await this.#world.client.call('GET', `/v1/sessions/${resident.id}/files?path=ckpt`);
      // The first file of a tar archive begins after its header of 512 bytes.
      return Number.parseInt(String(body).slice(512), 10);
    };
    return until(async () => (await read()) >= step - 1, {
      what: `the checkpoint of ${resident.id} to reach step ${step}`,
      everyMs: 250,
    }).then(
      () => [],
      (error: Error) => [`[I10] ${error.message}`],
    );
  }

  stop(): void {
    for (const { talker, listener } of this.residents) {
      talker?.stop();
      listener?.stop();
    }
  }
}
