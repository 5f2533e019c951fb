/**
 * The package ssh2, loaded when the first connection comes: most agents never see one. By its path, since the bundle puts
 * nothing in the place of its name (`bundle/bundle.ts`: dockerode would load all of it at every start).
 */
export async function loadSsh2(): Promise<typeof import('ssh2')> {
  // @ts-expect-error the types belong to the name
  const loaded: { default: typeof import('ssh2') } = await import('../../node_modules/ssh2/lib/index.js');
  return loaded.default;
}
