/**
 * A process full of agents: `node index.ts URL FILE`. FILE holds their records, which it writes back at the end. It prints
 * a JSON line `state` with its counters for each line on its standard input, and ends when that ends.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { type AgentRecord, FleetAgent, type FleetCounters } from './agent.ts';

const [url = '', file = ''] = process.argv.slice(2);
const counters: FleetCounters = {
  connected: 0,
  drops: 0,
  dials: 0,
  answers: {},
  sent: 0,
  received: 0,
  lastConnectedMs: 0,
  last5xxMs: 0,
};
const records = JSON.parse(readFileSync(file, 'utf8')) as AgentRecord[];
const agents = records.map((record) => new FleetAgent(url, record, counters));
for (const agent of agents) void agent.run();
console.log(JSON.stringify({ msg: 'ready', agents: agents.length }));

const lines = createInterface({ input: process.stdin });
lines.on('line', () => console.log(JSON.stringify({ msg: 'state', ...counters })));
lines.on('close', () => {
  for (const agent of agents) agent.stop();
  writeFileSync(file, JSON.stringify(agents.map(({ record }) => record)));
  process.exit(0);
});
