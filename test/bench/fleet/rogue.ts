/**
 * `node rogue.ts URL JOIN_TOKEN`: an agent with a real identity that says reports, and events of sessions that never were, as
 * fast as its socket takes them, and dials again at once when it is closed. Prints `ready` when it floods, and how much that
 * was at the end of its standard input.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { freshId, ScriptedAgent } from '../../hostile/scripted-agent.ts';

const messagesAtOnce = 50;
const mostBuffered = 64 * 1024;

const [url = '', joinToken = ''] = process.argv.slice(2);
let said = 0;
let dials = 0;

const agent = new ScriptedAgent(url, { cpu: 1000, mem: 1024 ** 3 });
await agent.enrol(joinToken, `rogue-${freshId('agent').slice(-8)}`);
await agent.connect();
void flood();
console.log(JSON.stringify({ msg: 'ready' }));
process.stdin.resume().on('end', () => {
  console.log(JSON.stringify({ msg: 'done', said, dials }));
  process.exit(0);
});

async function flood(): Promise<never> {
  for (;;) {
    if (!agent.connected) {
      dials++;
      await agent.connect().catch(() => {});
    }
    for (let left = agent.connected ? messagesAtOnce : 0; left > 0; left--, said++) say(left % 2 === 0);
    while (agent.connected && agent.control.ws.bufferedAmount > mostBuffered) await sleep(1);
    await sleep(0);
  }
}

function say(isReport: boolean): void {
  const report = { used: { cpu: 1 }, health: 'ok' as const, problems: [], sessions: 0, atMs: Date.now() };
  if (isReport) agent.control.say({ type: 'report', report });
  else
    agent.tell({ sessionId: `${freshId('session')}_1_1`, generation: 1, atMs: Date.now(), body: { kind: 'removed' } });
}
