/** HTTP of object storage: what agents put there. Nothing is read here. */
import { z } from 'zod';
import { idPattern } from '../../../schema/ids.ts';
import { SessionId } from '../../../schema/api/session.ts';
import { chunkBodyBytes, HandOverEnd, missingReasons, parseChunkName } from '../../../schema/log/chunk.ts';
import { streamNames } from '../../../schema/log/tail.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { Ctx } from '../../http/context.ts';
import { reply, route, slice } from '../../http/slice.ts';
import { receiveChunk, receiveEnd } from './receive.ts';
import { sweepArchives } from './retention.ts';

const ProcessParams = z.strictObject({
  sessionId: SessionId,
  generation: z.coerce.number().int().min(1).max(999_999_999).meta({ type: 'integer' }),
  process: z.union([z.literal('main'), z.string().regex(idPattern('process'))], 'must be main, or the id of a process'),
});
const signed = [
  'agent_signature_invalid',
  'agent_challenge_expired',
  'agent_revoked',
  'session_not_found',
  'archive_closed',
  'archive_chunk_conflict',
] as const;

const Swept = z.object({ sessions: z.int().nonnegative() }).meta({ id: 'Swept' });

async function sweep(ctx: Ctx): Promise<z.infer<typeof Swept>> {
  // In production the platform calls for it by the clock.
  if (ctx.config.layout !== 'machine') throw new Refusal('route_not_found');
  return { sessions: await sweepArchives(ctx, ctx.clock.nowMs()) };
}

export const archive = slice('archive', [
  route(
    {
      method: 'put',
      path: '/agent/v1/blobs/logs/{sessionId}/{generation}/{process}/{stream}/{chunk}',
      summary: 'Hands over bytes of output, compressed, of a session that was placed on the agent that signs this.',
      permission: 'agent',
      request: {
        params: ProcessParams.extend({
          stream: z.enum(streamNames),
          /** `<from>-<to>`, 16 digits each. */
          chunk: z.string().refine((name) => parseChunkName(name) !== undefined, 'must be the name of a chunk'),
        }),
        headers: z.strictObject({
          'causeway-sha256': z.string().regex(/^[0-9a-f]{64}$/, 'must be the SHA-256 of the uncompressed chunk'),
          'causeway-missing': z.enum(missingReasons).optional(),
        }),
        body: 'stream',
      },
      responses: { 204: { description: 'It is there.' } },
      errors: [...signed, 'archive_chunk_invalid'],
      bodyLimitBytes: chunkBodyBytes,
    },
    async (ctx, { params, headers, body }) => {
      const { stream, chunk, ...process } = params;
      const received = {
        stream,
        range: parseChunkName(chunk)!,
        sha256: headers['causeway-sha256'],
        missing: headers['causeway-missing'],
      };
      await receiveChunk(ctx, process, received, body);
      return reply(204);
    },
  ),
  route(
    {
      method: 'put',
      path: '/agent/v1/blobs/logs/{sessionId}/{generation}/{process}/end',
      summary: 'Says that all output of a process was handed over, and how it ended.',
      permission: 'agent',
      request: { params: ProcessParams, body: HandOverEnd },
      responses: { 204: { description: 'It is there.' } },
      errors: [...signed],
    },
    async (ctx, { params, body }) => {
      await receiveEnd(ctx, params, body);
      return reply(204);
    },
  ),
  route(
    {
      method: 'post',
      path: '/internal/sweep',
      summary: 'Removes output from object storage that has had its time.',
      permission: 'bootstrap',
      idempotent: 'none',
      responses: { 200: { description: 'Of how many sessions.', schema: Swept } },
      errors: ['route_not_found'],
    },
    async (ctx) => reply(200, await sweep(ctx)),
  ),
]);
