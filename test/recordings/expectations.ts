// Owns what inference ought to say about each recording, and from when: the other half of the recorded truth. Written
// from what was done to the link, and from 2-topology.md for how soon it can be known; not from what the code says.
import type { EdgeCause, EdgeState } from "../../shared/api.ts";

/** From `from_s` until the next span (or the end), every state said must be among `states`, and every cause among
 * `causes` (absent: any). null is "no cause". `absent`: no such edge. */
export type Span = { from_s: number; states: (EdgeState | "absent")[]; causes?: (EdgeCause | null)[] };

/** When the fault comes in: FAULT_S of test/lab/situations.ts. */
const FAULT = 40;

const throughout = (states: Span["states"], causes?: Span["causes"]): Span[] => [
  { from_s: 0, states, ...(causes === undefined ? {} : { causes }) },
];

/** Up before; then what may be said while it cannot be known for certain; then what must be said. */
const after = (
  fault_s: number,
  known_s: number,
  states: Span["states"],
  causes: Span["causes"] = [null],
  meanwhile: Span["states"] = ["up"],
): Span[] => [
  { from_s: 0, states: ["up"], causes: [null] },
  { from_s: fault_s, states: [...meanwhile, ...states], causes: [null, ...causes] },
  { from_s: known_s, states, causes },
];

/** A link that is stale from `stale_s` on, and whose cause is known from `cause_s` on. */
const stale = (
  stale_s: number,
  cause_s: number,
  cause: EdgeCause[],
  meanwhile: Span["states"] = ["up"],
  fault_s = FAULT,
): Span[] => [
  ...after(fault_s, stale_s, ["stale"], ["undecided", ...cause], meanwhile),
  { from_s: cause_s, states: ["stale"], causes: cause },
];

/** A link that never worked, and whose cause is known from `cause_s` on. */
const never = (cause_s: number, cause: EdgeCause[], meanwhile: EdgeCause[] = []): Span[] => [
  // two windows of 30 s, at the latest phase
  { from_s: 0, states: ["never", "unknown"], causes: [null, "undecided", ...cause, ...meanwhile] },
  { from_s: 90, states: ["never"], causes: ["undecided", ...cause, ...meanwhile] },
  { from_s: cause_s, states: ["never"], causes: cause },
];

/** The same without keepalive at either end: nothing is expected of it before it is known to fail. */
const idleThenNever = (cause_s: number, cause: EdgeCause[]): Span[] => {
  const [first, ...rest] = never(cause_s, cause);
  return [{ ...first!, states: [...first!.states, "idle"] }, ...rest];
};

/** Quiet by configuration: up for as long as the last handshake is young, idle from then on. */
const idle = (cause: Span["causes"] = [null]): Span[] => [
  { from_s: 0, states: ["up"] },
  { from_s: 180, states: ["up", "idle"] },
  { from_s: 215, states: ["idle"], causes: cause },
];

/* How soon it can be known, with reports every 30 s and a handshake at 0 s. With keepalive at both ends b is the
 * initiator: a's first attempt went out before b knew a's key.
 * - The initiator asks anew with the first keepalive after 120 s: from 125 s on. If it hears nothing meanwhile, two
 *   unanswered windows end by 190 s.
 * - The responder asks anew when its session is 180 s old: from 200 s on. Two windows end by 265 s; until then the edge
 *   is up to 205 s and late to 265 s. The same where the initiator hears the responder's keepalives up to 180 s.
 * - With traffic each side asks 15 s after its first unanswered packet.
 * - The cause is known 210 s after the first unanswered window began, at the next report. */
const BY_INITIATOR = 195;
const CAUSE_BY_INITIATOR = 370;
const BY_RESPONDER = 270;
const CAUSE_BY_RESPONDER = 450;
const BY_TRAFFIC = 135;
const CAUSE_BY_TRAFFIC = 320;
const CAUSE_FROM_START = 270;

