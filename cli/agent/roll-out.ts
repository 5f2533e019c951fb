/** The order in which many machines are upgraded: a few first, then the rest, and nobody more after the first failure. Pure. */

export interface RollOut {
  done: string[];
  failed: { name: string; why: string }[];
  /** Not begun, because another failed. */
  left: string[];
}

/** At once, of those that are not the canary. */
const atOnce = 8;

/**
 * Upgrades `names` by `upgrade`, which rejects when one is not healthy afterwards. The first `canary` go one after the
 * other; the rest side by side. What is under way when one fails is waited for; no other begins.
 */
export async function rollOut(
  names: readonly string[],
  canary: number,
  upgrade: (name: string) => Promise<void>,
): Promise<RollOut> {
  const result: RollOut = { done: [], failed: [], left: [...names] };
  const one = async (): Promise<void> => {
    const name = result.left.shift();
    if (name === undefined) return;
    try {
      await upgrade(name);
      result.done.push(name);
    } catch (error) {
      result.failed.push({ name, why: error instanceof Error ? error.message : String(error) });
    }
  };
  const mayGoOn = () => result.failed.length === 0 && result.left.length > 0;
  for (let begun = 0; begun < canary && mayGoOn(); begun += 1) await one();
  const worker = async (): Promise<void> => {
    while (mayGoOn()) await one();
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return result;
}
