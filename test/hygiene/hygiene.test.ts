/** The gates of hygiene can fail: what they must find is planted here. */
import { describe, expect, it } from 'vitest';

import { tier } from '../support/tier.ts';
import { capture } from '../steps.ts';
import { checkRegexes, checkVersionFloors } from './hygiene.ts';
import { catastrophe, regexesIn } from './regexes.ts';
import { belowFloors } from './version-floors.ts';

describe('version floors', () => {
  const found = (path: string, version: string) => belowFloors({ packages: { [path]: { version } } }).bad.length;

  it('finds a copy below its floor, wherever it lies, and takes each mended line', () => {
    expect(found('node_modules/hono', '4.13.4')).toBe(1);
    expect(found('node_modules/hono', '4.13.5')).toBe(0);
    expect(found('node_modules/a/node_modules/ws', '8.17.0')).toBe(1);
    expect(found('node_modules/ws', '7.5.10')).toBe(0);
    expect(found('node_modules/ws', '9.0.0')).toBe(0);
    expect(found('node_modules/semver', '4.3.6')).toBe(1);
    expect(found('node_modules/@hono/node-server', '1.19.14')).toBe(1);
    expect(found('node_modules/hono-like', '0.0.1')).toBe(0);
  });

  it('are kept by our lockfile', async () => {
    expect(await checkVersionFloors()).toMatchObject({ ok: true });
  });
});

describe('regular expressions', () => {
  it('are found in code, and not in comments, strings, templates or divisions', () => {
    const text = [
      '#!/usr/bin/env node',
      'const a = /x[/]y/gu.exec(b) ? 4 / 2 / 1 : "/no/";',
      "// /no/\n/* /no/ */ const c = `/no/ ${d.replace(/in-template/, '}')} /no/`;",
      'return /last\\/one/;',
    ].join('\n');
    expect(regexesIn(text).map(({ source, flags }) => `${source} ${flags}`)).toEqual([
      'x[/]y gu',
      'in-template ',
      'last\\/one ',
    ]);
  });

  it.each(['^(a+)+$', '^(a|a)*$', '(x+x+)+y', '([a-z]+,?)*', '(?:a+|b)*', '("([^"])*")+', '(?<n>a{2,})+'])(
    'that can backtrack for ever are found: %s',
    (source) => expect(catastrophe(source)).toBeTypeOf('string'),
  );

  it.each(['^(\\d{1,3}\\.){3}$', '(a|b)*c', '[(+]+[)*]*', 'a\\(b+\\)+', '(ab+)?c+', '^(?:x|\\p{L})*$'])(
    'that can not are not: %s',
    (source) => expect(catastrophe(source)).toBeUndefined(),
  );

  it('of what is shipped can not', async () => {
    expect(await checkRegexes()).toMatchObject({ ok: true });
  });
});

it.runIf(tier === 'full')('gitleaks finds no secret in the whole history', { timeout: 600_000 }, async () => {
  const args = ['detect', '--no-banner', '--redact', '--verbose', '--config', 'test/hygiene/gitleaks.toml'];
  const done = await capture('gitleaks', args);
  expect(done.output).toMatch(/[1-9]\d* commits scanned/);
  expect(done.code, done.output).toBe(0);
});
