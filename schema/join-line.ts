/** The one line that makes a machine an agent: what a person pastes there, and what the installer is called with. Pure. */
import { toCurlPin } from './pin.ts';

export interface JoinLine {
  /** Origin of the control plane, as the machine that joins reaches it. */
  url: string;
  token: string;
  /** Pin of the server's own key; absent where its certificate is good for everybody. */
  pin?: string | undefined;
}

/**
 * `curl ... URL/install.sh | sh -s -- --url URL [--pin sha256:HEX] TOKEN`. With a pin, curl is told not to ask any authority
 * (`-k`) and to take this one key and no other, which it checks before it sends its request.
 */
export function joinLine({ url, token, pin }: JoinLine): string {
  const curl = pin === undefined ? 'curl -fsSL' : `curl -fsSL -k --pinnedpubkey '${toCurlPin(pin)}'`;
  return `${curl} ${url}/install.sh | sh -s -- --url ${url}${pin === undefined ? '' : ` --pin ${pin}`} ${token}`;
}
