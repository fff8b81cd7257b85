// Owns the delivery of reports: which way, in which order, what an answer leads to (by table.ts), and when to try again.
// One message in flight; the outbox is drained oldest first.
import { newNonce, seal } from "../shared/envelope.ts";
import { type Log, reason } from "../shared/log.ts";
import type { PskSource } from "../shared/psk_source.ts";
import type { Ack, Envelope, Report } from "../shared/report.ts";
import { VERSION } from "../shared/version.ts";
import { type Discovery, peerUrl } from "./discover.ts";
import type { Identity } from "./identity.ts";
import type { Entry, Outbox } from "./outbox.ts";
import { type Action, actionFor } from "./table.ts";
import { exchange, type Exchange, readAnswer } from "./wire.ts";

/** A direct try, at most (1-protocol.md, Relay). */
const DIRECT_TIMEOUT_MS = 5000;
/** The originator's deadline for a relayed try; each hop's is shorter. */
const RELAY_TIMEOUT_MS = 15_000;
const MAX_RELAYS_TRIED = 3;
/** Asked, all at once, whether they are there before the first is tried. */
const RELAYS_ASKED = 8;
const HEALTH_TIMEOUT_MS = 3000;
const BACKOFF_FIRST_MS = 1000;
const BACKOFF_LAST_MS = 60_000;
/** A manager that asks for more patience than this is not obeyed further. */
const RETRY_AFTER_LAST_S = 600;
/** After this the newest PSK is tried again beside an older one that was taken: the manager asked its source at the refusal.
 * Well below the 2 hours of psk_old, and seldom enough that it is no auth_failure. */
const OLDER_PSK_MS = 1_800_000;
/** Answers that lead to another try of the same message: clock, key, registration, tick, identity. */
const MAX_STEPS = 8;

export type DeliveryOptions = {
  identity: Identity;
  outbox: Outbox;
  psk: PskSource;
  discovery: Discovery;
  managerUrls: readonly string[];
  tlsCa: string | null;
  /** Agents of one fleet listen on one port. */
  relayPort: number;
  intervalSeconds: number;
  hostname(): string;
  /** The newest WireGuard and interface sections: where relays may be. */
  kernel(): Pick<Report, "wireguard" | "interfaces">;
  /** Milliseconds since boot by the kernel, and the boot's id: an age within one boot is by these. */
  uptime(): Promise<{ bootId: string; uptimeMs: number | null }>;
  log: Log;
  now?: () => number;
};

export type Reached = { at: number; via: "direct" | "relay"; hops: number; address: string | null };

/** What the last try came to, in words; for -once and the healthcheck. */
export type LastAnswer = { action: Action; status: number; code: string; message: string; via: "direct" | "relay" };

type Message = { data: string; nonce: string };
type Way = { via: "direct"; url: string } | { via: "relay"; url: string; address: string; hops: number };
type Result = {
  action: Action;
  ack: Ack | null;
  answer: LastAnswer;
  retryAfterSeconds: number | null;
  way: Way | null;
};

export class Delivery {
  #reached: Reached | null = null;
  #lastAnswer: LastAnswer | null = null;
  #lastUrl = 0;
  #lastRelay: string | null = null;
  /** A relay works: it goes first until the manager answers its healthcheck directly. */
  #relayFirst = false;
  #clockOffsetMs = 0;
  #registered = false;
  /** The PSK that the manager took when it had refused our newest, and when that was. */
  #older: { psk: string; refused: string; at: number } | null = null;
  #failures = 0;
  #running: Promise<void> | null = null;
  #probe: Promise<void> | null = null;
  #timer: Timer | null = null;
  #stopped = false;
  #fresh: Entry | null = null;
  /** Resets since the start: what was under way then speaks for another identity. */
  #resets = 0;
  readonly #now: () => number;

  constructor(private readonly options: DeliveryOptions) {
    this.#now = options.now ?? Date.now;
  }

  /** The last true delivery; null: none since the start. */
  get reached(): Reached | null {
    return this.#reached;
  }

  get lastAnswer(): LastAnswer | null {
    return this.#lastAnswer;
  }

