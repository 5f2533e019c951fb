/** Gathers the parts of a backup in a folder: copies of the edge's files in their order, then the small files of the home. */
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { CliFailure } from '../../exit.ts';
import { findIdentity } from '../home.ts';
import { checkoutVersion, findHomeVersion } from '../version.ts';
import { agentFiles, edgeFiles, tlsFiles } from './home-files.ts';
import type { Manifest, Part } from './manifest.ts';
import { runProgram } from './program.ts';

const Copied = z.object({
  path: z.string(),
  bytes: z.int(),
  sha256: z.string(),
  number: z.int(),
  of: z.int(),
});

/** Copies everything of `home` below `folder`; `say` hears how far it is. @throws CliFailure */
export async function takeSnapshot(home: string, folder: string, say: (text: string) => void): Promise<Manifest> {
  const identity = findIdentity(home);
  if (!identity)
    throw new CliFailure(`there is no instance in ${home}`, { hint: 'CAUSEWAY_HOME=/its/folder causeway backup' });
  const madeAtMs = Date.now();
  const parts: Part[] = [];
  const edge = ['edge/serve/snapshot/index.ts', 'copy', '--state', join(home, 'edge'), '--to', join(folder, 'edge')];
  await runProgram(edge, (line) => {
    if (line.msg !== 'copied') return;
    const { path, bytes, sha256, number, of } = Copied.parse(line);
    parts.push({ path: `edge/${path}`, bytes, sha256 });
    say(`copying the state (${Math.floor((number * 4) / of) * 25} %)`);
  });
  for (const path of [...edgeFiles, ...tlsFiles, ...agentFiles])
    if (existsSync(join(home, path))) parts.push(copySmall(home, folder, path));
  const version = findHomeVersion(home) ?? checkoutVersion();
  return {
    format: 1,
    madeAtMs,
    instance: identity.id,
    version,
    parts,
    spools: [],
  };
}

function copySmall(home: string, folder: string, path: string): Part {
  const target = join(folder, path);
  mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
  copyFileSync(join(home, path), target);
  const content = readFileSync(target);
  return { path, bytes: content.length, sha256: createHash('sha256').update(content).digest('hex') };
}
