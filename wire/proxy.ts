/**
 * Which proxy stands between us and an address, by the variables that everybody uses: HTTPS_PROXY, HTTP_PROXY and NO_PROXY,
 * lower case first. Every connection goes through it as a tunnel (CONNECT); what we say in there it does not see.
 */
import { BlockList, isIP } from 'node:net';
import { WayError } from './way-error.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Proxy {
  secure: boolean;
  host: string;
  port: number;
  /** Value of Proxy-Authorization. Secret. */
  authorization: string | undefined;
  /** Address without credentials, and the variable that named it, for people. */
  name: string;
  variable: string;
}

/** The proxy for `url` (http, https, ws, wss); undefined when it is reached directly. @throws WayError */
export function findProxy(env: Environment, url: URL): Proxy | undefined {
  const secure = url.protocol === 'https:' || url.protocol === 'wss:';
  const found = (secure ? ['https_proxy', 'HTTPS_PROXY'] : ['http_proxy', 'HTTP_PROXY']).find((name) => env[name]);
  if (found === undefined || isExcepted(env['no_proxy'] || env['NO_PROXY'] || '', url)) return undefined;
  return parseProxy(env[found] ?? '', found);
}

function parseProxy(text: string, variable: string): Proxy {
  const hint = `set ${variable} to http://[USER:PASSWORD@]HOST:PORT, or take it away`;
  const whole = text.includes('://') ? text : `http://${text}`;
  if (!URL.canParse(whole)) throw new WayError('proxy_invalid', `${variable} is not the address of a proxy`, hint);
  const { protocol, hostname, port, username, password } = new URL(whole);
  if (protocol !== 'http:' && protocol !== 'https:')
    throw new WayError(
      'proxy_invalid',
      `${variable} names a ${protocol.slice(0, -1)} proxy, which can not be used`,
      hint,
    );
  const secure = protocol === 'https:';
  let credentials: string | undefined;
  try {
    if (username !== '') credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  } catch {
    throw new WayError('proxy_invalid', `the user name or password in ${variable} is badly encoded`, hint);
  }
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  return {
    secure,
    host,
    port: port === '' ? (secure ? 443 : 80) : Number(port),
    authorization: credentials === undefined ? undefined : `Basic ${Buffer.from(credentials).toString('base64')}`,
    name: `${protocol}//${hostname}${port === '' ? '' : `:${port}`}`,
    variable,
  };
}

/** Loopback is never asked of a proxy: it would be the proxy's own. */
function isExcepted(list: string, url: URL): boolean {
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  if (host === 'localhost' || host.endsWith('.localhost') || host === '::1') return true;
  if (isIP(host) === 4 && host.startsWith('127.')) return true;
  const port = url.port || (/^(https|wss):$/.test(url.protocol) ? '443' : '80');
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => entry !== '' && fits(entry, host, port));
}

/** One entry of NO_PROXY: `*`, a name with all below it, an address, a network in CIDR; with or without a port. */
function fits(entry: string, host: string, port: string): boolean {
  if (entry === '*') return true;
  const [, bare = entry, ofPort] = /^(.*?[^:]|\[.*\]):(\d+)$/.exec(isIP(entry) === 6 ? '' : entry) ?? [];
  if (ofPort !== undefined && ofPort !== port) return false;
  const name = bare.replace(/^\[(.*)\]$/, '$1').replace(/^\*?\./, '');
  if (isIP(host) !== 0) return name === host || isInNetwork(name, host);
  return host === name || host.endsWith(`.${name}`);
}

function isInNetwork(network: string, host: string): boolean {
  const [address = '', bits = ''] = network.split('/');
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
  if (!/^\d{1,3}$/.test(bits) || isIP(address) === 0 || Number(bits) > (family === 'ipv6' ? 128 : 32)) return false;
  const list = new BlockList();
  list.addSubnet(address, Number(bits), family);
  return list.check(host, isIP(host) === 6 ? 'ipv6' : 'ipv4');
}
