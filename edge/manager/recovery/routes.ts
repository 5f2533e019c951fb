/** HTTP of recovery: the process that put storage back says so, an administrator has everything compared. */
import { z } from 'zod';
import { OrphanList, Rebuild, RebuildReport, Restored } from '../../../schema/api/recovery.ts';
import { idPattern } from '../../../schema/ids.ts';
import { reply, route, slice } from '../../http/slice.ts';
import { endOrphan, listOrphans } from './orphans.ts';
import { rebuild, restored } from './service.ts';

const OrphanParams = z.strictObject({ id: z.string().regex(idPattern('session'), 'must be the id of a session') });

export const recovery = slice('recovery', [
  route(
    {
      method: 'post',
      path: '/v1/admin/restored',
      summary:
        'Says that all storage was put back to an older state: ledgers begin a new incarnation, copies are rebuilt.',
      permission: 'bootstrap',
      idempotent: 'none',
      bodyLimitBytes: 16 * 1024 * 1024,
      request: { body: Restored },
      responses: { 200: { description: 'What was put right.', schema: RebuildReport } },
    },
    async (ctx, { body }) => reply(200, await restored(ctx, body)),
  ),
  route(
    {
      method: 'post',
      path: '/v1/admin/rebuild',
      summary: 'Compares ledgers, admission and the read model, and puts right what differs.',
      permission: 'superadmin',
      idempotent: 'none',
      request: { body: Rebuild },
      responses: { 200: { description: 'What was put right, or would be.', schema: RebuildReport } },
    },
    async (ctx, { body }) => reply(200, await rebuild(ctx, body.dryRun)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/admin/orphans',
      summary: 'What machines hold of sessions that a restored control plane has forgotten.',
      permission: 'superadmin',
      responses: { 200: { description: 'They are spared until somebody ends them.', schema: OrphanList } },
    },
    async (ctx) => reply(200, await listOrphans(ctx)),
  ),
  route(
    {
      method: 'delete',
      path: '/v1/admin/orphans/{id}',
      summary: 'Has the machines that hold it remove it.',
      permission: 'superadmin',
      request: { params: OrphanParams },
      responses: { 202: { description: 'Ordered.' } },
      errors: ['session_not_found'],
    },
    async (ctx, { params }) => {
      await endOrphan(ctx, params.id);
      return reply(202);
    },
  ),
]);
