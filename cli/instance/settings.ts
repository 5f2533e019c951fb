/** What a person may set for an instance on this machine. The only reader of environment for `up`, `status`, `down`, `doctor`. */
import { homedir } from 'node:os';
import { isIP } from 'node:net';
import { isAbsolute, join, resolve } from 'node:path';

import { CliFailure, exitStatus } from '../exit.ts';
import { addressOfMachine } from './address.ts';

/** What the edge serves TLS with: keys and certificates of its own, made for these further names, or files; or none. */
export type TlsSettings =
  | { kind: 'off' }
  | { kind: 'own'; names: string[] }
  | { kind: 'files'; certificate: string; key: string };

export type Settings = {
  /** Everything of the instance lives below it. */
  home: string;
  host: string;
  port: number;
  /** Where this machine reaches the edge. */
  url: string;
  isLoopback: boolean;
  tls: TlsSettings;
  /** Where other machines reach it; undefined on loopback. */
  publicUrl: string | undefined;
  /** Socket of the container engine that DOCKER_HOST names. */
  engineSocket: string | undefined;
  /** A Redis service elsewhere. */
  upstash: { url: string; token: string } | undefined;
  /** An image to pull as `causeway/python` instead of building it. */
  pythonImage: string | undefined;
  /** Days that output is kept in object storage; undefined: as `wrangler.toml` says. */
  logDays: number | undefined;
  /** A bucket of S3's protocol for it, instead of a directory of the home. */
  logsS3: S3Settings | undefined;
};

export type S3Settings = { url: string; region: string | undefined; accessKeyId: string; secretAccessKey: string };

type Environment = Record<string, string | undefined>;

const s3Names = [
  'CAUSEWAY_LOGS_S3_URL',
  'CAUSEWAY_LOGS_S3_ACCESS_KEY_ID',
  'CAUSEWAY_LOGS_S3_SECRET_ACCESS_KEY',
] as const;

function refuse(name: string, value: string, what: string): never {
  throw new CliFailure(`${name}=${value}: ${what}`, { status: exitStatus.usage });
}

/** Reads and checks the settings. Throws CliFailure that names the variable. */
export function readSettings(env: Environment = process.env): Settings {
  const host = env['HOST'] || '127.0.0.1';
  const port = Number(env['PORT'] || '8787');
  if (!/^[A-Za-z0-9.:-]+$/.test(host)) refuse('HOST', host, 'is not an address');
  if (!Number.isInteger(port) || port < 1 || port > 65_535) refuse('PORT', env['PORT'] ?? '', 'is not a port');
  const reach = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  const isLoopback = /^(127\.|::1$|localhost$)/.test(host);
  const names = readNames(env);
  const tls = readTls(env, isLoopback, reach === host && !isLoopback ? [...names, host] : names);
  const addressOf = (name: string) =>
    `${tls.kind === 'off' ? 'http' : 'https'}://${isIP(name) === 6 ? `[${name}]` : name}:${port}`;
  return {
    home: readHome(env),
    host,
    port,
    url: addressOf(reach),
    isLoopback,
    tls,
    publicUrl: isLoopback ? undefined : addressOf(names[0] ?? (reach === host ? host : addressOfMachine())),
    engineSocket: readEngineSocket(env['DOCKER_HOST']),
    upstash: readUpstash(env),
    pythonImage: env['CAUSEWAY_PYTHON_IMAGE'] || undefined,
    logDays: readLogDays(env['CAUSEWAY_LOG_DAYS']),
    logsS3: readS3(env),
  };
}

function readLogDays(text: string | undefined): number | undefined {
  if (!text) return undefined;
  if (!/^[0-9]{1,5}$/.test(text)) refuse('CAUSEWAY_LOG_DAYS', text, 'is not a number of days (0: for ever)');
  return Number(text);
}

function readS3(env: Environment): S3Settings | undefined {
  const given = s3Names.filter((name) => env[name]);
  if (given.length === 0) return undefined;
  const missing = s3Names.find((name) => !env[name]);
  if (missing !== undefined) refuse(missing, '', `is needed beside ${given.join(' and ')}`);
  const [url, accessKeyId, secretAccessKey] = s3Names.map((name) => env[name] ?? '') as [string, string, string];
  if (!URL.canParse(url) || !/^https?:\/\/[^?#]*[^/?#]$/.test(url))
    refuse('CAUSEWAY_LOGS_S3_URL', url, 'is not the address of a bucket, such as https://HOST/BUCKET');
  return { url, region: env['CAUSEWAY_LOGS_S3_REGION'] || undefined, accessKeyId, secretAccessKey };
}

function readNames(env: Environment): string[] {
  const names = (env['CAUSEWAY_HOSTNAME'] ?? '').split(/[\s,]+/).filter((name) => name !== '');
  for (const name of names)
    if (!/^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(name) && isIP(name) === 0)
      refuse('CAUSEWAY_HOSTNAME', name, 'is neither a host name nor an address');
  return names.map((name) => name.toLowerCase());
}

/** On, unless only this machine reaches it or somebody said off. */
function readTls(env: Environment, isLoopback: boolean, names: string[]): TlsSettings {
  const said = env['CAUSEWAY_TLS'] || (isLoopback ? 'unset' : 'on');
  if (!['on', 'off', 'unset'].includes(said)) refuse('CAUSEWAY_TLS', said, 'is neither on nor off');
  const [certificate, key] = [env['CAUSEWAY_TLS_CERT'] || undefined, env['CAUSEWAY_TLS_KEY'] || undefined];
  if ((certificate === undefined) !== (key === undefined))
    refuse('CAUSEWAY_TLS_CERT', certificate ?? '', 'needs CAUSEWAY_TLS_KEY too, and the reverse');
  if (said === 'off') return { kind: 'off' };
  if (certificate !== undefined && key !== undefined)
    return { kind: 'files', certificate: resolve(certificate), key: resolve(key) };
  return said === 'on' ? { kind: 'own', names } : { kind: 'off' };
}

/** `$CAUSEWAY_HOME`, else `causeway` in the XDG data directory. */
function readHome(env: Environment): string {
  if (env['CAUSEWAY_HOME']) return resolve(env['CAUSEWAY_HOME']);
  const data = env['XDG_DATA_HOME'];
  return join(data && isAbsolute(data) ? data : join(homedir(), '.local', 'share'), 'causeway');
}

function readEngineSocket(dockerHost: string | undefined): string | undefined {
  if (!dockerHost) return undefined;
  if (!dockerHost.startsWith('unix:///'))
    refuse(
      'DOCKER_HOST',
      dockerHost,
      "only unix:///PATH works: an engine elsewhere can not mount this machine's files",
    );
  return dockerHost.slice('unix://'.length);
}

function readUpstash(env: Environment): Settings['upstash'] {
  const url = env['UPSTASH_REDIS_REST_URL'];
  const token = env['UPSTASH_REDIS_REST_TOKEN'];
  if (!url && !token) return undefined;
  if (!url || !token)
    refuse('UPSTASH_REDIS_REST_URL', url ?? '', 'needs UPSTASH_REDIS_REST_TOKEN too, and the reverse');
  if (!URL.canParse(url)) refuse('UPSTASH_REDIS_REST_URL', url, 'is not an address');
  return { url, token };
}
