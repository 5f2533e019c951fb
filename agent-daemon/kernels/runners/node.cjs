// The runner of Node.js kernels (../SPEC.md): Node 18 or later, nothing but its own modules. Code runs as in Node's REPL:
// in the global scope, with top-level await.
'use strict';
const childProcess = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const repl = require('node:repl');
const { PassThrough, Writable } = require('node:stream');
const util = require('node:util');

const { exit } = process;
const { setInterval, clearInterval } = globalThis;
const kernel = process.argv[1];
/** Frames come here; standard input is nothing, for the program and its children. */
const input = 3;
const partBytes = 4000;
/** What a pipe takes whole or not at all: PIPE_BUF of Linux, pipe(7). */
const wholeBytes = 4096;
const pauseMs = 10;
/** How often it is looked, while code waits, whether somebody wants to interrupt it. */
const interruptMs = 20;
const interruptCode = 'ERR_SCRIPT_EXECUTION_INTERRUPTED';
const nothing = new Int32Array(new SharedArrayBuffer(4));

/** What is to be written to each descriptor, and how much of it was: an interrupt ends code between any two steps of it. */
const unwritten = { 1: { chunks: [], at: 0 }, 2: { chunks: [], at: 0 } };

/** Writes all, each chunk by one write, now, behind what an interrupt left: what comes later must not overtake it. */
function write(fd, chunks) {
  const { chunks: earlier, at } = unwritten[fd];
  const now = { chunks: [...earlier.slice(at), ...chunks], at: 0 };
  unwritten[fd] = now;
  while (now.at < now.chunks.length) {
    const chunk = now.chunks[now.at];
    // Counted before: a chunk goes whole, and an interrupt may come while it does.
    now.at += 1;
    try {
      const written = fs.writeSync(fd, chunk);
      if (written < chunk.length) now.chunks[(now.at -= 1)] = chunk.subarray(written);
    } catch (error) {
      now.at -= 1;
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(nothing, 0, 0, pauseMs);
    }
  }
}

function chunksOf(bytes, size) {
  const chunks = [];
  for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
  return chunks;
}

function record(fd, fields) {
  const parts = chunksOf(Buffer.from(JSON.stringify(fields).replace(/[^\0-\x7f]/g, escaped)), partBytes);
  const framed = parts.map((part, at) => {
    const flag = at + 1 < parts.length ? '+' : '.';
    return Buffer.concat([Buffer.from(`\x1e${kernel} ${flag}${part.length}:`), part]);
  });
  write(fd, framed);
}

