/** An end for answers that go on for ever: a path that died in silence (a laptop asleep, a NAT that forgot) is told by nobody. */

/** Three heartbeats of the control plane: it says something every 15 s to whoever follows events. */
export const silenceMs = 45_000;

/**
 * The body of an answer, as long as something comes every `limitMs`; whoever does not read it is not counted as silence.
 * @throws Error when nothing came for so long: the request is given up
 */
export async function* untilSilent(
  body: ReadableStream<Uint8Array>,
  limitMs: number,
): AsyncGenerator<Uint8Array, void, void> {
  const reader = body.getReader();
  const giveUp = () => reader.cancel().catch(() => undefined);
  let isSilent = false;
  try {
    for (;;) {
      const timer = setTimeout(() => {
        isSilent = true;
        void giveUp();
      }, limitMs);
      const { done, value } = await reader.read().finally(() => clearTimeout(timer));
      if (isSilent) throw new Error(`nothing came for ${limitMs / 1000} s`);
      if (done) return;
      yield value;
    }
  } finally {
    await giveUp();
  }
}
