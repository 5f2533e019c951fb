/** What ledgers hold, for comparing. */
import type { Ctx } from '../../http/context.ts';
import { ledgerObject } from '../../platform/objects.ts';
import type { KnownSession } from '../scheduler/rpc.ts';

/** What all ledgers hold, by session: whether it is over, and which group's it is. */
export type Truth = Map<string, KnownSession & { groupNumber: number }>;

const pageRows = 500;

/** Everything that a ledger holds, page by page. */
export async function* knownSessions(ctx: Ctx, groupNumber: number): AsyncGenerator<KnownSession[]> {
  const ledger = ledgerObject(ctx.env, groupNumber);
  for (let after = ''; ;) {
    const page = await ledger.known(after, pageRows);
    const last = page.at(-1);
    if (!last) return;
    yield page;
    after = last.sessionId;
  }
}
