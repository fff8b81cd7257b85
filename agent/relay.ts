// Owns the relaying of others' messages: checks of the hop, and one forward by this agent's own working way. Synchronous;
// nothing is stored, and the manager's answer goes back as it came.
import { readEnvelope, seal, toEnvelope, verifyMac } from "../shared/envelope.ts";
import { firstIssue, parseObject } from "../shared/json.ts";
import { DATA_VERSION } from "../shared/limits.ts";
import type { Log } from "../shared/log.ts";
import type { PskSource } from "../shared/psk_source.ts";
import type { Ack, Envelope, Report } from "../shared/report.ts";
import { type Delivery, relayEnvelope } from "./deliver.ts";
import { type Discovery, peerUrl } from "./discover.ts";
import type { Identity } from "./identity.ts";
import { exchange } from "./wire.ts";

/** Relays that may lie between an agent and the manager. */
const MAX_RELAYS = 3;
/** What the first, second and third relay allow the rest of the way (1-protocol.md: deadlines shrink per hop). */
const DEADLINES_MS = [10_000, 7_000, 4_000] as const;
const MAX_SKEW_MS = 600_000;
/** Forwards at once; more wait in nobody's memory: 503. */
const MAX_FORWARDS = 16;

export type RelayAnswer = { status: number; body: Uint8Array | string; retryAfterSeconds?: number | null };

export type RelayOptions = {
  identity: Identity;
  psk: PskSource;
  delivery: Delivery;
  discovery: Discovery;
  tlsCa: string | null;
  relayPort: number;
  kernel(): Pick<Report, "wireguard" | "interfaces">;
  log: Log;
  now?: () => number;
};

type Refused = { loop: number; hop_limit: number };

export class Relay {
  /** Refused since the start: told in the agent's own reports. */
  readonly refused: Refused = { loop: 0, hop_limit: 0 };
  #forwards = 0;
  readonly #now: () => number;

  constructor(private readonly options: RelayOptions) {
    this.#now = options.now ?? Date.now;
  }

