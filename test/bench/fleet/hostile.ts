/**
 * `node hostile.ts URL dial|ask SOCKETS AGENT_ID...`: that many loops which ask for a challenge and dial with a signature that
 * is not the agent's, or only ask, again at once, without any pause. Prints `tries` at the end of its standard input.
 */
import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { WebSocket } from 'ws';
import { tunnelProtocol } from '../../../schema/protocol/limits.ts';

const [url = '', what = '', count = '', ...agentIds] = process.argv.slice(2);
let tries = 0;
const statuses: Record<string, number> = {};

async function challenge(agentId: string): Promise<string> {
  const body = JSON.stringify({ agentId });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const sending = request(new URL('/agent/v1/challenge', url), { method: 'POST', headers, agent: false });
    sending.on('error', reject).on('response', (response) => {
      let said = '';
      response.setEncoding('utf8').on('data', (part: string) => (said += part));
      response.on('error', reject);
      response.on('end', () => {
        try {
          resolve((JSON.parse(said) as { nonce: string }).nonce);
        } catch (error) {
          reject(error as Error);
        }
      });
    });
    sending.end(body);
  });
}

async function dial(agentId: string, nonce: string): Promise<void> {
  const signature = randomBytes(64).toString('base64url');
  const headers = { authorization: `Causeway-Agent id=${agentId},nonce=${nonce},signature=${signature}` };
  const socket = new WebSocket(`${url.replace('http', 'ws')}/agent/v1/tunnel?purpose=control`, tunnelProtocol, {
    headers,
  });
  await new Promise<void>((resolve) => {
    socket.on('unexpected-response', (_, response) => {
      const status = String(response.statusCode);
      statuses[status] = (statuses[status] ?? 0) + 1;
      response.resume();
      socket.terminate();
    });
    socket.on('open', () => {
      statuses['101'] = (statuses['101'] ?? 0) + 1;
      socket.terminate();
    });
    socket.on('error', () => {}); // a close follows
    socket.on('close', () => resolve());
  });
}

async function loop(agentId: string): Promise<never> {
  for (;;) {
    tries++;
    await challenge(agentId)
      .then((nonce) => (what === 'dial' ? dial(agentId, nonce) : undefined))
      .catch(() => {});
  }
}

for (let n = 0; n < Number(count); n++) void loop(agentIds[n % agentIds.length]!);
console.log(JSON.stringify({ msg: 'ready' }));
process.stdin.resume().on('end', () => {
  console.log(JSON.stringify({ msg: 'done', tries, statuses }));
  process.exit(0);
});
