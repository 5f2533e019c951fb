/** HTTP of the audit trail: one route, one verb of the service. */
import { AuditPage, AuditQuery, AuditVerdict, AuditVerifyQuery } from '../../../schema/api/audit.ts';
import { reply, route, slice } from '../../http/slice.ts';
import { listAudit, verifyAudit } from './service.ts';

export const auditTrail = slice('audit', [
  route(
    {
      method: 'get',
      path: '/v1/audit',
      summary: 'Who did what in a domain, newest first; for a superadmin in any, and in what has none (`system`).',
      permission: 'domain:admin',
      request: { query: AuditQuery },
      responses: { 200: { description: 'A page.', schema: AuditPage } },
      errors: ['domain_not_found'],
    },
    async (ctx, { query }) => reply(200, await listAudit(ctx, query)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/audit/verify',
      summary: 'Whether a chain is whole: no record changed, missing or cut off. Goes on from `next` in a long one.',
      permission: 'domain:admin',
      request: { query: AuditVerifyQuery },
      responses: { 200: { description: 'The verdict.', schema: AuditVerdict } },
      errors: ['domain_not_found'],
    },
    async (ctx, { query }) => reply(200, await verifyAudit(ctx, query)),
  ),
]);
