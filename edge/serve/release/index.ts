/**
 * Makes the signed release of the agent of this checkout: `npm run release -- [--home DIR] [--arch x64,arm64]`. Writes
 * `DIR/release/<arch>/{manifest,parts/}` and, the first time, `DIR/release-key.json`; does nothing when there is one of
 * this very content. Prints a JSON line for each. `--print-key`: the public key alone, for the configuration of the Worker.
 */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { architectures, type Architecture } from '../../../schema/release.ts';
import { say } from '../say.ts';
import { findRelease, packRelease } from './pack.ts';
import { releasePublicKey, signRelease } from './signing-key.ts';
import { gatherRelease } from './sources.ts';

const root = join(import.meta.dirname, '../../..');

function readFlags(args: string[]) {
  const { values } = parseArgs({
    args,
    options: { home: { type: 'string' }, arch: { type: 'string' }, 'print-key': { type: 'boolean' } },
  });
  const data = process.env['XDG_DATA_HOME'] || join(homedir(), '.local/share');
  const home = values.home ?? process.env['CAUSEWAY_HOME'] ?? join(data, 'causeway');
  const wanted = (values.arch ?? process.arch).split(',');
  const known = wanted.filter((each): each is Architecture => architectures.some((arch) => arch === each));
  if (known.length !== wanted.length)
    throw new Error(`--arch takes ${architectures.join(' and ')}, with a comma between`);
  return { home, arches: known, printKey: values['print-key'] ?? false };
}

async function makeOne(home: string, arch: Architecture): Promise<void> {
  const folder = join(home, 'release', arch);
  const { version, files } = await gatherRelease(root, arch);
  if (findRelease(folder, version) !== undefined) return say({ msg: 'release', arch, version, isNew: false, folder });
  const keyFile = join(home, 'release-key.json');
  const sign = (text: string) => signRelease(keyFile, text);
  const { parts } = await packRelease({ folder, version, arch, files, nowMs: Date.now(), sign });
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
  say({ msg: 'release', arch, version, isNew: true, folder, parts: parts.length, bytes });
}

try {
  const { home, arches, printKey } = readFlags(process.argv.slice(2));
  if (printKey) process.stdout.write(`${releasePublicKey(join(home, 'release-key.json'))}\n`);
  else for (const arch of arches) await makeOne(home, arch);
} catch (error) {
  say({ msg: 'no release was made', error: error instanceof Error ? error.message : String(error) });
  process.exitCode = 70;
}
