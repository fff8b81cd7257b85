// Owns the state table of WireGuard edges (2-topology.md): from what both ends say to a state and its cause. Pure: time
// comes in by the moments of the reports and by whether an end is fresh.
import { type EdgeCause, type EdgeState, PROBLEM_STATES, type TopologyEdge } from "../../shared/api.ts";
import { ORDER_MS, type PeerMemory, SESSION_SECONDS } from "./window.ts";

/** Beyond the session's life: a handshake that is only late has come by then. */
const LATE_SECONDS = 240;
/** As long as which way is cut stays undecided after the first unanswered window began: each side that wants to talk has
 * tried by then (both asked anew at 180 s at the latest). 210 s, less what reports jitter: the seventh one after it
 * should not have to wait for the eighth. */
const DECIDE_MS = 205_000;
/** Lossy: so many handshakes too soon after the one before, the last of them so young. */
const LOSSY_HANDSHAKES = 3;
const LOSSY_SECONDS = 60;

/** What decide() comes to in the end. */
const DECIDED: ReadonlySet<EdgeCause> = new Set([
  "preshared_key",
  "a_to_b_blocked",
  "b_to_a_blocked",
  "a_to_b_or_preshared",
  "b_to_a_or_preshared",
  "nothing_returns",
]);

/** What one end has to say. */
export type EndWord = {
  /** It has an agent, which was heard under 3 intervals ago and could read the interface. */
  fresh: boolean;
  /** Whether its interface is administratively up; null: unknown. */
  up: boolean | null;
  /** Manager's time since which the interface is gone from its host's dump; null: it is there. */
  goneSince: number | null;
  /** What it lists for the other end; null: it does not list it, or nobody says. */
  listed: {
    memory: PeerMemory;
    /** It has an endpoint to dial. */
    hasEndpoint: boolean;
    /** It lists a key that the other end does not have (any more). */
    wrongKey: boolean;
    /** The route to the endpoint leads into this very tunnel, straight or through others. */
    loops: boolean;
  } | null;
};

/** What was known of a broken link when its memory was loaded from the store. */
export type Remembered = { since: number; cause: EdgeCause | null };

export type Judgement = { readonly state: EdgeState; readonly cause: EdgeCause | null };

type Side = "a" | "b";

const UNTROUBLED: ReadonlySet<EdgeState> = new Set(["up", "late", "idle", "unused", "unknown"]);

/** Whether an edge's state or cause says that something is wrong. */
export function isTroubled({ state, cause }: Pick<TopologyEdge, "state" | "cause">): boolean {
  return cause !== null || !UNTROUBLED.has(state);
}

/** Whether packets pass: badly where it is lossy, and where an end is merely out of its agent's sight; the other problem
 * states pass none. */
export function passes({ state, cause }: Pick<TopologyEdge, "state" | "cause">): boolean {
  return state === "lossy" || cause === "view_unavailable" || !PROBLEM_STATES.includes(state);
}

/** Passes, as far as anyone can tell: moves between these are neither events nor history rows. */
export function isQuietMove(from: EdgeState, to: EdgeState): boolean {
  return WORKING.has(from) && WORKING.has(to);
}
const WORKING: ReadonlySet<EdgeState> = new Set(["up", "late", "idle"]);

/** Newest handshake of both ends by the manager's clock, whether or not they are fresh; null: never. */
export function newestHandshake(a: PeerMemory | null, b: PeerMemory | null): number | null {
  const of = (memory: PeerMemory | null) => memory?.handshakeObservedAt ?? Number.NEGATIVE_INFINITY;
  const newest = Math.max(of(a), of(b));
  return newest === Number.NEGATIVE_INFINITY ? null : newest;
}

/**
 * The first row of the table that fits.
 * @param neverSince since when it is `never` already; null: it is not.
 * @param remembered of a link that was broken before the reports that memory was built from.
 */
export function judge(a: EndWord, b: EndWord, neverSince: number | null, remembered: Remembered | null): Judgement {
  const wordA = a.fresh ? a.listed : null;
  const wordB = b.fresh ? b.listed : null;
  if (wordA === null && wordB === null) return { state: "unknown", cause: "no_report" };

  if ((wordA?.wrongKey === true && b.listed !== null) || (wordB?.wrongKey === true && a.listed !== null)) {
    return { state: "key_mismatch", cause: "wrong_key" };
  }
  if (wordA !== null && b.fresh && b.listed === null) return oneSided(wordA.memory, b, "missing_at_b");
  if (wordB !== null && a.fresh && a.listed === null) return oneSided(wordB.memory, a, "missing_at_a");
  if (a.fresh && a.up === false) return { state: "down", cause: "interface_down_a" };
  if (b.fresh && b.up === false) return { state: "down", cause: "interface_down_b" };

  const judgement = byCounters(a, b, neverSince, remembered);
  // Faults at an end itself say more than what they lead to.
  if (wordA?.loops === true || wordB?.loops === true) return { ...judgement, cause: "tunnel_loop" };
  const handshake = newestHandshake(a.listed?.memory ?? null, b.listed?.memory ?? null);
  const isSilent = (word: EndWord["listed"]) =>
    word !== null && word.hasEndpoint && word.memory.isSilent && !isOvertaken(word.memory, handshake);
  if (isSilent(wordA)) return { ...judgement, cause: "cannot_send_a" };
  if (isSilent(wordB)) return { ...judgement, cause: "cannot_send_b" };
  return judgement;
}

