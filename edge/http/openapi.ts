/** OpenAPI 3.1 of every mounted route, from the very schemas that validate. Made at the first request, then kept. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { Problem } from '../../schema/api/problem.ts';
import { type ErrorCode, errors } from '../../schema/errors.ts';
import type { Permission, ResponseSpec, RouteSpec, Slice } from './slice.ts';

/** Operations by path, as in https://spec.openapis.org/oas/v3.1.0. */
export type OpenApiDocument = ReturnType<OpenAPIHono['getOpenAPI31Document']>;

const bearer = 'token';

/** The document of these slices. */
export function openApiDocument(slices: readonly Slice[]): OpenApiDocument {
  const paper = new OpenAPIHono();
  paper.openAPIRegistry.registerComponent('securitySchemes', bearer, { type: 'http', scheme: 'bearer' });
  for (const { name, routes } of slices)
    for (const { spec } of routes) paper.openAPIRegistry.registerPath(operation(name, spec));
  return paper.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'Causeway',
      version: '1',
      description: 'Errors are RFC 9457 problem details with a stable `code`.',
    },
    servers: [{ url: '/' }],
  });
}

type Operation = Parameters<OpenAPIHono['openAPIRegistry']['registerPath']>[0];

function operation(tag: string, spec: RouteSpec): Operation {
  const { params, query, headers, body } = spec.request ?? {};
  return {
    method: spec.method,
    path: spec.path,
    operationId: operationId(spec),
    summary: spec.summary,
    tags: [tag],
    'x-permission': spec.permission,
    ...(needsToken(spec.permission) ? { security: [{ [bearer]: [] }] } : { security: [] }),
    request: {
      ...(params ? { params } : {}),
      ...(query ? { query } : {}),
      ...(headers || spec.conditional
        ? { headers: spec.conditional ? IfMatch.extend(headers?.shape ?? {}) : headers }
        : {}),
      ...(body === undefined ? {} : { body: { required: true, content: bodyContent(body) } }),
    },
    responses: { ...answers(spec.responses), ...problems(spec) },
  };
}

function operationId({ method, path }: RouteSpec): string {
  const words = path
    .replaceAll(/[{}]/g, '')
    .split(/[/._-]/)
    .filter((word) => word !== '' && word !== 'v1');
  return [method, ...words.map((word) => word[0]!.toUpperCase() + word.slice(1))].join('');
}

function needsToken(permission: Permission): boolean {
  return permission !== 'public' && permission !== 'agent';
}

function bodyContent(body: z.ZodType | 'stream') {
  if (body === 'stream')
    return { 'application/octet-stream': { schema: { type: 'string' as const, format: 'binary' } } };
  return { 'application/json': { schema: body } };
}

const etagHeader = {
  ETag: { description: 'Version of the object, for `If-Match`.', schema: { type: 'string' as const } },
};
const IfMatch = z.object({
  'if-match': z.string().optional().meta({ description: 'ETag that the object must have; else 412.' }),
});

function answers(responses: Record<number, ResponseSpec>): Operation['responses'] {
  return Object.fromEntries(
    Object.entries(responses).map(([status, { description, schema, contentType, etag }]) => {
      const headers = etag ? { headers: etagHeader } : {};
      if (!schema && contentType === undefined) return [status, { description, ...headers }];
      const type = contentType ?? 'application/json';
      return [
        status,
        { description, ...headers, content: { [type]: { schema: schema ?? { type: 'string' as const } } } },
      ];
    }),
  );
}

/** Codes that a route can answer with: those of the corridor that it can meet, and those that it names. */
export function declaredErrors(spec: RouteSpec): ReadonlySet<ErrorCode> {
  const codes = new Set<ErrorCode>([...(spec.errors ?? []), 'request_token_in_url', 'internal', 'edge_overloaded']);
  const { params, query, headers, body } = spec.request ?? {};
  if (params) codes.add('request_path_invalid');
  if (query) codes.add('request_query_invalid');
  if (headers) codes.add('request_header_invalid');
  if (body !== undefined) codes.add('request_body_too_large');
  if (body !== undefined && body !== 'stream')
    for (const code of [
      'request_body_invalid',
      'request_body_malformed',
      'request_body_slow',
      'request_type_unsupported',
    ] as const)
      codes.add(code);
  if (spec.isWatched !== true) codes.add('request_rate_limited');
  if (spec.permission !== 'public')
    for (const code of ['auth_missing', 'auth_invalid', 'auth_revoked', 'access_denied'] as const) codes.add(code);
  if (spec.upgrade)
    for (const code of ['request_upgrade_required', 'request_protocol_unsupported'] as const) codes.add(code);
  if (spec.idempotent === 'begin' || spec.idempotent === 'admission')
    for (const code of ['idempotency_key_invalid', 'idempotency_key_reused', 'idempotency_in_progress'] as const)
      codes.add(code);
  if (spec.conditional) codes.add('request_precondition_failed');
  if (spec.secret) codes.add('idempotency_secret_shown');
  return codes;
}

/** Refusals by status. */
function problems(spec: RouteSpec): Operation['responses'] {
  const byStatus = Object.groupBy([...declaredErrors(spec)], (code) => String(errors[code].status));
  return Object.fromEntries(
    Object.entries(byStatus).map(([status, group]) => [
      status,
      {
        description: (group ?? [])
          .toSorted()
          .map((code) => `[\`${code}\`](/errors/${code}): ${errors[code].title}`)
          .join('; '),
        content: spec.surface
          ? { 'application/json': { schema: spec.surface.refusal } }
          : { 'application/problem+json': { schema: Problem } },
      },
    ]),
  );
}
