/** The agent's plain HTTP requests, for real. No decision is taken here. */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import type { WayAgent } from '../../wire/http.ts';
import type { Post, Put } from './edge-api.ts';

const answerLimitBytes = 256 * 1024;

/** {@link Post} on `kept`, not by fetch, which takes 7 MiB for as long as the agent lives. Redirects are answers like any other: refusals. */
export function postBy(kept: WayAgent): Post {
  return (url, body, signal, headers = {}) =>
    send(kept, 'POST', url, { ...headers, 'content-type': 'application/json' }, Buffer.from(body), signal);
}

/** {@link Put} on `kept`. */
export function putBy(kept: WayAgent): Put {
  return (url, headers, body, signal) => send(kept, 'PUT', url, headers, body, signal);
}

async function send(
  kept: WayAgent,
  method: 'POST' | 'PUT',
  url: URL,
  given: Readonly<Record<string, string>>,
  body: Uint8Array,
  signal: AbortSignal,
): ReturnType<Post> {
  const headers = { ...given, 'content-length': body.byteLength };
  const sending = request({ ...kept.to(url, signal), method, headers, signal });
  sending.end(body);
  const [response] = (await once(sending, 'response')) as [IncomingMessage];
  return {
    status: response.statusCode ?? 0,
    retryAfter: response.headers['retry-after'],
    text: await readText(response),
  };
}

async function readText(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let total = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    total += part.byteLength;
    if (total > answerLimitBytes) throw new Error('the edge answered more than 256 KiB');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}
