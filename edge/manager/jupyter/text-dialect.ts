/**
 * The dialect of clients that ask for no subprotocol (jupyter-server's gateway client among them): a message is a text of
 * JSON, or with buffers a binary of JSON and buffers. The values go from one form to the other as the text that they are:
 * nothing but the header is parsed, and numbers, NaN and the order of keys stay what they were. Pure.
 */
import { FramingError, type Message, textOf } from '../../../schema/protocol/jupyter-framing.ts';

const encoder = new TextEncoder();
const keys = ['header', 'parent_header', 'metadata', 'content'] as const;
const noBytes = new Uint8Array(0);

/** From the kernel: what is sent to the client. @throws FramingError when its header is no JSON */
export function toText({ channel, parts }: Message): string | Uint8Array<ArrayBuffer> {
  const [header = '{}', parent = '{}', metadata = '{}', content = '{}'] = parts.slice(0, 4).map(textOf);
  const buffers = parts.slice(4);
  const { msg_id: id, msg_type: type } = parseHeader(header);
  const said =
    `{"header":${header},"msg_id":${JSON.stringify(id ?? '')},"msg_type":${JSON.stringify(type ?? '')},` +
    `"parent_header":${parent},"metadata":${metadata},"content":${content}` +
    `${buffers.length === 0 ? ',"buffers":[]' : ''},"channel":${JSON.stringify(channel)}}`;
  return buffers.length === 0 ? said : joinBinary([encoder.encode(said), ...buffers]);
}

function parseHeader(text: string): { msg_id?: unknown; msg_type?: unknown } {
  try {
    const header: unknown = JSON.parse(text);
    if (typeof header === 'object' && header !== null) return header;
  } catch {
    // said below
  }
  throw new FramingError('its header is no JSON object');
}

/** From the client: a message by its parts; without a channel it is for `shell`. @throws FramingError */
export function fromText(said: string | Uint8Array): Message {
  const [text, buffers] = typeof said === 'string' ? [said, []] : splitBinary(said);
  const values = valuesOf(text);
  const parts = keys.map((key) => {
    const value = values.get(key);
    return encoder.encode(value === undefined || value === 'null' ? '{}' : value);
  });
  return { channel: channelIn(values.get('channel')), parts: [...parts, ...buffers] };
}

function channelIn(value: string | undefined): string {
  if (value === undefined || value === 'null') return 'shell';
  const name: unknown = value.length > 64 || !value.startsWith('"') ? undefined : parseString(value);
  if (typeof name !== 'string') throw new FramingError('its channel is no name');
  return name;
}

function parseString(text: string): string {
  try {
    return String(JSON.parse(text));
  } catch {
    throw new FramingError('a string in it is not whole');
  }
}

function joinBinary(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const dataAt = 4 * (1 + parts.length);
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, dataAt));
  const view = new DataView(whole.buffer);
  view.setUint32(0, parts.length);
  let at = dataAt;
  for (const [index, part] of parts.entries()) {
    view.setUint32(4 * (1 + index), at);
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

function splitBinary(bytes: Uint8Array): [string, Uint8Array[]] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = bytes.byteLength < 4 ? 0 : view.getUint32(0);
  const dataAt = 4 * (1 + count);
  if (count < 1 || dataAt > bytes.byteLength) throw new FramingError('the number of its parts is wrong');
  const parts: Uint8Array[] = [];
  for (let index = 0; index < count; index++) {
    const from = view.getUint32(4 * (1 + index));
    const to = index + 1 < count ? view.getUint32(4 * (2 + index)) : bytes.byteLength;
    if (from < dataAt || to < from || to > bytes.byteLength)
      throw new FramingError('its parts do not follow each other');
    parts.push(bytes.subarray(from, to));
  }
  return [textOf(parts[0] ?? noBytes), parts.slice(1)];
}

/** The texts of the values of a JSON object's own keys, of the last of a name. What is in them is not looked at. @throws FramingError */
function valuesOf(text: string): Map<string, string> {
  const values = new Map<string, string>();
  let at = skipSpace(text, 0);
  if (text[at] !== '{') throw new FramingError('it is no JSON object');
  at = skipSpace(text, at + 1);
  if (text[at] === '}') return values;
  for (;;) {
    const keyEnd = endOfString(text, at);
    const key = parseString(text.slice(at, keyEnd));
    at = skipSpace(text, keyEnd);
    if (text[at] !== ':') throw new FramingError('a key in it has no value');
    const from = skipSpace(text, at + 1);
    const to = endOfValue(text, from);
    values.set(key, text.slice(from, to).trimEnd());
    if (text[to] === '}') return values;
    at = skipSpace(text, to + 1);
  }
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at++;
  return at;
}

/** Behind the string that begins at `from`. */
function endOfString(text: string, from: number): number {
  if (text[from] !== '"') throw new FramingError('a key in it is no string');
  for (let at = text.indexOf('"', from + 1); at !== -1; at = text.indexOf('"', at + 1)) {
    let slashes = 0;
    while (text[at - 1 - slashes] === '\\') slashes++;
    if (slashes % 2 === 0) return at + 1;
  }
  throw new FramingError('a string in it is not whole');
}

/** Where the value that begins at `from` ends: at the comma or bracket behind it. */
function endOfValue(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x22) at = endOfString(text, at) - 1;
    else if (code === 0x7b || code === 0x5b) depth++;
    else if (code === 0x7d || code === 0x5d) {
      if (depth === 0) {
        if (at === from) break;
        return at;
      }
      depth--;
    } else if (code === 0x2c && depth === 0) {
      if (at === from) break;
      return at;
    }
  }
  throw new FramingError('it ends before its values');
}
