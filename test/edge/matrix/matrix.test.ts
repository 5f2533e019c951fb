/**
 * Every mounted route, as every kind of caller. What each must be answered follows from the permission that the route
 * declares (`expected.ts`); what a right request is, from `samples.ts`. A route that lacks either fails.
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { declaredErrors } from '../../../edge/http/openapi.ts';
import { permissions, type Route } from '../../../edge/http/slice.ts';
import type { ErrorCode } from '../../../schema/errors.ts';
import { slices } from '../../../edge/slices.ts';
import { send } from '../client.ts';
import { expectedOutcome } from './expected.ts';
import { type SampleRequest, samples } from './samples.ts';
import { type Caller, callers, credentialOf, makeWorld, type World } from './world.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const routes = slices.flatMap((each) => each.routes);
const nameOf = ({ spec }: Route) => `${spec.method.toUpperCase()} ${spec.path}`;

interface Seen {
  status: number;
  text: string;
  headers: Record<string, string>;
}

async function ask(world: World, caller: Caller, { spec }: Route, request: SampleRequest): Promise<Seen> {
  const authorization = request.token === undefined ? await credentialOf(world, caller) : `Bearer ${request.token}`;
  const response = await send(spec.method.toUpperCase(), request.path, {
    ...(request.body === undefined ? {} : { body: request.body }),
    headers: { ...request.headers, ...(authorization === undefined ? {} : { authorization }) },
  });
  if (response.status === 101) {
    response.webSocket?.accept();
    response.webSocket?.close(1000);
    return { status: 101, text: '', headers: {} };
  }
  const { 'x-request-id': _, ...headers } = Object.fromEntries(response.headers);
  const isStream = response.headers.get('content-type') === 'text/event-stream';
  if (isStream) await response.body?.cancel();
  return { status: response.status, text: isStream ? '' : await response.text(), headers };
}

describe('the table of rights', () => {
  it('looks at every route, each with a permission and a sample, and at nothing else', () => {
    expect(routes.length).toBeGreaterThan(30);
    expect(routes.map(nameOf).filter((name) => !(name in samples))).toEqual([]);
    expect(Object.keys(samples).filter((name) => !routes.map(nameOf).includes(name))).toEqual([]);
    expect(routes.filter(({ spec }) => !permissions.includes(spec.permission)).map(nameOf)).toEqual([]);
    expect(new Set(routes.map(nameOf)).size).toBe(routes.length);
  });

  it('leaves nothing to strangers but these', () => {
    expect(routes.filter(({ spec }) => spec.permission === 'public').map(nameOf)).toEqual([
      'GET /',
      'GET /errors',
      'GET /errors/{code}',
      'GET /healthz',
      'GET /readyz',
      'GET /openapi.json',
      'POST /v1/auth/login',
      'POST /agent/v1/enrol',
      'POST /agent/v1/challenge',
      'GET /install.sh',
      'GET /agent/v1/release/{arch}/manifest',
      'GET /agent/v1/release/{arch}/parts/{sha256}',
    ]);
  });

  it.each(permissions)('holds for the routes of %s', async (permission) => {
    const world = await makeWorld();
    const wrong: string[] = [];
    for (const route of routes.filter(({ spec }) => spec.permission === permission))
      for (const caller of callers) wrong.push(...(await judge(world, route, caller)));
    expect(wrong).toEqual([]);
  });
});

/** The code of a refusal that the route does not declare. */
function undeclared({ spec }: Route, { status, headers, text }: Seen): string | undefined {
  const type = spec.surface ? 'application/json' : 'application/problem+json';
  if (status < 400 || headers['content-type'] !== type) return undefined;
  const { code } = JSON.parse(text) as { code: ErrorCode };
  return declaredErrors(spec).has(code) ? undefined : code;
}

/** What is wrong about one route for one caller; nothing when it is right. */
async function judge(world: World, route: Route, caller: Caller): Promise<string[]> {
  const name = nameOf(route);
  const sample = samples[name];
  if (!sample) return [`${name}: add a sample to test/edge/matrix/samples.ts`];
  const expected = expectedOutcome(route.spec.permission, sample.belongsTo, caller);
  const status = expected === 'pass' ? sample.ok : expected === 'hidden' ? 404 : expected;
  const seen = await ask(world, caller, route, await sample.request(world, caller));
  const untold = undeclared(route, seen);
  if (untold) return [`${name} as ${caller}: OpenAPI does not know of ${untold}`];
  if (seen.status !== status) return [`${name} as ${caller}: ${seen.status} instead of ${status} ${seen.text}`];
  if (expected !== 'hidden') return [];
  if (!sample.missing) return [`${name}: the sample does not say what is missing`];
  const missing = await ask(world, caller, route, await sample.missing(world, caller));
  if (JSON.stringify(seen) === JSON.stringify(missing)) return [];
  return [`${name} as ${caller}: ${JSON.stringify(seen)} can be told from ${JSON.stringify(missing)}`];
}
