// Owns the reasons in words: why an edge is in its state, as an operator reads it. Pure.
import type { EdgeCause, EdgeState } from "../../shared/api.ts";

export type Names = { a: string; b: string; aInterface: string | null; bInterface: string | null };

/** The reason of a state; null where the state says it all. */
export function reasonOf(
  state: EdgeState,
  cause: EdgeCause | null,
  { a, b, aInterface, bInterface }: Names,
): string | null {
  const by = (cause: EdgeCause | null): string | null => {
    switch (cause) {
      case null:
        return null;
      case "undecided":
        return "attempts go unanswered; which way is cut is not clear yet (undecided)";
      case "preshared_key":
        return `${a} and ${b} hear each other, and no handshake completes: the preshared keys differ`;
      case "a_to_b_blocked":
        return `what ${a} sends does not reach ${b} (${a}→${b} blocked); the other way works`;
      case "b_to_a_blocked":
        return `what ${b} sends does not reach ${a} (${b}→${a} blocked); the other way works`;
      case "nothing_returns":
        return "nothing comes back: the host is gone, its address is wrong, the key is unknown there, or both ways are blocked";
      case "cannot_send_a":
        return `${a} sends nothing although its keepalive is due: the fault is at ${a}`;
      case "cannot_send_b":
        return `${b} sends nothing although its keepalive is due: the fault is at ${b}`;
      case "cannot_start_a":
        return `${a} cannot start: it knows no endpoint of ${b}, and ${b} has no keepalive`;
      case "cannot_start_b":
        return `${b} cannot start: it knows no endpoint of ${a}, and ${a} has no keepalive`;
      case "tunnel_loop":
        return "the route to the endpoint leads into the tunnel itself: packets go round";
      case "lossy":
        return "a new handshake every few seconds: large packets are lost (MTU) or most are";
      case "interface_down_a":
        return `${aInterface ?? "the interface"} is down at ${a}`;
      case "interface_down_b":
        return `${bInterface ?? "the interface"} is down at ${b}`;
      case "missing_at_a":
        return `${b} lists ${a}, but ${a} does not list ${b}`;
      case "missing_at_b":
        return `${a} lists ${b}, but ${b} does not list ${a}`;
      case "view_unavailable":
        return "view unavailable: handshakes go on, but one end's agent cannot see the interface (another namespace?)";
      case "wrong_key":
        return "an end lists a key that the other end does not have";
      case "no_report":
        return "no end has reported for 3 intervals";
    }
  };
  const words = by(cause);
  if (words !== null) return words;
  if (state === "never") return "no handshake yet";
  if (state === "stale") return "the last handshake is too old";
  return null;
}
