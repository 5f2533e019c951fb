/**
 * What people do meanwhile: create and stop sessions, run things in them with input, copy files in. Each act is repeated
 * as the CLI would until it is answered; what it then says must be right, and it must come to its end once all is healed.
 */
import { createHash, randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { pack } from 'tar-stream';
import { CliFailure } from '../../cli/exit.ts';
import { InputLog } from '../../schema/protocol/input-log.ts';
import { ProcessFollower, processTarget } from '../../cli/process/follow.ts';
import { dialSession } from '../../cli/tunnel/dial.ts';
import { isTerminal } from '../../schema/api/session-parts.ts';
import { newProcessId } from '../support/ids.ts';
import { busyboxImage } from '../support/images.ts';
import type { Witness } from '../support/invariants.ts';
import type { Rng } from '../support/random.ts';
import { until } from '../support/wait.ts';
import { Violation } from './fault.ts';
import type { Population, Resident } from './population.ts';
import type { World } from './world.ts';

/** Once nothing is broken any more. */
const answerMs = 240_000;

export interface Act {
  name: string;
  /** Resolves when it is done and was right. @throws Violation */
  done: Promise<void>;
}

export class Users {
  readonly #world: World;
  readonly #witness: Witness;
  readonly #population: Population;

  constructor(world: World, witness: Witness, population: Population) {
    this.#world = world;
    this.#witness = witness;
    this.#population = population;
  }

  /** Starts one act, chosen by the random numbers. */
  act(random: Rng): Act {
    const acts = [
      { name: 'a short session', run: () => this.#short(random.integer(0, 100)) },
      { name: 'stop one, create another', run: () => this.#replace(random) },
      {
        name: 'exec with input',
        run: () => this.#exec(this.#anyone(random), random.bytes(random.integer(1, 300_000))),
      },
      {
        name: 'copy a file in',
        run: () => this.#upload(this.#anyone(random), random.bytes(random.integer(1, 500_000))),
      },
    ];
    const { name, run } = acts[random.integer(0, acts.length - 1)]!;
    return { name, done: run() };
  }

  #anyone(random: Rng): Resident {
    const { residents } = this.#population;
    return residents[random.integer(0, residents.length - 1)]!;
  }

  async #short(exitCode: number): Promise<void> {
    const { users, client } = this.#world;
    const session = await users.createSession({
      type: 'batch',
      image: busyboxImage,
      command: ['sh', '-c', `echo out; exit ${exitCode}`],
      resources: { cpu: 0.05, mem: '16m' },
    });
    this.#witness.accepted(session.id);
    const over = await client.waitForState(session.id, ['TERMINATED', 'ERROR'], answerMs);
    if (over.state === 'TERMINATED' && over.result?.exitCode === exitCode) return;
    if (this.#mayHaveFailed(over.agentId)) return;
    throw new Violation(`[I6] ${session.id} should have exited with ${exitCode}: ${JSON.stringify(over)}`);
  }

  /** A start fails honestly where a disk is full, and a host without power ends what it has. */
  #mayHaveFailed(agentId: string | undefined): boolean {
    const host = this.#world.hosts.find(({ part }) => part.agentId === agentId);
    return host !== undefined && (host.mayHaveGaps || host.engineDisk !== undefined || host.powerLosses > 0);
  }

  async #replace(random: Rng): Promise<void> {
    const resident = this.#population.take(random.integer(0, this.#population.residents.length - 1));
    if (resident === undefined) return;
    const { users, client } = this.#world;
    await until(async () => users.deleteSession(resident.id, '?graceMs=500').then(() => true), {
      what: `the stop of ${resident.id} to be accepted`,
      timeoutMs: answerMs,
      everyMs: 500,
    });
    await client.waitForState(resident.id, ['TERMINATED'], answerMs);
  }

  /** Where an agent's disk is full, it refuses what it could not keep, and starts nothing: a person asks again. */
  async #exec(resident: Resident, input: Buffer): Promise<void> {
    const lastMs = performance.now() + answerMs;
    while ((await this.#execOnce(resident, input)) === 'refused') {
      if (performance.now() > lastMs) throw new Violation(`[I10] ${resident.id} refused an exec to the end`);
      await sleep(1000);
    }
  }

  async #execOnce(resident: Resident, input: Buffer): Promise<'done' | 'refused'> {
    const log = new InputLog();
    log.push(input, () => {});
    log.end();
    const argv = ['sh', '-c', 'echo ran >> runs; sha256sum; grep -c ran runs; rm runs'];
    const spawn = { argv: ['sh', '-c', `cd $(mktemp -d) && ${argv[2]}`], stdin: true };
    let said = '';
    const lines: string[] = [];
    const dial = dialSession(this.#world.api, resident.id, 'exec');
    const follower = new ProcessFollower(dial, processTarget(newProcessId(), spawn, log), {
      writeStdout: async (bytes) => void (said += Buffer.from(bytes).toString()),
      writeStderr: async (bytes) => void (said += Buffer.from(bytes).toString()),
      say: (line) => void lines.push(line),
      warn: (line) => void lines.push(line),
    });
    const timer = setTimeout(() => follower.detach(), answerMs);
    const end = await follower.run().catch((error: Error) => error);
    clearTimeout(timer);
    const expected = `${createHash('sha256').update(input).digest('hex')}  -\n1\n`;
    if (said === expected || (await this.#isOver(resident.id))) return 'done';
    if (said === withoutGaps(expected, lines) && (await this.#mayHaveGaps(resident.id))) return 'done';
    if (said === '' && end instanceof CliFailure && end.code === 'agent_disk_full') return 'refused';
    throw new Violation(
      `[I5] [I6] an exec in ${resident.id} ended as ${JSON.stringify(end ?? 'never')} (${String(end)}), said ${JSON.stringify(said)} instead of ${JSON.stringify(expected)}; the person was told ${JSON.stringify(lines)}`,
    );
  }

  /** Where an agent's disk was full, what could not be stored is missing; where, is said to who reads. */
  async #mayHaveGaps(sessionId: string): Promise<boolean> {
    const { agentId } = await this.#world.client.session(sessionId);
    return this.#world.hosts.some(({ part, mayHaveGaps }) => part.agentId === agentId && mayHaveGaps);
  }

  async #upload(resident: Resident, content: Buffer): Promise<void> {
    const name = `file-${randomBytes(4).toString('hex')}`;
    const archive = pack();
    archive.entry({ name }, content);
    archive.finalize();
    const bytes = new Uint8Array(await buffer(archive));
    const put = async (): Promise<true> => {
      const uploadId = randomBytes(12).toString('hex');
      await this.#world.api.raw('PUT', `/v1/sessions/${resident.id}/files`, {
        query: { path: '', uploadId, offset: 0, last: true },
        headers: { 'content-type': 'application/x-tar' },
        stream: bytes,
        signal: AbortSignal.timeout(30_000),
      });
      return true;
    };
    const uploaded = await until(async () => (await this.#isOver(resident.id)) || put(), {
      what: `an upload into ${resident.id}`,
      timeoutMs: answerMs,
      everyMs: 1000,
    }).catch((error: Error) => error);
    if (await this.#isOver(resident.id)) return;
    if (uploaded instanceof Error) throw new Violation(`[I10] ${uploaded.message}`);
    const { client } = this.#world;
    const read = await until(async () => readFile(client.url, client.token!, resident.id, name), {
      what: `the file ${name} of ${resident.id} to be read back`,
      timeoutMs: answerMs,
      everyMs: 1000,
    });
    if (!read.equals(content) && !(await this.#isOver(resident.id)))
      throw new Violation(
        `[I10] ${name} of ${resident.id} came back as ${read.length} other bytes of ${content.length}`,
      );
  }

  /** Stopped by another user, or ended with its host's power. */
  async #isOver(id: string): Promise<boolean> {
    const session = await until(async () => this.#world.client.session(id), {
      what: `an answer about ${id}`,
      timeoutMs: answerMs,
    });
    return isTerminal(session.state) || session.state === 'TERMINATING';
  }
}

/** What is to be read where these lines tell of bytes that are missing. */
function withoutGaps(stdout: string, lines: string[]): string {
  let kept = '';
  let at = 0;
  for (const line of lines) {
    const [, from, to] = / bytes of stdout are missing \(.*\): (\d+) to (\d+)$/.exec(line) ?? [];
    if (from === undefined || to === undefined) continue;
    kept += stdout.slice(at, Number(from));
    at = Number(to);
  }
  return kept + stdout.slice(at);
}

/** The content of a file, cut out of the archive in which it comes. */
async function readFile(url: string, token: string, id: string, name: string): Promise<Buffer> {
  const response = await fetch(`${url}/v1/sessions/${id}/files?path=${name}`, {
    headers: { authorization: `Bearer ${token}`, accept: 'application/x-tar' },
    signal: AbortSignal.timeout(30_000),
  });
  const archive = Buffer.from(await response.arrayBuffer());
  if (!response.ok) throw new Error(`answered ${response.status}: ${archive.toString('utf8', 0, 300)}`);
  const size = Number.parseInt(archive.toString('latin1', 124, 135), 8);
  return archive.subarray(512, 512 + size);
}
