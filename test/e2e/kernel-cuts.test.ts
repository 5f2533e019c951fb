/**
 * What is lost, doubled or done twice when every part is cut again and again: under a kernel that prints without end, under a
 * full-screen program that is typed into, and under a notebook, all at the same time. Each cut comes while bytes flow.
 */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeTerminal } from '../../agent-daemon/terminals/xterm.ts';
import type { Kernel } from '../../schema/api/kernel-parts.ts';
import type { Terminal } from '../../schema/api/terminal-parts.ts';
import { ChannelsClient } from '../support/channels-client.ts';
import { Cli } from '../support/cli.ts';
import { blackhole, killAgent, killEngine, killWorkerd } from '../support/cuts.ts';
import { ClientSocket } from '../support/client-socket.ts';
import { openLab, runCell, startCell } from '../support/jupyter-client.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { importPython, pythonImage } from '../support/python-image.ts';
import { seededRandom } from '../support/random.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { byTier, tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

const MiB = 1024 * 1024;
const amount = byTier({
  daily: { mebibytes: 48, cuts: 20, cells: 12 },
  full: { mebibytes: 500, cuts: 200, cells: 120 },
});
const outageMs = 600_000;
/** What the kernel prints at a time, and how long it rests: slower than it is read, so that cuts come while it prints. */
const chunkBytes = 64 * 1024;
const restSeconds = 0.03;
const chunks = (amount.mebibytes * MiB) / chunkBytes;
const random = seededRandom(Number(process.env['CAUSEWAY_SEED'] ?? 1));

let stack: Stack;
/** Between clients and the edge. */
let proxy: FaultProxy;
/** Through the proxy. */
let far: Cli;
let path: string;

beforeAll(async () => {
  stack = await startStack({ agentProxy: true });
  proxy = await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } });
  const { engine } = stack.agents[0]!;
  await importPython(engine.docker, engine.socket);
  const env = { XDG_STATE_HOME: join(stack.dir, 'state') };
  far = new Cli(`http://127.0.0.1:${proxy.port}`, stack.client.token!, join(stack.dir, 'far'), env);
  const { id } = await stack.client.createSession({
    type: 'interactive',
    name: 'lab',
    image: pythonImage,
    resources: { cpu: 1, mem: '1g' },
  });
  await stack.client.waitForState(id, ['RUNNING']);
  path = `/v1/sessions/${id}`;
}, 300_000);

afterAll(async () => {
  await proxy?.stop();
  await stack?.stop();
}, 120_000);

/** What is cut, in turn. Each returns when the part is there again. */
const cuts: (() => Promise<unknown>)[] = [
  () => Promise.resolve(proxy.reset()),
  () => Promise.resolve(stack.agentProxy!.reset()),
  () => blackhole(proxy, random),
  () => killWorkerd(stack),
  () => blackhole(stack.agentProxy!, random),
  () => killAgent(stack),
  () => Promise.resolve([proxy.reset(), stack.agentProxy!.reset()]),
  ...(tier === 'full'
    ? [
        async () => {
          await stack.edge.kill9();
          await stack.edge.start();
        },
        () => killEngine(stack),
      ]
    : []),
];

it(
  `[S17] [S18] [S19] [S15] ${amount.cuts} cuts lose nothing and do nothing twice, while a kernel prints ${amount.mebibytes} MiB, a full screen is typed into and a notebook runs`,
  async () => {
    const printing = await startPrinting();
    const screen = await startScreen();
    const notebook = startNotebook();
    const healedMs: number[] = [];
    for (let n = 0; n < amount.cuts; n++) {
      await printing.until(Math.floor((amount.mebibytes * MiB * (n + 1)) / (amount.cuts + 2)));
      screen.type(`cut ${n};`);
      await cuts[n % cuts.length]!();
      const atMs = performance.now();
      const had = printing.bytes();
      screen.type(`healed ${n};`);
      await printing.until(Math.min(had + 1, amount.mebibytes * MiB));
      healedMs.push(performance.now() - atMs);
    }
    const slowest = healedMs.toSorted((a, b) => b - a).slice(0, Math.ceil(amount.cuts / 20) + 1);
    console.log(`the slowest to go on after a cut was healed, in ms: ${slowest.map(Math.round).join(', ')}`);
    await printing.isWhole();
    await screen.isExact();
    await notebook.isExact();
  },
  byTier({ daily: 180_000, full: 3_600_000 }),
);

