/** What the agent of this machine says of its host, for `doctor`: how it reaches containers, and what it can not limit. */
import { join } from 'node:path';
import { z } from 'zod';
import { findJson } from './files.ts';
import type { Settings } from './settings.ts';

/** Of the agent's `status.json`, which is there from its first start on. */
const Status = z.object({
  transport: z.enum(['socket', 'stdio']).optional(),
  limits: z.array(z.string()),
});

const ways = {
  socket: 'containers reach the agent by its socket',
  stdio: 'containers are reached by their stdin and stdout',
} as const;

export function findAgent({ home }: Pick<Settings, 'home'>): { name: string; verdict: 'ok' | 'weak'; what: string } {
  const status = findJson(join(home, 'agent', 'status.json'), Status);
  if (status === undefined) return { name: 'agent', verdict: 'ok', what: 'has not run on this machine yet' };
  const way = status.transport === undefined ? 'how containers reach it is not known yet' : ways[status.transport];
  const verdict = status.transport === 'stdio' ? 'weak' : 'ok';
  return { name: 'agent', verdict, what: `${way}. ${status.limits.join(' ')}`.trim() };
}
