/** [I4] The ledger's sessions against what each agent itself says that it holds (its status file). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inventoryFaults } from '../support/invariant-rules.ts';
import { until } from '../support/wait.ts';
import type { World } from './world.ts';

/** The file is at most a few seconds behind; what still differs then is a fault. */
export async function agentsAgree({ client, hosts }: World): Promise<string[]> {
  let faults: string[] = [];
  await until(
    async () => {
      const sessions = new Map((await client.sessions()).map((session) => [session.id, session]));
      faults = hosts.flatMap(({ part }) => {
        const status = JSON.parse(readFileSync(join(part.state, 'status.json'), 'utf8')) as {
          sessions: { sessionId: string; state: string }[];
        };
        return inventoryFaults(part.agentId, sessions, status.sessions);
      });
      return faults.length === 0;
    },
    { what: 'ledger and agents to agree', everyMs: 500 },
  ).catch(() => {});
  return faults;
}
