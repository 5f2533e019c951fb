/** A machine that joins: its key, its enrolment, and its dial, as the agent daemon does them. Its socket says nothing. */
import { type Challenged, type Enrolled, tunnelSigningText } from '../../../schema/api/agent.ts';
import { tunnelProtocol } from '../../../schema/protocol/limits.ts';
import { fromBase64Url, toBase64Url } from '../../../edge/platform/base64.ts';
import { type Answer, call, origin, send } from '../client.ts';

export const capacity = { cpu: 8000, mem: 16 * 1024 ** 3 };
export const hostInfo = {
  hostname: 'Host-1.example.test',
  os: 'Debian 13',
  kernel: '6.12',
  arch: 'x86_64' as const,
  engine: 'docker 26',
};

/** A new join token of the group `default`. */
export async function newJoinToken(
  admin: string,
  options: Record<string, unknown> = {},
): Promise<{ id: string; token: string }> {
  const body = { resourceGroup: 'default', ...options };
  const made = await call<{ id: string; token: string }>('POST', '/v1/agents/join-tokens', { token: admin, body });
  if (made.status !== 201) throw new Error(`join token: ${made.status} ${made.text}`);
  return made.body;
}

export class Host {
  readonly publicKey: string;
  readonly #key: CryptoKey;
  agentId = '';
  instance = '';

  private constructor(key: CryptoKey, publicKey: string) {
    this.#key = key;
    this.publicKey = publicKey;
  }

  static async make(): Promise<Host> {
    const pair = (await crypto.subtle.generateKey({ name: 'Ed25519' }, true, ['sign', 'verify'])) as CryptoKeyPair;
    const raw = (await crypto.subtle.exportKey('raw', pair.publicKey)) as ArrayBuffer;
    return new Host(pair.privateKey, toBase64Url(new Uint8Array(raw)));
  }

  /** One attempt to enrol; remembers who it is when it succeeds. */
  async enrol(token: string, changes: Record<string, unknown> = {}): Promise<Answer<Enrolled>> {
    const body = { token, publicKey: this.publicKey, capacity, host: hostInfo, agentVersion: '0.1.0', ...changes };
    const answer = await call<Enrolled>('POST', '/agent/v1/enrol', { body });
    if (answer.status === 200) {
      this.agentId = answer.body.agentId;
      this.instance = answer.body.instance;
    }
    return answer;
  }

  async sign(text: string): Promise<string> {
    const signature = await crypto.subtle.sign('Ed25519', this.#key, new TextEncoder().encode(text));
    return toBase64Url(new Uint8Array(signature));
  }

  /** A fresh `authorization` of a control socket; `parts` changes what is signed. */
  async credential(parts: Partial<Parameters<typeof tunnelSigningText>[0]> = {}): Promise<string> {
    const asked = await call<Challenged>('POST', '/agent/v1/challenge', { body: { agentId: this.agentId } });
    const { nonce } = asked.body;
    const { agentId, instance } = this;
    const signature = await this.sign(
      tunnelSigningText({ instance, agentId, nonce, host: new URL(origin).host, ...parts }),
    );
    return `Causeway-Agent id=${agentId},nonce=${nonce},signature=${signature}`;
  }
}

export const upgrade = { upgrade: 'websocket', 'sec-websocket-protocol': tunnelProtocol };

/** Dials the control socket; closes it at once when it was accepted. Returns the status and the code of a refusal. */
export async function dial(
  headers: Record<string, string>,
  query = 'purpose=control',
): Promise<{ status: number; code?: string }> {
  const response = await send('GET', `/agent/v1/tunnel?${query}`, { headers: { ...upgrade, ...headers } });
  if (response.status === 101) {
    response.webSocket?.accept();
    response.webSocket?.close(1000);
    return { status: 101 };
  }
  return { status: response.status, code: ((await response.json()) as { code: string }).code };
}

/** Flips one bit of a base64url text. */
export function flipped(text: string, bit: number): string {
  const bytes = fromBase64Url(text);
  if (!bytes) throw new Error('not base64url');
  bytes[bit >> 3]! ^= 1 << (bit & 7);
  return toBase64Url(bytes);
}