  /** Whether the manager took something within two intervals, by any way. */
  isReaching(): boolean {
    return this.#reached !== null && this.#now() - this.#reached.at < 2 * this.options.intervalSeconds * 1000;
  }

  /** Relays between this agent and the manager, as the last delivery went. */
  get hops(): number {
    return this.#reached?.hops ?? 0;
  }

  /** The relay that this agent's own reports go by now; null: they go directly. */
  get workingRelay(): string | null {
    return this.#relayFirst ? this.#lastRelay : null;
  }

  /** The manager's clock less this host's, where it is so far off that `sent_at` has to follow it; else 0. */
  get clockOffsetMs(): number {
    return this.#clockOffsetMs;
  }

  /** Manager URLs, last good first. */
  get urls(): string[] {
    const { managerUrls } = this.options;
    return managerUrls.map((_, i) => managerUrls[(this.#lastUrl + i) % managerUrls.length]!);
  }

  /** Takes a report. What cannot go at once is in the outbox when this resolves. */
  async offer(entry: Entry): Promise<void> {
    const { outbox } = this.options;
    const waits = this.#running !== null || this.#timer !== null || outbox.length > 0 || this.#fresh !== null;
    if (waits) outbox.push(entry);
    else this.#fresh = entry;
    if (this.#timer === null) this.#run();
    if (!waits) await this.#running;
  }

  /** A new identity: it has to register, and what was about to be sent is not its. */
  forget(): void {
    this.#resets++;
    this.#registered = false;
    this.#fresh = null;
  }

  /** Delivers what waits now, without timers: for -once. Resolves with whether all is delivered. */
  async flush(entry: Entry): Promise<boolean> {
    this.#stopped = true;
    if (this.options.outbox.length > 0) this.options.outbox.push(entry);
    else this.#fresh = entry;
    this.#run();
    await this.#running;
    return this.#fresh === null && this.options.outbox.length === 0;
  }

  /** Ends: what is in flight has until `deadlineMs`, what is not delivered is in the outbox. */
  async stop(deadlineMs: number): Promise<void> {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    await Promise.race([this.#running, Bun.sleep(deadlineMs)]);
    if (this.#fresh !== null) {
      this.options.outbox.push(this.#fresh);
      this.#fresh = null;
    }
  }

  #run(): void {
    this.#running ??= this.#drain()
      .catch((error: unknown) => {
        this.options.log.error("delivery_failed", { reason: reason(error) });
        if (this.#fresh !== null) {
          this.options.outbox.push(this.#fresh);
          this.#fresh = null;
        }
        this.#wait(null);
      })
      .finally(() => {
        this.#running = null;
      });
  }

  async #drain(): Promise<void> {
    const { outbox, log } = this.options;
    for (;;) {
      if (this.#relayFirst) this.#probeDirect();
      const fromOutbox = outbox.length > 0;
      const entry = fromOutbox ? outbox.peek() : this.#fresh;
      if (entry === null) return;
      const resets = this.#resets;
      const result = await this.#send(entry, fromOutbox);
      if (resets !== this.#resets) continue;
      if (result.action === "delivered") {
        this.#failures = 0;
        if (fromOutbox) outbox.shift();
        else this.#fresh = null;
        continue;
      }
      if (result.action === "new_identity") {
        // What the old identity had to say is not ours any more.
        this.#fresh = null;
        continue;
      }
      if (!fromOutbox) {
        outbox.push(entry);
        this.#fresh = null;
      }
      if (result.action === "set_aside") {
        log.error("report_refused", { message: result.answer.message, effect: "set aside in agent_outbox/rejected" });
        outbox.setAside();
        continue;
      }
      const { status, code, message } = result.answer;
      log.warning("not_delivered", { status, code, message, waiting: outbox.length });
      this.#wait(result.retryAfterSeconds);
      return;
    }
  }

  /** Full jitter: a hundred agents do not come back at the same moment. */
  #wait(retryAfterSeconds: number | null): void {
    if (this.#stopped) return;
    const last = Math.min(this.options.intervalSeconds * 1000, BACKOFF_LAST_MS);
    const ceiling = Math.min(last, BACKOFF_FIRST_MS * 2 ** Math.min(this.#failures++, 10));
    const asked = Math.min(retryAfterSeconds ?? 0, RETRY_AFTER_LAST_S) * 1000;
    const delay = asked + Math.random() * ceiling;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#run();
    }, delay);
  }

  // --- one message

  async #send(entry: Entry, fromOutbox: boolean): Promise<Result> {
    const { psk } = this.options;
    const tried = new Set<string>();
    let last: Result | null = null;
    let registrations = 0;
    const resets = this.#resets;
    for (let step = 0; step < MAX_STEPS; step++) {
      if (resets !== this.#resets) break;
      const key = this.#signingPsk(tried);
      if (key === null) {
        if (last !== null) return last;
        void psk.refreshAfterFailure();
        return this.#nothing("no PSK: nothing can be signed yet");
      }
      if (!this.#registered && registrations++ < 2) {
        const registered = await this.#register(key);
        if (resets !== this.#resets) break;
        if (registered.action !== "registered") {
          const next = await this.#after(registered, entry, fromOutbox, tried, key);
          if (next === "again") continue;
          return registered;
        }
      }
      const message = await this.#stamp(entry);
      const result = await this.#deliver(message, key);
      if (resets !== this.#resets) break;
      last = result;
      if (result.action === "delivered") {
        const { current } = psk;
        if (key === current) this.#older = null;
        else if (current !== null && tried.has(current)) this.#older = { psk: key, refused: current, at: this.#now() };
        this.#reached = {
          at: this.#now(),
          via: result.answer.via,
          hops: result.way?.via === "relay" ? result.way.hops + 1 : 0,
          address: result.way?.via === "relay" ? result.way.address : null,
        };
        return result;
      }
      const next = await this.#after(result, entry, fromOutbox, tried, key);
      if (next === "again") continue;
      return result;
    }
    return last ?? this.#nothing("gave up after too many answers, or a reset");
  }

  /** Does what an answer asks for. "again": the same message may go once more. */
  async #after(
    result: Result,
    entry: Entry,
    fromOutbox: boolean,
    tried: Set<string>,
    key: string,
  ): Promise<"again" | "done"> {
    const { identity, outbox, psk, log } = this.options;
    const { action, ack } = result;
    switch (action) {
      case "set_clock":
        this.#clockOffsetMs = (ack?.server_time_at ?? this.#now()) - this.#now();
        log.warning("clock_offset", {
          offset_ms: Math.round(this.#clockOffsetMs),
          effect: "sent_at follows the manager's clock; set this host's",
        });
        return "again";
      case "refresh_psk": {
        const before = psk.current;
        if (tried.size === 0) await psk.refreshAfterFailure();
        if (psk.current !== before) return "again";
        tried.add(key);
        return this.#signingPsk(tried) === null ? "done" : "again";
      }
      case "register":
        this.#registered = false;
        return "again";
      case "adopt_id":
        if (typeof ack?.agent_id === "string") identity.adopt(ack.agent_id);
        this.#registered = false;
        return "again";
      case "fresh_tick":
        entry.report.tick = await identity.nextTick(Math.max(ack?.highest_tick ?? 0, identity.lastTick));
        if (fromOutbox) outbox.replace(entry);
        return "again";
      case "new_identity":
        // First: a kill between the two must not leave the old identity's reports to the new one.
        outbox.clear();
        await identity.renew();
        this.#registered = false;
        log.error("new_identity", { agent_id: identity.agentId, reason: "the manager asked for it" });
        return "done";
      case "learn_manager":
        // Over a direct way alone, and only by registering anew.
        this.#registered = false;
        return (await this.#relearn(key)) ? "again" : "done";
      default:
        return "done";
    }
  }

  /** The newest key that was not refused; for a while, an older one that was taken in its place goes first. */
  #signingPsk(tried: ReadonlySet<string>): string | null {
    const { psks, current } = this.options.psk;
    const older = this.#older;
    if (older !== null && older.refused === current && psks.includes(older.psk) && !tried.has(older.psk)) {
      const sinceMs = this.#now() - older.at;
      if (sinceMs >= 0 && sinceMs < OLDER_PSK_MS) return older.psk;
    }
    return psks.find((candidate) => !tried.has(candidate)) ?? null;
  }

  async #stamp(entry: Entry): Promise<Message> {
    const { bootId, uptimeMs } = await this.options.uptime();
    const sameBoot = entry.uptime_ms !== null && uptimeMs !== null && entry.report.boot_id === bootId;
    const age = sameBoot ? uptimeMs - entry.uptime_ms! : this.#now() - entry.report.collected_at;
    const nonce = newNonce();
    const data = JSON.stringify({
      ...entry.report,
      agent_id: this.options.identity.agentId,
      nonce,
      sent_at: Math.round(this.#now() + this.#clockOffsetMs),
      age_ms: Math.max(0, Math.round(age)),
    });
    return { data, nonce };
  }

  /** Stamps and signs a report as it would be sent now: for -dump. */
  async sealed(entry: Entry): Promise<Envelope> {
    const { data } = await this.#stamp(entry);
    return seal(data, this.options.psk.current!, this.options.identity.key);
  }

  #registerMessage(): Message {
    const { identity } = this.options;
    const nonce = newNonce();
    const data = JSON.stringify({
      v: 1,
      type: "register",
      agent_id: identity.agentId,
      nonce,
      sent_at: Math.round(this.#now() + this.#clockOffsetMs),
      hostname: this.options.hostname(),
      agent_version: VERSION,
      public_key: identity.key.publicKey,
    });
    return { data, nonce };
  }

  async #register(key: string): Promise<Result> {
    const { identity, log } = this.options;
    const resets = this.#resets;
    const result = await this.#deliver(this.#registerMessage(), key, "/status/register");
    if (result.action !== "registered" || resets !== this.#resets) return result;
    if (typeof result.ack?.manager_key === "string") identity.pinManager(result.ack.manager_key);
    if (typeof result.ack?.agent_id === "string") identity.adopt(result.ack.agent_id);
    this.#registered = true;
    log.info("registered", { agent_id: identity.agentId, status: result.answer.status, via: result.answer.via });
    return result;
  }

  /** Registers directly and believes the key that the ack brings: only who holds the PSK can answer so. */
  async #relearn(key: string): Promise<boolean> {
    const { identity } = this.options;
    for (const url of this.urls) {
      const message = this.#registerMessage();
      const answer = await this.#exchange({ via: "direct", url }, message, key, "/status/register");
      if (!answer.ok) continue;
      const read = await readAnswer(answer.body, message.nonce, this.options.psk.psks, null);
      const brought = read.ack?.manager_key;
      if (
        read.trust === "manager" &&
        typeof brought === "string" &&
        // The codes that bring it; a clock that is off is set by the same answer to the try that follows.
        (read.code === "registered" || read.code === "id_conflict" || read.code === "clock_skew")
      )
        return identity.pinManager(brought);
    }
    return false;
  }

  // --- the ways

  /** Tries the ways in their order until an answer decides. */
  async #deliver(
    message: Message,
    key: string,
    path: "/status/updates" | "/status/register" = "/status/updates",
  ): Promise<Result> {
    let last: Result | null = null;
    const tryRelays = async (): Promise<Result | null> => {
      const { discovery } = this.options;
      const known = () =>
        discovery.there(discovery.relays(this.options.kernel(), this.#lastRelay).slice(0, RELAYS_ASKED));
      let relays = await known();
      if (relays.length === 0) {
        await discovery.round(this.options.kernel());
        relays = await known();
      }
      let refused: Result | null = null;
      for (const relay of relays.slice(0, MAX_RELAYS_TRIED)) {
        const way: Way = {
          via: "relay",
          url: peerUrl(relay.address, this.options.relayPort, "/status/relay"),
          address: relay.address,
          hops: relay.hops ?? 0,
        };
        const result = await this.#try(way, message, key, path);
        last = result;
        if (result.action === "next_way") {
          discovery.failed(relay.address);
          continue;
        }
        if (result.action === "refresh_psk") {
          // Our PSK may be old, or this relay's is, or it lies: the others are heard as well.
          refused ??= result;
          continue;
        }
        this.#lastRelay = relay.address;
        if (result.action === "delivered" || result.action === "registered") this.#relayFirst = true;
        return result;
      }
      return refused;
    };
    if (this.#relayFirst) {
      const relayed = await tryRelays();
      if (relayed !== null) return relayed;
      this.#relayFirst = false;
    }
    const { managerUrls } = this.options;
    for (const url of this.urls) {
      const result = await this.#try({ via: "direct", url }, message, key, path);
      last = result;
      if (result.action === "next_way") continue;
      this.#lastUrl = managerUrls.indexOf(url);
      if (result.action === "delivered" || result.action === "registered") this.#relayFirst = false;
      return result;
    }
    return (await tryRelays()) ?? last ?? this.#nothing("there is no way to the manager");
  }

  async #try(way: Way, message: Message, key: string, path: string): Promise<Result> {
    const answer = await this.#exchange(way, message, key, path);
    const settle = (
      action: Action,
      status: number,
      code: string,
      text: string,
      ack: Ack | null,
      retryAfterSeconds: number | null,
    ): Result => {
      this.#lastAnswer = { action, status, code, message: text, via: way.via };
      return { action, ack, answer: this.#lastAnswer, retryAfterSeconds, way };
    };
    if (!answer.ok) {
      return settle(
        actionFor({ status: 0, code: "", trust: "nobody", way: way.via, duplicate: false }),
        0,
        "",
        `${way.via === "direct" ? way.url : way.address}: ${answer.reason}`,
        null,
        null,
      );
    }
    const { psk, identity } = this.options;
    const read = await readAnswer(answer.body, message.nonce, psk.psks, identity.managerKey);
    const action = actionFor({
      status: answer.status,
      code: read.code,
      trust: read.trust,
      way: way.via,
      duplicate: read.ack?.duplicate === true,
    });
    return settle(action, answer.status, read.code, read.message, read.ack, answer.retryAfterSeconds);
  }

  async #exchange(way: Way, message: Message, key: string, path: string): Promise<Exchange> {
    const envelope = await seal(message.data, key, this.options.identity.key);
    if (way.via === "direct") {
      const timeoutMs = Math.min(this.options.intervalSeconds * 1000, DIRECT_TIMEOUT_MS);
      return exchange(`${way.url}${path}`, { body: JSON.stringify(envelope), timeoutMs, tlsCa: this.options.tlsCa });
    }
    const hop = await relayEnvelope(
      envelope,
      [],
      this.options.identity.agentId,
      key,
      this.#now() + this.#clockOffsetMs,
    );
    return exchange(way.url, { body: JSON.stringify(hop), timeoutMs: RELAY_TIMEOUT_MS });
  }

  /** Asks the manager's healthcheck beside what goes by a relay: once it answers, the next message goes directly. */
  #probeDirect(): void {
    this.#probe ??= (async () => {
      for (const url of this.urls) {
        const answer = await exchange(`${url}/status/healthcheck`, {
          method: "GET",
          timeoutMs: HEALTH_TIMEOUT_MS,
          tlsCa: this.options.tlsCa,
        });
        if (!answer.ok || answer.status !== 200) continue;
        this.#relayFirst = false;
        this.#lastUrl = this.options.managerUrls.indexOf(url);
        return;
      }
    })().finally(() => {
      this.#probe = null;
    });
  }

  #nothing(message: string): Result {
    const answer: LastAnswer = { action: "keep", status: 0, code: "", message, via: "direct" };
    this.#lastAnswer = answer;
    return { action: "keep", ack: null, answer, retryAfterSeconds: null, way: null };
  }
}

/** The envelope of one relay hop; MAC only: the path is what relays claim. */
export function relayEnvelope(
  inner: Envelope,
  relayPath: readonly string[],
  senderId: string,
  psk: string,
  sentAt: number,
): Promise<Envelope> {
  const data = JSON.stringify({
    v: 1,
    type: "relay",
    agent_id: senderId,
    nonce: newNonce(),
    sent_at: Math.round(sentAt),
    relay_path: relayPath,
    envelope: inner,
  });
  return seal(data, psk, null);
}
