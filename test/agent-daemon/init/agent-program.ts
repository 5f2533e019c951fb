/**
 * An agent as a process of its own, to be killed at any moment: `agent-program.ts DIR STATE PROCESS SCRIPT`. It spools
 * stdout of one process to STATE/spool, acknowledges what it wrote, and prints DONE when it has everything.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { InitLink } from '../../../agent-daemon/init/link.ts';
import type { SessionKey } from '../../../agent-daemon/init/session-key.ts';
import { clock, quietLog, random, timers } from './ports.ts';
import { systemSoon } from '../../../agent-daemon/platform.ts';
import { unixDoor } from '../../../agent-daemon/init/door.ts';

const [dir = '', state = '', processId = '', script = ''] = process.argv.slice(2);
const keyFile = `${state}/key.json`;
const spoolFile = `${state}/spool`;

function loadKey(): SessionKey | undefined {
  if (!existsSync(keyFile)) return undefined;
  const { bytes, confirmed } = JSON.parse(readFileSync(keyFile, 'utf8')) as { bytes: string; confirmed: boolean };
  return { bytes: Buffer.from(bytes, 'hex'), confirmed };
}

async function saveKey({ bytes, confirmed }: SessionKey): Promise<void> {
  const next = `${keyFile}.next`;
  const fd = openSync(next, 'w', 0o600);
  writeSync(fd, JSON.stringify({ bytes: Buffer.from(bytes).toString('hex'), confirmed }));
  fsyncSync(fd);
  closeSync(fd);
  renameSync(next, keyFile);
}

const spool = openSync(spoolFile, 'a', 0o600);
let size = statSync(spoolFile).size;

const link = new InitLink({
  dir,
  door: unixDoor,
  soon: systemSoon,
  sessionKey: loadKey(),
  saveSessionKey: saveKey,
  clock,
  timers,
  random,
  log: { ...quietLog, error: (message, fields) => console.error(message, fields) },
  onProcesses: (list) => {
    for (const known of list) {
      if (known.resumed) continue;
      link.ack(known.processId, 1, size);
      link.resume(known.processId, 1, size);
    }
  },
  onOutput: (id, stream, offset, _timeMs, bytes) => {
    if (offset !== size) throw new Error(`output at ${offset}, the spool is at ${size}`);
    writeSync(spool, bytes);
    size += bytes.length;
    link.ack(id, stream, size);
  },
  onGap: (_id, _stream, from, to) => {
    throw new Error(`a gap from ${from} to ${to}`);
  },
  onExit: (_id, exit) => {
    if (!exit.final) return;
    const wait = setInterval(() => {
      if (size !== exit.ends[1]) return;
      clearInterval(wait);
      writeFileSync(`${state}/done`, JSON.stringify(exit));
      console.log('DONE');
    }, 5);
  },
});
await link.ready();
console.log('READY');
await link.spawn({ processId, argv: ['/bin/sh', '-c', script], env: { PATH: '/usr/bin:/bin' } });
