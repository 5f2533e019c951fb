/** Gates of `npm run check` about what the code is made of: versions of packages, and regular expressions. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { capture, type Finding, root } from '../steps.ts';
import { catastrophe, regexesIn } from './regexes.ts';
import { belowFloors } from './version-floors.ts';

/** Expressions that repeat a repetition and are linear all the same: each round begins with what the round before can not hold. */
const linear = new Set([
  String.raw`^[A-Za-z0-9_][A-Za-z0-9._-]*(\/[A-Za-z0-9_][A-Za-z0-9._-]*)*$`,
  String.raw`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$`,
  String.raw`^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]{1,5})?$`,
]);

/** No package of the lockfile is below its floor. */
export async function checkVersionFloors(): Promise<Finding> {
  const lockfile = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as Parameters<
    typeof belowFloors
  >[0];
  const { bad, checked } = belowFloors(lockfile);
  if (bad.length > 0) return { ok: false, why: bad.join('\n') };
  if (checked === 0) return { ok: false, why: 'no package of the lockfile has a floor' };
  return { ok: true, remark: `${checked} packages` };
}

/** No regular expression of what is shipped can be made to backtrack for ever. */
export async function checkRegexes(): Promise<Finding> {
  const listed = await capture('git', ['ls-files', 'schema/*.ts', 'edge/*.ts', 'agent-daemon/*.ts', 'cli/*.ts']);
  const bad: string[] = [];
  let seen = 0;
  for (const file of listed.output.split('\n').filter((name) => name !== ''))
    for (const { line, source } of regexesIn(readFileSync(join(root, file), 'utf8'))) {
      seen += 1;
      const why = linear.has(source) ? undefined : catastrophe(source);
      if (why !== undefined) bad.push(`${file}:${line} /${source}/: ${why}`);
    }
  if (bad.length > 0) return { ok: false, why: bad.join('\n') };
  return seen > 0 ? { ok: true, remark: `${seen} expressions` } : { ok: false, why: 'no expression was found' };
}
