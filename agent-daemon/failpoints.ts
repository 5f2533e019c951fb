/**
 * Failpoints of the agent: `CAUSEWAY_FAILPOINT=<name>:<before|after|unknown>` kills this process with SIGKILL once, at the
 * named step. That it fired is remembered in the state directory, so that the restarted agent lives.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AgentFailpoint, parseFailpoint } from '../schema/failpoints.ts';
import type { Failpoints } from '../schema/ports.ts';

/** @param stateDir where the mark of a spent failpoint is kept */
export function agentFailpoints(wanted: string | undefined, stateDir: string): Failpoints<AgentFailpoint> {
  const parsed = parseFailpoint(wanted);
  if (!parsed) return { before: () => Promise.resolve(), after: () => Promise.resolve(), unknown: () => false };
  const mark = join(stateDir, `failpoint-${parsed.name}-${parsed.phase}`);
  const spend = (name: AgentFailpoint, phase: string): boolean => {
    if (name !== parsed.name || phase !== parsed.phase || existsSync(mark)) return false;
    writeFileSync(mark, '');
    return true;
  };
  const die = (name: AgentFailpoint, phase: string): Promise<void> => {
    if (spend(name, phase)) process.kill(process.pid, 'SIGKILL');
    return Promise.resolve();
  };
  return {
    before: (name) => die(name, 'before'),
    after: (name) => die(name, 'after'),
    unknown: (name) => spend(name, 'unknown'),
  };
}
