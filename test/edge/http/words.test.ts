/** Every refusal of an input says in words what is wrong: no pattern, no "Invalid input", whichever field it is. */
import { expect, it } from 'vitest';
import { z } from 'zod';
import { wordsOf } from '../../../edge/http/words.ts';
import { slices } from '../../../edge/slices.ts';
import { bootstrapped, call } from '../client.ts';

const bad = [
  undefined,
  null,
  '',
  '!',
  '\0',
  'UPPER case',
  'x'.repeat(5000),
  '-1',
  -1,
  1.5,
  1e300,
  true,
  [],
  [1],
  {},
  { '!': 1 },
];

/** A schema and those of its fields, each with the values that it refuses. */
function refusals(schema: z.ZodType, path: string): string[] {
  const said = bad.flatMap((value) =>
    (schema.safeParse(value, { error: wordsOf }).error?.issues ?? []).map(
      (issue) => `${path}: ${(issue.code === 'invalid_key' ? (issue.issues[0] ?? issue) : issue).message}`,
    ),
  );
  const fields = schema instanceof z.ZodObject ? Object.entries(schema.shape as Record<string, z.ZodType>) : [];
  return [...said, ...fields.flatMap(([name, field]) => refusals(field, `${path}.${name}`))];
}

it('whatever is wrong with any field of any route', () => {
  const said = slices
    .flatMap((each) => each.routes)
    .flatMap(({ spec: { method, path, request = {} } }) =>
      [request.params, request.query, request.headers, request.body]
        .filter((each) => each instanceof z.ZodType)
        .flatMap((schema) => refusals(schema, `${method} ${path}`)),
    );
  expect(said.length).toBeGreaterThan(500);
  expect([...new Set(said)].filter((text) => /Invalid|pattern|expected|: Too |Unrecognized/.test(text))).toEqual([]);
});

const session = { type: 'batch', image: 'busybox' };
it.each<[string, unknown, string, RegExp]>([
  ['no size', { ...session, resources: { mem: 'lots' } }, 'resources.mem', /512m or 4g of mem/],
  ['a size of cores', { ...session, resources: { cpu: '1g' } }, 'resources.cpu', /number of cores: 0\.5/],
  ['too little memory', { ...session, resources: { mem: '1k' } }, 'resources.mem', /at least 8m/],
  ['half a device', { ...session, resources: { 'cuda.device': 0.5 } }, 'resources.cuda.device', /whole number/],
  ['a bad resource', { ...session, resources: { 'CPU!': 1 } }, 'resources.CPU!', /name of a resource: cpu/],
  ['a bad name', { ...session, name: 'No Such' }, 'name', /a-z, 0-9 and -.*: train-7/],
  ['a bad variable', { ...session, env: { '1A': 'b' } }, 'env.1A', /letters, digits and _.*: BATCH_SIZE/],
  ['no image', { type: 'batch', image: '' }, 'image', /must name an image: causeway\/python/],
  ['a wrong type', { ...session, type: 'both' }, 'type', /must be interactive or batch/],
  ['an unknown field', { ...session, colour: 'red' }, 'colour', /not a field/],
  ['a missing field', { type: 'batch' }, 'image', /is missing/],
  ['a text for a number', { ...session, timeoutMs: '5' }, 'timeoutMs', /must be a number/],
  ['too short a time', { ...session, timeoutMs: 5 }, 'timeoutMs', /at least 1000/],
  ['a number for a text', { ...session, image: 5 }, 'image', /must be a text/],
])('%s is answered with what it must be', async (_, body, path, words) => {
  const { token } = await bootstrapped();
  const answer = await call<{ errors: { path: string; message: string }[] }>('POST', '/v1/sessions', { token, body });
  expect(answer).toMatchObject({ status: 400, body: { errors: [{ path, message: expect.stringMatching(words) }] } });
});
