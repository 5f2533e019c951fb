/** The document that describes the API: whole, consistent, and made of the very schemas that validate. */
import { describe, expect, it } from 'vitest';
import { remedies } from '../../../schema/error-remedies.ts';
import { errors, isErrorCode } from '../../../schema/errors.ts';
import { slices } from '../../../edge/slices.ts';
import { call } from '../client.ts';
import { faultsOfOpenApi } from './openapi-rules.ts';

interface Operation {
  operationId: string;
  summary: string;
  'x-permission': string;
  security: unknown[];
  parameters?: { name: string; in: string; required?: boolean; schema: object }[];
  requestBody?: { required: boolean; content: Record<string, { schema: object }> };
  responses: Record<string, { description: string; content?: Record<string, { schema: object }> }>;
}
interface Document {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object>; securitySchemes: Record<string, object> };
}

const routes = slices.flatMap((each) => each.routes);
const read = async () => (await call<Document>('GET', '/openapi.json')).body;
const operationsOf = ({ paths }: Document) =>
  Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, path, operation })),
  );

function refsIn(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(refsIn);
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => (key === '$ref' ? [String(inner)] : refsIn(inner)));
}

describe('the OpenAPI document', () => {
  it('is 3.1 and holds every mounted route, and nothing else', async () => {
    const document = await read();
    expect(document.openapi).toBe('3.1.0');
    const described = operationsOf(document).map(({ name }) => name);
    expect(described.length).toBeGreaterThan(30);
    expect(described.toSorted()).toEqual(routes.map(({ spec }) => `${spec.method} ${spec.path}`).toSorted());
  });
  it('is built as the specification says', async () => {
    const document = await read();
    expect(faultsOfOpenApi(document)).toEqual([]);
    // The check sees something: each of these damages is found.
    const [path = ''] = Object.keys(document.paths);
    for (const damage of [
      { openapi: '3.0.0' },
      { surprise: true },
      { info: { title: 'x' } },
      { paths: { 'no-slash': {} } },
      { paths: { [path]: { get: {} } } },
      { components: { ...document.components, schemas: { X: { type: 'text' } } } },
      { components: { ...document.components, schemas: { X: { pattern: '(' } } } },
    ])
      expect(faultsOfOpenApi({ ...document, ...damage }), JSON.stringify(damage).slice(0, 80)).not.toEqual([]);
  });
  it('says of every refusal what it means and where to read what to do', async () => {
    for (const { name, operation } of operationsOf(await read())) {
      const refusals = Object.entries(operation.responses).filter(([status]) => /^[45]/.test(status));
      expect(refusals.length, name).toBeGreaterThan(0);
      for (const [status, { description, content }] of refusals) {
        const type = name.includes('/jupyter/') ? 'application/json' : 'application/problem+json';
        expect(Object.keys(content ?? {}), name).toEqual([type]);
        const codes = [...description.matchAll(/\[`(\w+)`\]\(\/errors\/(\w+)\): /g)];
        expect(codes.length, `${name} ${status}`).toBeGreaterThan(0);
        for (const [, code = '', linked] of codes) {
          expect(linked).toBe(code);
          expect(isErrorCode(code) && errors[code].status, name).toBe(Number(status));
          expect(remedies).toHaveProperty(code);
        }
      }
    }
  });
  it('tells of conditions: ETag where an object is shown, If-Match and 412 where it is changed', async () => {
    const { paths } = await read();
    for (const path of ['/v1/users/{id}', '/v1/sessions/{id}', '/v1/agents/{id}']) {
      expect(paths[path]?.['get']?.responses['200'], path).toMatchObject({ headers: { ETag: {} } });
      const change = paths[path]?.['patch'] ?? paths[path]?.['delete'];
      expect(change?.parameters, path).toContainEqual(expect.objectContaining({ name: 'if-match', in: 'header' }));
      expect(Object.keys(change?.responses ?? {})).toContain('412');
    }
  });
  it('names only components that are there', async () => {
    const document = await read();
    const refs = refsIn(document);
    expect(refs.length).toBeGreaterThan(50);
    const known = Object.keys(document.components.schemas).map((name) => `#/components/schemas/${name}`);
    expect(refs.filter((ref) => !known.includes(ref))).toEqual([]);
  });
  it('gives each operation an id of its own, a sentence, its permission and its answers', async () => {
    const operations = operationsOf(await read());
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { name, operation } of operations) {
      expect(operation.summary, name).toMatch(/\.$/);
      expect(operation['x-permission'], name).toBeTypeOf('string');
      const statuses = Object.keys(operation.responses);
      expect(
        statuses.some((status) => /^[12]/.test(status)),
        name,
      ).toBe(true);
      for (const { description } of Object.values(operation.responses)) expect(description, name).not.toBe('');
      const wantsToken = !['public', 'agent'].includes(operation['x-permission']);
      expect(operation.security.length > 0, name).toBe(wantsToken);
      if (operation['x-permission'] !== 'public') expect(statuses, name).toContain('401');
    }
  });
  it('declares every path parameter, and JSON bodies as required', async () => {
    for (const { name, path, operation } of operationsOf(await read())) {
      const inPath = (operation.parameters ?? []).filter((each) => each.in === 'path');
      const wanted = [...path.matchAll(/\{(\w+)\}/g)].map(([, parameter]) => String(parameter));
      expect(inPath.map((each) => each.name).toSorted(), name).toEqual(wanted.toSorted());
      expect(
        inPath.every(({ required }) => required),
        name,
      ).toBe(true);
      if (operation.requestBody) expect(operation.requestBody.required, name).toBe(true);
    }
  });
  it('refuses unknown keys where the API does', async () => {
    const { components } = await read();
    expect(components.schemas['NewProject']).toMatchObject({ type: 'object', additionalProperties: false });
    expect(components.schemas['Problem']).toMatchObject({ type: 'object' });
  });
});
