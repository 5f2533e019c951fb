/**
 * A host with one agent and two tenants: the rogue, whose code the test runs, and a neighbour that counts. Canaries lie on
 * the host: files that must stay as they are, and listeners that must not hear of a container.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { Cli, type Ran } from '../support/cli.ts';
import { busyboxImage } from '../support/images.ts';
import { createNatHost, type NatHost } from '../support/netns.ts';
import { runToEnd, start, type Started } from '../support/process.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { until } from '../support/wait.ts';

export const metadataAddress = '169.254.169.254';
const canaryPort = 9099;

export class TenantWorld {
  readonly host: NatHost;
  readonly stack: Stack;
  readonly cli: Cli;
  /** A file of the host that must stay as it is. */
  readonly canary: string;
  readonly #canaryHash: string;
  readonly #listeners: Started[] = [];
  #heardAtFirst = 0;

  private constructor(host: NatHost, stack: Stack) {
    this.host = host;
    this.stack = stack;
    this.cli = new Cli(stack.url, stack.client.token!, stack.dir);
    this.canary = join(stack.dir, 'canary');
    writeFileSync(this.canary, randomBytes(64));
    this.#canaryHash = hashOf(this.canary);
  }

  static async start({ gvisor = false } = {}): Promise<TenantWorld> {
    const host = await createNatHost();
    const world = new TenantWorld(
      host,
      await startStack({ natHost: host, gvisor }).catch(async (error: unknown) => {
        await host.stop();
        throw error;
      }),
    );
    await world.#listen();
    const count = 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done';
    await world.run('neighbour', ['sh', '-c', count]);
    await world.run('rogue', ['sleep', '100000'], '128m');
    const probe = join(world.stack.dir, 'tenant-probe');
    await runToEnd('musl-gcc', ['-static', '-Os', join(import.meta.dirname, 'tenant-probe.c'), '-o', probe]);
    await world.#must(['cp', probe, 'rogue:tenant-probe']);
    return world;
  }

  /** Starts a session that stays. */
  async run(name: string, command: string[], mem = '64m'): Promise<void> {
    await this.#must([
      'run',
      '-d',
      '--name',
      name,
      '--image',
      busyboxImage,
      '--cpu',
      '0.2',
      '--mem',
      mem,
      '--',
      ...command,
    ]);
  }

  /** Ends a session at once and waits until it has ended. */
  async remove(name: string): Promise<void> {
    await this.#must(['stop', '-f', name]);
    await until(async () => !(await this.cli.run(['ps'])).stdout.includes(name), {
      what: `${name} to end`,
      timeoutMs: 120_000,
    });
  }

  /** Runs a command in the rogue's container. */
  async inRogue(...command: string[]): Promise<Ran> {
    return this.cli.run(['exec', 'rogue', '--', ...command]);
  }

  /** What of the host the rogue may not reach, as `address:port`. */
  async forbidden(): Promise<Record<string, string>> {
    const gateway = (
      await this.inRogue('sh', '-c', "ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p'")
    ).stdout.trim();
    const neighbour = await this.#addressOf('neighbour');
    return {
      'the host by its gateway': `${gateway}:${canaryPort}`,
      'the host by its own address': `${this.host.address}:${canaryPort}`,
      'the metadata address': `${metadataAddress}:${canaryPort}`,
      'another session': `${neighbour}:7000`,
      "another session's gateway": `${neighbour.replace(/\d+$/, (last) => String(Number(last) - 1))}:${canaryPort}`,
    };
  }

  /** How often a canary listener was spoken to. */
  hits(): number {
    return this.#heard() - this.#heardAtFirst;
  }

  #heard(): number {
    return this.#listeners.reduce((sum, { lines }) => sum + lines.filter(({ text }) => text.includes('HIT')).length, 0);
  }

  /** The neighbour counts on, the agent answers, and the host's files are as they were. Throws when not. */
  async unharmed(): Promise<void> {
    const before = await until(() => this.#count(), { what: 'the output of the neighbour' });
    await until(async () => (await this.#count()) > before, { what: 'the neighbour to count on', timeoutMs: 60_000 });
    const alive = await this.cli.run(['exec', 'neighbour', '--', 'echo', 'well']);
    if (alive.stdout !== 'well\n') throw new Error(`the neighbour does not answer: ${JSON.stringify(alive)}`);
    if (hashOf(this.canary) !== this.#canaryHash) throw new Error('the canary of the host was changed');
    if (this.stack.agents[0]?.process.exit) throw new Error(`the agent ended:\n${this.stack.output()}`);
  }

  async stop(): Promise<void> {
    for (const listener of this.#listeners) await listener.stop();
    await this.stack.stop();
    await this.host.stop();
  }

  async #listen(): Promise<void> {
    // As a cloud has it: a hop away from the host.
    const router = this.host.netns.replace(/-in$/, '-rt');
    await runToEnd('ip', ['-n', router, 'addr', 'add', `${metadataAddress}/32`, 'dev', 'lo']);
    const program = `require('net').createServer((s) => { console.log('HIT'); s.end('hit'); }).listen(${canaryPort})`;
    for (const netns of [router, this.host.netns])
      this.#listeners.push(start(process.execPath, ['-e', program], { netns }));
    // It hears who may: the host itself.
    for (const [at, address] of [metadataAddress, this.host.address].entries())
      await until(
        async () => {
          await this.host.start('/bin/busybox', ['nc', '-w', '2', address, String(canaryPort)]).exited;
          return this.#listeners[at]?.output().includes('HIT');
        },
        { what: `the canary listener at ${address} to hear` },
      );
    this.#heardAtFirst = this.#heard();
  }

  async #addressOf(name: string): Promise<string> {
    const { stdout } = await this.cli.run(['exec', name, '--', 'hostname', '-i']);
    return stdout.trim();
  }

  async #count(): Promise<number> {
    const { stdout } = await this.cli.run(['logs', '--tail', '1', 'neighbour']);
    // A line that came meanwhile may follow the one that was asked for.
    const last = /(\d+)\s*$/.exec(stdout)?.[1];
    if (last === undefined) throw new Error(`the neighbour has no output: ${JSON.stringify(stdout)}`);
    return Number(last);
  }

  async #must(args: string[]): Promise<void> {
    const ran = await this.cli.run(args);
    if (ran.status !== 0) throw new Error(`causeway ${args.join(' ')}: ${JSON.stringify(ran)}`);
  }
}

function hashOf(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
