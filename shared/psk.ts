// Owns what a PSK is: which string of a TXT answer it is, whether it is fit for use, and the ring of the current and the
// two previous ones. Pure; psk_source.ts fetches and persists.

/** Current and two previous (1-protocol.md, PSK). */
export const RING_SIZE = 3;

export type PskCheck = { ok: true; psk: string; weak: boolean } | { ok: false; message: string };

/** Without surrounding whitespace and one pair of quotes: zone files and dnsmasq's options keep them at times. */
function unquoted(raw: string): string {
  const text = raw.trim();
  const quoted = text.length >= 2 && (text[0] === '"' || text[0] === "'") && text.at(-1) === text[0];
  return quoted ? text.slice(1, -1).trim() : text;
}

/** Trims whitespace and one pair of quotes; refuses under 16 bytes, control characters, and what was no UTF-8; `weak` is under 32 bytes. */
export function checkPsk(raw: string): PskCheck {
  const psk = unquoted(raw);
  const bytes = new TextEncoder().encode(psk).length;
  if (bytes < 16) return { ok: false, message: `the PSK has ${bytes} bytes; it needs 16 or more (32 recommended)` };
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f-\u009f]/.test(psk)) return { ok: false, message: "the PSK holds a control character" };
  // Decoders put this in place of each byte that is no UTF-8, whichever it was: such keys are all alike.
  if (psk.includes("\ufffd")) return { ok: false, message: "the PSK is not UTF-8 text: write random bytes as base64" };
  return { ok: true, psk, weak: bytes < 32 };
}

// Strings that live beside ours in a zone and are no PSK.
const OTHER_RECORDS = [
  /^v=spf1(\s|$)/i, // RFC 7208
  /^v=DKIM1\b/i, // RFC 6376; the tag may be left out, then k= or p= leads
  /^\s*[kp]=[^;]*;.*\bp=/i,
  /^p=[A-Za-z0-9+/=\s]*$/,
  /^v=DMARC1\b/i, // RFC 7489
  /^v=(STSv1|TLSRPTv1|BIMI1)\b/i, // RFC 8461, RFC 8460
  /(^|[-_.])(site|domain)[-_]verification\s*[=:]/i, // google-, facebook-domain-, apple-domain-, …
  /^MS=ms\d+/i, // Microsoft 365
];

const TAG = "kattila-psk=";

export type PskSelection =
  { ok: true; psk: string; weak: boolean } | { ok: false; reason: "none" | "ambiguous" | "unusable"; message: string };

/**
 * Picks the PSK among the strings of a TXT answer: the one tagged `kattila-psk=`, else the one untagged string that is
 * no SPF, DKIM, DMARC or site-verification record. Strings are never joined: Bun loses the records' boundaries.
 */
export function selectPsk(strings: readonly string[]): PskSelection {
  const texts = strings.map(unquoted);
  const tagged = texts.filter((text) => text.startsWith(TAG));
  const candidates = new Set(
    tagged.length > 0
      ? tagged.map((text) => unquoted(text.slice(TAG.length)))
      : texts.filter((text) => text !== "" && !OTHER_RECORDS.some((pattern) => pattern.test(text))),
  );
  if (candidates.size === 0) return { ok: false, reason: "none", message: "the TXT answer holds no PSK" };
  if (candidates.size > 1) {
    return {
      ok: false,
      reason: "ambiguous",
      message: `the TXT answer holds ${candidates.size} strings that could be the PSK: tag the right one with ${TAG}`,
    };
  }
  const checked = checkPsk([...candidates][0]!);
  return checked.ok ? checked : { ok: false, reason: "unusable", message: checked.message };
}

/** The ring with `psk` newest; one seen before moves to the front; beyond RING_SIZE the oldest goes. */
export function withPsk(ring: readonly string[], psk: string): string[] {
  return [psk, ...ring.filter((other) => other !== psk)].slice(0, RING_SIZE);
}
