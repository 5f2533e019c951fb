/** The programs of OpenSSH as a person runs them against a stack, by the configuration that `ssh-config` writes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { expect } from 'vitest';
import { Cli } from '../support/cli.ts';
import type { Stack } from '../support/stack.ts';

export interface SshRan {
  status: number | null;
  bytes: Buffer;
  stdout: string;
  stderr: string;
}

export class OpenSsh {
  readonly stack: Stack;
  readonly cli: Cli;
  /** The file that was written. */
  readonly config: string;

  readonly #url: string;
  /** Of what the programs keep. */
  readonly #dir: string;

  private constructor(stack: Stack, url: string) {
    this.stack = stack;
    this.#url = url;
    this.#dir = url === stack.url ? stack.dir : join(stack.dir, `at-${new URL(url).port}`);
    this.cli = new Cli(url, stack.client.token!, this.#dir);
    this.config = join(this.#dir, 'ssh/config');
  }

  /** `url`: by which way the edge is reached. */
  static async prepare(stack: Stack, url = stack.url): Promise<OpenSsh> {
    const made = new OpenSsh(stack, url);
    expect(await made.cli.run(['ssh-config', '--file', made.config])).toMatchObject({ status: 0 });
    return made;
  }

  /** Starts a session of `image` and waits until it runs. */
  async session(
    name: string,
    image: string,
    more: readonly string[] = ['--cpu', '0.1', '--mem', '64m'],
  ): Promise<void> {
    expect(await this.cli.run(['run', '-d', '--name', name, '--image', image, ...more])).toMatchObject({ status: 0 });
    const found = (await this.stack.client.sessions()).find((each) => each.name === name);
    await this.stack.client.waitForState(found!.id, ['RUNNING']);
  }

  get env(): NodeJS.ProcessEnv {
    return {
      ...process.env,
      CAUSEWAY_URL: this.#url,
      CAUSEWAY_TOKEN: this.stack.client.token!,
      XDG_CONFIG_HOME: join(this.#dir, 'config'),
      LC_ALL: 'C.UTF-8',
      SECRET: 'of this side',
    };
  }

  /** Starts `ssh`, `scp` or `sftp`, by the configuration that was written, or another program that is told of it. */
  start(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const own = program === 'rsync' ? [] : ['-F', this.config];
    return spawn(program, [...own, ...args], { env: { ...this.env, ...env }, stdio: 'pipe' });
  }

  /** Runs one to its end. */
  async run(program: string, args: readonly string[], input: string | Buffer = '', env = {}): Promise<SshRan> {
    const child = this.start(program, args, env);
    const out: Buffer[] = [];
    let stderr = '';
    child.stdout!.on('data', (bytes: Buffer) => out.push(bytes));
    child.stderr!.on('data', (bytes: Buffer) => (stderr += bytes.toString()));
    child.stdin!.on('error', () => undefined).end(input);
    const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
    const bytes = Buffer.concat(out);
    return { status, bytes, stdout: bytes.toString(), stderr };
  }

  ssh(args: readonly string[], input: string | Buffer = '', env = {}): Promise<SshRan> {
    return this.run('ssh', args, input, env);
  }
}