it.runIf(tier === 'full')(
  `[S18] ${outageMs / 60_000} minutes without any network in the middle of a cell: a page that comes back has all of it, and so has a new one`,
  async () => {
    const server = { url: `http://127.0.0.1:${proxy.port}${path}/jupyter/`, token: stack.client.token! };
    const [lab, reloaded] = [openLab(server), openLab(server)];
    const links = [proxy, stack.agentProxy!];
    try {
      const kernel = await lab.kernels.startNew({ name: 'python3' });
      const steps = outageMs / 250 + 100;
      const training = startCell(
        kernel,
        `import time\nfor i in range(${steps}):\n    print(i)\n    time.sleep(0.25)\n"trained"`,
      );
      await until(() => training.cell.outputs.join('').includes('\n9\n'), { what: 'ten steps' });
      for (const link of links) link.set('both', { blackhole: true });
      await sleep(outageMs);
      for (const link of links) {
        link.reset();
        link.heal();
      }
      // A page tries for some minutes by itself; then somebody tells it to.
      await until(() => kernel.reconnect().then(() => true), { what: 'the page to be back', timeoutMs: 60_000 });
      const printed = Array.from({ length: steps }, (_, i) => `${i}\n`).join('');
      expect(await training.done).toEqual({ outputs: [printed, "'trained'"], status: 'ok' });
      let seen = '';
      const again = reloaded.kernels.connectTo({ model: kernel.model });
      again.iopubMessage.connect((_, { header, content }) => {
        if (header.msg_type === 'stream') seen += (content as { text: string }).text;
      });
      await until(() => seen.length >= printed.length, { what: 'the new page to be told', timeoutMs: 60_000 });
      expect(seen).toBe(printed);
      expect(await runCell(again, 'i')).toEqual({ outputs: [String(steps - 1)], status: 'ok' });
    } finally {
      for (const each of [lab, reloaded]) each.stop();
    }
  },
  outageMs + 300_000,
);

/** A kernel of Jupyter that prints noise of which it knows the hash, and counts how often it was told to. */
async function startPrinting() {
  const kernel = (await stack.client.api('POST', `${path}/kernels`, { spec: 'python3' })) as Kernel;
  const dial = () => ClientSocket.dial(`http://127.0.0.1:${proxy.port}`, `${path}/execute`, stack.client.token!);
  const client = new ChannelsClient(dial, { kernelId: kernel.id, writer: 'cuts', after: { starts: 1, offset: 0 } });
  const code = `
import base64, hashlib, os, sys, time
times = globals().get("times", 0) + 1
h = hashlib.sha256()
for _ in range(${chunks}):
    text = base64.b64encode(os.urandom(${(chunkBytes / 4) * 3})).decode()
    h.update(text.encode())
    sys.stdout.write(text)
    sys.stdout.flush()
    time.sleep(${restSeconds})`;
  const asked = client.ask(code);
  const hash = createHash('sha256');
  let bytes = 0;
  let looked = 0;
  /** What was counted is let go of. */
  const count = (): number => {
    for (; looked < client.messages.length; looked++) {
      const { header, parent, content } = client.messages[looked]!;
      if (header['msg_type'] !== 'stream' || parent['msg_id'] !== asked) continue;
      const text = String(content['text']);
      hash.update(text);
      bytes += text.length;
      content['text'] = '';
    }
    return bytes;
  };
  return {
    bytes: count,
    until: (wanted: number) =>
      until(() => count() >= wanted, {
        what: `${wanted} bytes of output (${client.last})`,
        timeoutMs: 120_000,
        everyMs: 10,
      }),
    isWhole: async () => {
      await client.whenDone(asked, 300_000);
      expect(count()).toBe(amount.mebibytes * MiB);
      const known = (await client.whenDone(client.ask('print(times, h.hexdigest())'))).trim();
      expect(`1 ${hash.digest('hex')}`).toBe(known);
      expect(client.all('gap')).toEqual([]);
      expect(client.all('ended')).toEqual([]);
      expect(client.reconnects).toBeGreaterThanOrEqual(amount.cuts / 2);
      await client.stop();
    },
  };
}

