/**
 * What the agent says to an init: the parser of causeway-init itself (C, built here with a printer around it) against
 * SPEC.md's table read a second time in TypeScript. Both must refuse the same, and understand the same.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';

import { encode, headerBytes } from '../../../agent-daemon/init/codec.ts';
import { initFolder } from '../../agent-daemon/init/harness.ts';
import type { Rng } from '../../support/random.ts';
import { tmpDir } from '../../support/tmp.ts';
import { FuzzFailure, hold, type Target } from '../fuzzer.ts';
import { readCommand } from './init-spec.ts';

const processId = 'prc_0123456789abcdefghjkmnpqrs';
const bytes = Buffer.from('some bytes');
/** Inputs given to one process of the C parser. */
const batchInputs = 4096;

/** Needs gcc. */
export function initCommands(): Target {
  const scratch = tmpDir('fuzz');
  const dump = join(scratch.path, 'dump');
  const source = join(import.meta.dirname, '../../agent-daemon/init/wire-dump.c');
  execFileSync('gcc', ['-std=gnu17', '-O1', `-I${initFolder}`, source, `${initFolder}wire.c`, '-o', dump]);
  let waiting: Buffer[] = [];
  const check = (): void => {
    const batch = waiting;
    waiting = [];
    const { status, stdout } = spawnSync(dump, { input: Buffer.concat(batch), maxBuffer: 2 ** 30 });
    const lines = stdout.toString('latin1').split('\n');
    for (const [at, input] of batch.entries()) {
      const meant = readCommand(input[8]!, input.subarray(headerBytes));
      if (lines[at] === meant) continue;
      const why = `the init says ${lines[at] ?? `nothing (exit ${status})`}, SPEC.md ${meant}`;
      throw new FuzzFailure('init-commands', 0, at, input, new Error(why));
    }
    hold(status === 0 && lines.length === batch.length + 1, 'the parser in C reads to the end');
  };
  return {
    name: 'init-commands',
    maxBytes: 4 * 1024,
    seeds,
    mend: oneFrame,
    run(input) {
      if (input.length < headerBytes) return;
      waiting.push(input);
      if (waiting.length >= batchInputs) check();
    },
    flush: check,
    close: () => scratch.remove(),
  };
}

function seeds(): Buffer[] {
  const spawn = { processId, argv: ['sh', '-c', 'true'], env: { PATH: '/bin', A: 'b=c' }, cwd: '/tmp' };
  const rlimits = [{ resource: 7, soft: 64, hard: null }];
  const user = { uid: 1000, gid: 1000, groups: [1, 2] };
  return [
    encode({ type: 'key', nonce: Buffer.alloc(32, 1), secret: Buffer.alloc(32, 2) }),
    encode({ type: 'spawn', spec: { ...spawn, rlimits, user, tty: { rows: 24, cols: 80 }, drainMs: 0 } }),
    encode({ type: 'spawn', spec: { ...spawn, stdin: 'open', output: { onFull: 'drop', blockMs: 5 } } }),
    encode({ type: 'stdin', processId, offset: 2 ** 40, bytes }),
    encode({ type: 'stdinClose', processId, offset: 9 }),
    encode({ type: 'resize', processId, rows: 1, cols: 2 }),
    encode({ type: 'signal', processId, signal: 15, scope: 'session' }),
    encode({ type: 'ack', processId, stream: 2, offset: 3 }),
    encode({ type: 'release', processId }),
    encode({ type: 'lease', deadlineBootMs: 1 }),
    encode({ type: 'terminate', graceMs: 1 }),
    encode({ type: 'shutdown', now: true }),
    encode({ type: 'ping' }),
  ];
}

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';
/** Payloads of types whose size is fixed, by their type. */
const sizes: Record<number, number> = {
  2: 64,
  3: 64,
  5: 0,
  18: 38,
  19: 34,
  20: 32,
  21: 39,
  22: 39,
  23: 30,
  24: 8,
  25: 4,
  26: 1,
  27: 0,
};

/** A header that is right, and mostly an id and a size that are, so that what is tested lies behind them. */
function oneFrame(rng: Rng, input: Buffer): Buffer {
  if (input.length < headerBytes) return input;
  const type = rng.next() < 0.9 && (input[8]! < 16 || input[8]! > 27) ? 16 + (input[8]! % 12) : input[8]!;
  const size = sizes[type] ?? input.length - headerBytes;
  const frame = rng.next() < 0.1 ? input : Buffer.concat([input, Buffer.alloc(size)]).subarray(0, headerBytes + size);
  frame.writeUInt32LE(frame.length - headerBytes, 0);
  frame[8] = type;
  frame.fill(0, 9, 12);
  if (type >= 16 && type <= 23 && rng.next() < 0.9 && frame.length >= headerBytes + 30) mendId(frame);
  return frame;
}

function mendId(frame: Buffer): void {
  frame.write('prc_', headerBytes, 'latin1');
  for (let at = headerBytes + 4; at < headerBytes + 30; at++)
    if (!alphabet.includes(String.fromCharCode(frame[at]!))) frame.write(alphabet[frame[at]! % 32]!, at, 'latin1');
}
