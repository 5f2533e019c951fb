/** The flags of the edge's process that ask for TLS, and the material that they lead to. */
import { ensureMaterial, namesOfMachine, readMaterial, type TlsMaterial, TlsRefused } from './material.ts';

export const tlsOptions = {
  'tls-dir': { type: 'string' },
  'tls-name': { type: 'string', multiple: true },
  'tls-cert': { type: 'string' },
  'tls-key': { type: 'string' },
} as const;

export type TlsFlags = {
  /** Keys and certificates are made and kept here. */
  'tls-dir'?: string | undefined;
  /** Names and addresses beside those that the machine knows of itself. */
  'tls-name'?: string[] | undefined;
  'tls-cert'?: string | undefined;
  'tls-key'?: string | undefined;
};

/**
 * What tells what to serve TLS with at a time, and throws TlsRefused; undefined when it is not asked for. The machine's
 * names are those of now: addresses that come and go while it serves are no reason for another certificate.
 */
export function tlsSource(flags: TlsFlags): ((nowMs: number) => TlsMaterial) | undefined {
  const { 'tls-cert': certificate, 'tls-key': key, 'tls-dir': folder, 'tls-name': names = [] } = flags;
  if (certificate !== undefined && key !== undefined) return (nowMs) => readMaterial(certificate, key, nowMs);
  if (certificate !== undefined || key !== undefined)
    throw new TlsRefused('--tls-cert FILE and --tls-key FILE are given together');
  if (folder === undefined) return undefined;
  const all = namesOfMachine(names);
  return (nowMs) => ensureMaterial(folder, all, nowMs);
}
