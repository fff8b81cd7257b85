// Owns the reasons in words: why an edge is in its state, as an operator reads it. Pure.
import type { EdgeCause, EdgeState } from "../../shared/api.ts";

/** Getters may stand for them: most states ask for no name. */
export type Names = {
  readonly a: string;
  readonly b: string;
  readonly aInterface: string | null;
  readonly bInterface: string | null;
};

/** The reason of a state; null where the state says it all. */
export function reasonOf(state: EdgeState, cause: EdgeCause | null, names: Names): string | null {
  const by = (cause: EdgeCause | null): string | null => {
    switch (cause) {
      case null:
        return null;
      case "undecided":
        return "attempts go unanswered; which way is cut is not clear yet (undecided)";
      case "preshared_key":
        return `${names.a} and ${names.b} hear each other, and no handshake completes: the preshared keys differ`;
      case "a_to_b_blocked":
        return `what ${names.a} sends does not reach ${names.b} (${names.a}→${names.b} blocked); the other way works`;
      case "b_to_a_blocked":
        return `what ${names.b} sends does not reach ${names.a} (${names.b}→${names.a} blocked); the other way works`;
      case "a_to_b_or_preshared":
        return `${names.a} hears ${names.b}, whose attempts stay unanswered: ${names.a}→${names.b} blocked, or the preshared keys differ`;
      case "b_to_a_or_preshared":
        return `${names.b} hears ${names.a}, whose attempts stay unanswered: ${names.b}→${names.a} blocked, or the preshared keys differ`;
      case "nothing_returns":
        return "nothing comes back: the host is gone, its address is wrong, the key is unknown there, or both ways are blocked";
      case "cannot_send_a":
        return `${names.a} sends nothing although its keepalive is due (cannot_send): the fault is at ${names.a}`;
      case "cannot_send_b":
        return `${names.b} sends nothing although its keepalive is due (cannot_send): the fault is at ${names.b}`;
      case "cannot_start_a":
        return `${names.a} cannot start: it knows no endpoint of ${names.b}, and ${names.b} has no keepalive`;
      case "cannot_start_b":
        return `${names.b} cannot start: it knows no endpoint of ${names.a}, and ${names.a} has no keepalive`;
      case "tunnel_loop":
        return "the route to the endpoint leads into the tunnel itself: packets go round (tunnel_loop)";
      case "lossy":
        return "a new handshake every few seconds: an MTU black hole, or heavy loss";
      case "interface_down_a":
        return `${names.aInterface ?? "the interface"} is down at ${names.a}`;
      case "interface_down_b":
        return `${names.bInterface ?? "the interface"} is down at ${names.b}`;
      case "missing_at_a":
        return `${names.b} lists ${names.a}, but ${names.a} does not list ${names.b}`;
      case "missing_at_b":
        return `${names.a} lists ${names.b}, but ${names.b} does not list ${names.a}`;
      case "view_unavailable":
        return "view unavailable: handshakes go on, but one end's agent cannot see the interface (another namespace?)";
      case "wrong_key":
        return "wrong key: an end lists one that the other end does not have";
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
