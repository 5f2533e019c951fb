/** `causeway agent`: the verbs about machines, each from its own file. */
import type { Command } from 'commander';
import { registerAgents } from './agents.ts';
import { registerJoin } from './join.ts';
import { registerJoinToken } from './join-token.ts';
import { registerRestored } from './restored.ts';
import { registerShow } from './show.ts';
import { registerUpgrade } from './upgrade.ts';

/** Registers `agent` with its verbs. */
export function registerAgent(program: Command): void {
  const agent = program.command('agent').description('machines: join, list, approve, drain, revoke').helpCommand(false);
  registerAgents(agent);
  registerShow(agent);
  registerJoinToken(agent);
  registerJoin(agent);
  registerRestored(agent);
  registerUpgrade(agent);
}
