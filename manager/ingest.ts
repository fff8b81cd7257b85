// Owns the walk of one signed message: open envelope → MAC → parse → type → schema → time → known agent → Ed25519 → tick
// and nonce → one transaction → ack (1-protocol.md, order of checks). Nothing changes before the transaction.
import {
  dataBytes,
  readEnvelope,
  seal,
  type SigningKey,
  toEnvelope,
  verifyMac,
  verifySignature,
} from "../shared/envelope.ts";
import { firstIssue, type JsonObject, parseObject } from "../shared/json.ts";
import type { PskSource } from "../shared/psk_source.ts";
import {
  type Ack,
  DATA_VERSION,
  type Envelope,
  MAX_REPORT_BYTES,
  type Register,
  registerSchema,
  relaySchema,
  type Report,
} from "../shared/report.ts";
import type { AuthFailures } from "./auth_failures.ts";
import type { Fleet, Turn } from "./fleet.ts";
import type { AgentRecord, ReportRow } from "./model.ts";
import { parseReport } from "./parse_report.ts";
import { type Store, StoreError } from "./store/store.ts";

/** A message sent further than this from the manager's clock is refused (1-protocol.md, Replay). */
export const MAX_SKEW_MS = 600_000;
/** Relays that may lie between an agent and the manager. */
export const MAX_RELAYS = 3;
/** What a sender should wait when the manager cannot take its message now. */
export const RETRY_AFTER_S = 10;

/** An answer: status and JSON body; `retryAfter` in seconds goes into the header. */
export type Answer = { status: number; body: unknown; retryAfter?: number };

type Refusal = { status: number; code: string; message: string; extra?: Partial<Ack>; retryAfter?: number };

/** A message whose MAC held. `psk` made it, and makes the ack. */
type Opened = {
  envelope: Envelope;
  /** Of `envelope.data`. */
  bytes: Uint8Array<ArrayBuffer>;
  psk: string;
  /** The key is a previous one. */
  pskIsOld: boolean;
  data: JsonObject;
  nonce: string | null;
  agentId: string | null;
  tick: number | null;
};

export type IngestOptions = {
  fleet: Fleet;
  store: Store;
  psk: PskSource;
  key: SigningKey;
  authFailures: AuthFailures;
  /** This agent used a previous PSK: for psk_old. */
  onOldPsk(agentId: string, now: number): void;
  now?: () => number;
};

const UNSIGNED_401: Answer = {
  status: 401,
  body: {
    error: "unauthenticated",
    message: "the MAC does not hold: the sender's PSK is not one of the manager's current or two previous",
  },
};

const RELAY_LOOP: Refusal = { status: 508, code: "relay_loop", message: "relay_path: the sender itself stands in it" };

function malformed(message: string): Answer {
  return { status: 400, body: { error: "malformed", message } };
}

export class Ingest {
  /** Signed answers since the start, by code: for metrics. */
  readonly answers = new Map<string, number>();
  readonly #now: () => number;

  constructor(private readonly options: IngestOptions) {
    this.#now = options.now ?? Date.now;
  }

  /** Takes a message of `POST /status/updates` (report, relay) or `/status/register`; never throws for bad input. */
  async take(endpoint: "updates" | "register", body: Uint8Array, source: string): Promise<Answer> {
    if (this.options.psk.psks.length === 0) {
      return {
        status: 503,
        body: { error: "no_psk", message: "the manager has no PSK yet: try again" },
        retryAfter: RETRY_AFTER_S,
      };
    }
    const read = readEnvelope(body);
    if (!read.ok) return malformed(read.message);
    return this.#takeEnvelope(read.envelope, endpoint === "updates" ? ["report", "relay"] : ["register"], [], source);
  }

