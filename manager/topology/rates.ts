// Owns the loss of a link, for free: what one end's counter sent and the other's never received (2-topology.md). Pure.

/** Less than this says nothing: the two ends are not read at the same moment. */
const LOSS_SPAN_MS = 5 * 60_000;
const LOSS_BYTES = 100_000;

export type Counters = { aTx: number; aRx: number; bTx: number; bRx: number };

function share(sent: number, received: number): number | null {
  if (sent < LOSS_BYTES || received < 0) return null;
  return Math.round(Math.min(1, Math.max(0, 1 - received / sent)) * 10_000) / 10_000;
}

/** Loss each way over the last whole span of five minutes or more. */
export class LossMeter {
  aToB: number | null = null;
  bToA: number | null = null;
  #at: number;
  #from: Counters;

  constructor(at: number, counters: Counters) {
    this.#at = at;
    this.#from = counters;
  }

  take(at: number, now: Counters): void {
    const from = this.#from;
    const fell = now.aTx < from.aTx || now.aRx < from.aRx || now.bTx < from.bTx || now.bRx < from.bRx;
    if (!fell && at - this.#at < LOSS_SPAN_MS) return;
    this.aToB = fell ? null : share(now.aTx - from.aTx, now.bRx - from.bRx);
    this.bToA = fell ? null : share(now.bTx - from.bTx, now.aRx - from.aRx);
    this.#at = at;
    this.#from = now;
  }
}
