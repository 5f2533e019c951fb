/** A Worker for the tests of `edge/serve/`: says who the client seems to be, which bindings it has, and answers slowly. */
import { WorkerEntrypoint } from 'cloudflare:workers';

export class Front extends WorkerEntrypoint<Record<string, string>> {
  override async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url);
    if (url.pathname === '/slow') await new Promise((resolve) => setTimeout(resolve, 1_500));
    return Response.json({
      cf: request.cf,
      host: request.headers.get('host'),
      knob: this.env['CAUSEWAY_FAILPOINT'],
      layout: this.env['CAUSEWAY_LAYOUT'],
      hasKeys: this.env['CAUSEWAY_KEYS'] !== undefined,
    });
  }
}

export default {};
