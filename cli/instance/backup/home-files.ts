/** The small files of a home that a backup holds, as far as they are there; what a restore does with each kind differs. */

/** The control plane's own: a restore replaces them. */
export const edgeFiles = [
  'keys.json',
  'secrets.json',
  'instance.json',
  'admin.json',
  'version.json',
  'release-key.json',
];
/** Whoever pinned this control plane knows it by them: a backup without them leaves those that are there. */
export const tlsFiles = ['tls/ca.key', 'tls/ca.pem', 'tls/server.key', 'tls/server.pem'];
/** An identity is one machine's: it is taken only where there is none. */
export const agentFiles = ['agent/key.pem', 'agent/identity.json', 'agent/counter.json'];
