/**
 * Where the CLI remembers which control planes it is signed in to: `$XDG_CONFIG_HOME/causeway/config.json` (mode 0600).
 * `CAUSEWAY_URL` and `CAUSEWAY_TOKEN` override it. The only reader of environment and configuration for API commands.
 */
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { parsePins, PinList } from '../schema/pin.ts';
import { Way } from '../wire/way.ts';
import { CliFailure, exitStatus } from './exit.ts';
import { plain } from './terminal/table.ts';

const Context = z.object({
  url: z.url(),
  token: z.string(),
  email: z.string().optional(),
  /** By which the server is known, instead of by authorities. */
  pin: PinList.optional(),
});
const ConfigFile = z.object({ current: z.string().optional(), contexts: z.record(z.string(), Context) });
export type Context = z.infer<typeof Context>;
type ConfigFile = z.infer<typeof ConfigFile>;

/** Path of the configuration file. */
export function configPath(): string {
  return join(process.env['XDG_CONFIG_HOME'] || join(homedir(), '.config'), 'causeway', 'config.json');
}

function readConfig(): ConfigFile {
  let text: string;
  try {
    text = readFileSync(configPath(), 'utf8');
  } catch {
    return { contexts: {} };
  }
  try {
    return ConfigFile.parse(JSON.parse(text));
  } catch {
    throw new CliFailure(`${configPath()} can not be read`, { hint: 'mend or remove the file, then: causeway login' });
  }
}

function writeConfig(config: ConfigFile): void {
  const path = configPath();
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const fresh = `${path}.${process.pid}`;
  writeFileSync(fresh, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
  chmodSync(fresh, 0o600);
  renameSync(fresh, path);
}

/**
 * The control plane and credential to use. `CAUSEWAY_URL` picks another stored one, or needs `CAUSEWAY_TOKEN`; `CAUSEWAY_PIN`
 * is its pin, where the stored one has none or is of another.
 */
export function currentContext(): Context {
  const config = readConfig();
  const url = process.env['CAUSEWAY_URL']?.replace(/\/+$/, '') || undefined;
  if (url !== undefined) requireAddress(url, 'CAUSEWAY_URL=');
  const token = process.env['CAUSEWAY_TOKEN'] || undefined;
  const stored = url === undefined ? config.contexts[config.current ?? ''] : config.contexts[contextName(url)];
  const pin = requirePins(process.env['CAUSEWAY_PIN'] || undefined, 'CAUSEWAY_PIN') ?? stored?.pin;
  const pinned = pin === undefined ? {} : { pin };
  if (token !== undefined && (url ?? stored?.url) !== undefined) return { url: url ?? stored!.url, token, ...pinned };
  if (stored !== undefined) return { ...stored, ...pinned };
  throw new CliFailure(url === undefined ? 'not signed in to any control plane' : `not signed in to ${url}`, {
    hint:
      url === undefined
        ? 'causeway up   (a control plane on this machine)   or: causeway login URL'
        : `causeway login ${url}`,
  });
}

/** @throws CliFailure that shows how one is given (`before` an address), when `text` is none. */
export function requireAddress(text: string, before: string): void {
  if (URL.canParse(text) && /^https?:\/\//.test(text)) return;
  throw new CliFailure(`${plain(text)} is not the address of a control plane`, {
    status: exitStatus.usage,
    hint: `${before}http://127.0.0.1:8787`,
  });
}

/** The pin of the control plane at `url`, from `CAUSEWAY_PIN` or as it was stored. */
export function findPin(url: string): string | undefined {
  const given = requirePins(process.env['CAUSEWAY_PIN'] || undefined, 'CAUSEWAY_PIN');
  const stored = readConfig().contexts[contextName(url)];
  return given ?? (stored?.url === url ? stored.pin : undefined);
}

/** Normalized pins, or undefined when there are none. @throws CliFailure that names `from` */
export function requirePins(text: string | undefined, from: string): string | undefined {
  const pins = text === undefined ? undefined : parsePins(text);
  if (text !== undefined && pins === undefined)
    throw new CliFailure(`${from} ${plain(text)} is not a pin`, {
      status: exitStatus.usage,
      hint: 'sha256: and 64 hexadecimal digits, as the join line has it',
    });
  return pins?.join(',');
}

/** How that control plane is reached: its pin, the authorities and proxies of the environment. @throws CliFailure */
export function wayTo({ url, pin }: Pick<Context, 'url' | 'pin'>): Way {
  if (pin !== undefined && !url.startsWith('https://'))
    throw new CliFailure(`${url} is pinned, and does not use TLS: that would be a pin of nothing`, {
      hint: `use its https:// address`,
      status: exitStatus.usage,
    });
  return new Way(process.env, pin?.split(','));
}

/** Name of a context: the host and port of its URL. */
export function contextName(url: string): string {
  return new URL(url).host;
}

/** Stores a context and makes it the current one. */
export function saveContext(context: Context): void {
  const config = readConfig();
  const name = contextName(context.url);
  writeConfig({ current: name, contexts: { ...config.contexts, [name]: context } });
}

/** Forgets the credential of `url` (with `token`: where it is that one); what remains becomes current, if anything. */
export function forgetContext(url: string, token?: string): void {
  const config = readConfig();
  const contexts = { ...config.contexts };
  if (token !== undefined && contexts[contextName(url)]?.token !== token) return;
  delete contexts[contextName(url)];
  const rest = Object.keys(contexts)[0];
  writeConfig({ contexts, ...(rest === undefined ? {} : { current: rest }) });
}
