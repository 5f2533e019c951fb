/** Where a ledger's outbox goes: the read model in D1, and the admission objects of the sessions' domains. */
import type { OutboxRow } from '../../../schema/ledger/book.ts';
import type { SessionRow } from '../../../schema/db/sessions.ts';
import type { AdmissionRpc } from '../admission/rpc.ts';
import type { HistoryRow, LedgerSession } from './rpc.ts';

export interface SessionReader {
  get(sessionId: string): LedgerSession | undefined;
  /** True when the session is over and its row is to go. */
  isPurged(sessionId: string): boolean;
  history(sessionId: string): HistoryRow[] | undefined;
}

/** History that a row of D1 holds at most; a longer one keeps its beginning and its end. */
const historyRows = 4000;

/** Lists the sessions that these rows name as they are now. */
export async function deliverReadModel(
  list: (rows: readonly SessionRow[], gone: readonly string[]) => Promise<void>,
  ledger: SessionReader,
  groupNumber: number,
  rows: readonly OutboxRow[],
): Promise<void> {
  const ids = new Set(rows.flatMap(({ body }) => body.readModel));
  const purged = [...ids].filter((id) => ledger.isPurged(id));
  const sessions = [...ids].flatMap((id) => (purged.includes(id) ? [] : (toReadModel(ledger, groupNumber, id) ?? [])));
  await list(sessions, purged);
}

function toReadModel(ledger: SessionReader, groupNumber: number, sessionId: string): SessionRow | undefined {
  const session = ledger.get(sessionId);
  if (!session) return undefined;
  const { spec, endedAtMs } = session;
  return {
    id: sessionId,
    domainId: session.domainId,
    projectId: session.projectId,
    ownerId: session.ownerId,
    name: spec.name,
    type: spec.type,
    groupNumber,
    createdAtMs: session.createdAtMs,
    state: session.state,
    version: session.version,
    generation: session.generation,
    reason: session.reason ?? null,
    agentId: session.agentId ?? null,
    agentName: session.agentName ?? null,
    imageDigest: session.imageDigest ?? null,
    startedAtMs: session.startedAtMs ?? null,
    endedAtMs: endedAtMs ?? null,
    result: session.result ?? null,
    spec,
    history: endedAtMs === undefined ? null : shorten(ledger.history(sessionId) ?? []),
  };
}

function shorten(history: HistoryRow[]): HistoryRow[] {
  if (history.length <= historyRows) return history;
  return [...history.slice(0, 100), ...history.slice(history.length - (historyRows - 100))];
}

/** Gives names and quota of ended sessions back. */
export async function deliverReleases(
  admission: (domainNumber: number) => Pick<AdmissionRpc, 'release'>,
  rows: readonly OutboxRow[],
): Promise<void> {
  const domains = Map.groupBy(
    rows.flatMap(({ body }) => body.releases),
    ({ domainNumber }) => domainNumber,
  );
  await Promise.all(
    Array.from(domains, ([number, releases]) => {
      const [first] = releases;
      if (!first) return Promise.resolve();
      return admission(number).release(
        { id: first.domainId, number },
        releases.map(({ sessionId, generation, version }) => ({ sessionId, generation, version })),
      );
    }),
  );
}
