/** HTTP of releases: the installer, manifests and parts, for machines that are not known yet. Public, like what they hold. */
import { z } from 'zod';
import { Refusal } from '../../../schema/errors.ts';
import { type Architecture, architectures } from '../../../schema/release.ts';
import type { Ctx } from '../../http/context.ts';
import { route, slice } from '../../http/slice.ts';
import installer from './install.sh';
import { findReleaseFile, type ReleaseBytes } from './source.ts';

const ArchParams = z.strictObject({ arch: z.enum(architectures) });
const PartParams = z.strictObject({
  arch: z.enum(architectures),
  sha256: z.string().regex(/^[0-9a-f]{64}$/, 'must be the SHA-256 of a part, as the manifest lists them'),
});

/** The script, knowing this control plane and the key of its releases: what is not said on its command line comes from here. */
function renderInstaller(ctx: Ctx): Response {
  const origin = ctx.config.origin ?? new URL(ctx.request.url).origin;
  const releaseKey = ctx.config.keys.release?.publicKey ?? '';
  const text = installer.replace('@url@', origin).replace('@release-key@', releaseKey);
  return new Response(text, { headers: { 'content-type': 'text/x-shellscript; charset=utf-8' } });
}

async function sendFile(
  ctx: Ctx,
  arch: Architecture,
  name: string,
  headers: Record<string, string>,
): Promise<Response> {
  const file = await findReleaseFile(ctx, `${arch}/${name}`);
  if (file) return toResponse(file, headers);
  throw new Refusal(
    'release_not_found',
    `This control plane has no release for ${arch} machines. Make one: npm run release -- --arch ${arch}`,
  );
}

function toResponse({ body, size }: ReleaseBytes, headers: Record<string, string>): Response {
  const length: Record<string, string> = size === undefined ? {} : { 'content-length': String(size) };
  return new Response(body, { headers: { ...headers, ...length } });
}

export const releases = slice('releases', [
  route(
    {
      method: 'get',
      path: '/install.sh',
      summary: 'The installer of the agent, for a shell to read: curl -fsSL URL/install.sh and a join token.',
      permission: 'public',
      responses: { 200: { description: 'A POSIX shell script.', contentType: 'text/x-shellscript' } },
    },
    (ctx) => renderInstaller(ctx),
  ),
  route(
    {
      method: 'get',
      path: '/agent/v1/release/{arch}/manifest',
      summary: 'What the release of the agent consists of, signed by this instance.',
      permission: 'public',
      request: { params: ArchParams },
      responses: { 200: { description: 'Lines of facts; the last is the signature.', contentType: 'text/plain' } },
      errors: ['release_not_found', 'edge_overloaded'],
    },
    (ctx, { params }) =>
      sendFile(ctx, params.arch, 'manifest', {
        'content-type': 'text/plain; charset=utf-8',
        'cache-control': 'no-cache',
      }),
  ),
  route(
    {
      method: 'get',
      path: '/agent/v1/release/{arch}/parts/{sha256}',
      summary: 'One part of a release, named by its content.',
      permission: 'public',
      request: { params: PartParams },
      responses: { 200: { description: 'Its bytes.', contentType: 'application/octet-stream' } },
      errors: ['release_not_found', 'edge_overloaded'],
    },
    (ctx, { params }) =>
      sendFile(ctx, params.arch, `parts/${params.sha256}`, {
        'content-type': 'application/octet-stream',
        'cache-control': 'public, max-age=31536000, immutable',
      }),
  ),
]);
