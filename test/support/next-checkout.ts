/**
 * The programs of this checkout as a release after it may have them: they speak the next version of the tunnel's protocol,
 * and say more in their hello than this one knows. To it, this checkout is the version before.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { limits } from '../../schema/protocol/limits.ts';

const root = join(import.meta.dirname, '../..');
const programs = ['schema', 'wire', 'edge', 'agent-daemon', 'package.json', 'wrangler.toml', 'tsconfig.json'];

export const nextVersion = limits.version + 1;

/** Makes it in `folder`. `minVersion`: the oldest version that it accepts. */
export function makeNextCheckout(folder: string, minVersion: number = limits.version): string {
  for (const name of programs) cpSync(join(root, name), join(folder, name), { recursive: true });
  // Packages are this checkout's; what is cached below them is not.
  mkdirSync(join(folder, 'node_modules'));
  for (const name of readdirSync(join(root, 'node_modules')).filter((each) => each !== '.cache'))
    symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name));
  change(join(folder, 'schema/protocol/limits.ts'), [
    [`version: ${limits.version},`, `version: ${nextVersion},`],
    [`minVersion: ${limits.minVersion},`, `minVersion: ${minVersion},`],
  ]);
  change(join(folder, 'agent-daemon/tunnel/hello.ts'), [
    ["type: 'hello',", "type: 'hello', ...{ saidLater: [{ a: 1 }] },"],
  ]);
  return folder;
}

function change(file: string, changes: [from: string, to: string][]): void {
  let text = readFileSync(file, 'utf8');
  for (const [from, to] of changes) {
    if (text.split(`  ${from}`).length !== 2) throw new Error(`${file} has not one place with ${from}`);
    text = text.replace(`  ${from}`, `  ${to}`);
  }
  writeFileSync(file, text);
}
