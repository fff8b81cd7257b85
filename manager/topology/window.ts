// Owns what one end remembers of a peer between reports: windows, what went unanswered, handshakes that follow each
// other too fast, and what was sent that the other end never counted (2-topology.md, Terms). Pure; constant memory.

/** A handshake's packets on the wire: an attempt, and its answer (WireGuard's message types 1 and 2). A keepalive. */
const ATTEMPT_BYTES = 148;
const ANSWER_BYTES = 92;
const KEEPALIVE_BYTES = 32;
/** A session dies after this (REJECT_AFTER_TIME): what is received at a greater age are failed handshakes, not life. */
export const SESSION_SECONDS = 180;
/** `wg` and clocks jitter by 1 to 2 s: a handshake that moved less is the same one. */
const ADVANCE_MS = 5_000;
/** Shorter spans hold too few attempts (one each 5 s) to tell them from a keepalive. */
const WINDOW_MS = 20_000;
/** One attempt, less what a jittering keepalive may take from it. */
const UNANSWERED_BYTES = 140;
/** Healthy handshakes lie 120 s apart (REKEY_AFTER_TIME); this leaves room for reports that come late. */
const SHORT_HANDSHAKE_MS = 90_000;
/** An agent's clock that gains more than this on the manager's between two reports was set: network delays are shorter. */
const LEAP_MS = 60_000;
/** Two agents' samples are ordered by the manager's clock only as far as the network's delay allows. */
export const ORDER_MS = 2_000;

/** The most that keepalives of this period (0: off) take in so many seconds. */
function keepaliveBytes(seconds: number, keepalive: number): number {
  return keepalive === 0 ? 0 : KEEPALIVE_BYTES * (Math.floor(seconds / keepalive) + 1);
}

/** What one report says of one peer. Times in Unix ms. */
export type Sample = {
  /** By the agent's clock, as the handshake. */
  collectedAt: number;
  /** By the manager's clock. */
  observedAt: number;
  /** null: never. */
  handshakeAt: number | null;
  rx: number;
  tx: number;
  /** Seconds; 0: off. */
  keepalive: number;
};

export class PeerMemory {
  collectedAt = 0;
  observedAt = 0;
  /** By the agent's clock, at most `collectedAt`; null: never. */
  handshakeAt: number | null = null;
  rx = 0;
  tx = 0;
  keepalive = 0;
  samples = 0;
  /** Bits per second between the last two samples; null: one sample, or a reset in between. */
  rxBps: number | null = null;
  txBps: number | null = null;

  /** Manager's time at which the first of the unanswered windows began; null: nothing is unanswered. Two windows running
   * set it, and only an answer takes it away: attempts that cease mend nothing. */
  unansweredSince: number | null = null;
  /** Handshakes in a row that came too soon after the one before. */
  shortHandshakes = 0;
  /** Manager's time from which something was heard that is after this moment's sample: the start of the newest span in
   * which rx grew. */
  heardFrom = Number.NEGATIVE_INFINITY;
  /** Bytes that this end sent of its own accord (beyond answers to what it heard) while the other's rx stood still, and
   * the other reported later that it still does: they were lost on the way. */
  lostBytes = 0;

  /** The handshake as it was told last, in the future or not. */
  #toldHandshakeAt: number | null = null;
  #windowAt = 0;
  #windowObservedAt = 0;
  #windowRx = 0;
  #windowTx = 0;
  #unansweredWindows = 0;
  #firstUnansweredAt = 0;
  /** Since when nothing was sent although a keepalive was due (agent's clock): a packet received puts it off, too. */
  #silentFrom = 0;
  /** Manager's time of the first sample with the present rx. */
  #rxFlatFrom = 0;
  #previousObservedAt = 0;
  #previousRx = 0;
  #pendingBytes = 0;

