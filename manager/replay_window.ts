// Owns what of an agent's ticks and nonces was used: a 120-wide window of ticks and the last 120 nonces (1-protocol.md,
// Replay). Pure; rebuilt from the audit log, so that it is exactly as durable as the reports.

/** Ticks this far below the highest are refused; as many nonces are remembered. */
export const WINDOW = 120;

export type WindowVerdict = "fresh" | "tick_seen" | "tick_stale" | "nonce_used";

export class ReplayWindow {
  #highest: number | null;
  #ticks: Set<number>;
  /** In the order in which they came. */
  #nonces: Set<string>;

  /** `nonces` newest last or in any order; more than 120 are cut. */
  constructor(stored: { highest_tick: number | null; ticks: Iterable<number>; nonces: readonly string[] }) {
    this.#highest = stored.highest_tick;
    this.#ticks = new Set(stored.ticks);
    this.#nonces = new Set(stored.nonces.slice(-WINDOW));
  }

  get highest(): number | null {
    return this.#highest;
  }

  /** Tick before nonce: a report that comes again has both. */
  check(tick: number, nonce: string): WindowVerdict {
    if (this.#highest !== null && tick <= this.#highest - WINDOW) return "tick_stale";
    if (this.#ticks.has(tick)) return "tick_seen";
    return this.#nonces.has(nonce) ? "nonce_used" : "fresh";
  }

  accept(tick: number, nonce: string): void {
    this.#ticks.add(tick);
    this.#nonces.add(nonce);
    if (this.#nonces.size > WINDOW) this.#nonces.delete(this.#nonces.values().next().value!);
    if (this.#highest !== null && tick <= this.#highest) return;
    this.#highest = tick;
    if (this.#ticks.size > 2 * WINDOW) {
      for (const old of this.#ticks) if (old <= tick - WINDOW) this.#ticks.delete(old);
    }
  }
}
