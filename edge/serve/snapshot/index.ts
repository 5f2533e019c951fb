/**
 * Copies the state of the edge, or readies a copy that was put back: `node edge/serve/snapshot/index.ts copy --state DIR
 * --to DIR` (also while the edge runs), `... settle --state DIR` and `... revoked --state DIR` (only while it does not).
 * Prints JSON lines.
 */
import { parseArgs } from 'node:util';

import { say } from '../say.ts';
import { settleAlarms } from './alarms.ts';
import { copyFile, stateFiles } from './copy.ts';
import { readRevoked } from './revoked.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { state: { type: 'string' }, to: { type: 'string' } },
});

async function copy(state: string, to: string): Promise<void> {
  const files = stateFiles(state);
  for (const [at, path] of files.entries())
    say({ msg: 'copied', ...(await copyFile(state, path, to)), number: at + 1, of: files.length });
  say({ msg: 'done' });
}

process.umask(0o077);
try {
  const { state, to } = values;
  if (positionals[0] === 'copy' && state && to) await copy(state, to);
  else if (positionals[0] === 'settle' && state) say({ msg: 'done', alarms: settleAlarms(state, Date.now()) });
  else if (positionals[0] === 'revoked' && state) say({ msg: 'revoked', revoked: readRevoked(state) });
  else {
    say({ msg: 'usage' });
    process.exitCode = 64;
  }
} catch (error) {
  say({ msg: 'failed', error: (error as Error).message });
  process.exitCode = 70;
}
