/** What the edge's process says: JSON, one object a line, on stdout. Whoever started it reads these lines. */

/** Writes one line; `time` is in milliseconds since the epoch. */
export function say(entry: Record<string, unknown> & { msg: string }): void {
  process.stdout.write(`${JSON.stringify({ time: Date.now(), ...entry })}\n`);
}
