/** HTTP of sessions: one route, one verb of the service. Streams of bytes have their own routes. */
import { z } from 'zod';
import {
  NewSession,
  Session,
  SessionDeleteQuery,
  SessionHistory,
  SessionId,
  SessionListQuery,
  SessionPage,
} from '../../../schema/api/session.ts';
import { etagOf } from '../../http/etag.ts';
import { reply, replyText, route, slice } from '../../http/slice.ts';
import { listReachedSessions } from './list.ts';
import { createSession, deleteSession, getHistory, showSession } from './service.ts';

const SessionParams = z.strictObject({ id: SessionId });

export const sessions = slice('sessions', [
  route(
    {
      method: 'post',
      path: '/v1/sessions',
      summary: 'Starts a session; it waits in PENDING until an agent has room.',
      permission: 'project:write',
      idempotent: 'admission',
      request: { body: NewSession },
      responses: { 201: { description: 'Accepted for good.', schema: Session } },
      errors: [
        'project_required',
        'project_not_found',
        'group_not_found',
        'session_image_invalid',
        'session_too_large',
        'session_name_taken',
        'session_quota_exceeded',
        'idempotency_key_reused',
      ],
    },
    async (ctx, { body }) => {
      const { session, replayed } = await createSession(ctx, body);
      return reply(201, session, {
        location: `/v1/sessions/${session.id}`,
        ...(replayed ? { 'idempotency-replayed': 'true' } : {}),
      });
    },
  ),
  route(
    {
      method: 'get',
      path: '/v1/sessions',
      summary: 'Sessions that the actor may see, newest first.',
      permission: 'project:read',
      request: { query: SessionListQuery },
      responses: { 200: { description: 'A page.', schema: SessionPage } },
      errors: ['project_not_found'],
    },
    async (ctx, { query }) => reply(200, await listReachedSessions(ctx, query)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/sessions/{id}',
      summary: 'One session as it is now.',
      permission: 'project:read',
      request: { params: SessionParams },
      responses: { 200: { description: 'The session.', schema: Session, etag: true } },
      errors: ['session_not_found'],
    },
    async (ctx, { params }) => {
      const { text, version } = await showSession(ctx, params.id);
      return replyText(200, text, etagOf(version));
    },
  ),
  route(
    {
      method: 'delete',
      path: '/v1/sessions/{id}',
      summary: 'Ends a session: asks it to, or with `force` kills it.',
      permission: 'project:write',
      conditional: true,
      request: { params: SessionParams, query: SessionDeleteQuery },
      responses: {
        200: { description: 'It had ended.', schema: Session },
        202: { description: 'It is being ended.', schema: Session },
      },
      errors: ['session_not_found'],
    },
    async (ctx, { params, query }) => {
      const { session, ended } = await deleteSession(ctx, params.id, {
        force: query.force === 'true',
        graceMs: query.graceMs,
        purge: query.purge === 'true',
      });
      return reply(ended ? 200 : 202, session);
    },
  ),
  route(
    {
      method: 'get',
      path: '/v1/sessions/{id}/history',
      summary: 'Every transition of a session, with its reason.',
      permission: 'project:read',
      request: { params: SessionParams },
      responses: { 200: { description: 'The transitions, oldest first.', schema: SessionHistory } },
      errors: ['session_not_found'],
    },
    async (ctx, { params }) => reply(200, await getHistory(ctx, params.id)),
  ),
]);
