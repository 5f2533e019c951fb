/**
 * The only reader of text bindings: what wrangler.toml names, and the secrets that it does not. Parsed once per isolate;
 * a value that is wrong refuses every request with its name, never with its content.
 */
import { z } from 'zod';
import { Pin } from '../../schema/pin.ts';
import type { S3Bucket } from './blobs-s3.ts';

/** A root key: version, and 32 random bytes or more as base64url. The first of a list makes, the others still verify. */
const RootKey = z.object({ version: z.int().min(1), key: z.string().regex(/^[A-Za-z0-9_-]{43,}$/) });
/** Content of CAUSEWAY_KEYS. Keys for other purposes are derived from these (see `keys.ts`). */
export const Keys = z.object({
  hmac: z.array(RootKey).min(1).max(8),
  /** Public Ed25519 key (raw, base64url) of the instance's releases; agents pin it when they enrol. */
  release: z.object({ publicKey: z.string().regex(/^[A-Za-z0-9_-]{43}$/) }).optional(),
});
export type Keys = z.infer<typeof Keys>;

const json = z.string().transform((text, context): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    context.addIssue({ code: 'custom', message: 'is not JSON' });
    return z.NEVER;
  }
});
const optional = z
  .string()
  .transform((text) => (text === '' ? undefined : text))
  .optional();

const Bindings = z.object({
  CAUSEWAY_INSTANCE: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/),
  CAUSEWAY_LAYOUT: z.enum(['production', 'machine']),
  CAUSEWAY_KEYS: json.pipe(Keys),
  CAUSEWAY_BOOTSTRAP: z.string().min(16).optional(),
  CAUSEWAY_FAILPOINT: optional,
  CAUSEWAY_TIME_SCALE: optional.transform((text) => Number(text ?? 1)).pipe(z.number().min(0.001).max(1)),
  CAUSEWAY_FAILPOINT_URL: optional,
  CAUSEWAY_RELEASE_URL: optional,
  CAUSEWAY_LOG_DAYS: optional.transform((text) => Number(text ?? 30)).pipe(z.number().min(0).max(36_500)),
  CAUSEWAY_LOGS_S3_URL: optional.pipe(
    z
      .url({ protocol: /^https?$/ })
      .regex(/[^/?#]$/)
      .optional(),
  ),
  CAUSEWAY_LOGS_S3_REGION: optional.transform((text) => text ?? 'us-east-1'),
  CAUSEWAY_LOGS_S3_ACCESS_KEY_ID: optional,
  CAUSEWAY_LOGS_S3_SECRET_ACCESS_KEY: optional,
  CAUSEWAY_ORIGIN: optional.pipe(z.url({ protocol: /^https?$/ }).optional()),
  CAUSEWAY_SERVER_PIN: optional.pipe(Pin.optional()),
  UPSTASH_REDIS_REST_URL: optional,
  UPSTASH_REDIS_REST_TOKEN: optional,
});

export interface Config {
  /** Names this control plane: part of what agents sign and of their containers' labels. */
  instance: string;
  /** `production`: Cloudflare. `machine`: one workerd behind its own socket. */
  layout: 'production' | 'machine';
  keys: Keys;
  /** Proves the supervisor of this machine: first administrator, drain. Absent when never asked for. */
  bootstrap: string | undefined;
  failpoint: string | undefined;
  failpointUrl: string | undefined;
  /** Where other machines reach this control plane, when whoever started it knows: for join lines. */
  origin: string | undefined;
  /** Pin of the key that it serves TLS with, where only those who pin it believe it. */
  serverPin: string | undefined;
  /** Where the Worker finds the files of releases; absent where a bucket is bound. */
  releaseUrl: string | undefined;
  /** Days that output is kept in object storage, from the last that came of a session; 0: for ever. */
  logDays: number;
  /** Where it lies instead of the bucket that is bound. */
  logsS3: S3Bucket | undefined;
  redis: { url: string; token: string } | undefined;
  /** 1, or how much faster the ledger's timers and leases run. For tests of the real stack; refused in production. */
  timeScale: number;
}

/** @throws Error naming the bindings that are missing beside others */
function s3In(data: z.infer<typeof Bindings>): S3Bucket | undefined {
  const {
    CAUSEWAY_LOGS_S3_URL: url,
    CAUSEWAY_LOGS_S3_REGION: region,
    CAUSEWAY_LOGS_S3_ACCESS_KEY_ID: accessKeyId,
    CAUSEWAY_LOGS_S3_SECRET_ACCESS_KEY: secretAccessKey,
  } = data;
  if (url === undefined && accessKeyId === undefined && secretAccessKey === undefined) return undefined;
  if (url === undefined || accessKeyId === undefined || secretAccessKey === undefined)
    throw new Error('the configuration is not valid: CAUSEWAY_LOGS_S3_URL, _ACCESS_KEY_ID and _SECRET_ACCESS_KEY');
  return { url, region, accessKeyId, secretAccessKey };
}

const parsed = new WeakMap<object, Config>();

/** The configuration of this isolate. @throws Error naming the bindings that are missing or wrong. */
export function readConfig(env: Env): Config {
  const known = parsed.get(env);
  if (known) return known;
  const bindings = Bindings.safeParse(env);
  if (!bindings.success) {
    const wrong = bindings.error.issues.map((issue) => issue.path.join('.')).join(', ');
    throw new Error(`the configuration is not valid: ${wrong}`);
  }
  const { data } = bindings;
  const { UPSTASH_REDIS_REST_URL: url, UPSTASH_REDIS_REST_TOKEN: token } = data;
  const config: Config = {
    instance: data.CAUSEWAY_INSTANCE,
    layout: data.CAUSEWAY_LAYOUT,
    keys: data.CAUSEWAY_KEYS,
    bootstrap: data.CAUSEWAY_BOOTSTRAP,
    failpoint: data.CAUSEWAY_FAILPOINT,
    failpointUrl: data.CAUSEWAY_FAILPOINT_URL,
    releaseUrl: data.CAUSEWAY_RELEASE_URL,
    logDays: data.CAUSEWAY_LOG_DAYS,
    logsS3: s3In(data),
    origin: data.CAUSEWAY_ORIGIN,
    serverPin: data.CAUSEWAY_SERVER_PIN,
    timeScale: data.CAUSEWAY_TIME_SCALE,
    redis: url !== undefined && token !== undefined ? { url, token } : undefined,
  };
  parsed.set(env, config);
  return config;
}
