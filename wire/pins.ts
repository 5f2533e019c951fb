/**
 * Whether a TLS server is the one that was pinned. Its own key is enough, whatever its certificate says of names and dates.
 * The key of an authority counts only where signatures lead from the server's certificate to it: anybody can send a
 * certificate along that is not his.
 */
import { createHash, type X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { toPin } from '../schema/pin.ts';

/** A chain is not longer than this. */
const mostLinks = 8;

/** The pin of a certificate's public key. */
export function pinOf({ publicKey }: X509Certificate): string {
  return toPin(
    createHash('sha256')
      .update(publicKey.export({ type: 'spki', format: 'der' }))
      .digest(),
  );
}

function isCurrent({ validFromDate, validToDate }: X509Certificate, nowMs: number): boolean {
  return validFromDate.getTime() <= nowMs && nowMs <= validToDate.getTime();
}

/** True when the certificate names `host`: a name or an address. */
export function isFor(certificate: X509Certificate, host: string): boolean {
  return (isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)) !== undefined;
}

/** Undefined when the peer of `socket`, which has finished its handshake, is one of `pins`; else why it is not. */
export function refusePeer(socket: TLSSocket, host: string, pins: readonly string[]): string | undefined {
  const leaf = socket.getPeerX509Certificate();
  if (leaf === undefined) return 'it showed no certificate';
  if (pins.includes(pinOf(leaf))) return undefined;
  const nowMs = Date.now();
  let link = leaf;
  for (let links = 0; links < mostLinks; links++) {
    const issuer = link.issuerCertificate;
    if (issuer === undefined || issuer.fingerprint256 === link.fingerprint256) break;
    if (!issuer.ca || !link.checkIssued(issuer) || !link.verify(issuer.publicKey)) break;
    if (!isCurrent(link, nowMs)) return 'a certificate of its chain is out of date';
    if (pins.includes(pinOf(issuer)))
      return isFor(leaf, host) ? undefined : `its certificate is not for ${host} (${leaf.subjectAltName})`;
    link = issuer;
  }
  return `it has the key ${pinOf(leaf)}`;
}
