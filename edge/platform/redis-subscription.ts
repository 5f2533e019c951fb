/**
 * A subscription over Upstash's REST protocol. Not by the SDK's subscriber: that one can not tell that its stream has
 * ended, and a listener that waits for ever in front of a dead stream is worse than none.
 */

export interface Subscription {
  /** Resolves with the reason when no more messages will come: closed here, ended there, or out of step. */
  ended: Promise<string>;
  close(): void;
}

/** Longest line that is taken: a message of the bus is far smaller. */
const lineMax = 1024 * 1024;

/**
 * Opens the subscription; resolves when the server has confirmed it. `onMessage` is called with each payload, in order.
 * @throws Error when it is refused, or not confirmed within `budgetMs`
 */
export async function openSubscription(
  address: { url: string; token: string },
  channel: string,
  onMessage: (message: string) => void,
  budgetMs: number,
): Promise<Subscription> {
  const abort = new AbortController();
  const late = setTimeout(() => abort.abort(new Error(`not confirmed within ${budgetMs} ms`)), budgetMs);
  try {
    const response = await fetch(`${address.url.replace(/\/$/, '')}/subscribe/${encodeURI(channel)}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${address.token}`, accept: 'text/event-stream' },
      signal: abort.signal,
    });
    if (!response.ok || !response.body) {
      await response.body?.cancel();
      throw new Error(`the subscription was answered ${response.status}`);
    }
    const lines = dataLines(response.body);
    await confirmation(lines, channel, onMessage);
    return { ended: pass(lines, channel, onMessage), close: () => abort.abort(new Error('closed')) };
  } catch (error) {
    abort.abort();
    throw error;
  } finally {
    clearTimeout(late);
  }
}

/** Waits for `subscribe,<channel>,<count>`. A message may come before it. */
async function confirmation(
  lines: AsyncIterator<string>,
  channel: string,
  onMessage: (message: string) => void,
): Promise<void> {
  for (;;) {
    const { value, done } = await lines.next();
    if (done) throw new Error('the subscription ended before it was confirmed');
    if (value.startsWith(`subscribe,${channel},`)) return;
    deliver(value, channel, onMessage);
  }
}

async function pass(
  lines: AsyncIterator<string>,
  channel: string,
  onMessage: (message: string) => void,
): Promise<string> {
  try {
    for (;;) {
      const { value, done } = await lines.next();
      if (done) return 'the stream of Redis ended';
      if (value.startsWith('error,')) return value;
      deliver(value, channel, onMessage);
    }
  } catch (error) {
    return error instanceof Error ? error.message : 'the stream of Redis failed';
  }
}

function deliver(line: string, channel: string, onMessage: (message: string) => void): void {
  const head = `message,${channel},`;
  if (line.startsWith(head)) onMessage(line.slice(head.length));
}

/** What follows `data: ` on each line. @throws Error at a line over the limit */
async function* dataLines(body: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let held = '';
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return undefined;
      const lines = (held + decoder.decode(value, { stream: true })).split('\n');
      held = lines.pop() ?? '';
      if (held.length > lineMax) throw new Error('a line of the subscription is too long');
      for (const line of lines) if (line.startsWith('data: ')) yield line.slice(6);
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
