/** A page of a long list. */
import { startBare } from '../peers/bare.ts';
import { type LoadOptions, loadInTurns } from '../peers/http-load.ts';
import { type Row, quantile } from '../row.ts';
import { copyDatabase, edgeWithSessions } from '../subjects/many-sessions.ts';
import type { Stack } from '../../support/stack.ts';

const many = 100_000;
const few = 1000;
const pageSize = 100;
const connections = 16;
const durationMs = 3000;
/** What the list reads: one more than the page, without the history. */
const sql = `SELECT id, domain_id, project_id, owner_id, name, type, group_number, created_at_ms, state, version, generation, reason,
  agent_id, agent_name, image_digest, started_at_ms, ended_at_ms, result, spec FROM sessions
  WHERE project_id = ? AND id < 'ses_zzz' ORDER BY id DESC LIMIT ${pageSize + 1}`;

export const rows: Row[] = [
  {
    name: 'list-page',
    title: `list page of ${pageSize} out of ${many} sessions, ${connections} connections`,
    peer: 'a bare read of the same page from the same D1',
    unit: 'per s',
    goal: { kind: 'ratio', atLeast: 0.8 },
    setup: async () => {
      const stack = await edgeWithSessions(many);
      const me = (await stack.client.api('GET', '/v1/whoami')) as { projects: { id: string }[] };
      await stack.edge.stop();
      const bare = await startBare((state) => copyDatabase(stack.edge.state, state));
      await stack.edge.start();
      const query = new URLSearchParams({ sql, args: JSON.stringify([me.projects[0]!.id]) });
      const page = `${bare.url}/page?${query.toString()}`;
      return {
        round: async () => {
          const { subject, peer } = await loadInTurns(pageOf(stack), { url: page, connections, durationMs });
          return { subject: subject.perSecond, peer: peer.perSecond };
        },
        teardown: async () => {
          await bare.stop();
          await stack.stop();
        },
      };
    },
  },
  {
    name: 'list-length',
    title: `time of a list page of ${pageSize} out of ${many} sessions`,
    peer: `the same page out of ${few}`,
    unit: 'ms',
    goal: { kind: 'ratio', atMost: 1.2 },
    setup: async () => {
      const long = await edgeWithSessions(many);
      const short = await edgeWithSessions(few);
      return {
        round: async () => {
          const { subject, peer } = await loadInTurns(pageOf(long, 1), pageOf(short, 1));
          return { subject: quantile(subject.timesMs, 0.5), peer: quantile(peer.timesMs, 0.5) };
        },
        teardown: async () => {
          await long.stop();
          await short.stop();
        },
      };
    },
  },
];

function pageOf({ client }: Stack, atOnce = connections): LoadOptions {
  const headers = { authorization: `Bearer ${client.token}` };
  return { url: `${client.url}/v1/sessions?limit=${pageSize}`, headers, connections: atOnce, durationMs };
}
