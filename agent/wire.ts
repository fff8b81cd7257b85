// Owns one HTTP exchange with a manager or another agent: bounded in time and size, no redirects, no proxies, nothing
// inflated. And how far its answer can be trusted.
import { readEnvelope, verifyMac, verifySignature } from "../shared/envelope.ts";
import { parseObject } from "../shared/json.ts";
import { reason } from "../shared/log.ts";
import type { Ack, Envelope } from "../shared/report.ts";
import { unreachable } from "../shared/unreachable.ts";
import type { Trust } from "./table.ts";

/** Acks have a few hundred bytes; whoever sends more is no manager. */
const MAX_ANSWER_BYTES = 64 * 1024;

// Bun's fetch takes a proxy from these, even for loopback: a probe or a report goes where it says, or nowhere.
for (const name of ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"])
  delete process.env[name];

export type Exchange =
  { ok: true; status: number; body: Uint8Array; retryAfterSeconds: number | null } | { ok: false; reason: string };

export type ExchangeOptions = {
  timeoutMs: number;
  tlsCa?: string | null;
  method?: "GET" | "POST";
  body?: string;
  maxBytes?: number;
};

/** One request. Never rejects: refused, timed out, too large and cut off are `ok: false`. */
export async function exchange(url: string, options: ExchangeOptions): Promise<Exchange> {
  const { timeoutMs, tlsCa = null, method = "POST", body, maxBytes = MAX_ANSWER_BYTES } = options;
  const ended = new AbortController();
  const timer = setTimeout(() => ended.abort(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  try {
    const response = await fetch(url, {
      method,
      ...(body === undefined ? {} : { body }),
      headers: { ...(body === undefined ? {} : { "Content-Type": "application/json" }), "Accept-Encoding": "identity" },
      redirect: "manual",
      decompress: false,
      keepalive: false,
      signal: ended.signal,
      ...(tlsCa === null ? {} : { tls: { ca: tlsCa } }),
    } as RequestInit);
    const chunks: Uint8Array[] = [];
    let size = 0;
    if (response.body !== null) {
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        size += chunk.byteLength;
        if (size > maxBytes) {
          ended.abort();
          return { ok: false, reason: `the answer is larger than ${maxBytes} bytes` };
        }
        chunks.push(chunk);
      }
    }
    const retryAfter = response.headers.get("retry-after");
    return {
      ok: true,
      status: response.status,
      body: Buffer.concat(chunks),
      retryAfterSeconds: retryAfter !== null && /^[0-9]{1,6}$/.test(retryAfter) ? Number(retryAfter) : null,
    };
  } catch (error) {
    return { ok: false, reason: ended.signal.aborted ? reason(ended.signal.reason) : unreachable(error) };
  } finally {
    clearTimeout(timer);
  }
}

export type Read = { trust: Trust; code: string; message: string; ack: Ack | null };

/**
 * Reads an answer to a message with `nonce`. Trusted as the manager's: MAC by one of `psks`, the same nonce, and the
 * signature of `managerKey`; where that is not known yet, of the key that the ack itself brings (first registration).
 */
export async function readAnswer(
  body: Uint8Array,
  nonce: string,
  psks: readonly string[],
  managerKey: string | null,
): Promise<Read> {
  const nobody = (code: string, message: string): Read => ({ trust: "nobody", code, message, ack: null });
  const read = readEnvelope(body);
  if (!read.ok) {
    try {
      const { error, message } = JSON.parse(new TextDecoder().decode(body)) as { error?: unknown; message?: unknown };
      return nobody(typeof error === "string" ? error : "", typeof message === "string" ? message : "");
    } catch {
      return nobody("", "the answer is no ack");
    }
  }
  const { envelope } = read;
  if ((await verifyMac(envelope, psks)) < 0) return nobody("", "the answer's MAC does not hold");
  const parsed = parseObject(envelope.data);
  if (!parsed.ok) return nobody("", "the ack is malformed");
  const ack = parsed.value as unknown as Ack;
  if (ack.type !== "ack" || ack.nonce !== nonce || typeof ack.code !== "string")
    return nobody("", "the ack is not for this message");
  const brought = typeof ack.manager_key === "string" ? ack.manager_key : null;
  const key = managerKey ?? brought;
  const isManager = key !== null && (await verifySignature(key, envelope.data, envelope.sig));
  return {
    trust: isManager ? "manager" : "fleet",
    code: ack.code,
    message: typeof ack.message === "string" ? ack.message : "",
    ack,
  };
}

export type { Envelope };
