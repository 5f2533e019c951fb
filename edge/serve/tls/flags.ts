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

/** What to serve TLS with; undefined when it is not asked for. @throws TlsRefused */
export function findTls(flags: TlsFlags, nowMs: number): TlsMaterial | undefined {
  const { 'tls-cert': certificate, 'tls-key': key, 'tls-dir': folder, 'tls-name': names = [] } = flags;
  if (certificate !== undefined && key !== undefined) return readMaterial(certificate, key, nowMs);
  if (certificate !== undefined || key !== undefined)
    throw new TlsRefused('--tls-cert FILE and --tls-key FILE are given together');
  return folder === undefined ? undefined : ensureMaterial(folder, namesOfMachine(names), nowMs);
}
