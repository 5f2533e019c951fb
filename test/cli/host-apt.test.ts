import { expect, it } from 'vitest';

import { NoArchive, parseCodename, parseHostApt } from '../../cli/instance/python-image/host-apt.ts';
import { imageChanges, recipeDigest } from '../../cli/instance/python-image/recipe.ts';

const stanza = (fields: Record<string, string>) =>
  Object.entries(fields)
    .map(([name, value]) => `${name}: ${value}`)
    .join('\n');
const target = (uri: string, release: string, component = 'main', signedBy = '/usr/share/keyrings/k.pgp') =>
  stanza({ 'Repo-URI': uri, Release: release, Component: component, 'Signed-By': signedBy });

it("takes the release's own archives and leaves third parties, other releases and local folders alone", () => {
  const told = [
    target('http://mirror.test/debian/', 'trixie'),
    target('http://mirror.test/debian/', 'trixie'), // a second architecture
    target('http://mirror.test/debian/', 'trixie', 'contrib'),
    target('http://mirror.test/security/', 'trixie-security', 'main', ''),
    target('http://mirror.test/debian/', 'trixie-backports'),
    target('http://mirror.test/debian/', 'bookworm'),
    target('https://vendor.test/linux/debian/', 'trixie', 'stable'),
    target('file:/usr/share/local/', 'trixie'),
  ].join('\n\n');
  expect(parseHostApt(told, 'trixie')).toEqual({
    codename: 'trixie',
    mirror: 'http://mirror.test/debian/',
    keyring: '/usr/share/keyrings/k.pgp',
    sources: [
      'deb [signed-by=/usr/share/keyrings/k.pgp] http://mirror.test/debian/ trixie main',
      'deb http://mirror.test/security/ trixie-security main',
    ],
  });
});

it('refuses when apt knows no archive of the release', () => {
  expect(() => parseHostApt(target('http://mirror.test/debian/', 'bookworm'), 'trixie')).toThrow(NoArchive);
});

it("reads the release's name", () => {
  expect(parseCodename('ID=debian\nVERSION_CODENAME=trixie\n')).toBe('trixie');
  expect(parseCodename('ID=other\n')).toBe('');
});

it('names the content by everything that decides it, and labels the image so', () => {
  const digest = recipeDigest('script', 'trixie', 'x64');
  expect(recipeDigest('script', 'trixie', 'x64')).toBe(digest);
  expect(recipeDigest('script ', 'trixie', 'x64')).not.toBe(digest);
  expect(recipeDigest('script', 'trixie', 'arm64')).not.toBe(digest);
  expect(imageChanges(digest)).toContain(`LABEL causeway.image.recipe="${digest}"`);
});
