/** A client of SFTP that says exactly what it is told, and answers what came: for what no real client would say. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { initBinary } from './harness.ts';

export const sftp = {
  init: 1,
  open: 3,
  close: 4,
  read: 5,
  write: 6,
  lstat: 7,
  fstat: 8,
  setstat: 9,
  fsetstat: 10,
  opendir: 11,
  readdir: 12,
  remove: 13,
  mkdir: 14,
  rmdir: 15,
  realpath: 16,
  stat: 17,
  rename: 18,
  readlink: 19,
  symlink: 20,
  extended: 200,
} as const;
export const isStatus = 101;
export const isHandle = 102;
export const isName = 104;

export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
};
export const u64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};
export const str = (value: string | Uint8Array): Buffer => {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([u32(bytes.byteLength), bytes]);
};
export const noAttrs = u32(0);

export interface Answer {
  type: number;
  id: number;
  body: Buffer;
  /** Of a status. */
  code: number;
}

export class RawSftp {
  readonly child: ChildProcessWithoutNullStreams;
  readonly exited: Promise<{ code: number | null; signal: string | null }>;
  stderr = '';
  #bytes = Buffer.alloc(0);
  #id = 0;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #greeted: (body: Buffer) => void = () => undefined;

  constructor(dir: string) {
    this.child = spawn(initBinary, ['sftp', dir]);
    this.child.stdin.on('error', () => undefined);
    this.child.stdout.on('data', (bytes: Buffer) => this.#take(bytes));
    this.child.stderr.on('data', (bytes: Buffer) => (this.stderr += bytes.toString()));
    this.exited = new Promise((resolve) => this.child.on('close', (code, signal) => resolve({ code, signal })));
  }

  /** Says hello, and answers the body of VERSION. */
  greet(): Promise<Buffer> {
    const greeted = new Promise<Buffer>((resolve) => (this.#greeted = resolve));
    this.send(Buffer.concat([Buffer.from([sftp.init]), u32(3)]));
    return greeted;
  }

  /** Sends a packet. */
  send(packet: Uint8Array): void {
    this.child.stdin.write(Buffer.concat([u32(packet.byteLength), packet]));
  }

  /** Sends a request and answers its answer; never resolves when the server ends. */
  ask(type: number, ...parts: Uint8Array[]): Promise<Answer> {
    const id = ++this.#id;
    const answer = new Promise<Answer>((resolve) => this.#waiting.set(id, resolve));
    this.send(Buffer.concat([Buffer.from([type]), u32(id), ...parts]));
    return answer;
  }

  /** The handle of a file or directory. */
  async handle(type: number, ...parts: Uint8Array[]): Promise<Buffer> {
    const { type: answered, body, code } = await this.ask(type, ...parts);
    if (answered !== isHandle) throw new Error(`no handle: status ${code}`);
    return body;
  }

  /** The one name of an answer. */
  async name(type: number, ...parts: Uint8Array[]): Promise<string | number> {
    const { type: answered, body, code } = await this.ask(type, ...parts);
    return answered === isName ? body.subarray(8, 8 + body.readUInt32BE(4)).toString() : code;
  }

  get unanswered(): number {
    return this.#waiting.size;
  }

  #take(bytes: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    while (this.#bytes.byteLength >= 4 && this.#bytes.byteLength >= 4 + this.#bytes.readUInt32BE(0)) {
      const packet = this.#bytes.subarray(4, 4 + this.#bytes.readUInt32BE(0));
      this.#bytes = this.#bytes.subarray(4 + packet.byteLength);
      if (packet[0] === 2) {
        this.#greeted(Buffer.from(packet.subarray(1)));
        continue;
      }
      const [type = 0] = packet;
      const id = packet.readUInt32BE(1);
      const body = Buffer.from(packet.subarray(5));
      this.#waiting.get(id)?.({ type, id, body, code: type === isStatus ? body.readUInt32BE(0) : -1 });
      this.#waiting.delete(id);
    }
  }
}
