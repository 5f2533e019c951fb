/** A release comes onto the disk whole or not at all, whatever arrives, and however little room there is. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { Installation } from '../../../agent-daemon/upgrade/installation.ts';
import { type Download, unpack } from '../../../agent-daemon/upgrade/unpack.ts';
import { manifestText, type Release, signedManifest } from '../../../schema/release.ts';
import { runToEnd } from '../../support/process.ts';
import { tmpDir } from '../../support/tmp.ts';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const never = new AbortController().signal;

/** A release of these files, each one part, and a download of it. */
function releaseOf(version: string, contents: Record<string, string>, packed: Record<string, Buffer> = {}) {
  const parts = new Map<string, Buffer>();
  const files = Object.entries(contents).map(([path, content], at) => {
    const part = packed[path] ?? gzipSync(content);
    parts.set(sha256(part), part);
    return {
      path,
      mode: 0o755,
      bytes: Buffer.byteLength(content),
      sha256: sha256(Buffer.from(content)),
      first: at,
      last: at,
    };
  });
  const release: Release = {
    version,
    arch: 'x64',
    issuedAtMs: 1,
    parts: Array.from(parts, ([sha256, { byteLength }]) => ({ sha256, bytes: byteLength })),
    files,
  };
  const asked: string[] = [];
  const download: Download = (path) => {
    asked.push(path);
    const part = parts.get(path.split('/').at(-1) ?? '')!;
    return Promise.resolve(
      (async function* () {
        yield part.subarray(0, 3);
        yield part.subarray(3);
      })(),
    );
  };
  return { release, manifest: signedManifest(manifestText(release), 'A'.repeat(86)), download, asked, parts };
}

function installationAt(dir: string, version: string): Installation {
  mkdirSync(join(dir, 'versions', version), { recursive: true });
  symlinkSync(`versions/${version}`, join(dir, 'current'));
  return new Installation(dir);
}

const silent = () => {};

describe('a release', () => {
  it('is unpacked beside the running version, takes over what that has, and tells how far it is', async () => {
    using dir = tmpDir('unpack');
    const installation = installationAt(dir.path, '1');
    const old = releaseOf('1', { node: 'the same', 'agent.cjs': 'old' });
    await unpack({ installation, ...old, running: undefined, progress: silent }, never);
    const next = releaseOf('2', { node: 'the same', 'agent.cjs': 'new', 'init/bin/causeway-init': 'more' });
    const seen: [number, number][] = [];
    const progress = (done: number, total: number) => void seen.push([done, total]);
    await unpack({ installation, ...next, running: old.release, progress }, never);
    const at = (path: string) => join(dir.path, 'versions/2', path);
    expect(readFileSync(at('agent.cjs'), 'utf8')).toBe('new');
    expect(readFileSync(at('init/bin/causeway-init'), 'utf8')).toBe('more');
    expect(statSync(at('node')).ino).toBe(statSync(join(dir.path, 'versions/1/node')).ino);
    expect(statSync(at('agent.cjs')).mode & 0o777).toBe(0o755);
    expect(next.asked).toHaveLength(2);
    expect(seen[0]![0]).toBe(0);
    expect(seen.at(-1)![0]).toBe(seen.at(-1)![1]);
    expect(installation.releaseOf('2')).toEqual(next.release);
  });

  const spoiled: [string, (made: ReturnType<typeof releaseOf>) => void, RegExp][] = [
    [
      'a part has other bytes',
      ({ parts }) => parts.set([...parts.keys()][1]!, gzipSync('forged')),
      /wrong checksum: somebody changes what is downloaded/,
    ],
    [
      'a part is cut off',
      ({ parts }) => parts.set([...parts.keys()][1]!, Buffer.from('abcd')),
      /wrong checksum|incorrect/,
    ],
    [
      'a part goes on for ever',
      (made) => {
        const { download } = made;
        made.download = async (path, signal) => {
          const whole = await download(path, signal);
          return (async function* () {
            yield* whole;
            for (;;) yield Buffer.alloc(65_536);
          })();
        };
      },
      /wrong checksum/,
    ],
  ];
  it.each(spoiled)('leaves nothing behind when %s', async (_, spoil, why) => {
    using dir = tmpDir('unpack');
    const installation = installationAt(dir.path, '1');
    const made = releaseOf('2', { node: 'node', 'agent.cjs': 'agent' });
    spoil(made);
    await expect(unpack({ installation, ...made, running: undefined, progress: silent }, never)).rejects.toThrow(why);
    expect(readdirSync(join(dir.path, 'versions'))).toEqual(['1']);
  });

  it('does not fill the disk with what unpacks to more than it says', async () => {
    using dir = tmpDir('unpack');
    const installation = installationAt(dir.path, '1');
    const bomb = releaseOf('2', { node: 'small' }, { node: gzipSync(Buffer.alloc(64 * 1024 * 1024)) });
    await expect(unpack({ installation, ...bomb, running: undefined, progress: silent }, never)).rejects.toThrow(
      'longer than the manifest says',
    );
    expect(readdirSync(join(dir.path, 'versions'))).toEqual(['1']);
  });

  it('says that the disk is full, before and during, and leaves what runs alone', async () => {
    using dir = tmpDir('unpack');
    await runToEnd('mount', ['-t', 'tmpfs', '-o', 'size=80m', 'causeway-test', dir.path]);
    try {
      const installation = installationAt(dir.path, '1');
      const large = releaseOf('2', { node: 'x'.repeat(20 * 1024 * 1024) });
      const going = () => unpack({ installation, ...large, running: undefined, progress: silent }, never);
      await expect(going()).rejects.toThrow(/disk of .* is full: 84 MiB are needed/);
      const small = releaseOf('2', { node: 'x'.repeat(4 * 1024 * 1024) });
      const full = (await small.download(`/${small.release.parts[0]!.sha256}`, never)) as AsyncIterable<Buffer>;
      small.download = () => {
        writeFileSync(join(dir.path, 'other'), Buffer.alloc(79 * 1024 * 1024));
        return Promise.resolve(full);
      };
      const during = unpack({ installation, ...small, running: undefined, progress: silent }, never);
      await expect(during).rejects.toThrow(/disk of .* is full/);
      expect(readdirSync(join(dir.path, 'versions'))).toEqual(['1']);
      expect(installation.current).toBe('1');
    } finally {
      await runToEnd('umount', [dir.path]);
    }
  });
});
