/** Releases for tests of upgrades: that of this checkout, and others made of it that differ in one thing. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packRelease } from '../../edge/serve/release/pack.ts';
import { signRelease } from '../../edge/serve/release/signing-key.ts';
import { gatherRelease } from '../../edge/serve/release/sources.ts';
import type { Release } from '../../schema/release.ts';

const root = join(import.meta.dirname, '../..');
type Gathered = Awaited<ReturnType<typeof gatherRelease>>;

/** Puts releases where the edge of a home (the folder of its keys) finds them. */
export class TestReleases {
  readonly home: string;
  #real: Promise<Gathered> | undefined;

  constructor(home: string) {
    this.home = home;
  }

  get folder(): string {
    return join(this.home, 'release/x64');
  }

  /** Serves this checkout's agent as `version`, after `change` of its one file, signed by `keyFile` now. */
  async serve(
    version: string,
    change: (agent: string) => string = (agent) => agent,
    { keyFile = join(this.home, 'release-key.json'), nowMs = Date.now() } = {},
  ): Promise<Release> {
    const real = await (this.#real ??= gatherRelease(root, 'x64'));
    const files = real.files.map((file) => {
      if (file.path !== 'agent.cjs') return file;
      const agent = file.content.toString('utf8').replaceAll(real.version, version);
      return { ...file, content: Buffer.from(change(agent)) };
    });
    const sign = (text: string) => signRelease(keyFile, text);
    return packRelease({ folder: this.folder, version, arch: 'x64', files, nowMs, sign });
  }

  /** Changes a part on its way: the bytes are not what the manifest says. */
  spoil({ parts, files }: Release, path: string): void {
    const part = parts[files.find((file) => file.path === path)!.first]!;
    writeFileSync(join(this.folder, 'parts', part.sha256), 'not what was signed');
  }
}
