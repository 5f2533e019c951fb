/** Downloads of the agent from the edge, for real: by the same route as its tunnel. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { requestTo } from '../../wire/http.ts';
import type { Way } from '../../wire/way.ts';
import { UnpackError } from './unpack.ts';

/** The bytes at an address, by `way`. A redirect is a refusal like any other answer but 200. */
export function downloadBy(
  way: Way,
): (url: URL, signal: AbortSignal, headers?: Record<string, string>) => Promise<AsyncIterable<Uint8Array>> {
  return async (url, signal, headers = {}) => {
    const sending = requestTo(url, way, { method: 'GET', headers, signal });
    sending.end();
    const [response] = (await once(sending, 'response')) as [IncomingMessage];
    if (response.statusCode === 200) return response as AsyncIterable<Buffer>;
    response.destroy();
    throw new UnpackError(`the control plane answered ${response.statusCode} to ${url.pathname}`);
  };
}