/** A program on the alternate screen that shows how much was typed, and the hash of it; a person looks and types. */
async function startScreen() {
  const program = `
import hashlib, os, sys, tty
tty.setraw(0)
h, n = hashlib.sha256(), 0
def draw():
    said = "\\x1b[2;1H%d %s\\x1b[K" % (n, h.hexdigest()[:40])
    for row in range(4, 20):
        said += "\\x1b[%d;%dH\\x1b[3%dm%06d\\x1b[0m" % (row, 1 + (row * 7 + n) % 60, row % 8, n)
    os.write(1, said.encode())
os.write(1, b"\\x1b[?1049h\\x1b[2J\\x1b[?25l\\x1b[1;1Hfull-screen")
draw()
while True:
    typed = os.read(0, 4096)
    h.update(typed)
    n += len(typed)
    draw()`;
  const viewer = far.terminal(['attach', 'lab', '--', 'python3', '-c', program]);
  await viewer.says(/full-screen/);
  const hash = createHash('sha256');
  let typed = 0;
  return {
    type: (text: string) => {
      hash.update(text);
      typed += text.length;
      viewer.type(text);
    },
    isExact: async () => {
      const shown = `${typed} ${hash.digest('hex').slice(0, 40)}`;
      await until(() => viewer.seen.stdout.includes(shown), {
        what: `${shown}, not ${viewer.seen.stdout.slice(-300)}`,
        timeoutMs: 120_000,
      });
      const [terminal] = ((await stack.client.api('GET', `${path}/terminals`)) as { items: Terminal[] }).items;
      const fresh = far.terminal(['attach', '--read-only', 'lab']);
      await until(() => fresh.seen.stdout.includes(shown), { what: `${shown} on a fresh screen` });
      const [before, after] = await Promise.all([viewer, fresh].map((each) => rowsOf(each.seen.stdout, terminal!)));
      expect(after![0]).toBe('full-screen');
      expect(after![1]).toBe(shown);
      expect(before).toEqual(after);
      for (const each of [fresh, viewer]) each.child.kill('SIGKILL');
    },
  };
}

/** The rows that stand on a screen on which all of `output` was written. */
async function rowsOf(output: string, { window }: Terminal): Promise<string[]> {
  const { terminal } = makeTerminal(window);
  await new Promise<void>((resolve) => terminal.write(output, resolve));
  const { active } = terminal.buffer;
  const rows = Array.from(
    { length: window.rows },
    (_, y) => active.getLine(active.baseY + y)?.translateToString(true) ?? '',
  );
  terminal.dispose();
  return rows;
}

/** A notebook whose cells each leave a line behind; a cell done twice leaves two. */
function startNotebook() {
  const file = join(stack.dir, 'cuts.ipynb');
  const source = (n: number) =>
    `import time\nwith open("ran", "a") as ran: ran.write("${n}\\n")\nfor i in range(20):\n    print(${n}, i)\n    time.sleep(0.05)\nopen("ran").read().split()`;
  const cells = Array.from({ length: amount.cells }, (_, n) => ({
    cell_type: 'code',
    source: source(n),
    metadata: {},
    outputs: [],
    execution_count: null,
  }));
  writeFileSync(file, JSON.stringify({ nbformat: 4, nbformat_minor: 5, metadata: {}, cells }));
  const running = far.start(['run', '--kernel', 'python', '--session', 'lab', file], '');
  return {
    isExact: async () => {
      const { status, stderr } = await running.done;
      expect(status, stderr).toBe(0);
      const executed = JSON.parse(readFileSync(join(stack.dir, 'cuts.executed.ipynb'), 'utf8')) as {
        cells: { outputs: { text?: string[]; data?: Record<string, string[]> }[] }[];
      };
      const numbers = (upTo: number) => Array.from({ length: upTo }, (_, n) => String(n));
      for (const [n, { outputs }] of executed.cells.entries()) {
        expect(outputs[0]?.text).toEqual(numbers(20).map((i) => `${n} ${i}\n`));
        const ran = outputs[1]?.data?.['text/plain']?.join('') ?? '';
        expect(ran.match(/\d+/g)).toEqual(numbers(n + 1));
      }
    },
  };
}