  /** Takes the body of `POST /status/relay`. Never throws for bad input. */
  async take(body: Uint8Array): Promise<RelayAnswer> {
    const { psk, identity } = this.options;
    const unsigned = (status: number, error: string, message: string): RelayAnswer => ({
      status,
      body: JSON.stringify({ error, message }),
    });
    if (psk.psks.length === 0)
      return { ...unsigned(503, "no_psk", "this agent has no PSK yet"), retryAfterSeconds: 10 };
    const read = readEnvelope(body);
    if (!read.ok) return unsigned(400, "malformed", read.message);
    const index = await verifyMac(read.envelope, psk.psks);
    if (index < 0) {
      psk.refreshSoon();
      return unsigned(401, "unauthenticated", "the MAC does not hold");
    }
    const key = psk.psks[index]!;
    const parsed = parseObject(read.envelope.data);
    const hopNonce = parsed.ok && typeof parsed.value["nonce"] === "string" ? parsed.value["nonce"].slice(0, 64) : null;
    const refuse = (status: number, code: string, message: string) =>
      this.#refuse(key, hopNonce, status, code, message);
    if (!parsed.ok) return refuse(400, "malformed", `data: ${parsed.message}`);
    const { value } = parsed;
    if (value["type"] !== "relay") return refuse(403, "wrong_type", "this endpoint takes relay");
    if (typeof value["v"] === "number" && value["v"] > DATA_VERSION)
      return refuse(422, "version", `v: this agent reads data up to version ${DATA_VERSION}`);
    // The schemas come with the first message that needs them: most agents relay nothing, and need no zod.
    const { relaySchema } = await import("../shared/report.ts");
    const checked = relaySchema.safeParse(value);
    if (!checked.success) {
      const { field, message } = firstIssue(checked.error);
      return refuse(422, "schema", `${field}: ${message}`);
    }
    const relay = checked.data;
    // By the manager's clock, as far as this agent knows it, or by the host's: the sender may know only one of them.
    if (Math.min(...this.#clocks().map((at) => Math.abs(relay.sent_at - at))) > MAX_SKEW_MS)
      return refuse(401, "clock_skew", "sent_at lies too far from this agent's clock");
    const path = relay.relay_path;
    if (new Set(path).size !== path.length) return refuse(400, "malformed", "relay_path: an id stands in it twice");
    const inner = toEnvelope(relay.envelope);
    if (!inner.ok) return refuse(400, "malformed", `envelope.${inner.message}`);
    if ((await verifyMac(inner.envelope, psk.psks)) < 0) {
      psk.refreshSoon();
      return unsigned(401, "unauthenticated", "the inner message's MAC does not hold");
    }
    const innerData = parseObject(inner.envelope.data);
    const originator = innerData.ok ? innerData.value["agent_id"] : null;
    const type = innerData.ok ? innerData.value["type"] : null;
    if (type !== "report" && type !== "register")
      return refuse(403, "wrong_type", "envelope: only a report or register is relayed");
    if (path.includes(identity.agentId) || originator === identity.agentId) {
      this.refused.loop++;
      return refuse(508, "relay_loop", "this agent is on the message's way already");
    }
    if (path.length >= MAX_RELAYS) {
      this.refused.hop_limit++;
      return refuse(422, "hop_limit", `relay_path: at most ${MAX_RELAYS} relays`);
    }
    if (this.#forwards >= MAX_FORWARDS)
      return { ...(await refuse(503, "busy", "this relay has enough to do: try again")), retryAfterSeconds: 2 };
    this.#forwards++;
    try {
      const behind = new Set([...path, relay.agent_id, ...(typeof originator === "string" ? [originator] : [])]);
      return await this.#forward(inner.envelope, [...path, identity.agentId], key, refuse, behind);
    } finally {
      this.#forwards--;
    }
  }

  /** What time it is at the manager, by whose clock it takes messages, and at this host. */
  #clocks(): [manager: number, host: number] {
    return [this.#now() + this.options.delivery.clockOffsetMs, this.#now()];
  }

  /** By the own working way; else to the manager; else to one known next hop; else at once: no route. */
  async #forward(
    inner: Envelope,
    path: string[],
    key: string,
    refuse: (status: number, code: string, message: string) => Promise<RelayAnswer>,
    behind: ReadonlySet<string>,
  ): Promise<RelayAnswer> {
    const { identity, delivery, discovery, tlsCa, relayPort, kernel, log } = this.options;
    const deadline = performance.now() + DEADLINES_MS[Math.min(path.length, DEADLINES_MS.length) - 1]!;
    const hop = await relayEnvelope(inner, path, identity.agentId, key, this.#clocks()[0]);
    const body = JSON.stringify(hop);
    const left = () => Math.max(200, deadline - performance.now());
    const toPeer = (address: string) =>
      exchange(peerUrl(address, relayPort, "/status/relay"), { body, timeoutMs: left() });
    // Never back to where it came from: of agents that are cut off together, each would refuse it as a loop.
    const isBehind = (agentId: string | null) => agentId !== null && behind.has(agentId);
    const relay = delivery.workingRelay;
    const working = relay !== null && !isBehind(discovery.agentAt(relay)) ? relay : null;
    if (working !== null) {
      const answer = await toPeer(working);
      if (answer.ok && answer.status !== 502)
        return { status: answer.status, body: answer.body, retryAfterSeconds: answer.retryAfterSeconds };
    } else {
      for (const url of delivery.urls) {
        // Room for one more try after a direct way that hangs.
        const answer = await exchange(`${url}/status/updates`, { body, timeoutMs: Math.min(left(), 3000), tlsCa });
        if (answer.ok && (answer.status < 500 || answer.status === 503 || answer.status === 508)) {
          return { status: answer.status, body: answer.body, retryAfterSeconds: answer.retryAfterSeconds };
        }
        log.debug("relay_direct_failed", { reason: answer.ok ? `status ${answer.status}` : answer.reason });
      }
    }
    if (path.length < MAX_RELAYS && performance.now() < deadline) {
      const next = discovery
        .relays(kernel(), null)
        .find((found) => found.address !== working && !isBehind(found.agentId));
      if (next !== undefined) {
        const answer = await toPeer(next.address);
        if (answer.ok && answer.status !== 502)
          return { status: answer.status, body: answer.body, retryAfterSeconds: answer.retryAfterSeconds };
        discovery.failed(next.address);
      }
    }
    return refuse(502, "no_route", "this agent has no way to the manager either");
  }

  /** This agent's own word: MACed, and signed by its key, so that nobody takes it for the manager's. */
  async #refuse(
    key: string,
    nonce: string | null,
    status: number,
    code: string,
    message: string,
  ): Promise<RelayAnswer> {
    const ack: Ack = {
      v: 1,
      type: "ack",
      code,
      message,
      nonce,
      agent_id: this.options.identity.agentId,
      tick: null,
      server_time_at: this.#now(),
    };
    return { status, body: JSON.stringify(await seal(JSON.stringify(ack), key, this.options.identity.key)) };
  }
}
