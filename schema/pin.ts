/**
 * How the identity of a TLS server travels by hand: `sha256:HEX`, the SHA-256 of a public key (SubjectPublicKeyInfo, DER) of
 * its certificate chain. One that is pinned by it is trusted by this alone, whoever signed its certificate. Several, joined
 * by commas, are for a change of keys: any one of them is enough. Pure; who computes and checks it is in `wire/`.
 */
import { z } from 'zod';

/** More in one list is a mistake. */
const mostPins = 4;
const onePin = /^sha256:[0-9a-f]{64}$/;
const shape = 'must look like sha256: and 64 hexadecimal digits';

/** One pin, in lower case. */
export const Pin = z.string().regex(onePin, shape);

/** The pins of `text` (`sha256:HEX[,sha256:HEX...]`; upper case is taken too), in order; undefined when it is no such list. */
export function parsePins(text: string): string[] | undefined {
  const pins = text.toLowerCase().split(',');
  return pins.length <= mostPins && pins.every((pin) => onePin.test(pin)) ? pins : undefined;
}

/** A list of pins as a setting: text in, text out, normalized. */
export const PinList = z.string().transform((text, ctx) => {
  const pins = parsePins(text);
  if (pins !== undefined) return pins.join(',');
  ctx.addIssue({ code: 'custom', message: `${shape} (at most ${mostPins} of them, joined by commas)` });
  return z.NEVER;
});

/** The pin of 32 bytes of hash. */
export function toPin(hash: Uint8Array): string {
  return `sha256:${Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}

const base64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

/** The same pin as `curl --pinnedpubkey` and `wget --pinnedpubkey` take it: `sha256//BASE64`. They look at the leaf's key alone. */
export function toCurlPin(pin: string): string {
  const bytes = (pin.slice('sha256:'.length).match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16));
  let text = '';
  for (let at = 0; at < bytes.length; at += 3) {
    const [a = 0, b = 0, c = 0] = bytes.slice(at, at + 3);
    const group = (a << 16) | (b << 8) | c;
    const digits = [18, 12, 6, 0].map((shift) => base64[(group >> shift) & 63]).join('');
    const missing = Math.max(0, at + 3 - bytes.length);
    text += digits.slice(0, 4 - missing) + '='.repeat(missing);
  }
  return `sha256//${text}`;
}
