/**
 * The least that workerd can do for the jobs of the table, served exactly as the edge is: a Hono hello, a hibernating
 * relay between two WebSockets without any protocol, and a bare read of a page from D1. Measured against, never shipped.
 */
import { DurableObject, WorkerEntrypoint } from 'cloudflare:workers';
import { Hono } from 'hono';

/** Relays every message from `client` to `agent` and back, and hibernates between. Named as a class that is bound. */
export class DataHub extends DurableObject<Env> {
  override fetch(request: Request): Response {
    const role = new URL(request.url).searchParams.get('role') ?? 'client';
    const { 0: client, 1: server } = new WebSocketPair();
    this.ctx.acceptWebSocket(server, [role]);
    server.serializeAttachment(role);
    return new Response(null, { status: 101, webSocket: client });
  }

  override webSocketMessage(socket: WebSocket, message: ArrayBuffer | string): void {
    const other = socket.deserializeAttachment() === 'agent' ? 'client' : 'agent';
    for (const peer of this.ctx.getWebSockets(other)) peer.send(message);
  }

  override webSocketClose(socket: WebSocket, code: number): void {
    socket.close(code === 1005 || code === 1006 ? 1000 : code);
  }
}

const app = new Hono<{ Bindings: Env }>();
app.get('/healthz', (c) => c.text('ok\n'));
app.get('/hello', (c) => c.text('hello'));
app.get('/relay', (c) => c.env.DATA_HUB.getByName('relay').fetch(c.req.raw));
app.post('/sql', async (c) => {
  const { sql } = await c.req.json<{ sql: string }>();
  return c.json((await c.env.DB.prepare(sql).run()).meta);
});
app.get('/page', async (c) => {
  const sql = c.req.query('sql') ?? '';
  const args = JSON.parse(c.req.query('args') ?? '[]') as unknown[];
  return c.json(
    (
      await c.env.DB.prepare(sql)
        .bind(...args)
        .all()
    ).results,
  );
});

export class Front extends WorkerEntrypoint<Env> {
  override fetch(request: Request): Response | Promise<Response> {
    return app.fetch(request, this.env, this.ctx);
  }
}

export default { fetch: app.fetch } satisfies ExportedHandler<Env>;
