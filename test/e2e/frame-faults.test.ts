/**
 * Single frames of the tunnel twice, in another order, and again: no network does that over TCP, a broken or hostile hop may.
 * Whatever is done through it meanwhile is done right, or fails in sight: no answer is short, doubled or mixed up.
 */
import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { pack } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PortForwarder } from '../../cli/forward/forwarder.ts';
import { Api } from '../../cli/http/api.ts';
import { CodeRun, KernelSocket } from '../../cli/kernel/code-run.ts';
import { ProcessFollower, processTarget } from '../../cli/process/follow.ts';
import { dialSession } from '../../cli/tunnel/dial.ts';
import type { Executed } from '../../schema/api/kernel.ts';
import { InputLog } from '../../schema/protocol/input-log.ts';
import type { FrameFaults } from '../support/frame-proxy.ts';
import { newProcessId } from '../support/ids.ts';
import { importPython } from '../support/python-image.ts';
import { seededRandom } from '../support/random.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';

const seed = Number(process.env['CAUSEWAY_SEED'] ?? randomBytes(3).readUIntBE(0, 3));
const rounds = 8;
const withinMs = 120_000;
const lines = Array.from({ length: 20_000 }, (_, at) => `${at + 1}\n`).join('');
/** Gives back what comes on port 7000. */
const echo = `
import socketserver, shutil
class Echo(socketserver.StreamRequestHandler):
    def handle(self): shutil.copyfileobj(self.rfile, self.wfile)
socketserver.ThreadingTCPServer(('127.0.0.1', 7000), Echo).serve_forever()`;
const sha256 = (bytes: string | Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** Again until it answers something: what fails in sight is asked anew. */
async function again<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
  const lastMs = performance.now() + withinMs;
  let failed: unknown;
  while (performance.now() < lastMs) {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
    } catch (error) {
      failed = error;
    }
    await sleep(200);
  }
  throw new Error(`${what} was never done (seed ${seed}): ${String(failed)}`);
}

