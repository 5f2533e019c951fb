/**
 * Runs the edge on workerd on this machine: `node edge/serve/index.ts --state DIR [--keys FILE] [--host H] [--port P] [--worker FILE]`, and for
 * TLS `--tls-dir DIR [--tls-name NAME ...]` (keys and certificates are made there) or `--tls-cert FILE --tls-key FILE`. Environment
 * variables CAUSEWAY_* and UPSTASH_* become bindings of the Worker. It prints JSON lines; the one with `"msg":"ready"`
 * carries the url, and over TLS the pin of the server's key. SIGTERM drains and stops; 64 wrong usage, 75 the state directory is in use, 70 workerd is beyond repair.
 */
import './direct-socket.ts'; // first: it must be in force before Miniflare is loaded

const { main } = await import('./main.ts');
await main(process.argv.slice(2));
