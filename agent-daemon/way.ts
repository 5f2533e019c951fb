/**
 * How this agent reaches its control plane: by the pin that it was given once and keeps (`pin.json` of its state directory),
 * else by authorities; through the proxy of its environment. A pin belongs to one address and is never dropped for it: only
 * an explicit other pin, or another address, takes its place.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { PinList } from '../schema/pin.ts';
import { Way } from '../wire/way.ts';
import { type Config, ConfigError, type Environment } from './config.ts';
import { type Disk, readIfThere, replaceDurably } from './disk.ts';

const Pinned = z.strictObject({ url: z.string(), pin: PinList });

/** The way of this configuration; a pin that was given is written down first. @throws ConfigError */
export async function wayOf(
  config: Pick<Config, 'url' | 'pin' | 'stateDir'>,
  env: Environment,
  disk: Disk,
): Promise<Way> {
  const { url, stateDir } = config;
  const file = join(stateDir, 'pin.json');
  const known = await findPinned(disk, file);
  const pin = config.pin ?? (known?.url === url ? known.pin : undefined);
  if (pin !== undefined && !url.startsWith('https:'))
    throw new ConfigError(`${url} is pinned, and does not use TLS: give its https:// address`);
  if (pin !== undefined && (known?.pin !== pin || known.url !== url)) {
    await disk.mkdir(stateDir, { recursive: true, mode: 0o700 });
    await replaceDurably(disk, file, JSON.stringify({ url, pin }));
  }
  return new Way(env, pin?.split(','));
}

async function findPinned(disk: Disk, file: string): Promise<z.infer<typeof Pinned> | undefined> {
  const text = await readIfThere(disk, file);
  if (text === undefined) return undefined;
  try {
    return Pinned.parse(JSON.parse(text.toString('utf8')));
  } catch {
    // Going on without it would be going on unpinned.
    throw new ConfigError(`${file} is damaged: remove it, and start the agent with --pin as the join line has it`);
  }
}
