/**
 * A release of the agent: what a machine downloads to become an agent or a newer one. Its manifest is text of one fact a
 * line, so that a shell can read it too, and its last line is an Ed25519 signature over all lines before it. Bytes are
 * named by their SHA-256, so a release that is made anew changes nothing under a download that is under way.
 */

/** Parts are at most this long: hosts of static files stop at 25 MiB. */
export const partBytes = 20 * 1024 * 1024;
/** A manifest has about 1 KiB. */
export const manifestBytes = 64 * 1024;

export const architectures = ['x64', 'arm64'] as const;
export type Architecture = (typeof architectures)[number];

export interface ReleasePart {
  /** Hex; of the bytes as they travel. */
  sha256: string;
  bytes: number;
}

/** A file of a release: the gzip stream that parts `first` to `last` make together. */
export interface ReleaseFile {
  /** Relative, in segments of plain letters. */
  path: string;
  /** Permissions, 0o755 or 0o644. */
  mode: number;
  /** Of the unpacked file. */
  bytes: number;
  sha256: string;
  first: number;
  last: number;
}

export interface Release {
  /** `0.1.0+3f9a2c81d0e4`: of the sources, and twelve digits of all content. Names a directory. */
  version: string;
  arch: Architecture;
  /** When it was signed. A later one is newer, whatever its version says. */
  issuedAtMs: number;
  parts: ReleasePart[];
  files: ReleaseFile[];
}

/** The manifest is not one that this code knows. */
export class ManifestError extends Error {
  constructor(why: string) {
    super(`the manifest of the release is not valid: ${why}`);
    this.name = 'ManifestError';
  }
}

export const versionPattern = /^[0-9][0-9A-Za-z.+-]{0,62}$/;
const head = 'causeway-release 1';
const pathPattern = /^[a-z0-9_-][a-z0-9._-]*(\/[a-z0-9_-][a-z0-9._-]*){0,4}$/;
const count = '(0|[1-9][0-9]{0,14})';
const lines = {
  version: /^version (\S+)$/,
  arch: /^arch (x64|arm64)$/,
  issued: new RegExp(`^issued ${count}$`),
  part: new RegExp(`^part ([0-9a-f]{64}) ${count}$`),
  file: new RegExp(`^file (755|644) ${count} ([0-9a-f]{64}) ${count}-${count} (\\S{1,128})$`),
  signature: /^signature ([A-Za-z0-9_-]{86})$/,
};

/** The text that is signed. It ends with a newline; the signature's line follows. */
export function manifestText(release: Release): string {
  return [
    head,
    `version ${release.version}`,
    `arch ${release.arch}`,
    `issued ${release.issuedAtMs}`,
    ...release.parts.map(({ sha256, bytes }) => `part ${sha256} ${bytes}`),
    ...release.files.map(
      ({ mode, bytes, sha256, first, last, path }) =>
        `file ${mode.toString(8)} ${bytes} ${sha256} ${first}-${last} ${path}`,
    ),
    '',
  ].join('\n');
}

export function signedManifest(text: string, signature: string): string {
  return `${text}signature ${signature}\n`;
}

/** What a manifest says, the text that its signature is over, and the signature (base64url). @throws ManifestError */
export function parseManifest(text: string): { release: Release; signed: string; signature: string } {
  const all = text.split('\n');
  if (text.length > manifestBytes || all.pop() !== '') throw new ManifestError('it is cut off or too long');
  const signature = lines.signature.exec(all.pop() ?? '')?.[1];
  if (signature === undefined) throw new ManifestError('it has no signature');
  const [first, ...facts] = all;
  if (first !== head) throw new ManifestError('it is of another format than this version knows');
  const release = readFacts(facts);
  check(release);
  const signed = manifestText(release);
  // One text for one release: nothing is signed that was not read.
  if (signed !== `${all.join('\n')}\n`) throw new ManifestError('its lines are not in order');
  return { release, signed, signature };
}

function readFacts(facts: readonly string[]): Release {
  let version: string | undefined;
  let arch: Architecture | undefined;
  let issuedAtMs: number | undefined;
  const parts: ReleasePart[] = [];
  const files: ReleaseFile[] = [];
  for (const fact of facts) {
    const part = lines.part.exec(fact);
    const file = lines.file.exec(fact);
    if (part) parts.push({ sha256: part[1]!, bytes: Number(part[2]) });
    else if (file) files.push(toFile(file));
    else {
      version ??= lines.version.exec(fact)?.[1];
      arch ??= lines.arch.exec(fact)?.[1] as Architecture | undefined;
      const issued = lines.issued.exec(fact)?.[1];
      if (issued !== undefined) issuedAtMs ??= Number(issued);
    }
  }
  if (version === undefined || arch === undefined || issuedAtMs === undefined)
    throw new ManifestError('version, arch or issued is missing');
  return { version, arch, issuedAtMs, parts, files };
}

function toFile([, mode, bytes, sha256, first, last, path]: RegExpExecArray): ReleaseFile {
  return {
    path: path!,
    mode: Number.parseInt(mode!, 8),
    bytes: Number(bytes),
    sha256: sha256!,
    first: Number(first),
    last: Number(last),
  };
}

function check({ version, parts, files }: Release): void {
  if (!versionPattern.test(version)) throw new ManifestError('its version can not name a directory');
  if (parts.some(({ bytes }) => bytes < 1 || bytes > partBytes)) throw new ManifestError('a part has no allowed size');
  let next = 0;
  for (const { path, first, last } of files) {
    if (!pathPattern.test(path)) throw new ManifestError('a file has a path that is not plain');
    if (first !== next || last < first) throw new ManifestError('its files do not use its parts in order');
    next = last + 1;
  }
  if (next !== parts.length || next === 0) throw new ManifestError('its files do not use its parts in order');
  if (new Set(files.map(({ path }) => path)).size !== files.length) throw new ManifestError('a file is in it twice');
}
