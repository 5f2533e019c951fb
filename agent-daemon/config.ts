/**
 * The only reader of flags, environment and file of the agent. Order: flag, environment, file `<state>/agent.json`,
 * default. Everything is checked here once; a wrong value is one sentence that says which and what to do.
 */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { AgentName } from '../schema/api/agent.ts';
import { parseFailpoint } from '../schema/failpoints.ts';
import { PinList } from '../schema/pin.ts';

/** A refusal to start, worded for the person who started the agent. */
export class ConfigError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ConfigError';
  }
}

const url = z.url({ protocol: /^https?$/, error: 'must be the http(s) address of a control plane' });
const unixSocket = z
  .string()
  .regex(/^unix:\/\/\/.+/, 'must be a unix socket (unix:///...): an engine on another host can not be driven safely')
  .transform((text) => text.slice('unix://'.length));
const cidr = z
  .string()
  .regex(/^[0-9]{1,3}(\.[0-9]{1,3}){3}\/(8|9|1[0-9]|2[0-4])$/, 'must be a network like 10.213.0.0/16');
const sizeBytes = z.coerce.number('must be a number of bytes').int().min(0);

/** Every setting, as text from wherever it came. Keys of the file are these names. */
const Settings = z.strictObject({
  url: url.optional(),
  /** By which the server is known, instead of by authorities; kept once it was given (`way.ts`). */
  pin: PinList.optional(),
  /** Join token; needed once, before the first enrolment. */
  token: z.string().min(8).max(256).optional(),
  name: AgentName.optional(),
  logLevel: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  /** Address of the engine: only `unix://`. */
  dockerHost: unixSocket.default('/var/run/docker.sock'),
  /** From which the agent takes the /28 networks of sessions. */
  networkPool: cidr.default('10.213.0.0/16'),
  /** How inits of containers are reached: `auto` tries at each start whether they reach a socket. */
  initTransport: z.enum(['auto', 'socket', 'stdio']).default('auto'),
  /** What a home should not exceed; it is told when it does. 0: not looked at. */
  homeBytes: sizeBytes.default(20 * 1024 ** 3),
  /** All spools together. */
  spoolTotalBytes: sizeBytes.default(10 * 1024 ** 3),
  /** How often output of running sessions goes to object storage; 0: only when they have ended. */
  handoverSeconds: z.coerce.number('must be a number of seconds').int().min(0).max(86_400).default(300),
  /** Containers that are started in advance, of the kinds that were started of late, so that sessions wait less. 0: none. */
  warmContainers: z.coerce.number('must be a number of containers').int().min(0).max(64).default(1),
  /** Whether `ssh -A` lets sessions ask a client's own SSH agent. */
  sshAgentForwarding: z.enum(['allow', 'deny']).default('allow'),
  /** Directory that install.sh made; absent for an agent of a checkout. */
  install: z.string().startsWith('/').optional(),
  /** A version on trial has this long to connect and report. */
  trialSeconds: z.coerce.number('must be a number of seconds').int().min(5).max(600).default(120),
  failpoint: z
    .string()
    .refine(
      (text) => parseFailpoint(text) !== undefined,
      'must be <name>:<before|after|unknown> of schema/failpoints.ts',
    )
    .optional(),
});
type Settings = z.output<typeof Settings>;

export interface Config extends Omit<Settings, 'url'> {
  url: string;
  /** Absolute. Holds keys, journal, spools, homes and run directories. */
  stateDir: string;
}

const environmentNames = {
  url: 'CAUSEWAY_URL',
  pin: 'CAUSEWAY_PIN',
  token: 'CAUSEWAY_JOIN_TOKEN',
  name: 'CAUSEWAY_AGENT_NAME',
  logLevel: 'CAUSEWAY_LOG',
  dockerHost: 'DOCKER_HOST',
  networkPool: 'CAUSEWAY_NETWORK_POOL',
  initTransport: 'CAUSEWAY_INIT_TRANSPORT',
  homeBytes: 'CAUSEWAY_HOME_BYTES',
  spoolTotalBytes: 'CAUSEWAY_SPOOL_BYTES',
  handoverSeconds: 'CAUSEWAY_HANDOVER_SECONDS',
  warmContainers: 'CAUSEWAY_WARM_CONTAINERS',
  sshAgentForwarding: 'CAUSEWAY_SSH_AGENT_FORWARDING',
  install: 'CAUSEWAY_INSTALL',
  trialSeconds: 'CAUSEWAY_TRIAL_SECONDS',
  failpoint: 'CAUSEWAY_FAILPOINT',
} as const satisfies Record<keyof Settings, string>;

export type Environment = Readonly<Record<string, string | undefined>>;

/** @throws ConfigError */
export function readConfig(args: readonly string[], environment: Environment): Config {
  const flags = readFlags(args);
  const stateDir = resolve(flags.state ?? environment['CAUSEWAY_AGENT_STATE'] ?? defaultStateDir(environment));
  const merged: Record<string, unknown> = { ...readFile(join(stateDir, 'agent.json')) };
  for (const [key, name] of Object.entries(environmentNames)) {
    const value = environment[name];
    // An empty variable is as good as none.
    if (value !== undefined && value !== '') merged[key] = value;
  }
  for (const key of ['url', 'pin', 'token', 'name'] as const) if (flags[key] !== undefined) merged[key] = flags[key];
  const parsed = Settings.safeParse(merged);
  if (!parsed.success) throw new ConfigError(describe(parsed.error));
  if (parsed.data.url === undefined)
    throw new ConfigError('no control plane is named: give --url https://HOST (or set CAUSEWAY_URL)');
  return { ...parsed.data, url: new URL(parsed.data.url).origin, stateDir };
}

function readFlags(args: readonly string[]) {
  try {
    const options = {
      url: { type: 'string' },
      pin: { type: 'string' },
      state: { type: 'string' },
      token: { type: 'string' },
      name: { type: 'string' },
    } as const;
    return parseArgs({ args: [...args], options, allowPositionals: false }).values;
  } catch (error) {
    throw new ConfigError(
      `${error instanceof Error ? error.message : String(error)} (flags: --url --pin --state --token --name)`,
    );
  }
}

function defaultStateDir(environment: Environment): string {
  if (environment['CAUSEWAY_HOME']) return join(environment['CAUSEWAY_HOME'], 'agent');
  return join(environment['XDG_DATA_HOME'] ?? join(homedir(), '.local/share'), 'causeway/agent');
}

function readFile(path: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new ConfigError(`${path} can not be read: ${String(error)}`);
  }
  try {
    return z.record(z.string(), z.unknown()).parse(JSON.parse(text));
  } catch {
    throw new ConfigError(`${path} is not a JSON object`);
  }
}

function describe(error: z.ZodError): string {
  return error.issues
    .map((issue) => {
      const key = issue.path.join('.') as keyof Settings;
      const from = environmentNames[key] ? ` (${environmentNames[key]})` : '';
      return issue.path.length === 0 ? issue.message : `${key}${from} ${issue.message}`;
    })
    .join('; ');
}
