/** Bundles the Worker as `wrangler deploy` does, in memory: two instances of one checkout never write the same file. */
import { build } from 'esbuild';

export type Bundle = { code: string; exports: string[] };

/** The Worker's module and the names that it exports. Rejects with esbuild's own messages if it does not build. */
export async function bundleWorker(root: string, entry: string): Promise<Bundle> {
  const built = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile: 'index.js',
    write: false,
    bundle: true,
    format: 'esm',
    target: 'es2024',
    platform: 'neutral',
    metafile: true,
    mainFields: ['module', 'main'],
    conditions: ['workerd', 'worker', 'browser', 'import', 'default'],
    external: ['cloudflare:*', 'node:*'],
    loader: { '.sql': 'text', '.sh': 'text' },
    keepNames: true,
    logLevel: 'silent',
  });
  const [file] = built.outputFiles;
  const [output] = Object.values(built.metafile.outputs);
  if (!file || !output) throw new Error('esbuild made no module');
  return { code: file.text, exports: output.exports };
}