/** A handshake that the other end told of came after this end's last report: what failed here until then does so no more. */
function isOvertaken(memory: PeerMemory, handshake: number | null): boolean {
  return handshake !== null && handshake > memory.observedAt + ORDER_MS;
}

/** An interface that its host does not show, while the other end goes on shaking hands with it, is somewhere. */
function oneSided(memory: PeerMemory, lacking: EndWord, missing: EdgeCause): Judgement {
  const handshake = memory.handshakeObservedAt;
  const hidden = lacking.goneSince !== null && handshake !== null && handshake > lacking.goneSince;
  return { state: "one_sided", cause: hidden ? "view_unavailable" : missing };
}

function byCounters(a: EndWord, b: EndWord, neverSince: number | null, remembered: Remembered | null): Judgement {
  // Last words of an end that is silent now still tell its configuration, and its handshake.
  const [knownA, knownB] = [a.listed, b.listed];
  const [wordA, wordB] = [a.fresh ? knownA : null, b.fresh ? knownB : null];
  const at = Math.max(wordA?.memory.observedAt ?? -Infinity, wordB?.memory.observedAt ?? -Infinity);
  const handshake = newestHandshake(a.listed?.memory ?? null, b.listed?.memory ?? null);
  const failed = handshake === null ? "never" : "stale";
  const keepalive = Math.max(knownA?.memory.keepalive ?? 0, knownB?.memory.keepalive ?? 0);

  const unanswered = (word: EndWord["listed"]) =>
    word === null || isOvertaken(word.memory, handshake) ? Infinity : (word.memory.unansweredSince ?? Infinity);
  const unansweredSince = Math.min(
    unanswered(wordA),
    unanswered(wordB),
    remembered !== null && (handshake === null || handshake <= remembered.since) ? remembered.since : Infinity,
  );
  if (unansweredSince !== Infinity) return { state: failed, cause: decide(a, b, unansweredSince, at, remembered) };
  if (isLossy(wordA) || isLossy(wordB)) return { state: "lossy", cause: "lossy" };

  const age = handshake === null ? Number.POSITIVE_INFINITY : (at - handshake) / 1000;
  if (age <= SESSION_SECONDS + keepalive) return UP;
  if (!keepsAlive(knownA) && !keepsAlive(knownB)) {
    const unused = handshake === null && (knownA?.memory.tx ?? 0) === 0 && (knownB?.memory.tx ?? 0) === 0;
    return { state: unused ? "unused" : "idle", cause: cannotStart(a, b) };
  }
  // What never shook hands has no age, and nothing to be late by.
  if (handshake === null) return { state: failed, cause: decide(a, b, neverSince ?? at, at, remembered) };
  const limit = handshake + (LATE_SECONDS + keepalive) * 1000;
  if (at <= limit) return { state: "late", cause: null };
  return { state: failed, cause: decide(a, b, limit, at, remembered) };
}

const UP: Judgement = { state: "up", cause: null };

function isLossy(word: EndWord["listed"]): boolean {
  return word !== null && word.memory.shortHandshakes >= LOSSY_HANDSHAKES && word.memory.ageSeconds <= LOSSY_SECONDS;
}

function keepsAlive(word: EndWord["listed"]): boolean {
  return word !== null && word.memory.keepalive > 0 && word.hasEndpoint;
}

/** One end knows no endpoint, and the other sends nothing of itself: the first cannot start. */
function cannotStart(a: EndWord, b: EndWord): EdgeCause | null {
  if (a.listed === null || b.listed === null) return null;
  if (!a.listed.hasEndpoint && b.listed.memory.keepalive === 0) return "cannot_start_a";
  if (!b.listed.hasEndpoint && a.listed.memory.keepalive === 0) return "cannot_start_b";
  return null;
}

/**
 * Why nothing is answered. Each end hears the other's attempts, and no handshake comes of them: preshared keys. One end
 * hears and the other does not: that way is cut, for certain where the end that is not heard has sent something of its own;
 * else it may be the preshared keys as well (answers that who gets them refuses are not counted by it).
 */
function decide(a: EndWord, b: EndWord, since: number, at: number, remembered: Remembered | null): EdgeCause {
  const before = remembered?.cause ?? null;
  // What was decided before a restart is so still, though the store only tells since when it was broken.
  const wasDecided = since === remembered?.since && before !== null && DECIDED.has(before);
  if (!wasDecided && at < since + DECIDE_MS) return "undecided";
  const heard = (side: Side, end: EndWord) =>
    (end.listed !== null && end.listed.memory.heardFrom >= since) ||
    before === "preshared_key" ||
    before === (side === "a" ? "a_to_b_blocked" : "b_to_a_blocked") ||
    before === (side === "a" ? "a_to_b_or_preshared" : "b_to_a_or_preshared");
  const lost = (side: Side, end: EndWord) =>
    (end.listed?.memory.lostBytes ?? 0) > 0 || before === (side === "a" ? "a_to_b_blocked" : "b_to_a_blocked");
  const [aHears, bHears] = [heard("a", a), heard("b", b)];
  if (aHears && bHears) return "preshared_key";
  if (aHears) return lost("a", a) ? "a_to_b_blocked" : "a_to_b_or_preshared";
  if (bHears) return lost("b", b) ? "b_to_a_blocked" : "b_to_a_or_preshared";
  return "nothing_returns";
}
