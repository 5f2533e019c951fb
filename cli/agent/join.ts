/** `causeway agent join`: makes this machine an agent. Starts the daemon in the foreground and says what it does. */
import { spawn } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import { contextName, requirePins } from '../config.ts';
import { CliFailure } from '../exit.ts';
import { plain } from '../terminal/table.ts';

interface JoinOptions {
  token?: string;
  pin?: string;
  state?: string;
  name?: string;
  logs?: boolean;
}

/** Registers `join` under `agent`. */
export function registerJoin(agent: Command): void {
  agent
    .command('join')
    .description('make this machine an agent of a control plane (needs Docker; dials out only)')
    .argument('<url>', 'address of the control plane')
    .option('--token <token>', 'join token, for the first time (causeway agent token create)')
    .option('--pin <pin>', 'how the control plane is known, for the first time: sha256:..., from the join line')
    .option('--state <dir>', 'where the agent keeps its key, journal and outputs')
    .option('--name <name>', 'its name; default: the host name')
    .option('--logs', "show the daemon's own log lines")
    .action(joinAgent);
}

async function joinAgent(url: string, options: JoinOptions): Promise<void> {
  if (!URL.canParse(url) || !/^https?:/.test(url))
    throw new CliFailure(`${plain(url)} is not an address`, {
      status: 2,
      hint: 'copy the whole line that agent token create printed',
    });
  const pin = requirePins(options.pin, '--pin');
  const data = process.env['XDG_DATA_HOME'] || join(homedir(), '.local', 'share');
  const state = options.state ?? join(data, 'causeway-agent', contextName(url).replaceAll(':', '_'));
  const daemon = join(import.meta.dirname, '../../agent-daemon/index.ts');
  const child = spawn(
    process.execPath,
    [
      daemon,
      '--url',
      url,
      '--state',
      state,
      ...(pin === undefined ? [] : ['--pin', pin]),
      ...(options.token === undefined ? [] : ['--token', options.token]),
      ...(options.name === undefined ? [] : ['--name', options.name]),
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  process.stderr.write(`joining ${url} (state in ${state}; Ctrl-C stops the agent, its containers go on)\n`);
  const stop = () => child.kill('SIGTERM');
  process.on('SIGINT', stop).on('SIGTERM', stop);
  let hint: string | undefined;
  for (const [input, output] of [
    [child.stdout, process.stdout],
    [child.stderr, process.stderr],
  ] as const)
    createInterface({ input }).on('line', (line) => {
      hint = hints.find(([code]) => line.includes(code))?.[1] ?? hint;
      const text = options.logs ? line : lineForPeople(line);
      if (text !== undefined) output.write(`${text}\n`);
    });
  process.exitCode = await new Promise<number>((resolve) => {
    child.on('close', (code) => resolve(code ?? 1));
  });
  if (process.exitCode !== 0 && hint !== undefined) process.stderr.write(`  try: ${hint}\n`);
}

/** What to type when the daemon ends with a refusal of the edge. */
const hints: readonly (readonly [string, string])[] = [
  ['tls_untrusted', 'the join line of that control plane has a --pin: causeway agent token create there'],
  ['agent_join_token_', 'on the control plane: causeway agent token create --resource-group default --wait'],
  ['agent_identity_conflict', 'stop the other machine, then on the control plane: causeway agent approve NAME'],
  ['agent_suspended', 'on the control plane: causeway agent list, then causeway agent approve NAME'],
];
const milestones = ['joined', 'connected', 'the container engine answers', 'the control socket closed'];

/** What a person wants to see of the daemon's log: warnings, errors and the milestones. */
function lineForPeople(line: string): string | undefined {
  let entry: { level?: string; message?: string; [field: string]: unknown };
  try {
    entry = JSON.parse(line) as typeof entry;
  } catch {
    return plain(line);
  }
  const { level, message = '', time: _time, ...fields } = entry;
  if (!milestones.includes(message) && level !== 'warn' && level !== 'error') return undefined;
  const rest = Object.entries(fields).map(
    ([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  return plain(`${new Date().toISOString().slice(11, 19)} ${message}  ${rest.join(' ')}`.trimEnd());
}
