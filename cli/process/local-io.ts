/**
 * This terminal's side of a remote process: standard input into the log, output with back-pressure, raw mode, window
 * size, and what Ctrl-C means.
 */
import { OutputFilter } from '../../schema/terminal/filter.ts';
import type { ProcessFollower, ProcessIo } from './follow.ts';
import type { InputLog } from '../../schema/protocol/input-log.ts';

const answerMs = 100;
/** What was typed before the keys to leave gets this long to be sent. */
const lastInputMs = 1_000;
/** Ctrl-P Ctrl-Q leaves a terminal session without ending it. */
const detachKeys = Buffer.from([0x10, 0x11]);

/** Writes to this process's stdout and stderr; resolves when the reader took the bytes. */
export function localIo(quiet: boolean, filter?: OutputFilter): ProcessIo {
  const write = (stream: NodeJS.WriteStream, bytes: Uint8Array) =>
    new Promise<void>((resolve, reject) => {
      stream.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  const tell = (line: string) => {
    const isRaw = process.stdin.isRaw === true;
    process.stderr.write(`${isRaw ? '\r' : ''}causeway: ${line}${isRaw ? '\r\n' : '\n'}`);
  };
  return {
    writeStdout: (bytes) => write(process.stdout, filter?.push(bytes) ?? bytes),
    writeStderr: (bytes) => write(process.stderr, bytes),
    say: quiet ? () => undefined : tell,
    warn: tell,
  };
}

/** For what a program writes to a terminal, when this is one; undefined: all of it passes. */
export function filterFor({ unsafe, queries }: { unsafe: boolean; queries: boolean }): OutputFilter | undefined {
  return unsafe || !process.stdout.isTTY ? undefined : new OutputFilter({ queries });
}

/** Resolves when this terminal has answered what it was asked last: nobody else is to get that as typed. */
export async function answersRead(filter: OutputFilter | undefined): Promise<void> {
  if (filter !== undefined && filter.asked > 0) await new Promise((resolve) => setTimeout(resolve, answerMs));
}

/** Resolves when what was typed is on its way, or there is no way for it. */
async function whenSent(log: InputLog): Promise<void> {
  const startedMs = performance.now();
  while (log.unsentBytes > 0 && performance.now() - startedMs < lastInputMs)
    await new Promise((resolve) => setTimeout(resolve, 10));
}

/** Feeds standard input into `log` until its end; with `raw`, Ctrl-P Ctrl-Q calls `onDetach`. The returned function ends it. */
export function readLocalInput(log: InputLog, options: { raw: boolean; onDetach: () => void }): () => void {
  let held = false;
  const onData = (chunk: Buffer) => {
    const { bytes, detaches } = options.raw ? beforeDetachKeys(chunk) : { bytes: chunk, detaches: false };
    if (!log.push(bytes, () => process.stdin.resume())) process.stdin.pause();
    if (!detaches) return;
    process.stdin.off('data', onData);
    void whenSent(log).then(options.onDetach);
  };
  const beforeDetachKeys = (chunk: Buffer): { bytes: Buffer; detaches: boolean } => {
    const joined = held ? Buffer.concat([detachKeys.subarray(0, 1), chunk]) : chunk;
    const at = joined.indexOf(detachKeys);
    held = at < 0 && joined.at(-1) === detachKeys[0];
    return { bytes: joined.subarray(0, at < 0 ? joined.length - Number(held) : at), detaches: at >= 0 };
  };
  const onEnd = () => log.end();
  process.stdin.on('data', onData).on('end', onEnd).on('error', onEnd);
  if (options.raw) process.stdin.setRawMode(true);
  return () => {
    process.stdin.off('data', onData).off('end', onEnd).off('error', onEnd);
    if (options.raw) process.stdin.setRawMode(false);
    process.stdin.pause();
    process.stdin.unref?.();
  };
}

/** The size of this terminal. */
export function windowSize(): { rows: number; columns: number } {
  return { rows: process.stdout.rows || 24, columns: process.stdout.columns || 80 };
}

/** Keeps the far terminal as large as this one. The returned function ends it. */
export function followWindow(follower: ProcessFollower): () => void {
  const send = () => void follower.control({ kind: 'resize', ...windowSize() });
  follower.onAttached = send;
  process.stdout.on('resize', send);
  return () => process.stdout.off('resize', send);
}

/** First Ctrl-C (or SIGTERM) asks, the second one detaches. The returned function ends it. */
export function onInterrupts(ask: () => void, detach: () => void): () => void {
  let asked = false;
  const handle = () => {
    if (asked) detach();
    else ask();
    asked = true;
  };
  process.on('SIGINT', handle).on('SIGTERM', handle);
  return () => process.off('SIGINT', handle).off('SIGTERM', handle);
}
