/**
 * Where the files of releases lie: objects `release/<arch>/...` of the bucket RELEASES in production, an address that
 * CAUSEWAY_RELEASE_URL names on one machine. Nothing here is secret, and nothing is trusted: who downloads checks.
 */
import { Refusal } from '../../../schema/errors.ts';
import { type Architecture, parseManifest, type Release } from '../../../schema/release.ts';
import type { Ctx } from '../../http/context.ts';

/** Bytes of one file, and how many they are. */
export interface ReleaseBytes {
  body: ReadableStream<Uint8Array> | null;
  size: number | undefined;
}

/** The file, or undefined when there is none. @throws Refusal `edge_overloaded` when its place does not answer */
export async function findReleaseFile(ctx: Ctx, name: string): Promise<ReleaseBytes | undefined> {
  const { releaseUrl } = ctx.config;
  if (releaseUrl !== undefined) return fetchFile(releaseUrl, name);
  // Bound in production alone; a control plane without releases has no bucket.
  const bucket = (ctx.env as { RELEASES?: R2Bucket }).RELEASES;
  const object = await bucket?.get(`release/${name}`);
  return object ? { body: object.body, size: object.size } : undefined;
}

async function fetchFile(base: string, name: string): Promise<ReleaseBytes | undefined> {
  let response: Response;
  try {
    response = await fetch(`${base}/${name}`, { redirect: 'manual' });
  } catch {
    throw new Refusal('edge_overloaded', 'The place of releases does not answer.', { retryAfterSeconds: 5 });
  }
  const size = Number(response.headers.get('content-length') ?? Number.NaN);
  if (response.ok) return { body: response.body, size: Number.isInteger(size) ? size : undefined };
  await response.body?.cancel();
  return undefined;
}

/** The release for machines of this kind; undefined when none was made. @throws Refusal when it is damaged */
export async function findRelease(ctx: Ctx, arch: Architecture): Promise<Release | undefined> {
  const file = await findReleaseFile(ctx, `${arch}/manifest`);
  if (!file) return undefined;
  try {
    return parseManifest(await new Response(file.body).text()).release;
  } catch (error) {
    throw new Refusal('release_not_found', error instanceof Error ? error.message : undefined);
  }
}
