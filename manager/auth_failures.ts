// Owns the count of messages that did not prove who sent them: in memory, by source, bounded. A timer makes alarms of
// them; nothing is written per failure.
import { formatPrefix, network, parseAddress } from "../shared/net.ts";

/**
 * What stands for an address where failures are counted: in the Internet's IPv6 (2000::/3) its /64, of which whoever has one
 * address has all; else the address itself.
 */
export function sourceOf(address: string): string {
  const parsed = parseAddress(address);
  if (parsed === null || parsed.family === 4 || parsed.value >> 125n !== 1n) return address;
  return formatPrefix(network({ ...parsed, length: 64 }));
}

/** Sources counted apart; beyond, one count for all (2-topology.md, auth_failure). */
export const MAX_SOURCES = 64;
/** The one for all. */
export const OTHER_SOURCES = "other";

type Known = { at: number; name: string };

export type AuthFailure = { source: string; count: number };

export class AuthFailures {
  #counts = new Map<string, number>();
  #known = new Map<string, Known>();
  /** Since the start, for metrics. */
  total = 0;

  /** A source keeps its own count for `windowMs` after its last failure. */
  constructor(private readonly windowMs = 300_000) {}

  /** `address` is who sent it; of several that count as one, the first gives the name. */
  note(address: string, now: number): void {
    this.total++;
    const source = sourceOf(address);
    if (!this.#known.has(source) && this.#known.size >= MAX_SOURCES) {
      for (const [known, { at }] of this.#known) if (now - at > this.windowMs) this.#known.delete(known);
    }
    let name = this.#known.get(source)?.name ?? address;
    if (!this.#known.has(source) && this.#known.size >= MAX_SOURCES) name = OTHER_SOURCES;
    else this.#known.set(source, { at: now, name });
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
  }

  /** What was counted since the last call. */
  drain(): AuthFailure[] {
    const drained = [...this.#counts].map(([source, count]) => ({ source, count }));
    this.#counts.clear();
    return drained;
  }
}
