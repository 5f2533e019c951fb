/** Connections that are kept, and that the far end closes just when they are used again. */
import { createServer, type Server } from 'node:net';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { fetchBy } from '../../wire/http.ts';
import { Way } from '../../wire/way.ts';

let server: Server | undefined;
afterEach(() => void server?.close());

/** Answers the first request of each connection, and closes it at the second. */
async function closesAtTheSecond(): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  server = createServer((socket) => {
    let requests = 0;
    socket.on('error', () => undefined);
    socket.on('data', (data) => {
      requests += 1;
      asked.push(`${data.toString('latin1').split(' ')[0]} ${requests}`);
      if (requests > 1) socket.destroy();
      else socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok');
    });
  });
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, asked };
}

it.each(['GET', 'PUT', 'DELETE'])('a %s goes by another one', async (method) => {
  const { url, asked } = await closesAtTheSecond();
  const fetch = fetchBy(new Way({}));
  expect(await (await fetch(url)).text()).toBe('ok');
  expect(await (await fetch(url, { method })).text()).toBe('ok');
  expect(asked).toEqual(['GET 1', `${method} 2`, `${method} 1`]);
});

it('a POST does not: it may have been done', async () => {
  const { url, asked } = await closesAtTheSecond();
  const fetch = fetchBy(new Way({}));
  expect(await (await fetch(url)).text()).toBe('ok');
  await expect(fetch(url, { method: 'POST', body: 'x' })).rejects.toMatchObject({ code: 'ECONNRESET' });
  expect(asked).toEqual(['GET 1', 'POST 2']);
});
