/**
 * The folder of an instance and who it is. Two instances on one machine share nothing but the engine and its images: each
 * has its own id (labels of its containers), agent name and range of container networks, fixed when its folder is made.
 *
 *   instance.json  id, agent name, networks         admin.json   the first administrator, written once
 *   keys.json      root keys                        secrets.json what the parts prove to each other with
 *   edge/ redis/ agent/   state of each part        log/         what they said
 *   tls/           keys and certificates of its TLS: ca.pem may be given away, *.key never
 *   run/           lock and state of the supervisor build/       a build of causeway/python under way
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';

import { CliFailure } from '../exit.ts';
import { findJson, writeJson } from './files.ts';
import { type NetworkPool, pickPool } from './network-pool.ts';

const Identity = z.object({
  /** Version of this folder's layout. */
  layout: z.literal(1),
  id: z.string().regex(/^[a-z0-9]{8}$/),
  agentName: z.string(),
  networkPool: z.string(),
});
export type Identity = z.infer<typeof Identity>;

const Secrets = z.object({ bootstrap: z.string().min(32), redis: z.string().min(32) });
export type Secrets = z.infer<typeof Secrets>;

export type Home = {
  path: string;
  identity: Identity;
  secrets: Secrets;
  /** A path below the home. */
  at: (...parts: string[]) => string;
};

/** Paths below a home, also of one that is not there yet. */
export const homePaths = (home: string) => ({
  identity: join(home, 'instance.json'),
  secrets: join(home, 'secrets.json'),
  keys: join(home, 'keys.json'),
  admin: join(home, 'admin.json'),
  state: join(home, 'run', 'state.json'),
  lock: join(home, 'run', 'lock'),
  logs: join(home, 'log'),
});

/** Opens the folder, making it and the instance's identity the first time. Throws CliFailure when it can not be used. */
export function openHome(path: string): Home {
  const paths = homePaths(path);
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    chmodSync(path, 0o700);
    for (const folder of ['run', 'log']) mkdirSync(join(path, folder), { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new CliFailure(`the home ${path} can not be used: ${(error as Error).message}`, {
      hint: 'CAUSEWAY_HOME=/another/folder causeway up',
    });
  }
  const identity = findJson(paths.identity, Identity) ?? make(paths.identity, newIdentity());
  const secrets =
    findJson(paths.secrets, Secrets) ??
    make(paths.secrets, {
      bootstrap: randomBytes(32).toString('base64url'),
      redis: randomBytes(32).toString('base64url'),
    });
  return { path, identity, secrets, at: (...parts) => join(path, ...parts) };
}

/** The instance's identity if there is one, without making anything. */
export function findIdentity(path: string): Identity | undefined {
  return existsSync(path) ? findJson(homePaths(path).identity, Identity) : undefined;
}

function make<T>(file: string, value: T): T {
  writeJson(file, value);
  return value;
}

function newIdentity(): Identity {
  const id = [...randomBytes(8)].map((byte) => 'abcdefghjkmnpqrstvwxyz0123456789'[byte % 32]).join('');
  const pool: NetworkPool = pickPool(id);
  return { layout: 1, id, agentName: agentName(hostname(), id), networkPool: pool };
}

/** A name for the agent of this machine that another instance on the same machine does not have. */
export function agentName(host: string, id: string): string {
  const base = host
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .replace(/^-+|-+$/g, '');
  return `${base.slice(0, 50) || 'machine'}-${id.slice(0, 4)}`;
}
