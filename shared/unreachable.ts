// Owns why a connection came to no answer, in an operator's words. Bun's own end in advice to whoever wrote the fetch
// ("Was there a typo in the url or port?" where there is no route). Pure.
import { reason } from "./log.ts";

const UNTRUSTED = "nobody whom this host trusts vouches for its certificate";

const WORDS: Record<string, string> = {
  ECONNREFUSED: "connection refused: nothing listens on that port, or a firewall rejects",
  ECONNRESET: "the connection was closed without an answer: an https port closes so on http://",
  ENETUNREACH: "no route there",
  EHOSTUNREACH: "the host cannot be reached",
  EPROTO: "no TLS handshake: does it speak https on that port?",
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another name or address",
  DEPTH_ZERO_SELF_SIGNED_CERT: UNTRUSTED,
  SELF_SIGNED_CERT_IN_CHAIN: UNTRUSTED,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNTRUSTED,
};

/** The reason of a failed `fetch`, on one line: the code first, without the URL where the words are ours. */
export function unreachable(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown };
  const words = typeof code === "string" && Object.hasOwn(WORDS, code) ? WORDS[code] : undefined;
  return words === undefined ? reason(error) : `${String(code)}: ${words}`;
}