function escaped(character) {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

for (const [name, fd] of [
  ['stdout', 1],
  ['stderr', 2],
]) {
  const stream = new Writable({ write: (_chunk, _encoding, done) => done() });
  // Not by the stream's own: an interrupt in the middle of it would leave it waiting for ever.
  const writeNow = (chunk, encoding, done) => {
    const named = typeof encoding === 'string' ? encoding : 'utf8';
    write(fd, chunksOf(typeof chunk === 'string' ? Buffer.from(chunk, named) : chunk, wholeBytes));
    const after = typeof encoding === 'function' ? encoding : done;
    if (after !== undefined) process.nextTick(after);
    return true;
  };
  Object.assign(stream, { fd, isTTY: false, write: writeNow });
  Object.defineProperty(process, name, { value: stream, configurable: true, writable: true });
}
globalThis.console = new console.Console({ stdout: process.stdout, stderr: process.stderr });

let current = null;
let held = Buffer.alloc(0);

/** The first whole frame of what came, if there is one. */
function takeFrame() {
  const line = held.indexOf(10);
  if (line < 0) return undefined;
  const [verb, id, length] = held.toString('latin1', 0, line).split(' ');
  const end = line + 1 + Number(length);
  if (held.length < end) return undefined;
  const payload = held.toString('utf8', line + 1, end);
  held = held.subarray(end);
  return { verb, id, payload };
}

function media(value) {
  const data = { 'text/plain': util.inspect(value) };
  for (const [type, name] of [
    ['text/html', 'toHTML'],
    ['image/svg+xml', 'toSVG'],
  ])
    if (typeof value?.[name] === 'function') data[type] = String(value[name]());
  return data;
}

/** Asks for a line and waits for it. */
globalThis.prompt = function prompt(text = '', { password = false } = {}) {
  if (current === null) throw new Error('prompt() works within a run alone');
  const ask = (id) => record(1, { kind: 'input', id, prompt: String(text), password: Boolean(password) });
  ask(current);
  const buffer = Buffer.alloc(65536);
  for (;;) {
    const frame = takeFrame();
    if (frame?.verb === 'input') return frame.payload;
    if (frame?.verb === 'mark') ask(frame.id);
    if (frame !== undefined) continue;
    try {
      const got = fs.readSync(input, buffer);
      if (got === 0) exit(0);
      held = Buffer.concat([held, buffer.subarray(0, got)]);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(nothing, 0, 0, pauseMs);
    }
  }
};
globalThis.display = (...values) => {
  for (const value of values) record(1, { kind: 'display', id: current, data: media(value) });
};

const server = repl.start({
  input: new PassThrough(),
  output: new Writable({ write: (_chunk, _encoding, done) => done() }),
  prompt: '',
  terminal: false,
  useGlobal: true,
  breakEvalOnSigint: true,
});
server.pause();

/** Of the run: errors come here where the REPL keeps a domain, and to its callback where it does not. */
let fail = null;
function onError(error) {
  if (fail === null) process.stderr.write(`${util.inspect(error)}\n`);
  else fail(error);
}
server._domain?.removeAllListeners('error');
server._domain?.on('error', onError);

function onInterrupt() {
  fail?.(Object.assign(new Error('interrupted'), { code: interruptCode }));
}

/**
 * What the REPL listens for SIGINT by while it evaluates. By public means nobody does between its end and a listener of the
 * process: there a signal kills or is lost. It counts its starts, so one more lets it live as long as the kernel.
 * Undefined in a Node.js that does not give it away: there that moment stays.
 */
function findWatchdog() {
  const { emitWarning } = process;
  process.emitWarning = () => undefined;
  try {
    const watchdog = require('internal/test/binding').internalBinding('contextify');
    return watchdog.startSigintWatchdog() ? watchdog : undefined;
  } catch {
    return undefined;
  } finally {
    process.emitWarning = emitWarning;
  }
}
const watchdog = findWatchdog();
if (watchdog === undefined) process.on('SIGINT', onInterrupt);

/** True when a signal came since this was asked last, and ended no evaluation. */
function takeInterrupt() {
  watchdog?.startSigintWatchdog();
  return watchdog?.stopSigintWatchdog() === true;
}

// What came in the last moment of an evaluation, too late for the code itself.
server.on('SIGINT', onInterrupt);

async function evaluate(code) {
  try {
    return await new Promise((resolve, reject) => {
      fail = reject;
      // Where nothing else listens: the REPL and a listener of the process can not do so at once.
      if (watchdog === undefined) process.off('SIGINT', onInterrupt);
      // A last newline lets the REPL see the end.
      server.eval(`${code}\n`, server.context, 'run', (error, value) => {
        if (error) reject(error instanceof repl.Recoverable ? error.err : error);
        else resolve({ value });
      });
      if (watchdog === undefined) process.on('SIGINT', onInterrupt);
    });
  } finally {
    fail = null;
  }
}

function isInterrupt(error) {
  return error?.code === interruptCode;
}

function tell(error) {
  const isError = util.types.isNativeError(error) || error instanceof Error;
  const name = isInterrupt(error) ? 'Interrupted' : isError ? String(error.name) : 'Thrown';
  const message = isError ? String(error.message) : util.inspect(error);
  const stack = isError && !isInterrupt(error) ? String(error.stack ?? message) : `${name}: ${message}`;
  const traceback = `${stack.split(/\n +at (?:.*node:|.*REPL)/)[0]}\n`;
  record(1, { kind: 'error', id: current, name, message, traceback });
}

const verbs = {
  async run(code) {
    const { value } = await evaluate(code);
    if (value !== undefined) {
      globalThis._ = value;
      record(1, { kind: 'result', id: current, data: media(value) });
    }
    return 0;
  },
  shell(command) {
    return new Promise((resolve, reject) => {
      const child = childProcess.spawn('/bin/sh', ['-c', command], { stdio: ['ignore', 1, 2] });
      child.on('error', reject);
      child.on('exit', (code, signal) => resolve(code ?? 128 + (require('node:os').constants.signals[signal] ?? 0)));
    });
  },
  complete(code) {
    return new Promise((resolve, reject) => {
      server.completer(code.slice(code.lastIndexOf('\n') + 1), (error, found) => {
        if (error) return reject(error);
        const [all, replaced] = found ?? [[], ''];
        const matches = [...new Set(all.filter((each) => each !== ''))].slice(0, 256);
        record(1, { kind: 'completion', id: current, matches, replaces: (replaced ?? '').length });
        resolve(0);
      });
    });
  },
};

/** Thrown by `process.exit()` in a run, which ends and leaves the kernel. */
class Exit extends Error {}
process.exit = (code = process.exitCode) => {
  if (current === null) exit(code);
  throw Object.assign(new Exit('exit'), { exitCode: Number(code ?? 0) & 255 });
};

/** What an unhandled error of something that goes on beside ends: nothing but itself. */
for (const name of ['uncaughtException', 'unhandledRejection']) process.on(name, onError);

async function perform({ verb, id, payload }) {
  current = id;
  let exitCode;
  // One of before is nobody's.
  takeInterrupt();
  const looking = setInterval(() => takeInterrupt() && onInterrupt(), interruptMs);
  try {
    exitCode = await verbs[verb](payload);
  } catch (error) {
    exitCode = error instanceof Exit ? error.exitCode : isInterrupt(error) ? 130 : 1;
    if (!(error instanceof Exit)) tell(error);
  } finally {
    clearInterval(looking);
  }
  record(2, { kind: 'mark', id });
  record(1, { kind: 'finished', id, exitCode });
  current = null;
}

let busy = false;
const incoming = new net.Socket({ fd: input, readable: true, writable: false });

async function serve() {
  if (busy) return;
  busy = true;
  // The program may ask for a line, which then comes to it and not here.
  for (let frame = takeFrame(); frame !== undefined; frame = takeFrame()) {
    incoming.pause();
    if (frame.verb === 'mark') record(1, { kind: 'mark', id: frame.id });
    else if (frame.verb in verbs) await perform(frame);
  }
  busy = false;
  incoming.resume();
}

record(1, { kind: 'ready', id: null, language: 'node', version: process.versions.node });
incoming.on('data', (chunk) => {
  held = Buffer.concat([held, chunk]);
  void serve();
});
incoming.on('end', () => exit(0));
