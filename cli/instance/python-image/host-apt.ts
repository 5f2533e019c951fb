/**
 * What this machine's own apt is configured to use, so that an image can be made wherever packages can be installed: its
 * mirrors and keys in one normal form. Proxies, credentials and certificates stay with the host's apt, which does the
 * downloading; nothing of them gets into an image.
 */
export type HostApt = {
  codename: string;
  /** The archive of the release itself, for debootstrap. */
  mirror: string;
  /** File of the keys that sign it, if apt names one. */
  keyring: string | undefined;
  /** One-line sources of the release, its updates and its security fixes. */
  sources: string[];
};

export class NoArchive extends Error {}

/**
 * Reads the output of `apt-get indextargets 'Created-By: Packages'`. Takes the archives of the host's own release and of
 * its updates, and leaves third parties, local folders and other releases alone. Throws NoArchive when none is left.
 */
export function parseHostApt(indexTargets: string, codename: string): HostApt {
  const seen = new Map<string, { uri: string; release: string; keyring: string | undefined }>();
  for (const stanza of indexTargets.split(/\n\s*\n/)) {
    const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(stanza)?.[1]?.trim() ?? '';
    const [uri, release, component, signedBy] = ['Repo-URI', 'Release', 'Component', 'Signed-By'].map(field);
    if (!uri || !release || component !== 'main' || !/^[a-z][a-z+]*:/.test(uri) || /^(file|copy|cdrom):/.test(uri))
      continue;
    if (release !== codename && release !== `${codename}-updates` && release !== `${codename}-security`) continue;
    seen.set(`${uri} ${release}`, { uri, release, keyring: signedBy?.startsWith('/') ? signedBy : undefined });
  }
  const archives = [...seen.values()];
  const own = archives.find((archive) => archive.release === codename);
  if (!own) throw new NoArchive(`apt on this machine knows no archive of "${codename}" with a component "main"`);
  return {
    codename,
    mirror: own.uri,
    keyring: own.keyring,
    sources: archives.map(
      ({ uri, release, keyring }) => `deb ${keyring ? `[signed-by=${keyring}] ` : ''}${uri} ${release} main`,
    ),
  };
}

/** VERSION_CODENAME of an os-release file, or ''. */
export function parseCodename(osRelease: string): string {
  return /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(osRelease)?.[1] ?? '';
}
