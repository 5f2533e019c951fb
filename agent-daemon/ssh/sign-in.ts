/**
 * Who may sign in on one connection: by the key that came with its stream, and by those that the user has uploaded, each
 * for as long as the edge said. A connection that a key signed in on ends with it.
 */
import type { AuthContext, Connection } from 'ssh2';
import { Refusal } from '../../schema/errors.ts';
import type { Log, Timers } from '../../schema/ports.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { OpenOf } from '../dispatch.ts';
import { parseSignInKey, type SignInKey } from './sign-in-key.ts';

/** After this many wrong answers a connection ends; clients come with a few keys of their own. */
const maxRefused = 6;
/** The longest that a timer takes. A connection that is so old has to sign in anew. */
const mostMs = 2 ** 31 - 1;

export interface SignInOf {
  timers: Timers;
  log: Log;
}

export class SignIn {
  readonly #of: SignInOf;
  readonly #keys = new Set<SignInKey>();
  readonly #over: () => void;
  readonly #ends: { key: SignInKey; validForMs: number }[] = [];
  readonly #cancels: (() => void)[] = [];
  #cancelLogin: () => void = () => undefined;
  #signedIn: SignInKey | undefined;

  /** @param over nobody signed in within a minute, or a key has ended by which somebody did. @throws Refusal when there is no key that could sign in */
  constructor(
    { open, uploadedKeys = [] }: OpenOf<'ssh'>,
    utils: typeof import('ssh2').utils,
    of: SignInOf,
    over: () => void,
  ) {
    this.#of = of;
    this.#over = over;
    if (open.publicKey !== undefined) {
      const key = parseSignInKey(utils, open.publicKey);
      if (key === undefined) throw new Refusal('tunnel_frame_invalid', 'The public key is no key of SSH.');
      this.#keys.add(key);
    }
    for (const { publicKey, validForMs } of uploadedKeys) {
      // A timer of no time at all may come behind a signature.
      if (validForMs === 0) continue;
      const key = parseSignInKey(utils, publicKey);
      if (key === undefined) {
        of.log.warn('an uploaded key of SSH can not be used', { type: publicKey.split(' ')[0] });
        continue;
      }
      this.#keys.add(key);
      if (validForMs !== undefined) this.#ends.push({ key, validForMs });
    }
  }

  /** Time runs from now on, also for a client that says nothing. */
  start(): void {
    const { timers } = this.#of;
    for (const { key, validForMs } of this.#ends)
      this.#cancels.push(timers.after(Math.min(validForMs, mostMs), () => this.#end(key)));
    this.#cancelLogin = timers.after(limits.sshLoginMs, this.#over);
  }

  /** Lets `client` in by one of the keys; `ready` when it is. */
  watch(client: Connection, ready: () => void): void {
    let refused = 0;
    client.on('error', (error: Error) => this.#of.log.debug('an SSH client went wrong', { error: error.message }));
    client.on('ready', () => {
      this.#cancelLogin();
      ready();
    });
    client.on('authentication', (attempt) => {
      if (this.#accepts(attempt)) attempt.accept();
      else if (++refused >= maxRefused) client.end();
      else attempt.reject(['publickey']);
    });
  }

  /** The connection is over. */
  stop(): void {
    for (const cancel of [this.#cancelLogin, ...this.#cancels]) cancel();
  }

  #accepts(attempt: AuthContext): boolean {
    if (attempt.method !== 'publickey') return false;
    for (const key of this.#keys) {
      if (!key.accepts(attempt)) continue;
      if (attempt.signature !== undefined) this.#signedIn = key;
      return true;
    }
    return false;
  }

  #end(key: SignInKey): void {
    this.#keys.delete(key);
    if (this.#signedIn === key) this.#over();
  }
}
