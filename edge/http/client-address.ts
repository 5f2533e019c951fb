/** Who is at the other end of the connection, by the only source that a client can not forge in each layout. */

/** The client's IP address, or `unknown`. */
export function clientAddressOf(request: Request, layout: 'production' | 'machine'): string {
  if (layout === 'production') return request.headers.get('cf-connecting-ip') ?? 'unknown';
  // workerd's own socket says "address:port" here (see edge/serve/direct-socket.ts).
  const peer = (request.cf as { clientIp?: unknown } | undefined)?.clientIp;
  return typeof peer === 'string' ? peer.replace(/:[0-9]+$/, '').replace(/^\[(.*)\]$/, '$1') : 'unknown';
}
