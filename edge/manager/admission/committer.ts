/**
 * Group commit: what arrives while a commit is under way is one commit. Each request is answered by itself, after the
 * commit is durable. Takes the commit as a function; knows nothing of sessions.
 */
export interface CommitterPorts<Request, Answer> {
  /** Synchronous: all of it happens, or it throws and nothing does. */
  commit(requests: readonly Request[]): Answer[];
  /** Resolves when what was committed is durable. */
  durable(): Promise<void>;
  sizeBytes(request: Request): number;
}

const batchBytes = 400 * 1024;
const batchRows = 200;

interface Waiting<Request, Answer> {
  request: Request;
  resolve: (answer: Answer) => void;
  reject: (error: unknown) => void;
}

export class Committer<Request, Answer> {
  readonly #ports: CommitterPorts<Request, Answer>;
  #queue: Waiting<Request, Answer>[] = [];
  #isRunning = false;

  constructor(ports: CommitterPorts<Request, Answer>) {
    this.#ports = ports;
  }

  /** Commits a request together with others; resolves when it is durable. */
  submit(request: Request): Promise<Answer> {
    const answer = new Promise<Answer>((resolve, reject) => {
      this.#queue.push({ request, resolve, reject });
    });
    if (!this.#isRunning) void this.#run();
    return answer;
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    // What came in the same turn of the loop is in the first batch.
    await Promise.resolve();
    while (this.#queue.length > 0) await this.#commitBatch(this.#take());
    this.#isRunning = false;
  }

  #take(): Waiting<Request, Answer>[] {
    let bytes = 0;
    let count = 0;
    for (const { request } of this.#queue) {
      bytes += this.#ports.sizeBytes(request);
      if (count === batchRows || (count > 0 && bytes > batchBytes)) break;
      count += 1;
    }
    return this.#queue.splice(0, count);
  }

  async #commitBatch(batch: readonly Waiting<Request, Answer>[]): Promise<void> {
    try {
      const answers = this.#ports.commit(batch.map(({ request }) => request));
      await this.#ports.durable();
      for (const [at, { resolve }] of batch.entries()) resolve(answers[at]!);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
}
