/** Reads and checks what a request carries, within limits. Parsed once here, trusted inside. */
import type { z } from 'zod';
import { type ErrorCode, Refusal } from '../../schema/errors.ts';
import { readBytes } from '../platform/bounded.ts';
import { systemTimers } from '../platform/clock.ts';
import { faultOfJson } from './strict-json.ts';
import { wordsOf } from './words.ts';

export const defaultBodyLimitBytes = 256 * 1024;
/** A JSON body is whole within this, however it trickles in. */
const bodyMs = 30_000;

function tooLarge(limitBytes: number): Refusal {
  return new Refusal('request_body_too_large', `At most ${limitBytes} bytes are taken here.`);
}

/** Refuses by the announced length, before a byte is read. */
export function checkLength(request: Request, limitBytes: number): void {
  const announced = request.headers.get('content-length');
  if (announced === null) return;
  if (!/^[0-9]{1,15}$/.test(announced)) throw new Refusal('request_header_invalid', 'Content-Length is not a number.');
  if (Number(announced) > limitBytes) throw tooLarge(limitBytes);
}

/** Rejects when `withinMs` are over before the work is done. */
function inTime<Result>(work: Promise<Result>, withinMs: number): Promise<Result> {
  return new Promise((resolve, reject) => {
    const cancel = systemTimers.after(withinMs, () => reject(new Refusal('request_body_slow')));
    work.finally(cancel).then(resolve, reject);
  });
}

/** The whole body, at most `limitBytes`. */
async function readAll(body: ReadableStream<Uint8Array>, limitBytes: number): Promise<Uint8Array> {
  const whole = await readBytes(body, limitBytes);
  if (whole === undefined) throw tooLarge(limitBytes);
  return whole;
}

/**
 * A JSON body as text and value. `types`: what it may be called besides application/json, and then an empty one is `{}`.
 * @throws Refusal for another type, too many bytes, too slow, broken UTF-8 or JSON.
 */
export async function readJson(
  request: Request,
  limitBytes: number,
  withinMs = bodyMs,
  types?: readonly string[],
): Promise<{ text: string; value: unknown }> {
  checkLength(request, limitBytes);
  const type = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase();
  const isKnown = type === 'application/json' || (types !== undefined && (type === undefined || types.includes(type)));
  if (!isKnown) throw new Refusal('request_type_unsupported', 'Send the body as application/json.');
  const bytes = request.body && (await inTime(readAll(request.body, limitBytes), withinMs));
  if ((!bytes || bytes.byteLength === 0) && types !== undefined) return { text: '', value: {} };
  if (!bytes || bytes.byteLength === 0) throw new Refusal('request_body_malformed', 'The body is empty.');
  const parsed = parseJson(bytes);
  if (!parsed) throw new Refusal('request_body_malformed');
  const fault = faultOfJson(parsed.text);
  if (fault === 'repeated') throw new Refusal('request_body_malformed', 'A key occurs twice in an object.');
  if (fault === 'deep') throw new Refusal('request_body_malformed', 'It is nested too deep.');
  return parsed;
}

function parseJson(bytes: Uint8Array): { text: string; value: unknown } | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes);
    return { text, value: JSON.parse(text) as unknown };
  } catch {
    return undefined;
  }
}

/** The body as a stream that fails with a refusal when it grows beyond the limit. */
export function limitedStream(request: Request, limitBytes: number): ReadableStream<Uint8Array> | null {
  checkLength(request, limitBytes);
  if (request.headers.has('content-length') || !request.body) return request.body;
  let total = 0;
  return request.body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        total += chunk.byteLength;
        if (total > limitBytes) controller.error(tooLarge(limitBytes));
        else controller.enqueue(chunk);
      },
    }),
  );
}

/** Parses by schema, or refuses with `code` and each issue by its path. The caller's input is never repeated. */
export function parseInput<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  code: ErrorCode,
): z.output<Schema> {
  const result = schema.safeParse(value, { error: wordsOf });
  if (result.success) return result.data;
  const issues = result.error.issues.slice(0, 20).map((issue) => ({
    path: [...issue.path, ...(issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [])]
      .map(String)
      .join('.')
      .slice(0, 200),
    // What is wrong with a key of a record is said one level below.
    message: (issue.code === 'invalid_key' ? (issue.issues[0] ?? issue) : issue).message.slice(0, 200),
  }));
  throw new Refusal(code, undefined, { issues });
}

/** Query parameters as an object; one given twice becomes a list, which no schema of ours takes. */
export function queryObject(url: URL): Record<string, string | string[]> {
  const query: Record<string, string | string[]> = Object.create(null) as Record<string, string | string[]>;
  for (const name of new Set(url.searchParams.keys())) {
    const values = url.searchParams.getAll(name);
    query[name] = values.length === 1 ? values[0]! : values;
  }
  return { ...query };
}
