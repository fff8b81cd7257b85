// Owns simulated agents' way to a manager: real envelopes, signed and MACed, over real HTTP.
import { type SigningKey, newNonce, seal, signingKey } from "../../shared/envelope.ts";
import type { Ack, Collected, Envelope } from "../../shared/report.ts";

export type Sender = {
  agentId: string;
  key: SigningKey;
  /** The envelope of a report collected `ageMs` before `now`. */
  report(collected: Collected, now: number, ageMs?: number): Promise<Envelope>;
  register(hostname: string, now: number): Promise<{ status: number; ack: Ack | null }>;
};

export type Posted = { status: number; ack: Ack | null; body: string };

/** Posts an envelope; the ack's `data` is read, not verified. */
export async function post(url: string, path: string, envelope: unknown): Promise<Posted> {
  const response = await fetch(`${url}${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: typeof envelope === "string" ? envelope : JSON.stringify(envelope),
    signal: AbortSignal.timeout(20_000),
  });
  const body = await response.text();
  let ack: Ack | null = null;
  try {
    ack = JSON.parse((JSON.parse(body) as Envelope).data) as Ack;
  } catch {
    // an unsigned answer
  }
  return { status: response.status, ack, body };
}

export async function createSender(url: string, psk: string, agentId: string = crypto.randomUUID()): Promise<Sender> {
  const key = await signingKey();
  return {
    agentId,
    key,
    report: (collected, now, ageMs = 0) =>
      seal(
        JSON.stringify({ ...collected, agent_id: agentId, nonce: newNonce(), sent_at: now, age_ms: ageMs }),
        psk,
        key,
      ),
    register: async (hostname, now) => {
      const data = {
        v: 1,
        type: "register",
        agent_id: agentId,
        nonce: newNonce(),
        sent_at: now,
        hostname,
        agent_version: "0.1.0",
        public_key: key.publicKey,
      };
      return post(url, "/status/register", await seal(JSON.stringify(data), psk, key));
    },
  };
}

/** The relay envelope that `relays` (first to last) would hand the manager for `inner`. */
export function relayed(inner: Envelope, relays: readonly string[], psk: string, now: number): Promise<Envelope> {
  const data = {
    v: 1,
    type: "relay",
    agent_id: relays.at(-1)!,
    nonce: newNonce(),
    sent_at: now,
    relay_path: relays,
    envelope: inner,
  };
  return seal(JSON.stringify(data), psk, null);
}
