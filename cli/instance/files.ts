/** Small files of an instance: whole or not there, readable by their owner alone. */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import type { z } from 'zod';

import { CliFailure } from '../exit.ts';

/** Replaces a file as a whole (mode 0600), on disk before it returns. */
export function writeJson(file: string, value: unknown): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const fresh = `${file}.${process.pid}`;
  try {
    const handle = openSync(fresh, 'w', 0o600);
    try {
      writeSync(handle, `${JSON.stringify(value, null, 2)}\n`);
      fsyncSync(handle);
    } finally {
      closeSync(handle);
    }
    renameSync(fresh, file);
  } finally {
    rmSync(fresh, { force: true });
  }
}

/** The file's content, or undefined when there is none. Throws CliFailure for a file that is not ours to read. */
export function findJson<Schema extends z.ZodType>(file: string, schema: Schema): z.infer<Schema> | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new CliFailure(`${file} can not be read: ${(error as Error).message}`);
  }
  try {
    return schema.parse(JSON.parse(text)) as z.infer<Schema>;
  } catch {
    throw new CliFailure(`${file} is damaged`, {
      hint: `restore it from the backup, or move it away and type: causeway up`,
    });
  }
}