describe.runIf(tier === 'full').each<[string, FrameFaults]>([
  ['twice', { duplicate: 0.05 }],
  ['in another order', { reorder: 0.05 }],
  ['again', { replay: 0.05 }],
])('frames that come %s', (_, faults) => {
  const random = seededRandom(seed);
  let stack: Stack;
  let api: Api;
  /** A session that lives, and one that has printed `lines`. */
  let id: string;
  let printed: string;

  beforeAll(async () => {
    stack = await startStack({ frameProxy: seed });
    api = new Api({ url: stack.url, token: stack.client.token! });
    const { engine } = stack.agents[0]!;
    await importPython(engine.docker, engine.socket);
    const resources = { cpu: 0.2, mem: '256m' };
    const wish = { type: 'batch' as const, image: 'causeway/python', resources };
    ({ id } = await stack.client.createSession({ ...wish, command: ['python3', '-c', echo] }));
    ({ id: printed } = await stack.client.createSession({ ...wish, command: ['seq', '1', '20000'] }));
    await stack.client.waitForState(id, ['RUNNING']);
    await stack.client.waitForState(printed, ['TERMINATED']);
    stack.frames!.set(faults);
  });
  afterAll(() => stack?.stop());

  const bytesOf = (path: string) =>
    again(path, async () => {
      const url = `${stack.url}${path}`;
      const headers = { authorization: `Bearer ${stack.client.token!}` };
      const answer = await fetch(url, { headers, signal: AbortSignal.timeout(20_000) });
      const body = Buffer.from(await answer.arrayBuffer());
      if (answer.status !== 200) throw new Error(body.toString());
      return body;
    });

  it('leave processes all of their input, and people all that they print', async () => {
    for (let round = 0; round < rounds; round++) {
      const input = random.bytes(random.integer(1, 300_000));
      const log = new InputLog();
      log.push(input, () => {});
      log.end();
      const spawn = { argv: ['sh', '-c', 'sha256sum; seq 1 20000; exit 7'], stdin: true };
      const processId = newProcessId();
      const said = await again('an exec', async () => {
        let text = '';
        const target = processTarget(processId, spawn, log);
        const take = async (bytes: Uint8Array) => void (text += Buffer.from(bytes).toString());
        const io = { writeStdout: take, writeStderr: take, say: () => {}, warn: () => {} };
        const end = await new ProcessFollower(dialSession(api, id, 'exec'), target, io).run();
        return end?.exitCode === 7 ? text : undefined;
      });
      expect(sha256(said)).toBe(sha256(`${sha256(input)}  -\n${lines}`));
    }
  });

  it('leave runs of code all that they wrote', async () => {
    const code = 'for i in range(1, 20001): print(i)';
    for (let round = 0; round < rounds; round++) {
      let text = '';
      const outcome = await again('a run', async () => {
        text = '';
        const socket = new KernelSocket(dialSession(api, id, 'execute'));
        const request = {
          runId: `run-${round}`,
          language: 'python' as const,
          request: { mode: 'query' as const, code },
        };
        const io = {
          write: async (__: string, bytes: Uint8Array) => void (text += Buffer.from(bytes).toString()),
          record: async () => {},
          ask: async () => undefined,
          say: () => {},
        };
        const ended = await new CodeRun(socket, request, io).run();
        socket.drop();
        return ended;
      });
      expect(outcome).toEqual({ reason: 'finished', exitCode: 0 });
      expect(sha256(text)).toBe(sha256(lines));
    }
  });

  it('leave callers of HTTP all of a run, slice by slice', async () => {
    for (let round = 0; round < rounds; round++) {
      let text = '';
      let body: object = { mode: 'query', code: 'for i in range(1, 20001): print(i)', language: 'python' };
      for (let status = 'continued'; status === 'continued';) {
        const answer = await again('a slice', async () => {
          const given = { ...body, runId: `http-${round}` };
          const { status: code, body: said } = await stack.client.call('POST', `/v1/sessions/${id}/execute`, given);
          if (code !== 200) throw new Error(JSON.stringify(said));
          return said as Executed;
        });
        for (const [kind, said] of answer.console) if (kind === 'stdout') text += said;
        body = { mode: 'continue', after: answer.after };
        status = answer.status;
      }
      expect(sha256(text)).toBe(sha256(lines));
    }
  });

  it('leave kept output whole, as bytes, as lines and searched', async () => {
    for (let round = 0; round < rounds; round++) {
      const raw = await bytesOf(`/v1/sessions/${printed}/logs?stream=stdout&source=agent`);
      expect(sha256(raw)).toBe(sha256(lines));
      const found = await bytesOf(`/v1/sessions/${printed}/logs?stream=stdout&grep=0&source=agent`);
      expect(sha256(found)).toBe(sha256(lines.replaceAll(/^[1-9]+\n/gm, '')));
    }
  });

  it('leave files as they were sent', async () => {
    for (let round = 0; round < rounds; round++) {
      const content = Buffer.from(random.bytes(random.integer(1, 400_000)));
      const name = `file-${round}`;
      const archive = pack();
      archive.entry({ name }, content);
      archive.finalize();
      const body = new Uint8Array(await buffer(archive));
      const query = `path=.&uploadId=${randomBytes(12).toString('hex')}&offset=0&last=true`;
      await again('an upload', async () => {
        const headers = { authorization: `Bearer ${stack.client.token!}`, 'content-type': 'application/x-tar' };
        const put = { method: 'PUT', headers, body, signal: AbortSignal.timeout(20_000) };
        const answer = await fetch(`${stack.url}/v1/sessions/${id}/files?${query}`, put);
        if (answer.status !== 204) throw new Error(await answer.text());
        return true;
      });
      const read = await bytesOf(`/v1/sessions/${id}/files?path=${name}`);
      expect(sha256(read.subarray(512, 512 + content.byteLength))).toBe(sha256(content));
    }
  });

  it('break connections to ports in sight', async () => {
    const forwarder = new PortForwarder(dialSession(api, id, 'ports'), { name: 'it', say: () => {} });
    await forwarder.connect();
    const running = forwarder.run();
    const port = await forwarder.listen('127.0.0.1', { here: 0, there: 7000 });
    const sent = Buffer.from(random.bytes(150_000));
    for (let round = 0; round < rounds; round++) {
      const came = await again('a connection', async () => {
        const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
        const reading = buffer(socket);
        socket.end(sent);
        return reading;
      });
      expect(sha256(came)).toBe(sha256(sent));
    }
    forwarder.close();
    await running;
  });

  it('did come', () => {
    expect(Object.values(stack.frames!.done).reduce((sum, count) => sum + count, 0)).toBeGreaterThan(20);
  });
});
