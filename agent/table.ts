// Owns the delivery table: what an answer means for the message that was sent. Every answer has one row; a test visits
// each. Pure.

/** How far an answer can be trusted: the manager's (MAC, signature by the pinned key, nonce), the fleet's (MAC and nonce,
 * but another signature), or anybody's. */
export type Trust = "manager" | "fleet" | "nobody";

export type Answer = {
  /** HTTP status; 0: none came (refused, unreachable, timed out, cut off). */
  status: number;
  /** The ack's or error's code; "": none. */
  code: string;
  trust: Trust;
  way: "direct" | "relay";
  /** 409: the manager has this very report. */
  duplicate: boolean;
};

export type Action =
  /** It is in the manager's database. */
  | "delivered"
  /** The registration stands, under the ack's id. */
  | "registered"
  /** Offset `sent_at` by the ack's clock and send again. */
  | "set_clock"
  /** Ask for the PSK anew, then try once with each older key. */
  | "refresh_psk"
  /** Register, then send again. */
  | "register"
  /** Take the ack's id, register under it, then send again. */
  | "adopt_id"
  /** Keep the report under a fresh tick above both, and send again. */
  | "fresh_tick"
  /** Take a new identity; empty the outbox. */
  | "new_identity"
  /** Out of the way, counted. */
  | "set_aside"
  /** Keep everything until the manager is newer. */
  | "hold"
  /** The manager's key may have changed: register directly and learn it. */
  | "learn_manager"
  /** Try the next way; keep it where there is none. */
  | "next_way"
  /** Keep it, and wait. */
  | "keep";

/** The first row that fits; `null` stands for any. */
const TABLE: readonly [
  status: number | null,
  code: string | null,
  trust: Trust,
  way: Answer["way"] | null,
  duplicate: boolean | null,
  action: Action,
][] = [
  [200, "accepted", "manager", null, null, "delivered"],
  [200, "registered", "manager", null, null, "registered"],
  [201, "registered", "manager", null, null, "registered"],
  [409, "replay", "manager", null, true, "delivered"],
  [409, "replay", "manager", null, false, "fresh_tick"],
  [409, "stale_tick", "manager", null, null, "fresh_tick"],
  [409, "id_conflict", "manager", null, null, "adopt_id"],
  [401, "clock_skew", "manager", null, null, "set_clock"],
  [401, "bad_signature", "manager", null, null, "register"],
  [404, "unknown_agent", "manager", null, null, "register"],
  [410, "reset", "manager", null, null, "new_identity"],
  [422, "schema", "manager", null, null, "set_aside"],
  [422, "version", "manager", null, null, "hold"],
  [422, "hop_limit", "manager", null, null, "next_way"],
  [508, "relay_loop", "manager", null, null, "next_way"],
  [503, "unavailable", "manager", null, null, "keep"],
  [null, null, "manager", null, null, "keep"],
  // The MAC holds and the signature is not the pinned one's: the manager has another key, or a relay plays it.
  [null, null, "fleet", "direct", null, "learn_manager"],
  [null, null, "fleet", "relay", null, "next_way"],
  // Nobody's word: a 401 may mean that our PSK is old; whatever else it says, it is no delivery.
  [401, null, "nobody", null, null, "refresh_psk"],
  [null, null, "nobody", null, null, "next_way"],
];

export function actionFor(answer: Answer): Action {
  for (const [status, code, trust, way, duplicate, action] of TABLE) {
    if (status !== null && status !== answer.status) continue;
    if (code !== null && code !== answer.code) continue;
    if (trust !== answer.trust) continue;
    if (way !== null && way !== answer.way) continue;
    if (duplicate !== null && duplicate !== answer.duplicate) continue;
    return action;
  }
  throw new Error("the delivery table has a row for every answer");
}
