/** Routes of the control plane itself: is it alive, is it ready, what does it speak. */
import { z } from 'zod';
import { isErrorCode, Refusal } from '../../schema/errors.ts';
import { database } from '../platform/database.ts';
import { sql } from 'drizzle-orm';
import type { Ctx } from './context.ts';
import { type OpenApiDocument, openApiDocument } from './openapi.ts';
import { errorPage, errorsPage, landingPage } from './pages.ts';
import { reply, route, type Slice, slice } from './slice.ts';

const Ready = z.object({ ready: z.literal(true), instance: z.string() }).meta({ id: 'Ready' });

const ErrorParams = z.strictObject({ code: z.string().refine(isErrorCode, 'must be a code that /errors lists') });

/** D1 answers and the configuration is whole. */
async function checkReady(ctx: Ctx): Promise<z.infer<typeof Ready>> {
  const { instance } = ctx.config;
  try {
    await database(ctx.env).run(sql`SELECT 1 FROM domains LIMIT 1`);
  } catch {
    throw new Refusal('edge_overloaded', 'The database does not answer, or its migrations were not applied.');
  }
  return { ready: true, instance };
}

/** `others`: every other slice, for OpenAPI. */
export function systemSlice(others: readonly Slice[]): Slice {
  let document: OpenApiDocument | undefined;
  const own = slice('system', [
    route(
      {
        method: 'get',
        path: '/',
        summary: 'Says that a control plane runs here.',
        permission: 'public',
        responses: { 200: { description: 'A page.', contentType: 'text/html' } },
      },
      () => landingPage(),
    ),
    route(
      {
        method: 'get',
        path: '/errors',
        summary: 'Every error that a caller can see.',
        permission: 'public',
        responses: { 200: { description: 'A page.', contentType: 'text/html' } },
      },
      () => errorsPage(),
    ),
    route(
      {
        method: 'get',
        path: '/errors/{code}',
        summary: 'What an error means and what to do about it: where the `type` of a problem points.',
        permission: 'public',
        request: { params: ErrorParams },
        responses: { 200: { description: 'A page.', contentType: 'text/html' } },
      },
      (_, { params }) => errorPage(params.code),
    ),
    route(
      {
        method: 'get',
        path: '/healthz',
        summary: 'Alive: this process answers.',
        permission: 'public',
        isWatched: true,
        responses: { 200: { description: 'Alive.', contentType: 'text/plain' } },
      },
      () => new Response('ok\n', { headers: { 'content-type': 'text/plain' } }),
    ),
    route(
      {
        method: 'get',
        path: '/readyz',
        summary: 'Ready: the configuration is whole and the database answers.',
        permission: 'public',
        responses: { 200: { description: 'Ready.', schema: Ready } },
        errors: ['edge_overloaded'],
      },
      async (ctx) => reply(200, await checkReady(ctx)),
    ),
    route(
      {
        method: 'get',
        path: '/openapi.json',
        summary: 'This document.',
        permission: 'public',
        responses: { 200: { description: 'OpenAPI 3.1.', schema: z.record(z.string(), z.unknown()) } },
      },
      () => reply(200, (document ??= openApiDocument([own, ...others]))),
    ),
  ]);
  return own;
}
