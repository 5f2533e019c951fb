import { describe, expect, it } from 'vitest';
import { ManifestError, manifestText, parseManifest, type Release, signedManifest } from '../../schema/release.ts';

const sha = (digit: string) => digit.repeat(64);
const release: Release = {
  version: '0.1.0+0123456789ab',
  arch: 'x64',
  issuedAtMs: 1_800_000_000_000,
  parts: [
    { sha256: sha('a'), bytes: 20 * 1024 * 1024 },
    { sha256: sha('b'), bytes: 7 },
    { sha256: sha('c'), bytes: 9 },
  ],
  files: [
    { path: 'node', mode: 0o755, bytes: 30_000_000, sha256: sha('d'), first: 0, last: 1 },
    { path: 'init/bin/causeway-init-x86_64', mode: 0o755, bytes: 20, sha256: sha('e'), first: 2, last: 2 },
  ],
};
const signature = 'A'.repeat(86);
const text = signedManifest(manifestText(release), signature);

describe('a manifest', () => {
  it('says the same after it was written and read', () => {
    expect(parseManifest(text)).toEqual({ release, signed: manifestText(release), signature });
  });

  it.each([
    ['is cut off', text.slice(0, -40)],
    ['has no signature', manifestText(release)],
    ['is of another format', text.replace('causeway-release 1', 'causeway-release 2')],
    ['has a fact twice', text.replace('arch x64\n', 'arch x64\narch x64\n')],
    ['has a line that nobody knows', text.replace('arch x64\n', 'arch x64\nrun this\n')],
    ['has its lines in another order', text.replace(/(version .*\n)(arch .*\n)/, '$2$1')],
    ['leads out of its directory', text.replace(' node\n', ' ../node\n')],
    ['has an absolute path', text.replace(' node\n', ' /node\n')],
    ['has a hidden file', text.replace(' node\n', ' .node\n')],
    ['names a version that is no directory', text.replace('version 0.1.0+0123456789ab', 'version 0.1/../../x')],
    ['has a part that is too large', text.replace('20971520', '20971521')],
    ['leaves a part unused', text.replace(`file 755 20 ${sha('e')} 2-2`, `file 755 20 ${sha('e')} 1-2`)],
    ['sets another mode', text.replace('file 755 20', 'file 4755 20')],
    ['has a file twice', text.replace('init/bin/causeway-init-x86_64', 'node')],
    ['is far too long', text + 'x'.repeat(70_000)],
  ])('is refused when it %s', (_, wrong) => {
    expect(wrong).not.toBe(text);
    expect(() => parseManifest(wrong)).toThrow(ManifestError);
  });
});
