import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { InitLink } from '../../../agent-daemon/init/link.ts';
import { until } from '../../support/wait.ts';
import { initBinary, shell, TestSession } from './harness.ts';

/** What an engine does between its `attach` and a container: passes bytes on while somebody is attached, else drops them. */
class Engine {
  readonly child = spawn(initBinary, ['--stdio'], { stdio: ['pipe', 'pipe', 'inherit'] });
  #attached: Duplex | undefined;
  /** Drops the connection after so many bytes, in the middle of whatever they were. */
  cutAfterBytes = Infinity;

  constructor() {
    this.child.stdout.on('data', (chunk: Buffer) => {
      const part = chunk.subarray(0, this.cutAfterBytes);
      this.cutAfterBytes -= part.length;
      this.#attached?.push(part);
      if (this.cutAfterBytes <= 0) this.#attached?.destroy();
    });
  }

  /** Ends the init. Its answer may be overtaken by its end, and what it is sent then has no reader: neither is waited for. */
  async leaves(link: InitLink): Promise<void> {
    this.child.stdin.on('error', () => {});
    link.shutdown(true).catch(() => {});
    await until(() => this.child.exitCode === 0, { what: 'the init to leave' });
  }

  attach(): Duplex {
    const stream = new Duplex({
      read: () => {},
      write: (chunk: Buffer, _, done) => void this.child.stdin.write(chunk, done),
      destroy: (error, done) => {
        if (this.#attached === stream) this.#attached = undefined;
        done(error);
      },
    });
    this.#attached = stream;
    return stream;
  }
}

async function attach(session: TestSession, engine: Engine): Promise<InitLink> {
  const link = session.openLink();
  link.attach(engine.attach());
  await link.ready();
  return link;
}

it('[I9] speaks over stdin and stdout, with the key given once', async () => {
  const engine = new Engine();
  await using session = new TestSession();
  let link = await attach(session, engine);
  const spec = shell('echo one; read line; echo "$line"', { stdin: 'open' });
  await link.spawn(spec);
  await session.outputHas(spec.processId, 'one');
  await link.close();
  link = await attach(session, engine);
  expect(session.key?.confirmed).toBe(true);
  await link.writeStdin(spec.processId, 0, Buffer.from('two\n'));
  await session.finished(spec.processId);
  expect(session.record.text(spec.processId)).toBe('one\ntwo\n');
  await engine.leaves(link);
});

it('[I9] [I21] finds the beginning again, wherever the last conversation broke off, and loses nothing', async () => {
  const engine = new Engine();
  await using session = new TestSession();
  let link = await attach(session, engine);
  const spec = shell('seq 1 400000');
  await link.spawn(spec);
  for (let cut = 1; cut <= 12; cut++) {
    engine.cutAfterBytes = cut * 7919;
    await until(() => engine.cutAfterBytes <= 0 || session.record.exits.get(spec.processId)?.final, { what: 'a cut' });
    // Half a frame is on its way to the init when the agent dies.
    engine.child.stdin.write(Buffer.from([0xff, 0xff, 0x01, 0, 0, 0, 0, 0, 17]));
    engine.cutAfterBytes = Infinity;
    await link.close();
    link = await attach(session, engine);
  }
  await session.finished(spec.processId);
  const lines = Array.from({ length: 400_000 }, (_, i) => `${i + 1}\n`).join('');
  const sha256 = (text: string | Buffer): string => createHash('sha256').update(text).digest('hex');
  expect(sha256(session.record.bytes(spec.processId))).toBe(sha256(lines));
  await engine.leaves(link);
});

it('[I9] does not answer whoever has not the key', async () => {
  const engine = new Engine();
  await using session = new TestSession();
  const link = await attach(session, engine);
  await link.close();
  await using stranger = new TestSession();
  const other = stranger.openLink();
  other.attach(engine.attach());
  let isReady = false;
  other.ready().then(
    () => (isReady = true),
    () => {},
  );
  await sleep(1500); // it calls more than once
  expect(isReady).toBe(false);
  const again = await attach(session, engine);
  expect(isReady).toBe(false);
  await other.close();
  await engine.leaves(again);
});
