/** SPEC.md's table of what an agent may say to an init, written by itself. Prints as `wire-dump.c` does. Pure. */
const malformed = 'malformed';

class Malformed extends Error {}

function require(condition: boolean): void {
  if (!condition) throw new Malformed();
}

class Fields {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  take(size: number): Buffer {
    require(size <= this.#bytes.length - this.#at);
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  number(size: 1 | 2 | 4, most = 2 ** (size * 8) - 1): number {
    const value = this.take(size).readUIntLE(0, size);
    require(value <= most);
    return value;
  }

  u64(most = 2n ** 64n - 1n): bigint {
    const value = this.take(8).readBigUInt64LE();
    require(value <= most);
    return value;
  }

  hex(size: number): string {
    return `x${this.take(size).toString('hex')}`;
  }

  id(): string {
    const id = this.take(30).toString('latin1');
    require(/^prc_[0-9a-hjkmnp-tv-z]{26}$/.test(id));
    return id;
  }

  /** Without NUL. */
  text(size: number): Buffer {
    const text = this.take(size);
    require(!text.includes(0));
    return text;
  }
}

const types = {
  key: 2,
  challenge: 3,
  welcome: 5,
  spawn: 16,
  stdin: 17,
  stdinClose: 18,
  resize: 19,
  signal: 20,
} as const;
const more = { ack: 21, resume: 22, release: 23, lease: 24, terminate: 25, shutdown: 26, ping: 27 } as const;

type Part = string | number | bigint;

/** The line that the frame means, or `malformed`. */
export function readCommand(type: number, payload: Buffer): string {
  const fields = new Fields(payload);
  try {
    const parts = read(type, fields);
    require(fields.left === 0);
    return [type, ...parts].join(' ');
  } catch (error) {
    if (error instanceof Malformed) return malformed;
    throw error;
  }
}

function read(type: number, f: Fields): Part[] {
  switch (type) {
    case types.key:
    case types.challenge:
      return [f.hex(32), f.hex(32)];
    case types.welcome:
    case more.ping:
      return [];
    case types.spawn:
      return readSpawn(f);
    case types.stdin: {
      const [id, offset] = [f.id(), f.u64(2n ** 64n - 1n - 65_536n)];
      require(f.left >= 1 && f.left <= 65_536);
      return [id, offset, f.hex(f.left)];
    }
    case types.stdinClose:
      return [f.id(), f.u64()];
    case types.resize:
      return [f.id(), f.number(2), f.number(2)];
    case types.signal: {
      const [id, signal, scope] = [f.id(), f.number(1, 64), f.number(1, 2)];
      require(signal >= 1);
      return [id, signal, scope];
    }
    case more.ack:
    case more.resume: {
      const [id, stream, offset] = [f.id(), f.number(1, 2), f.u64()];
      require(stream >= 1);
      return [id, stream, offset];
    }
    case more.release:
      return [f.id()];
    case more.lease: {
      const deadline = f.u64(2n ** 63n - 1n);
      require(deadline > 0n);
      return [deadline];
    }
    case more.terminate:
      return [f.number(4, 3_600_000)];
    case more.shutdown:
      return [f.number(1, 1)];
    default:
      throw new Malformed();
  }
}

function readSpawn(f: Fields): Part[] {
  const head: Part[] = [
    f.id(),
    f.number(1, 15),
    f.number(4, 86_400_000),
    f.number(4, 600_000),
    f.number(2),
    f.number(2),
  ];
  head.push(f.number(4, 0xffff_fffe), f.number(4, 0xffff_fffe));
  const groups = f.number(1, 32);
  head.push(groups);
  for (let i = 0; i < groups; i++) head.push(f.number(4));
  const rlimits = f.number(1, 16);
  head.push(rlimits);
  for (let i = 0; i < rlimits; i++) {
    const [resource, soft, hard] = [f.number(1, 15), f.u64(), f.u64()];
    require(soft <= hard);
    head.push(resource, soft, hard);
  }
  head.push(`x${f.text(f.number(2, 4095)).toString('hex')}`);
  const argv = readStrings(f);
  require(argv.length > 0);
  const env = readStrings(f);
  for (const each of env) require(each.indexOf('=') > 0);
  const hex = (text: Buffer): string => `x${text.toString('hex')}`;
  return [...head, argv.length, ...argv.map(hex), env.length, ...env.map(hex)];
}

function readStrings(f: Fields): Buffer[] {
  const count = f.number(2, 4096);
  return Array.from({ length: count }, () => f.text(f.number(4)));
}
