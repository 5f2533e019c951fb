/**
 * Makes Miniflare's direct sockets workerd's own in two ways that Miniflare has no setting for, by a load hook that changes
 * one place of its source and refuses to start if the text moved. Import it before anything that imports Miniflare.
 *
 * True addresses: workerd puts {"clientIp": "ip:port"} into `request.cf` of a socket that has no cfBlobHeader; Miniflare
 * always sets one, which hides the peer and lets any client forge `request.cf`. That line goes.
 *
 * TLS: the socket becomes one of kind `https` when there is a key to serve with, with nothing in front of it.
 */
import { registerHooks } from 'node:module';

const BEFORE =
  /http: \{\s*(style: directSocket\.proxy \? HttpOptions_Style\.PROXY : void 0,)\s*cfBlobHeader: CoreHeaders\.CF_BLOB,\s*(capnpConnectHost: HOST_CAPNP_CONNECT)\s*\}/g;

const HOOK = 'causeway.serve.directSocket';

/** The part of a socket in workerd's configuration that says what it speaks. */
type Spoken =
  | { http: object }
  | { https: { options: object; tlsOptions: { keypair: { privateKey: string; certificateChain: string } } } };

let keypair: { privateKey: string; certificateChain: string } | undefined;

/** Serves TLS from the next start of workerd on (both PEM). */
export function serveTls(privateKey: string, certificateChain: string): void {
  keypair = { privateKey, certificateChain };
}

Object.defineProperty(globalThis, Symbol.for(HOOK), {
  value: (options: object): Spoken =>
    keypair === undefined ? { http: options } : { https: { options, tlsOptions: { keypair } } },
});

registerHooks({
  load(url, context, next) {
    const loaded = next(url, context);
    if (!url.endsWith('/miniflare/dist/src/index.js')) return loaded;
    let replaced = 0;
    const source = String(loaded.source).replace(BEFORE, (_, style: string, connect: string) => {
      replaced += 1;
      return `...globalThis[Symbol.for('${HOOK}')]({ ${style} ${connect} })`;
    });
    if (replaced !== 1)
      throw new Error(`this Miniflare is not the one we know: ${replaced} direct sockets patched, not 1`);
    return { ...loaded, source };
  },
});
