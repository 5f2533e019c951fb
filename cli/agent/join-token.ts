/** `causeway agent token create`: prints the line to paste on another machine, and can watch it join. */
import type { Command } from 'commander';
import type { z } from 'zod';
import { Agent, JoinTokenCreated, JoinTokenState } from '../../schema/api/agent.ts';
import { joinLine } from '../../schema/join-line.ts';
import { requireAddress } from '../config.ts';
import { CliFailure } from '../exit.ts';
import { Api } from '../http/api.ts';
import { durationSeconds } from '../options.ts';
import { plain, slotsText } from '../terminal/table.ts';
import { WaitingLine } from '../terminal/waiting.ts';

interface TokenOptions {
  resourceGroup: string;
  ttl?: string;
  approve: boolean;
  wait?: boolean;
  url?: string;
  json?: boolean;
}
const pollEveryMs = 500;
/** A machine that has joined connects at once. */
const connectMs = 120_000;

/** Registers `token create` under `agent`. */
export function registerJoinToken(agent: Command): void {
  agent
    .command('token')
    .description('join tokens')
    .command('create')
    .description('make a one-time token and print the line to paste on the machine that joins')
    .option('--resource-group <group>', 'the group that it joins', 'default')
    .option('--ttl <duration>', 'how long the token is good: 90s, 15m (the default), 1h')
    .option('--no-approve', 'the machine waits for: causeway agent approve NAME')
    .option('--wait', 'watch until the machine is connected')
    .option('--url <url>', 'address by which that machine reaches this control plane, when it is another one')
    .option('--json', 'as JSON')
    .action(createToken);
}

async function createToken(options: TokenOptions): Promise<void> {
  if (options.url !== undefined) requireAddress(options.url, '--url ');
  const api = new Api();
  const created = await api.json(JoinTokenCreated, 'POST', '/v1/agents/join-tokens', {
    body: {
      resourceGroup: options.resourceGroup,
      ...(options.ttl === undefined ? {} : { ttlSeconds: durationSeconds('--ttl', options.ttl, [60, 3600]) }),
      autoApprove: options.approve,
    },
    typed: { resourceGroup: '--resource-group' },
  });
  const { line, checkoutLine } = linesFor(api, created, options.url);
  if (options.json) process.stdout.write(`${JSON.stringify({ ...created, line, checkoutLine })}\n`);
  else {
    const minutes = Math.round((created.expiresAtMs - Date.now()) / 60_000);
    process.stderr.write(`On the machine that joins, within ${minutes} minutes:\n\n`);
    process.stdout.write(`${line}\n`);
    process.stderr.write(`\nor there, in a checkout:\n\n${checkoutLine}\n\n`);
  }
  if (options.wait) await watchJoin(api, created.id);
}

/** What to paste: with the installer, which needs Docker alone, and from a checkout. */
function linesFor(api: Api, created: z.infer<typeof JoinTokenCreated>, asked: string | undefined) {
  const { token } = created;
  const known = api.context.url;
  // This machine's own loopback is of no use to another.
  const isLocal = /^https?:\/\/(127\.|localhost[:/]|\[::1\])/.test(`${known}/`);
  const url = (asked ?? (isLocal ? created.url : undefined) ?? known).replace(/\/+$/, '');
  // What this CLI pinned is how it knows the server; what the server says came from there.
  const pin = url.startsWith('https:') ? created.pin : undefined;
  const pinned = pin === undefined ? '' : ` --pin ${pin}`;
  return { line: joinLine({ url, token, pin }), checkoutLine: `causeway agent join ${url}${pinned} --token ${token}` };
}

async function watchJoin(api: Api, tokenId: string): Promise<void> {
  const line = new WaitingLine(!process.stderr.isTTY); // elsewhere the lines below are enough
  const say = (text: string) => process.stderr.write(`${text}\n`);
  try {
    say('waiting    for the machine to use the token');
    const used = await pollToken(api, tokenId, line);
    line.done();
    say('registering');
    for (const until = Date.now() + connectMs; ;) {
      const agent = await api.json(Agent, 'GET', `/v1/agents/${used}`);
      if (agent.state === 'connected') {
        say(`connected  ${plain(agent.name)}: ${slotsText(agent.approved)}`);
        return;
      }
      if (agent.state === 'pending') {
        say(
          `pending    ${plain(agent.name)} offers ${slotsText(agent.offered)}; let it in: causeway agent approve ${plain(agent.name)}`,
        );
        return;
      }
      if (agent.state === 'revoked' || agent.state === 'suspended' || Date.now() > until)
        throw new CliFailure(`${plain(agent.name)} has joined, and does not connect: it is ${agent.state}`, {
          hint: `causeway agent show ${plain(agent.name)}, and its own words on the machine: causeway-agent log`,
        });
      await new Promise((resolve) => setTimeout(resolve, pollEveryMs));
    }
  } finally {
    line.done();
  }
}

async function pollToken(api: Api, tokenId: string, line: WaitingLine): Promise<string> {
  for (;;) {
    const state = await api.json(JoinTokenState, 'GET', `/v1/agents/join-tokens/${tokenId}`);
    if (state.agentId !== undefined) return state.agentId;
    if (state.state === 'expired')
      throw new CliFailure('the token expired before a machine used it', {
        hint: 'causeway agent token create --ttl 1h --wait',
      });
    line.say('waiting for the machine to use the token');
    await new Promise((resolve) => setTimeout(resolve, pollEveryMs));
  }
}
