/** Calls for the sweep of object storage, as the clock of the platform does in production. */
import type { Fetch } from '../../wire/http.ts';
import { say } from './say.ts';

const everyMs = 15 * 60_000;
const limitMs = 60_000;

/** Sweeps now and then for as long as the process lives. Without the secret of the supervisor nothing is swept. */
export function sweepByClock(running: { fetch: Fetch; url: URL | undefined; secret: string | undefined }): void {
  const { secret } = running;
  if (secret === undefined) return;
  const sweep = async () => {
    if (running.url === undefined) return;
    const answer = await running.fetch(new URL('/internal/sweep', running.url), {
      method: 'POST',
      headers: { authorization: `Bearer ${secret}` },
      signal: AbortSignal.timeout(limitMs),
    });
    await answer.arrayBuffer();
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  };
  setInterval(() => {
    sweep().catch((error: unknown) => say({ msg: 'object storage was not swept', error: String(error) }));
  }, everyMs).unref();
}
