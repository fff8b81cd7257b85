// Owns the loss of a link, for free: what one end's counter sent and the other's never received (2-topology.md). Pure.

/** Less than this says nothing: the two ends are not read at the same moment. */
const LOSS_SPAN_MS = 5 * 60_000;
const LOSS_BYTES = 100_000;

/** Bytes that an end counted. */
export type Counters = { readonly tx: number; readonly rx: number };

function share(sent: number, received: number): number | null {
  if (sent < LOSS_BYTES || received < 0) return null;
  return Math.round(Math.min(1, Math.max(0, 1 - received / sent)) * 10_000) / 10_000;
}

/** Loss each way over the last whole span of five minutes or more. */
export class LossMeter {
  aToB: number | null = null;
  bToA: number | null = null;
  #at: number;
  #a: Counters;
  #b: Counters;

  constructor(at: number, a: Counters, b: Counters) {
    this.#at = at;
    this.#a = { tx: a.tx, rx: a.rx };
    this.#b = { tx: b.tx, rx: b.rx };
  }

  /** What both ends count now. */
  take(at: number, a: Counters, b: Counters): void {
    const [fromA, fromB] = [this.#a, this.#b];
    const fell = a.tx < fromA.tx || a.rx < fromA.rx || b.tx < fromB.tx || b.rx < fromB.rx;
    if (!fell && at - this.#at < LOSS_SPAN_MS) return;
    this.aToB = fell ? null : share(a.tx - fromA.tx, b.rx - fromB.rx);
    this.bToA = fell ? null : share(b.tx - fromB.tx, a.rx - fromA.rx);
    this.#at = at;
    this.#a = { tx: a.tx, rx: a.rx };
    this.#b = { tx: b.tx, rx: b.rx };
  }
}
