/** A session to be made, by the options of `run`. */
import { randomUUID } from 'node:crypto';
import { Session, type NewSession } from '../../schema/api/session.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import type { Api } from '../http/api.ts';
import { hintFor } from '../http/hints.ts';
import { durationSeconds, refuseOption } from '../options.ts';
import { plain } from '../terminal/table.ts';

/** What a person says of a session that is to be. */
export interface SessionOptions {
  env?: string[];
  cpu?: string;
  mem?: string;
  gpu?: string;
  image: string;
  name?: string;
  project?: string;
  resourceGroup?: string;
  timeout?: string;
  restartable?: boolean;
  lease?: string;
}

/** What runs in it. */
export interface MainProcess {
  argv: readonly string[];
  takesInput: boolean;
  /** It has a terminal. */
  tty: boolean;
}

/** Which option each field of the request comes from, for refusals. */
const typed = {
  name: '--name',
  project: '--project',
  image: '--image',
  command: 'the command',
  env: '-e',
  'resources.cpu': '--cpu',
  'resources.mem': '--mem',
  'resources.cuda.device': '--gpu',
  resourceGroup: '--resource-group',
  restartable: '--restartable or --lease',
};
const maxTimeoutSeconds = 31_536_000;
/** As the API has them. */
const leaseSeconds = [60, 86_400] as const;

/** The request for it. @throws CliFailure on an option that can not be */
export function newSessionBody({ argv, takesInput, tty }: MainProcess, options: SessionOptions): NewSession {
  const gpus = options.gpu === undefined ? {} : { 'cuda.device': options.gpu };
  const resources = {
    ...(options.cpu === undefined ? {} : { cpu: options.cpu }),
    ...(options.mem === undefined ? {} : { mem: options.mem }),
    ...gpus,
  };
  return {
    type: tty || argv.length === 0 ? 'interactive' : 'batch',
    image: options.image,
    ...(argv.length === 0 ? {} : { command: [...argv] }),
    ...(takesInput ? { stdin: true } : {}),
    ...(tty ? { tty: true } : {}),
    env: environmentOf(options.env ?? [], tty),
    ...(Object.keys(resources).length === 0 ? {} : { resources }),
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.project === undefined ? {} : { project: options.project }),
    ...(options.resourceGroup === undefined ? {} : { resourceGroup: options.resourceGroup }),
    ...(options.timeout === undefined
      ? {}
      : { timeoutMs: Math.round(durationSeconds('--timeout', options.timeout, [1, maxTimeoutSeconds]) * 1000) }),
    ...restartableOf(options),
  };
}

function restartableOf({ restartable, lease }: SessionOptions): Pick<NewSession, 'restartable'> {
  if (lease !== undefined)
    return { restartable: { leaseMs: Math.round(durationSeconds('--lease', lease, leaseSeconds) * 1000) } };
  return restartable ? { restartable: {} } : {};
}

function environmentOf(pairs: readonly string[], tty: boolean): Record<string, string> {
  const env: Record<string, string> = tty ? { TERM: process.env['TERM'] ?? 'xterm-256color' } : {};
  for (const pair of pairs) {
    const at = pair.indexOf('=');
    if (at > 0) env[pair.slice(0, at)] = pair.slice(at + 1);
    else if (process.env[pair] !== undefined) env[pair] = process.env[pair];
    else if (at === 0) throw refuseOption('-e', pair, 'there is no name before =', 'NAME=VALUE');
    else
      throw new CliFailure(`-e ${plain(pair)}: it is not set here either`, {
        status: exitStatus.usage,
        hint: `-e ${plain(pair)}=VALUE`,
      });
  }
  return env;
}

/** Asks for it, once over any number of lost answers. @throws CliFailure with the status of what did not run */
export async function createSession(api: Api, body: NewSession): Promise<Session> {
  try {
    return await api.json(Session, 'POST', '/v1/sessions', {
      body,
      typed,
      headers: { 'idempotency-key': randomUUID() },
    });
  } catch (error) {
    if (error instanceof CliFailure)
      throw new CliFailure(error.message, { hint: error.hint, code: error.code, status: exitStatus.notRun });
    throw error;
  }
}

/** Why a session that was to run never did. */
export function neverRan(session: Session): CliFailure {
  const why = session.reason === undefined ? session.state : (session.reason.detail ?? session.reason.code);
  return new CliFailure(`${session.name} did not start: ${why}`, {
    status: exitStatus.notRun,
    code: session.reason?.code,
    hint: hintFor(session.reason?.code ?? '') ?? `causeway inspect ${session.name}`,
  });
}
