/**
 * Who was shut out, one JSON object a line, beside the state and never put back with it: a restore on this machine keeps them
 * out even where the former state can not be read any more. It is a second line: where it can be read, the former state says it.
 */
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { say } from './say.ts';

/** Appends what the Worker logs of a revocation to `file` (0600). A disk that refuses is said, and changes nothing else. */
export function revocationJournal(file: string): (logged: unknown, atMs: number) => void {
  return (logged, atMs) => {
    const { message, subject, revoked } = (logged ?? {}) as Record<string, unknown>;
    if (message !== 'revocation' || typeof subject !== 'string') return;
    try {
      const handle = openSync(file, 'a', 0o600);
      writeSync(handle, `${JSON.stringify({ atMs: Math.round(atMs), subject, revoked: revoked === true })}\n`);
      fsyncSync(handle);
      closeSync(handle);
    } catch (error) {
      say({ msg: 'a revocation was not noted', subject, error: String(error) });
    }
  };
}
