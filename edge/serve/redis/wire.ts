/**
 * The Upstash REST formats, without I/O: commands out of JSON bodies and URLs, replies into JSON.
 * A number in a command keeps the digits that were sent; bytes are never taken for text before the last moment.
 */
import { Buffer } from 'node:buffer';

import { type Command, RedisError, type Reply, Status } from './backend.ts';

/** The request is not a command; `message` is what the client reads. */
export class Malformed extends Error {
  override readonly name = 'Malformed';
}

/** Most commands in one pipeline or transaction. */
const batchMax = 10_000;

/** Most words of one command. */
const wordsMax = 32_768;

/** Reads the body of `POST /`: one array, the command's name first. Throws Malformed. */
export function parseCommand(body: Buffer): Command {
  return toCommand(parseJson(body));
}

/** Reads the body of `POST /pipeline` and `/multi-exec`: an array of commands. Throws Malformed. */
export function parseBatch(body: Buffer): Command[] {
  const rows = parseJson(body);
  if (!Array.isArray(rows)) throw new Malformed('ERR failed to parse pipeline request: expected an array of arrays');
  if (rows.length === 0) throw new Malformed('ERR empty pipeline request');
  if (rows.length > batchMax) throw new Malformed(`ERR pipeline too long: ${rows.length} commands, limit ${batchMax}`);
  return rows.map(toCommand);
}

/**
 * Reads a command out of a URL: `/set/key/value?EX=100`. The body, when there is one, is the last argument before the query.
 * Percent escapes stand for bytes. Throws Malformed.
 */
export function parsePath(path: string, query: URLSearchParams, body: Buffer): Command {
  const parts = pathArguments(path);
  if (parts[0] === undefined || parts[0].length === 0) throw new Malformed('ERR empty command');
  if (body.length > 0) parts.push(body);
  for (const [name, value] of query) {
    parts.push(Buffer.from(name));
    if (value !== '') parts.push(Buffer.from(value));
  }
  return parts;
}

/** The segments of a path as bytes. Throws Malformed at a broken percent escape. */
export function pathArguments(path: string): Buffer[] {
  return path.replace(/^\//, '').split('/').map(percentDecode);
}

/** Renders one reply as `{"result": ...}` or `{"error": "..."}`; with `base64`, every string but a plain OK is base64. */
export function renderReply(reply: Reply, base64: boolean): string {
  if (reply instanceof RedisError) return renderError(reply.message);
  if (base64 && reply instanceof Status && reply.text === 'OK') return '{"result":"OK"}';
  return `{"result":${render(reply, base64)}}`;
}

export function renderBatch(replies: readonly Reply[], base64: boolean): string {
  return `[${replies.map((reply) => renderReply(reply, base64)).join(',')}]`;
}

export function renderError(message: string): string {
  return JSON.stringify({ error: message });
}

function render(reply: Reply, base64: boolean): string {
  if (reply === null) return 'null';
  if (typeof reply === 'number' || typeof reply === 'bigint') return reply.toString();
  if (Buffer.isBuffer(reply)) return base64 ? `"${reply.toString('base64')}"` : JSON.stringify(reply.toString());
  if (Array.isArray(reply)) return `[${reply.map((item) => render(item, base64)).join(',')}]`;
  const text = reply instanceof Status ? reply.text : reply.message;
  return base64 ? `"${Buffer.from(text).toString('base64')}"` : JSON.stringify(text);
}

interface ReviverContext {
  /** The digits as they were sent. */
  readonly source?: string;
}

/** JSON.parse that leaves numbers as they were written, so that 2^63 and 1.0 arrive intact. */
function parseJson(body: Buffer): unknown {
  const keepDigits = (_key: string, value: unknown, context?: ReviverContext) =>
    typeof value === 'number' ? (context?.source ?? String(value)) : value;
  try {
    return JSON.parse(body.toString(), keepDigits) as unknown;
  } catch {
    throw new Malformed('ERR failed to parse command: the body is not JSON');
  }
}

function toCommand(row: unknown): Command {
  if (!Array.isArray(row)) throw new Malformed('ERR failed to parse command: expected an array, the name first');
  if (row.length === 0 || row[0] === '') throw new Malformed('ERR empty command');
  if (row.length > wordsMax) throw new Malformed(`ERR too many arguments: ${row.length}, limit ${wordsMax}`);
  return row.map(toArgument);
}

function toArgument(value: unknown): Buffer {
  if (typeof value === 'string') return Buffer.from(value);
  if (typeof value === 'boolean') return Buffer.from(String(value));
  if (value === null) throw new Malformed('ERR null args are not supported');
  throw new Malformed('ERR failed to parse command: an argument is a string, a number or a boolean');
}

function percentDecode(segment: string): Buffer {
  if (!segment.includes('%')) return Buffer.from(segment);
  const pieces = segment.split(/%([0-9a-fA-F]{2})/);
  const out = pieces.map((piece, index) => (index % 2 === 1 ? Buffer.from(piece, 'hex') : literal(piece)));
  return Buffer.concat(out);
}

function literal(piece: string): Buffer {
  if (piece.includes('%')) throw new Malformed('ERR malformed percent escape in the URL');
  return Buffer.from(piece);
}
