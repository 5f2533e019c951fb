/** Who is at the other end of the connection, by the only source that a client can not forge in each layout. */

/** The client's IP address, or `unknown`. */
export function clientAddressOf(request: Request, layout: 'production' | 'machine'): string {
  if (layout === 'production') return request.headers.get('cf-connecting-ip') ?? 'unknown';
  // workerd's own socket says "address:port" here (see edge/serve/direct-socket.ts).
  const peer = (request.cf as { clientIp?: unknown } | undefined)?.clientIp;
  return typeof peer === 'string' ? peer.replace(/:[0-9]+$/, '').replace(/^\[(.*)\]$/, '$1') : 'unknown';
}

/**
 * What one client has of addresses: an IPv4 address, or the /64 of an IPv6 address, of which it may use any. Undefined where
 * the platform does not say: strangers are not thrown together.
 */
export function clientNetworkOf(address: string): string | undefined {
  if (address === 'unknown') return undefined;
  if (!address.includes(':')) return address;
  // An IPv4 client of a socket that listens for both.
  const [, mapped] = /^::ffff:([0-9.]+)$/i.exec(address) ?? [];
  if (mapped !== undefined) return mapped;
  const [head = '', tail] = address.toLowerCase().replace(/%.*$/, '').split('::');
  const groups = (text: string): string[] => (text === '' ? [] : text.split(':'));
  const before = groups(head);
  const after = groups(tail ?? '');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - before.length - after.length);
  const all = [...before, ...Array.from({ length: zeros }, () => '0'), ...after];
  return `${all
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`;
}
