/**
 * How this program reaches a control plane: by which pins it knows it, or which authorities it believes, and through which
 * proxy. Read once from environment and settings; says nothing secret when it is described.
 */
import { readFileSync } from 'node:fs';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import type { Route } from '../schema/protocol/diagnosis.ts';
import { findProxy, type Environment, type Proxy } from './proxy.ts';
import { WayError } from './way-error.ts';

export class Way {
  /** Undefined: authorities decide. */
  readonly pins: readonly string[] | undefined;
  readonly #env: Environment;
  #context: SecureContext | undefined;

  /** @param env holds HTTPS_PROXY, HTTP_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR where they are set */
  constructor(env: Environment, pins?: readonly string[]) {
    this.#env = env;
    this.pins = pins;
  }

  /** @throws WayError when a variable names something that is no proxy */
  proxyFor(url: URL): Proxy | undefined {
    return findProxy(this.#env, url);
  }

  /**
   * The authorities that are believed: those of SSL_CERT_FILE or SSL_CERT_DIR alone where one is set, else those that Node
   * brings and those of this machine; always those of NODE_EXTRA_CA_CERTS too. @throws WayError
   */
  authorities(): SecureContext {
    this.#context ??= createSecureContext({ ca: readAuthorities(this.#env) });
    return this.#context;
  }

  /** In words, without credentials. @throws WayError */
  describe(url: URL): Route {
    const secure = /^(https|wss):$/.test(url.protocol);
    const proxy = this.proxyFor(url);
    return {
      ...(proxy === undefined ? {} : { proxy: proxy.name }),
      trust: secure ? (this.pins === undefined ? 'authority' : 'pinned') : 'none',
    };
  }
}

function readAuthorities(env: Environment): string[] {
  const extra = getCACertificates('extra');
  const file = env['SSL_CERT_FILE'];
  if (file) return [...readBundle(file), ...extra];
  // Where SSL_CERT_DIR is set, it is what 'system' reads.
  const system = getCACertificates('system');
  return env['SSL_CERT_DIR'] ? [...system, ...extra] : [...getCACertificates('bundled'), ...system, ...extra];
}

function readBundle(file: string): string[] {
  const hint = 'set SSL_CERT_FILE to a file with certificates in PEM, or take it away';
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new WayError('tls_ca_file_invalid', `SSL_CERT_FILE=${file} can not be read (${why})`, hint);
  }
  const found = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g);
  if (found === null) throw new WayError('tls_ca_file_invalid', `SSL_CERT_FILE=${file} holds no certificate`, hint);
  return found;
}