  /** Takes the next sample. `other`: the memory of the far end for this link, where it has an agent. */
  take(sample: Sample, other: PeerMemory | null): void {
    const { collectedAt, observedAt, rx, tx } = sample;
    const handshakeAt = this.#clamped(sample);
    const first = this.samples === 0;
    const span = collectedAt - this.collectedAt;
    const isLeap = span - (observedAt - this.observedAt) > LEAP_MS;
    const rxGrowth = rx - this.rx;
    const txGrowth = tx - this.tx;
    // Counters that fall, or a clock that was set: nothing can be said of the span between.
    const reset = first || rxGrowth < 0 || txGrowth < 0 || span <= 0 || isLeap;
    const advanced =
      !first && handshakeAt !== null && (this.handshakeAt === null || handshakeAt - this.handshakeAt > ADVANCE_MS);
    const age = handshakeAt === null ? Number.POSITIVE_INFINITY : (collectedAt - handshakeAt) / 1000;
    const alive = !reset && rxGrowth > 0 && age <= SESSION_SECONDS;

    if (advanced) {
      const short = this.handshakeAt !== null && handshakeAt - this.handshakeAt < SHORT_HANDSHAKE_MS;
      this.shortHandshakes = short ? this.shortHandshakes + 1 : 0;
    }
    this.rxBps = reset ? null : (rxGrowth * 8000) / span;
    this.txBps = reset ? null : (txGrowth * 8000) / span;
    // A packet received puts the keepalive off; but an attempt is answered, and data acknowledged within ten seconds: more
    // received than the other end's keepalives, and nothing sent, is no excuse.
    // By the other end's handshake as well: this end's clock may have been set since.
    const isSession =
      alive || (rxGrowth > 0 && (other?.ageAt(observedAt) ?? Number.POSITIVE_INFINITY) <= SESSION_SECONDS);
    const excused = isSession && (other === null || rxGrowth <= keepaliveBytes(span / 1000, other.keepalive));
    if (reset || txGrowth > 0 || excused) this.#silentFrom = collectedAt;
    if (!reset && rxGrowth > 0) this.heardFrom = this.observedAt;
    if (reset) this.heardFrom = Number.NEGATIVE_INFINITY;

    this.#previousObservedAt = this.observedAt;
    this.#previousRx = this.rx;
    if (reset || rxGrowth !== 0) this.#rxFlatFrom = observedAt;
    this.collectedAt = collectedAt;
    this.observedAt = observedAt;
    this.handshakeAt = handshakeAt;
    this.rx = rx;
    this.tx = tx;
    this.keepalive = sample.keepalive;
    this.samples++;

    if (other !== null) this.#compare(other, reset ? null : rxGrowth, txGrowth);

    if (reset || advanced || alive) {
      this.#begin();
      this.#unansweredWindows = 0;
      this.unansweredSince = null;
    } else if (collectedAt - this.#windowAt >= WINDOW_MS) {
      const seconds = (collectedAt - this.#windowAt) / 1000;
      const keepalives = sample.keepalive === 0 ? 0 : KEEPALIVE_BYTES * (Math.floor(seconds / sample.keepalive) + 1);
      if (rx === this.#windowRx && tx - this.#windowTx - keepalives >= UNANSWERED_BYTES) {
        if (this.#unansweredWindows++ === 0) this.#firstUnansweredAt = this.#windowObservedAt;
        if (this.#unansweredWindows >= 2) this.unansweredSince ??= this.#firstUnansweredAt;
      } else this.#unansweredWindows = 0;
      this.#begin();
    }
  }

  /** A handshake in the future (the clock was set back) is one of now; the same one again is no later for that. */
  #clamped({ collectedAt, handshakeAt }: Sample): number | null {
    const before = this.#toldHandshakeAt;
    this.#toldHandshakeAt = handshakeAt;
    if (handshakeAt === null || handshakeAt <= collectedAt) return handshakeAt;
    const isSame = before !== null && Math.abs(handshakeAt - before) <= ADVANCE_MS;
    return Math.min(collectedAt, isSame ? (this.handshakeAt ?? collectedAt) : collectedAt);
  }

  #begin(): void {
    this.#windowAt = this.collectedAt;
    this.#windowObservedAt = this.observedAt;
    this.#windowRx = this.rx;
    this.#windowTx = this.tx;
  }

  /** Keeps the books of what each end sent and the other never counted. */
  #compare(other: PeerMemory, rxGrowth: number | null, txGrowth: number): void {
    if (rxGrowth === null) {
      this.lostBytes = this.#pendingBytes = 0;
      other.lostBytes = other.#pendingBytes = 0;
      return;
    }
    // What the other sent must show here by now, or is lost.
    if (rxGrowth > 0) other.lostBytes = other.#pendingBytes = 0;
    else if (other.#pendingBytes > 0 && this.observedAt >= other.observedAt + ORDER_MS) {
      other.lostBytes += other.#pendingBytes;
      other.#pendingBytes = 0;
    }
    // Counted only from a moment on at which the other's rx stood where it stands now; where it has never counted
    // anything, from when it was first heard.
    const stood =
      other.samples > 0 && (this.#previousObservedAt >= other.#rxFlatFrom || (other.rx === 0 && this.#previousRx > 0));
    if (!stood) return;
    const answers = ANSWER_BYTES * Math.floor(rxGrowth / ATTEMPT_BYTES);
    this.#pendingBytes += Math.max(0, txGrowth - answers);
  }

  /** Age of the handshake at the last sample, in seconds; Infinity: never. */
  get ageSeconds(): number {
    return this.handshakeAt === null ? Number.POSITIVE_INFINITY : (this.collectedAt - this.handshakeAt) / 1000;
  }

  /** Age of the handshake at a moment of the manager's clock, in seconds; Infinity: never. */
  ageAt(observedAt: number): number {
    const handshake = this.handshakeObservedAt;
    return handshake === null ? Number.POSITIVE_INFINITY : (observedAt - handshake) / 1000;
  }

  /** The handshake by the manager's clock; null: never. */
  get handshakeObservedAt(): number | null {
    return this.handshakeAt === null ? null : this.observedAt - (this.collectedAt - this.handshakeAt);
  }

  /** Keepalive is on, and for two of its periods nothing left this host, nor came what would have put it off. */
  get isSilent(): boolean {
    return this.keepalive > 0 && this.collectedAt - this.#silentFrom >= 2 * this.keepalive * 1000;
  }
}
