/** HTTP of metrics. */
import { route, slice } from '../../http/slice.ts';
import { scrape } from './service.ts';

const contentType = 'text/plain; version=0.0.4; charset=utf-8';

export const metrics = slice('metrics', [
  route(
    {
      method: 'get',
      path: '/metrics',
      summary: "Numbers in Prometheus' text format, read from the objects that own them.",
      permission: 'metrics',
      responses: { 200: { description: 'The numbers.', contentType: 'text/plain' } },
    },
    async (ctx) => new Response(await scrape(ctx), { headers: { 'content-type': contentType } }),
  ),
]);
