// Owns the envelope, the one primitive of every signed message: HMAC-SHA256 by the fleet's PSK over the exact bytes of
// `data`, and Ed25519 by the sender's own key over the same bytes. Nothing inside `data` is parsed here.
import { parseObject } from "./json.ts";
import type { Envelope } from "./report.ts";

const encoder = new TextEncoder();
// Fatal: bad UTF-8 is refused, not repaired. ignoreBOM: the BOM stays, for parseObject to refuse.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export type EnvelopeResult = { ok: true; envelope: Envelope } | { ok: false; message: string };

/** Reads an envelope from a request or response body. Checks UTF-8, JSON and shape; trusts nothing. */
export function readEnvelope(body: Uint8Array): EnvelopeResult {
  let text: string;
  try {
    text = decoder.decode(body);
  } catch {
    return { ok: false, message: "the body is not valid UTF-8" };
  }
  const parsed = parseObject(text);
  return parsed.ok ? toEnvelope(parsed.value) : parsed;
}

/** Checks an already parsed value for the envelope's shape: v 1, data, hmac of 64 lowercase hex digits, sig. */
export function toEnvelope(value: { [key: string]: unknown }): EnvelopeResult {
  const { v, data, hmac, sig } = value;
  if (v !== 1) return { ok: false, message: "v: the envelope's version must be 1" };
  if (typeof data !== "string") return { ok: false, message: "data: must be a string of JSON" };
  if (typeof hmac !== "string" || !/^[0-9a-f]{64}$/.test(hmac)) {
    return { ok: false, message: "hmac: must be 64 lowercase hex digits" };
  }
  if (sig !== undefined && sig !== null && typeof sig !== "string") {
    return { ok: false, message: "sig: must be a base64 string" };
  }
  return { ok: true, envelope: { v: 1, data, hmac, ...(typeof sig === "string" ? { sig } : {}) } };
}

const HMAC = { name: "HMAC", hash: "SHA-256" } as const;
// A PSK becomes a CryptoKey once. Four: the ring of three and one in passing.
const macKeys = new Map<string, Promise<CryptoKey>>();

function macKey(psk: string): Promise<CryptoKey> {
  let key = macKeys.get(psk);
  if (key === undefined) {
    if (psk === "") throw new Error("an empty PSK authenticates nobody");
    if (macKeys.size >= 4) macKeys.delete(macKeys.keys().next().value!);
    key = crypto.subtle.importKey("raw", encoder.encode(psk), HMAC, false, ["sign", "verify"]);
    macKeys.set(psk, key);
  }
  return key;
}

/** HMAC-SHA256 as 64 lowercase hex digits; the key is the PSK's UTF-8 bytes. */
export async function computeMac(psk: string, data: string): Promise<string> {
  return new Uint8Array(await crypto.subtle.sign("HMAC", await macKey(psk), encoder.encode(data))).toHex();
}

/** The bytes that MAC and signature are over: for who checks both. */
export function dataBytes(envelope: Envelope): Uint8Array<ArrayBuffer> {
  return encoder.encode(envelope.data);
}

/** Index in `psks` of the key that made the envelope's MAC, or -1. Constant time per key, by WebCrypto. */
export async function verifyMac(
  envelope: Envelope,
  psks: readonly string[],
  message: Uint8Array<ArrayBuffer> = dataBytes(envelope),
): Promise<number> {
  if (envelope.hmac.length !== 64) return -1;
  let mac: Uint8Array<ArrayBuffer>;
  try {
    mac = Uint8Array.fromHex(envelope.hmac);
  } catch {
    return -1;
  }
  for (let i = 0; i < psks.length; i++) {
    if (await crypto.subtle.verify("HMAC", await macKey(psks[i]!), mac, message)) return i;
  }
  return -1;
}

/** An Ed25519 key pair of an agent or the manager. */
export type SigningKey = {
  /** Base64 of the raw 32 bytes. */
  publicKey: string;
  /** Base64 of the 32-byte seed: what the 0600 state file holds. */
  seed: string;
  sign(data: string): Promise<string>;
};

// RFC 8410 section 7: the DER of a PKCS #8 Ed25519 key is this constant and the 32-byte seed.
const PKCS8_ED25519 = Uint8Array.fromHex("302e020100300506032b657004220420");

/** Makes the key pair of a 32-byte seed; without one, a new pair. */
export async function signingKey(seed?: string): Promise<SigningKey> {
  const secret = seed === undefined ? crypto.getRandomValues(new Uint8Array(32)) : Uint8Array.fromBase64(seed);
  if (secret.length !== 32) throw new Error("an Ed25519 seed has 32 bytes");
  const pkcs8 = new Uint8Array(PKCS8_ED25519.length + 32);
  pkcs8.set(PKCS8_ED25519);
  pkcs8.set(secret, PKCS8_ED25519.length);
  const key = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", true, ["sign"]);
  const jwk = await crypto.subtle.exportKey("jwk", key);
  return {
    publicKey: Uint8Array.fromBase64(jwk.x!, { alphabet: "base64url" }).toBase64(),
    seed: secret.toBase64(),
    sign: async (data) => new Uint8Array(await crypto.subtle.sign("Ed25519", key, encoder.encode(data))).toBase64(),
  };
}

// Public keys in use, imported once. Bounded: the fleet's agents, oldest out.
const MAX_PUBLIC_KEYS = 20_000;
const publicKeys = new Map<string, Promise<CryptoKey>>();

function publicCryptoKey(publicKey: string): Promise<CryptoKey> {
  let key = publicKeys.get(publicKey);
  if (key === undefined) {
    if (publicKeys.size >= MAX_PUBLIC_KEYS) publicKeys.delete(publicKeys.keys().next().value!);
    key = crypto.subtle.importKey("raw", Uint8Array.fromBase64(publicKey), "Ed25519", false, ["verify"]);
    // A key that is no point of the curve must not stay as a rejected promise that nobody awaits.
    key.catch(() => publicKeys.delete(publicKey));
    publicKeys.set(publicKey, key);
  }
  return key;
}

/** Whether `sig` (base64 of 64 bytes) is the Ed25519 signature by `publicKey` (base64 raw 32 bytes) over `data`. */
export async function verifySignature(
  publicKey: string,
  data: string | Uint8Array<ArrayBuffer>,
  sig: string | null | undefined,
): Promise<boolean> {
  if (typeof sig !== "string" || sig.length !== 88) return false;
  try {
    const bytes = Uint8Array.fromBase64(sig);
    if (bytes.length !== 64) return false;
    const message = typeof data === "string" ? encoder.encode(data) : data;
    return await crypto.subtle.verify("Ed25519", await publicCryptoKey(publicKey), bytes, message);
  } catch {
    return false;
  }
}

/** Seals `data`: MAC by the PSK, and the signature where a key is given. */
export async function seal(data: string, psk: string, key: SigningKey | null): Promise<Envelope> {
  if (key === null) return { v: 1, data, hmac: await computeMac(psk, data) };
  const [hmac, sig] = await Promise.all([computeMac(psk, data), key.sign(data)]);
  return { v: 1, data, hmac, sig };
}

/** 32 lowercase hex digits from the system's randomness. */
export function newNonce(): string {
  return crypto.getRandomValues(new Uint8Array(16)).toHex();
}