export const EXPECTATIONS: Record<string, Span[]> = {
  "keepalive-25-25": throughout(["up"], [null]),
  "keepalive-25-0": throughout(["up"], [null]),
  "keepalive-0-25": throughout(["up"], [null]),
  "keepalive-250-250": throughout(["up"], [null]),
  "keepalive-off-idle": idle(),
  "keepalive-off-occasional": throughout(["up"], [null]),
  "keepalive-off-busy": throughout(["up"], [null]),
  "busy-25-25": throughout(["up"], [null]),
  "one-way-traffic": throughout(["up"], [null]),
  "ipv6-underlay": throughout(["up"], [null]),
  unused: throughout(["unused"], [null]),
  "no-endpoint-either": throughout(["unused"], [null, "cannot_start_a", "cannot_start_b"]),
  "keepalive-without-endpoint": throughout(["unused"], ["cannot_start_b"]),
  "idle-then-wakes": [
    ...idle(),
    { from_s: 300, states: ["idle", "up"], causes: [null] },
    { from_s: 335, states: ["up"], causes: [null] },
  ],
  "slow-line": throughout(["up"], [null]),

  // b asks of its own only once a's attempts rest between two keepalives: about 250 s
  "preshared-mismatch": never(330, ["preshared_key"]),
  // b never asks of its own: what a hears is nothing, whether b's answers are lost or refused
  "preshared-at-one-end": never(CAUSE_FROM_START, ["b_to_a_or_preshared", "preshared_key"]),
  // without keepalive it is idle by the table until two windows have gone unanswered
  "preshared-mismatch-traffic": idleThenNever(CAUSE_FROM_START, ["b_to_a_or_preshared", "preshared_key"]),
  "preshared-changed": stale(BY_RESPONDER, CAUSE_BY_RESPONDER, ["preshared_key"], ["up", "late"]),
  "preshared-changed-traffic": stale(
    BY_RESPONDER,
    CAUSE_BY_RESPONDER,
    ["b_to_a_or_preshared", "preshared_key"],
    ["up", "idle"],
  ),
  "wrong-key": throughout(["key_mismatch"], [null, "wrong_key"]),
  rekeyed: [
    { from_s: 0, states: ["up"], causes: [null] },
    // for 5 s a dials a key that b no longer has
    { from_s: FAULT, states: ["up", "key_mismatch", "one_sided", "never"] },
    { from_s: 80, states: ["up"], causes: [null] },
  ],
  // a talks to whichever of the two asked last; what must not be said is that somebody does not list somebody
  "key-on-two-hosts": throughout(["up", "late", "stale", "lossy"]),

  "drop-a-to-b": stale(BY_INITIATOR, CAUSE_BY_INITIATOR, ["a_to_b_blocked"]),
  "drop-b-to-a": stale(BY_RESPONDER, CAUSE_BY_RESPONDER, ["b_to_a_blocked"], ["up", "late"]),
  "drop-both": stale(BY_INITIATOR, CAUSE_BY_INITIATOR, ["nothing_returns"]),
  // b, without keepalive, never says that it would be heard
  "drop-a-to-b-keepalive-a": stale(BY_INITIATOR, CAUSE_BY_INITIATOR, ["nothing_returns", "a_to_b_blocked"]),
  "drop-a-to-b-keepalive-b": stale(BY_INITIATOR, CAUSE_BY_INITIATOR, ["a_to_b_or_preshared", "a_to_b_blocked"]),
  "drop-b-to-a-keepalive-a": stale(BY_INITIATOR, CAUSE_BY_INITIATOR, ["b_to_a_or_preshared", "b_to_a_blocked"]),
  "drop-a-to-b-traffic": stale(BY_TRAFFIC, CAUSE_BY_TRAFFIC, ["a_to_b_blocked"]),
  "drop-b-to-a-traffic": stale(BY_TRAFFIC, CAUSE_BY_TRAFFIC, ["b_to_a_blocked"]),
  "drop-both-traffic": stale(BY_TRAFFIC, CAUSE_BY_TRAFFIC, ["nothing_returns"]),
  "drop-both-idle": idle(),
  "drop-both-250": [
    { from_s: 0, states: ["up"], causes: [null] },
    { from_s: 250, states: ["up", "stale"], causes: [null, "undecided", "nothing_returns"] },
    // the attempts rest from 340 to 500 s: a quiet that mends nothing
    { from_s: 345, states: ["stale"], causes: ["undecided", "nothing_returns"] },
  ],
  // at first a only answers what it hears; what it sends of its own comes later
  "drop-a-to-b-from-start": never(CAUSE_FROM_START, ["a_to_b_blocked"], ["a_to_b_or_preshared"]),
  "drop-both-from-start": never(CAUSE_FROM_START, ["nothing_returns"]),
  "dropped-by-b": stale(BY_INITIATOR, CAUSE_BY_INITIATOR, ["a_to_b_blocked"]),
  "rejected-by-b": stale(BY_INITIATOR, CAUSE_BY_INITIATOR, ["a_to_b_blocked"]),
  "sender-firewall": after(FAULT, BY_INITIATOR, ["stale"], ["cannot_send_a"]),
  "cannot-send": after(FAULT, BY_INITIATOR, ["stale"], ["cannot_send_a"]),
  "loss-20-busy": throughout(["up", "lossy"]),
  "loss-20-idle": throughout(["up"], [null]),
  "mtu-black-hole": after(FAULT, 150, ["lossy"], [null, "lossy"]),
  "mtu-black-hole-a-to-b": after(FAULT, 150, ["lossy"], [null, "lossy"]),

  "host-gone": stale(BY_RESPONDER, CAUSE_BY_RESPONDER, ["nothing_returns"], ["up", "late"]),
  "host-gone-idle": idle(),
  "host-gone-traffic": stale(BY_TRAFFIC, CAUSE_BY_TRAFFIC, ["nothing_returns"]),
  "peer-removed-at-b": after(FAULT, 75, ["one_sided"], ["missing_at_b"]),
  "peer-removed-at-both": after(FAULT, 75, ["absent"], [null], ["up", "one_sided"]),
  "interface-down-at-b": after(FAULT, 75, ["down"], ["interface_down_b"]),
  "interface-gone-at-b": after(FAULT, 75, ["one_sided"], ["missing_at_b", "view_unavailable"]),
  "interface-remade": throughout(["up"], [null]),
  "hub-remade": idle(["cannot_start_b"]),
  "hub-remade-keepalive-at-hub": [
    { from_s: 0, states: ["up"] },
    { from_s: 180, states: ["up", "idle"] },
    { from_s: 240, states: ["idle"], causes: ["cannot_start_b"] },
  ],
  "hub-remade-keepalive-at-spoke": throughout(["up"], [null]),
  "host-reboots": throughout(["up"], [null]),
  "cable-out-and-in": [
    ...after(FAULT, BY_INITIATOR, ["stale"], ["undecided", "nothing_returns"]),
    { from_s: 250, states: ["stale", "up"] },
    { from_s: 315, states: ["up"], causes: [null] },
  ],
  "idle-then-wakes-to-a-dead-peer": [
    ...idle(),
    { from_s: 240, states: ["idle", "stale"], causes: [null, "undecided", "nothing_returns"] },
    { from_s: 335, states: ["stale"], causes: ["undecided", "nothing_returns"] },
  ],

  roaming: throughout(["up"], [null]),
  // b sends nothing for three minutes, but no attempt goes unanswered: late is the most that may be said
  "address-replaced": [
    { from_s: 0, states: ["up"], causes: [null] },
    { from_s: 150, states: ["up", "late"], causes: [null, "cannot_send_b"] },
    { from_s: 240, states: ["up", "late"], causes: ["cannot_send_b"] },
    { from_s: 320, states: ["up", "late"], causes: [null, "cannot_send_b"] },
    { from_s: 400, states: ["up"], causes: [null] },
  ],
  "endpoint-outdated": stale(BY_INITIATOR, CAUSE_BY_INITIATOR, ["nothing_returns"]),
  "endpoint-wrong-port": never(CAUSE_FROM_START, ["nothing_returns"]),
  nat: throughout(["up"], [null]),
  "nat-rebinding": throughout(["up"], [null]),
  "nat-mapping-lost": stale(BY_TRAFFIC, CAUSE_BY_TRAFFIC, ["nothing_returns"]),
  "tunnel-loop": [
    { from_s: 0, states: ["up"], causes: [null] },
    { from_s: FAULT, states: ["up", "late", "stale", "lossy"] },
    { from_s: 75, states: ["up", "late", "stale", "lossy"], causes: ["tunnel_loop"] },
  ],
};
