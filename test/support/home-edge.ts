/** The edge of a home, as the supervisor starts it but without engine, Redis and agent: for tests of what is kept in a home. */
import { join } from 'node:path';
import { openHome } from '../../cli/instance/home.ts';
import { freePort } from './free-port.ts';
import { type Started, start } from './process.ts';
import { StackClient } from './stack-client.ts';

const root = join(import.meta.dirname, '../..');

export class HomeEdge {
  readonly path: string;
  readonly client: StackClient;
  readonly #port: string | undefined;
  #started: Started | undefined;
  #url = '';

  /** `port`: of an edge that this one takes the place of. */
  constructor(path: string, port?: string) {
    this.path = path;
    this.#port = port;
    this.client = new StackClient(() => this.#url);
  }

  get url(): string {
    return this.#url;
  }

  /** Starts it, on the port it had before, and signs the client in as the first administrator where it is new. */
  async start(): Promise<void> {
    const { identity, secrets, at } = openHome(this.path);
    const port = this.#url === '' ? (this.#port ?? (await freePort())) : new URL(this.#url).port;
    const args = ['edge/serve/index.ts', '--state', at('edge'), '--keys', at('keys.json'), '--port', String(port)];
    this.#started = start(process.execPath, args, {
      name: 'edge',
      cwd: root,
      env: { CAUSEWAY_INSTANCE: identity.id, CAUSEWAY_BOOTSTRAP: secrets.bootstrap },
    });
    this.#url = String((await this.#started.line('ready', { timeoutMs: 60_000 }))['url']);
    if (this.client.token === undefined) await this.client.bootstrap(secrets.bootstrap);
  }

  async stop(): Promise<void> {
    await this.#started?.stop(15_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
