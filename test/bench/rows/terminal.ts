/** Terminals: a key press and its echo, much text, and Ctrl-C in a flood. */
import { type Sshd, startSshd } from '../peers/ssh.ts';
import type { BenchContext } from '../context.ts';
import { type Row, quantile } from '../row.ts';
import { endSessions, startSession } from '../subjects/session.ts';
import { readyWord, TypedTerminal } from '../subjects/terminal.ts';

const warmUpKeys = 200;
const keys = 1000;
const textBytes = 32 * 1024 * 1024;
const line = '0123456789'.repeat(8).slice(0, 79);
const floodedBytes = 4 * 1024 * 1024;
const peer = 'OpenSSH with ObscureKeystrokeTiming=no to an sshd on the same machine, without a container';

const echo = `stty raw -echo; printf ${readyWord}; exec cat`;
const bulk = `f=$(mktemp); yes ${line} | head -c ${textBytes} > $f; printf ${readyWord}; read go; cat $f; rm $f; printf the-end; read go`;
const flood = `trap 'printf heard; read go' INT; printf ${readyWord}; read go; yes ${line}`;

type Open = (script: string) => Promise<TypedTerminal>;

export const rows: Row[] = [
  {
    name: 'terminal-echo',
    title: 'p50 of a key press to its echo by a program in a terminal, from a client through the edge',
    peer,
    unit: 'ms',
    goal: { kind: 'ratio', atMost: 3.5 },
    setup: (context) => job(context, async (open) => quantile(await echoTimes(open), 0.5)),
  },
  {
    name: 'terminal-text',
    title: `${textBytes / 1024 ** 2} MiB of text in a terminal, until its end is seen`,
    peer,
    unit: 'MB/s',
    goal: { kind: 'ratio', atLeast: 0.8 },
    setup: (context) => job(context, textRate),
  },
  {
    name: 'terminal-wetty',
    title: `${textBytes / 1024 ** 2} MiB of text in a terminal, until its end is seen`,
    peer: 'npm wetty on the same machine, without a container; what is heard is not drawn in either',
    unit: 'MB/s',
    goal: { kind: 'ratio', atLeast: 1.5 },
    setup: (context) => job(context, textRate, (script) => TypedTerminal.wetty(script)),
  },
  {
    name: 'terminal-interrupt',
    title: 'Ctrl-C in a flood of text, until the program has said that it was heard',
    peer,
    unit: 'ms',
    goal: { kind: 'value', atMost: 100 },
    setup: (context) => job(context, interruptTime),
  },
];

/** `open`: how the peer's terminal is opened, where that is not OpenSSH. */
async function job(context: BenchContext, measure: (open: Open) => Promise<number>, open?: Open) {
  const stack = await context.stack();
  const sshd: Sshd | undefined = open === undefined ? await startSshd() : undefined;
  const { id } = await startSession(stack, { resources: { cpu: 1, mem: '256m' } });
  return {
    round: async () => ({
      subject: await measure((script) => TypedTerminal.ours(stack, id, script)),
      peer: await measure(open ?? ((script) => TypedTerminal.openSsh(sshd!, script))),
    }),
    teardown: async () => {
      await sshd?.stop();
      await endSessions(stack, [id]);
    },
  };
}

/** In ms. */
async function echoTimes(open: Open): Promise<number[]> {
  const terminal = await open(echo);
  const times: number[] = [];
  for (let n = -warmUpKeys; n < keys; n++) {
    const before = terminal.heardBytes;
    const ms = await terminal.typed('x', ({ bytes }) => bytes > before);
    if (n >= 0) times.push(ms);
  }
  await terminal.stop();
  return times;
}

/** In MB/s of what the program wrote. */
async function textRate(open: Open): Promise<number> {
  const terminal = await open(bulk);
  const ms = await terminal.typed('\n', ({ tail }) => tail.includes('the-end'));
  const { heardBytes } = terminal;
  await terminal.stop();
  if (heardBytes < textBytes) throw new Error(`only ${heardBytes} bytes of ${textBytes} were heard`);
  return textBytes / 1e3 / ms;
}

/** In ms. */
async function interruptTime(open: Open): Promise<number> {
  const terminal = await open(flood);
  await terminal.typed('\n', ({ bytes }) => bytes > floodedBytes);
  const ms = await terminal.typed('\x03', ({ tail }) => tail.includes('heard'));
  await terminal.stop();
  return ms;
}
