/**
 * The directory that install.sh made, as the agent sees it: `versions/<v>/`, `current` (the one that is started), and the
 * few files by which agent and keeper (causeway-agent.sh) agree on a version that is on trial. Nothing else writes there.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { UpgradeState } from '../../schema/api/upgrade.ts';
import { parseManifest, type Release, versionPattern } from '../../schema/release.ts';

/** A version that was switched to and has to prove itself. */
export interface Trial {
  from: string;
  to: string;
}
/** What the keeper, or the version on trial itself, gave up, and why. */
export interface GivenUp extends Trial {
  reason: string;
}

const Over = UpgradeState.pick({ phase: true, from: true, to: true, detail: true, atMs: true }).extend({
  /** After `failed`: the version was on trial and given up. */
  tried: z.boolean().optional(),
});
export type Over = z.infer<typeof Over>;

export class Installation {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  /** Where a version lies, or is to lie. */
  versionDir(version: string): string {
    return join(this.dir, 'versions', version);
  }

  has(version: string): boolean {
    return existsSync(join(this.versionDir(version), 'manifest'));
  }

  /** Manifest of a version that lies here; undefined when there is none, or it is damaged. */
  releaseOf(version: string): Release | undefined {
    try {
      return parseManifest(readFileSync(join(this.versionDir(version), 'manifest'), 'utf8')).release;
    } catch {
      return undefined;
    }
  }

  get current(): string {
    return basename(readlinkSync(join(this.dir, 'current')));
  }

  /** From now on the keeper starts `version`. Atomic and durable. */
  point(version: string): void {
    this.#link('current', version);
  }

  get trial(): Trial | undefined {
    const facts = this.#facts('trial');
    return facts === undefined ? undefined : toTrial(facts);
  }

  /** To be called before the switch: a version that never starts is given up by what is written here. */
  beginTrial({ from, to }: Trial): void {
    this.#put('trial', `from=${from}\nto=${to}\nstarts=0\n`);
  }

  endTrial(): void {
    this.#drop('trial');
  }

  get givenUp(): GivenUp | undefined {
    const facts = this.#facts('rolled-back');
    const trial = facts && toTrial(facts);
    return trial && { ...trial, reason: facts['reason'] ?? 'no reason was written down' };
  }

  giveUp({ from, to, reason }: GivenUp): void {
    this.#put('rolled-back', `from=${from}\nto=${to}\nreason=${reason.replaceAll(/\s+/g, ' ')}\n`);
    this.point(from);
    this.endTrial();
  }

  /** How the last upgrade ended, kept for whoever asks; undefined when there was none. */
  get over(): Over | undefined {
    try {
      return Over.parse(JSON.parse(readFileSync(join(this.dir, 'upgrade.json'), 'utf8')));
    } catch {
      return undefined;
    }
  }

  keepOver(over: Over): void {
    this.#put('upgrade.json', `${JSON.stringify(over)}\n`);
    this.#drop('rolled-back');
  }

  /** Keeps the current version and these, and removes the others and what was half unpacked. */
  sweep(...kept: string[]): void {
    const wanted = new Set([...kept, this.current]);
    for (const name of readdirSync(join(this.dir, 'versions')))
      if (!wanted.has(name)) rmSync(this.versionDir(name), { recursive: true, force: true });
  }

  #link(name: string, version: string): void {
    const path = join(this.dir, name);
    rmSync(`${path}.new`, { force: true });
    symlinkSync(`versions/${version}`, `${path}.new`);
    renameSync(`${path}.new`, path);
    this.#sync();
  }

  #put(name: string, text: string): void {
    const path = join(this.dir, name);
    const file = openSync(`${path}.new`, 'w', 0o644);
    try {
      writeSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(`${path}.new`, path);
    this.#sync();
  }

  #drop(name: string): void {
    rmSync(join(this.dir, name), { force: true });
    this.#sync();
  }

  #sync(): void {
    const directory = openSync(this.dir, 'r');
    try {
      fsyncSync(directory);
    } finally {
      closeSync(directory);
    }
  }

  /** Lines `name=value`, as the keeper writes them. */
  #facts(name: string): Record<string, string> | undefined {
    let text: string;
    try {
      text = readFileSync(join(this.dir, name), 'utf8');
    } catch {
      return undefined;
    }
    const pairs = text.split('\n').map((line) => /^([a-z]+)=(.*)$/.exec(line));
    return Object.fromEntries(pairs.flatMap((pair) => (pair ? [[pair[1]!, pair[2]!]] : [])));
  }
}

function toTrial({ from = '', to = '' }: Record<string, string>): Trial | undefined {
  return versionPattern.test(from) && versionPattern.test(to) ? { from, to } : undefined;
}
