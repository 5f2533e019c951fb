/** Composes the edge: mounts, entrypoint, Durable Object exports. Nothing else. */
import { WorkerEntrypoint } from 'cloudflare:workers';
import { createApp } from './http/corridor.ts';
import { authenticateToken } from './manager/accounts/authenticate.ts';
import { authenticateAgent } from './manager/agents/tunnel.ts';
import { sweepArchives } from './manager/archive/retention.ts';
import { noteRefusal } from './manager/audit/refusals.ts';
import { systemClock } from './platform/clock.ts';
import { readConfig } from './platform/config.ts';
import { slices } from './slices.ts';

export { Access } from './http/access-object.ts';
export { Throttle } from './http/throttle-object.ts';
export { Admission } from './manager/admission/admission-object.ts';
export { Ledger } from './manager/scheduler/ledger-object.ts';
export { ControlHub } from './tunnel/control-hub-object.ts';
export { DataHub } from './tunnel/data-hub-object.ts';

const app = createApp(slices, { token: authenticateToken, agent: authenticateAgent }, noteRefusal);

/** The entrypoint that listens on one machine (`edge/serve/`): Miniflare adds nothing in front of a named one. */
export class Front extends WorkerEntrypoint<Env> {
  override fetch(request: Request): Response | Promise<Response> {
    return app.fetch(request, this.env, this.ctx);
  }
}

export default {
  fetch: app.fetch,
  /** By the clock of `wrangler.toml`. */
  scheduled: async (_event, env) => void (await sweepArchives({ env, config: readConfig(env) }, systemClock.nowMs())),
} satisfies ExportedHandler<Env>;
