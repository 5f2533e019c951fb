/**
 * Deploys overlap and upgrades are undone, so the code of the release before runs on what a migration left: each only adds.
 * What a release stopped using goes one release later, in a file that says so: `-- contract: what, unused since 0007`.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');
const folders = ['schema/db/migrations', 'schema/admission/migrations', 'schema/ledger/migrations'];
const contract = /^-- contract: .{3,200}, unused since (\d{4})$/m;

/** Statements that the code before a migration can live with. */
const additive = [
  /^CREATE (TABLE|INDEX)\b/,
  /^ALTER TABLE \S+ ADD (?!.*\bNOT NULL\b)/,
  /^ALTER TABLE \S+ ADD .*\bDEFAULT\b/,
  /^INSERT INTO \S+ .*ON CONFLICT.* DO NOTHING$/,
];

/** Why the release before can not run on this, or undefined. `first`: nothing was there before it. */
function refuse(name: string, text: string, first: boolean): string | undefined {
  const marked = contract.exec(text);
  if (marked)
    return Number(marked[1]) < Number(name.slice(0, 4)) ? undefined : `${name} drops what it stops using itself`;
  const statements = text
    .split('--> statement-breakpoint')
    .map((statement) =>
      statement
        .replaceAll(/^--.*$/gm, '')
        .replaceAll(/\s+/g, ' ')
        .replace(/;\s*$/, '')
        .trim(),
    )
    .filter((statement) => statement !== '');
  const wrong = statements.find(
    (statement) =>
      !additive.some((pattern) => pattern.test(statement)) && !(first && /^CREATE UNIQUE INDEX\b/.test(statement)),
  );
  if (wrong === undefined || isOnNewTable(wrong, statements)) return undefined;
  return `${name} is not additive: ${wrong.slice(0, 100)}`;
}

/** A unique index refuses what older code writes, except on a table that it does not know. */
function isOnNewTable(statement: string, statements: readonly string[]): boolean {
  const table = /^CREATE UNIQUE INDEX \S+ ON (\S+)/.exec(statement)?.[1];
  return table !== undefined && statements.some((each) => each.startsWith(`CREATE TABLE ${table} `));
}

describe.each(folders)('%s', (folder) => {
  const names = readdirSync(join(root, folder)).filter((name) => name.endsWith('.sql'));

  it('is numbered without holes, and every migration only adds', () => {
    expect(names.length).toBeGreaterThan(0);
    expect(names.sort().map((name) => Number(name.slice(0, 4)))).toEqual(names.map((_, at) => at));
    const refusals = names.map((name, at) => refuse(name, readFileSync(join(root, folder, name), 'utf8'), at === 0));
    expect(refusals.filter((refusal) => refusal !== undefined)).toEqual([]);
  });
});

it.each([
  ['ALTER TABLE `users` DROP COLUMN `email`;', /not additive/],
  ['ALTER TABLE `users` ADD `age` integer NOT NULL;', /not additive/],
  ['ALTER TABLE `users` RENAME TO `people`;', /not additive/],
  ['CREATE UNIQUE INDEX `a` ON `users` (`email`);', /not additive/],
  [
    '-- contract: users.email, unused since 0007\nALTER TABLE `users` DROP COLUMN `email`;',
    /drops what it stops using/,
  ],
])('refuses %s', (text, why) => {
  expect(refuse('0007_x.sql', text, false)).toMatch(why);
});

it.each([
  'ALTER TABLE `users` ADD `age` integer;',
  'ALTER TABLE `users` ADD `age` integer DEFAULT 1 NOT NULL;',
  'CREATE TABLE `pets` (`id` text);\n--> statement-breakpoint\nCREATE UNIQUE INDEX `a` ON `pets` (`id`);',
  '-- contract: users.email, unused since 0006\nALTER TABLE `users` DROP COLUMN `email`;',
])('takes %s', (text) => {
  expect(refuse('0007_x.sql', text, false)).toBeUndefined();
});
