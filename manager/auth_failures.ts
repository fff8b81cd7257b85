// Owns the count of messages that did not prove who sent them: in memory, by source, bounded. A timer makes alarms of
// them; nothing is written per failure.

/** Sources counted apart; beyond, one count for all (2-topology.md, auth_failure). */
export const MAX_SOURCES = 64;
/** The one for all. */
export const OTHER_SOURCES = "other";

export type AuthFailure = { source: string; count: number };

export class AuthFailures {
  #counts = new Map<string, number>();
  #known: Map<string, number>;
  /** Since the start, for metrics. */
  total = 0;

  /** A source keeps its own count for `windowMs` after its last failure. */
  constructor(private readonly windowMs = 300_000) {
    this.#known = new Map();
  }

  note(source: string, now: number): void {
    this.total++;
    let name = source;
    if (!this.#known.has(source)) {
      if (this.#known.size >= MAX_SOURCES) {
        for (const [known, at] of this.#known) if (now - at > this.windowMs) this.#known.delete(known);
      }
      if (this.#known.size >= MAX_SOURCES) name = OTHER_SOURCES;
    }
    if (name !== OTHER_SOURCES) this.#known.set(name, now);
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
  }

  /** What was counted since the last call. */
  drain(): AuthFailure[] {
    const drained = [...this.#counts].map(([source, count]) => ({ source, count }));
    this.#counts.clear();
    return drained;
  }
}
