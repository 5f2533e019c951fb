/** Lets at most two progress messages a second pass per session; the last one of a phase is not worth more than that. Pure. */
export class ProgressGate {
  readonly #last = new Map<string, { atMs: number; phase: string }>();

  /** True when this one may be sent now. A new phase passes at once. */
  passes(sessionId: string, phase: string, nowMs: number): boolean {
    const last = this.#last.get(sessionId);
    if (last && last.phase === phase && nowMs - last.atMs < 500) return false;
    this.#last.delete(sessionId);
    this.#last.set(sessionId, { atMs: nowMs, phase });
    if (this.#last.size > 1024) this.#last.delete(this.#last.keys().next().value ?? '');
    return true;
  }
}