  async #takeEnvelope(
    envelope: Envelope,
    types: readonly string[],
    relayPath: string[],
    source: string,
  ): Promise<Answer> {
    const { psk, authFailures } = this.options;
    const keys = psk.psks;
    const bytes = dataBytes(envelope);
    const index = await verifyMac(envelope, keys, bytes);
    if (index < 0) {
      authFailures.note(source, this.#now());
      psk.refreshSoon();
      return UNSIGNED_401;
    }
    const parsed = parseObject(envelope.data);
    const data = parsed.ok ? parsed.value : {};
    const opened: Opened = {
      envelope,
      bytes,
      psk: keys[index]!,
      pskIsOld: index > 0,
      data,
      nonce: typeof data.nonce === "string" && data.nonce.length <= 64 ? data.nonce : null,
      agentId: typeof data.agent_id === "string" && data.agent_id.length <= 64 ? data.agent_id : null,
      tick: typeof data.tick === "number" && Number.isSafeInteger(data.tick) && data.tick >= 0 ? data.tick : null,
    };
    if (!parsed.ok) return this.#refuse(opened, { status: 400, code: "malformed", message: `data: ${parsed.message}` });
    if (typeof data.type !== "string" || !types.includes(data.type)) {
      return this.#refuse(opened, {
        status: 403,
        code: "wrong_type",
        message: `this endpoint takes ${types.join(" or ")}`,
      });
    }
    if (typeof data.v === "number" && Number.isInteger(data.v) && data.v > DATA_VERSION) {
      return this.#refuse(opened, {
        status: 422,
        code: "version",
        message: `v: this manager reads data up to version ${DATA_VERSION}: upgrade the manager first`,
        extra: { field: "v" },
      });
    }
    try {
      if (data.type === "relay") return await this.#takeRelay(opened, source);
      if (data.type === "register") return await this.#takeRegister(opened, relayPath, source);
      return await this.#takeReport(opened, relayPath, source);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      return this.#refuse(opened, {
        status: 503,
        code: "unavailable",
        message: `the manager cannot store this now (${error.fault}): keep it and try again`,
        retryAfter: RETRY_AFTER_S,
      });
    }
  }

  /** The hop's own checks; then the message inside walks as if it had come directly. */
  async #takeRelay(opened: Opened, source: string): Promise<Answer> {
    const parsed = relaySchema.safeParse(opened.data);
    if (!parsed.success) return this.#refuseSchema(opened, firstIssue(parsed.error));
    const relay = parsed.data;
    const skewed = this.#skewed(relay.sent_at);
    if (skewed !== null) return this.#refuse(opened, skewed);
    const path = relay.relay_path;
    if (new Set(path).size !== path.length) {
      return this.#refuse(opened, { status: 400, code: "malformed", message: "relay_path: an id stands in it twice" });
    }
    if (path.length > MAX_RELAYS) {
      return this.#refuse(opened, {
        status: 422,
        code: "hop_limit",
        message: `relay_path: at most ${MAX_RELAYS} relays`,
      });
    }
    const inner = toEnvelope(relay.envelope);
    if (!inner.ok)
      return this.#refuse(opened, { status: 400, code: "malformed", message: `envelope.${inner.message}` });
    return this.#takeEnvelope(inner.envelope, ["report", "register"], path, source);
  }

  async #takeRegister(opened: Opened, relayPath: string[], source: string): Promise<Answer> {
    const { fleet, key, authFailures } = this.options;
    const parsed = registerSchema.safeParse(opened.data);
    if (!parsed.success) return this.#refuseSchema(opened, firstIssue(parsed.error));
    const register = parsed.data;
    const skewed = this.#skewed(register.sent_at);
    if (skewed !== null) {
      // With the key: an agent that never registered could not believe the clock otherwise, and would never get in.
      return this.#refuse(opened, { ...skewed, extra: { manager_key: key.publicKey } });
    }
    if (relayPath.includes(register.agent_id)) return this.#refuse(opened, RELAY_LOOP);
    if (!(await verifySignature(register.public_key, opened.bytes, opened.envelope.sig))) {
      authFailures.note(source, this.#now());
      return this.#refuse(opened, {
        status: 401,
        code: "bad_signature",
        message: "sig: is not by the public_key that it registers",
      });
    }
    const outcome = await fleet.mutate((turn) => this.#register(register, turn));
    switch (outcome.is) {
      case "new":
        return this.#answer(opened, 201, "registered", "welcome", {
          agent_id: outcome.agentId,
          manager_key: key.publicKey,
        });
      case "known":
        return this.#answer(opened, 200, "registered", "known", {
          agent_id: outcome.agentId,
          manager_key: key.publicKey,
        });
      case "conflict":
        return this.#answer(
          opened,
          409,
          "id_conflict",
          "this id belongs to another key: register under the id given here",
          {
            agent_id: outcome.agentId,
            manager_key: key.publicKey,
          },
        );
      case "blocked":
        return this.#refuse(opened, { status: 403, code: "blocked", message: "an administrator blocked this agent" });
      case "reset":
        return this.#refuse(opened, { status: 410, code: "reset", message: "this id is retired: take a new identity" });
    }
  }

  #register(
    register: Register,
    turn: Turn,
  ): { is: "new" | "known" | "conflict" | "blocked" | "reset"; agentId: string } {
    const { fleet } = this.options;
    if (fleet.retired.has(register.agent_id)) return { is: "reset", agentId: register.agent_id };
    const existing = fleet.agentOfKey(register.public_key);
    if (existing !== null) {
      const record = fleet.agents.get(existing)!;
      if (record.blocked) return { is: "blocked", agentId: existing };
      return { is: "known", agentId: existing };
    }
    if (fleet.agents.has(register.agent_id)) {
      fleet.takeAlarms(fleet.alarms.onIdConflict(register.agent_id, { hostname: register.hostname }, turn.now), turn);
      return { is: "conflict", agentId: crypto.randomUUID() };
    }
    const record: AgentRecord = {
      agent_id: register.agent_id,
      public_key: register.public_key,
      hostname: register.hostname,
      agent_version: register.agent_version,
      first_seen_at: turn.now,
      registered_at: turn.now,
      blocked: false,
      regenerate: false,
    };
    fleet.putAgent(record, turn);
    return { is: "new", agentId: record.agent_id };
  }

  async #takeReport(opened: Opened, relayPath: string[], source: string): Promise<Answer> {
    const { fleet, authFailures } = this.options;
    const arrived = performance.now();
    const former = opened.agentId === null ? null : fleet.topology.effective(opened.agentId);
    const parsed = parseReport(opened.data, former);
    if (!parsed.success) return this.#refuseSchema(opened, firstIssue(parsed.error));
    const report = parsed.data;
    // After the schema, which names the list that is too long: a 422 is set aside, and this would come again.
    if (opened.bytes.length > MAX_REPORT_BYTES) {
      return this.#refuse(opened, {
        status: 413,
        code: "too_large",
        message: `a report has at most ${MAX_REPORT_BYTES} bytes`,
      });
    }
    const skewed = this.#skewed(report.sent_at);
    if (skewed !== null) return this.#refuse(opened, skewed);
    if (relayPath.includes(report.agent_id)) return this.#refuse(opened, RELAY_LOOP);
    if (fleet.retired.has(report.agent_id)) {
      return this.#refuse(opened, { status: 410, code: "reset", message: "this id is retired: take a new identity" });
    }
    const agent = fleet.agents.get(report.agent_id);
    if (agent === undefined) {
      return this.#refuse(opened, { status: 404, code: "unknown_agent", message: "register first, then send again" });
    }
    if (!(await verifySignature(agent.public_key, opened.bytes, opened.envelope.sig))) {
      authFailures.note(source, this.#now());
      return this.#refuse(opened, {
        status: 401,
        code: "bad_signature",
        message: "sig: is not by the key that this agent registered",
      });
    }
    // Of agents that proved who they are: who holds an old key alone could name any, and any number of them.
    if (opened.pskIsOld) this.options.onOldPsk(agent.agent_id, this.#now());
    if (agent.blocked)
      return this.#refuse(opened, { status: 403, code: "blocked", message: "an administrator blocked this agent" });
    const receivedAt = this.#now();
    const outcome = await fleet.mutate((turn) => this.#report(opened, report, relayPath, receivedAt, turn));
    if (outcome !== "accepted") return this.#refuse(opened, outcome);
    fleet.ingestLagMs = performance.now() - arrived;
    return this.#answer(opened, 200, "accepted", "stored", {});
  }

  async #report(
    opened: Opened,
    report: Report,
    relayPath: string[],
    receivedAt: number,
    turn: Turn,
  ): Promise<"accepted" | Refusal> {
    const { fleet, store } = this.options;
    const { agent_id: agentId, tick } = report;
    const agent = fleet.agents.get(agentId);
    if (agent === undefined) return { status: 404, code: "unknown_agent", message: "register first, then send again" };
    if (agent.regenerate) {
      fleet.retireAgent(agentId, turn);
      return { status: 410, code: "reset", message: "an administrator asked for a new identity" };
    }
    const window = await fleet.window(agentId);
    const verdict = window.check(tick, report.nonce);
    if (verdict !== "fresh") {
      const same = (row: { agent_id: string; tick: number; boot_id: string; collected_at: number }) =>
        row.agent_id === agentId &&
        row.tick === tick &&
        row.boot_id === report.boot_id &&
        row.collected_at === report.collected_at;
      if (verdict !== "nonce_used") {
        const stored =
          (turn.batch.reports ?? []).some(same) ||
          (await store.hasReport(agentId, tick, report.boot_id, report.collected_at));
        if (stored) {
          return {
            status: 409,
            code: "replay",
            message: "this report was delivered already",
            extra: { duplicate: true, highest_tick: window.highest ?? 0 },
          };
        }
      }
      fleet.takeAlarms(fleet.alarms.onReplay(agentId, { tick, verdict }, turn.now), turn);
      const highest_tick = window.highest ?? 0;
      return verdict === "tick_stale"
        ? {
            status: 409,
            code: "stale_tick",
            message: `tick ${tick} is ${highest_tick - tick} below the highest: send it under a fresh one`,
            extra: { duplicate: false, highest_tick },
          }
        : {
            status: 409,
            code: "replay",
            message: verdict === "tick_seen" ? `tick ${tick} was used by another report` : "this nonce was used",
            extra: { duplicate: false, highest_tick },
          };
    }
    const age = report.age_ms ?? report.sent_at - report.collected_at;
    const row: ReportRow = {
      agent_id: agentId,
      tick,
      boot_id: report.boot_id,
      nonce: report.nonce,
      collected_at: report.collected_at,
      received_at: receivedAt,
      observed_at: Math.max(0, receivedAt - Math.max(0, age)),
      relay_path: relayPath,
      data: opened.envelope.data,
      hmac: opened.envelope.hmac,
      sig: opened.envelope.sig!,
    };
    fleet.takeReport(row, report, window, turn);
    return "accepted";
  }

  #skewed(sentAt: number): Refusal | null {
    const skew = sentAt - this.#now();
    if (Math.abs(skew) <= MAX_SKEW_MS) return null;
    return {
      status: 401,
      code: "clock_skew",
      message: `sent_at is ${Math.round(Math.abs(skew) / 1000)} s ${skew > 0 ? "ahead of" : "behind"} the manager's clock: at most ${MAX_SKEW_MS / 1000} s`,
    };
  }

  #refuseSchema(opened: Opened, issue: { field: string; message: string }): Promise<Answer> {
    return this.#refuse(opened, {
      status: 422,
      code: "schema",
      message: `${issue.field}: ${issue.message}`,
      extra: { field: issue.field },
    });
  }

  #refuse(opened: Opened, refusal: Refusal): Promise<Answer> {
    return this.#answer(opened, refusal.status, refusal.code, refusal.message, refusal.extra ?? {}, refusal.retryAfter);
  }

  /** The signed ack, MACed with the key that verified the request. */
  async #answer(
    opened: Opened,
    status: number,
    code: string,
    message: string,
    extra: Partial<Ack>,
    retryAfter?: number,
  ): Promise<Answer> {
    this.answers.set(code, (this.answers.get(code) ?? 0) + 1);
    const ack: Ack = {
      v: 1,
      type: "ack",
      code,
      message,
      nonce: opened.nonce,
      agent_id: opened.agentId,
      tick: opened.tick,
      server_time_at: this.#now(),
      ...extra,
    };
    const body = await seal(JSON.stringify(ack), opened.psk, this.options.key);
    return { status, body, ...(retryAfter === undefined ? {} : { retryAfter }) };
  }
}
