/**
 * Gives the Worker of one machine the files of releases, on a loopback port that only it is told of; in production they
 * are objects of a bucket. The first request of a process makes the release of this checkout, when it is not there yet.
 */
import { execFile } from 'node:child_process';
import { createReadStream, statSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { say } from '../say.ts';

/** After a failure nobody makes the next try sooner. */
const retryMs = 60_000;
const makeMs = 120_000;
const known = /^\/(x64|arm64)\/(manifest|parts\/[0-9a-f]{64})$/;

/** Makes a release once, for however many ask; a failure is remembered for a while. */
class Maker {
  readonly #home: string;
  #made: Promise<void> | undefined;

  constructor(home: string) {
    this.#home = home;
  }

  made(): Promise<void> {
    return (this.#made ??= this.#make());
  }

  async #make(): Promise<void> {
    const args = [process.execPath, join(import.meta.dirname, 'index.ts'), '--home', this.#home];
    const child = execFile('setpriv', ['--pdeathsig', 'KILL', ...args], { timeout: makeMs });
    let said = '';
    child.stdout?.on('data', (text: string) => (said += text));
    child.stderr?.on('data', (text: string) => (said += text));
    const code = await new Promise<number | null>((resolve) => {
      child.once('error', () => resolve(null));
      child.once('close', resolve);
    });
    if (code === 0) return;
    say({ msg: 'the release of the agent could not be made', level: 'error', code, said: said.slice(-2000) });
    setTimeout(() => (this.#made = undefined), retryMs).unref();
  }
}

/** Starts it; returns the address of the folder `home`/release. Ends with this process. */
export async function startReleaseServer(home: string): Promise<string> {
  const maker = new Maker(home);
  const server = createServer((request, response) => {
    const [, arch, name] = known.exec(request.url ?? '') ?? [];
    if (arch === undefined || name === undefined) return end(response, 404);
    const made = name === 'manifest' && arch === process.arch ? maker.made() : Promise.resolve();
    void made.then(() => sendFile(response, join(home, 'release', arch, name)));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  server.unref();
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function end(response: ServerResponse, status: number): void {
  response.writeHead(status).end();
}

function sendFile(response: ServerResponse, path: string): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return end(response, 404);
  const file = createReadStream(path);
  file.on('error', () => response.destroy());
  response.on('close', () => file.destroy());
  response.writeHead(200, { 'content-length': stat.size });
  file.pipe(response);
}
