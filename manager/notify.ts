// Owns telling the world: each receiver has a cursor into the stored transitions, and a loop that gathers what lies beyond
// it into messages, sends them, and moves the cursor once they are taken. Nothing is lost by an outage or a restart.
import { createHash } from "node:crypto";
import type { Log } from "../shared/log.ts";
import { unreachable } from "../shared/unreachable.ts";
import type { AlarmRow } from "./model.ts";
import { alertOf, type Body, bodyOf, gather, type Message, type Told } from "./notify/messages.ts";
import { parseReceivers, type Receiver } from "./notify/receivers.ts";
import type { Store } from "./store/store.ts";

/** A fault's alarms come within this of each other: they are gathered before anything is said. */
const SETTLE_MS = 5000;
const POLL_MS = 1000;
/** A receiver that has not answered by then is asked again later. */
const TIMEOUT_MS = 10_000;
const RETRY_FIRST_MS = 1000;
const RETRY_LAST_MS = 5 * 60_000;
/** What could not be told for so long is old news. */
const MAX_AGE_MS = 24 * 3_600_000;
/** Transitions in one round. */
const ROUND = 500;
/** Open alarms that a round knows of: what hangs beneath a root is named from these. */
const OPEN_LIMIT = 1000;
/** Alertmanager forgets alerts that are not repeated: Prometheus repeats them every minute. */
const REPEAT_MS = 60_000;
const MAX_ANSWER_BYTES = 64 * 1024;

export type NotifierOptions = {
  /** NOTIFY_URL, split. */
  urls: readonly string[];
  store: Pick<Store, "transitionsAfter" | "alarm" | "alarms" | "meta" | "commit">;
  log: Log;
  now?: () => number;
  /** Tests shorten them. */
  settleMs?: number;
  pollMs?: number;
  timeoutMs?: number;
  retryFirstMs?: number;
  repeatMs?: number;
};

/** What a receiver made of a message. `refused`: it will never take this one. */
type Answer = { ok: true; answer: string } | { ok: false; refused: boolean; answer: string; waitMs: number | null };

/** Kept per receiver: everything up to `sequence` is told, and beyond it those in `told`. */
type Cursor = { sequence: number; told: number[] };

export class Notifier {
  readonly #receivers: Receiver[];
  readonly #ended = new AbortController();
  #loops: Promise<void>[] = [];

  /** @throws SettingError */
  constructor(private readonly options: NotifierOptions) {
    this.#receivers = parseReceivers(options.urls);
  }

  /** Reads the cursors and begins. A receiver that is new hears of what is open, not of the past. */
  async start(): Promise<void> {
    for (const [place, receiver] of this.#receivers.entries()) {
      const name = cursorName(this.options.urls[place]!);
      const stored = (await this.options.store.meta(name)) as Cursor | undefined | null;
      const cursor = stored ?? (await this.#beginning());
      if (stored === undefined || stored === null) await this.options.store.commit({ meta: { [name]: cursor } });
      this.#loops.push(this.#run(receiver, name, cursor));
    }
  }

  /** Ends the loops; what is on its way is given up and told again after the next start. */
  async stop(): Promise<void> {
    this.#ended.abort();
    await Promise.all(this.#loops);
    this.#loops = [];
  }

  /** Marks everything as told but the last word about alarms that are open. */
  async #beginning(): Promise<Cursor> {
    const { store } = this.options;
    const open = new Set((await store.alarms({ state: "open", limit: OPEN_LIMIT })).map((row) => row.id));
    const last = new Map<string, number>();
    const passed: number[] = [];
    let sequence = 0;
    for (;;) {
      const round = await store.transitionsAfter(sequence, ROUND);
      if (round.length === 0) break;
      for (const transition of round) {
        const before = last.get(transition.alarm_id);
        if (before !== undefined) passed.push(before);
        if (open.has(transition.alarm_id)) last.set(transition.alarm_id, transition.sequence);
        else passed.push(transition.sequence);
      }
      sequence = round.at(-1)!.sequence;
    }
    const wanted = [...last.values()];
    const from = wanted.length === 0 ? sequence : Math.min(...wanted) - 1;
    return { sequence: from, told: passed.filter((told) => told > from) };
  }

  async #run(receiver: Receiver, name: string, cursor: Cursor): Promise<void> {
    const { log, now = Date.now, settleMs = SETTLE_MS, pollMs = POLL_MS, repeatMs = REPEAT_MS } = this.options;
    const signal = this.#ended.signal;
    let state = cursor;
    let seenAt: number | null = null;
    let repeatedAt = 0;
    let failures = 0;
    while (!signal.aborted) {
      try {
        const round = await this.options.store.transitionsAfter(state.sequence, ROUND);
        const told = new Set(state.told);
        const waiting = round.filter(({ sequence }) => !told.has(sequence));
        if (waiting.length === 0 && round.length > 0) {
          state = await this.#advance(name, state, round, round);
          continue;
        }
        if (waiting.length === 0) seenAt = null;
        else seenAt ??= performance.now();
        if (receiver.kind === "alertmanager" && performance.now() - repeatedAt >= repeatMs) {
          const answer = await this.#repeat(receiver, now());
          if (answer !== null && !answer.ok) {
            if (!answer.refused) throw new Unsent(answer);
            // What is new may pass all the same.
            log.error("notification_refused", { receiver: receiver.name, answer: answer.answer });
          }
          repeatedAt = performance.now();
        }
        if (seenAt !== null && performance.now() - seenAt >= settleMs) {
          for (const message of await this.#messages(waiting, receiver, now())) {
            const answer = await post(receiver, bodyOf(receiver, message, now()), this.options.timeoutMs, signal);
            if (!answer.ok && !answer.refused) throw new Unsent(answer);
            if (!answer.ok) {
              log.error("notification_refused", {
                receiver: receiver.name,
                answer: answer.answer,
                alarm: message.alarm.code,
                key: message.key,
              });
            }
            state = await this.#advance(name, state, message.transitions, round);
          }
          // What no message came of (rows that are gone, old news) is passed over.
          state = await this.#advance(name, state, waiting, round);
          seenAt = null;
        }
        if (failures > 0) log.info("notification_receiver_back", { receiver: receiver.name, failures });
        failures = 0;
        await sleep(pollMs, signal);
      } catch (error) {
        if (signal.aborted) return;
        failures++;
        const most = Math.min(RETRY_LAST_MS, (this.options.retryFirstMs ?? RETRY_FIRST_MS) * 2 ** (failures - 1));
        // Full jitter: receivers that come back are not met by everyone at once.
        const waitMs = Math.max(error instanceof Unsent ? (error.answer.waitMs ?? 0) : 0, most * Math.random());
        log.warning("notification_not_sent", {
          receiver: receiver.name,
          reason: error instanceof Unsent ? error.answer.answer : withoutUrl(unreachable(error), receiver),
          failures,
          next_try_in_s: Math.ceil(waitMs / 1000),
        });
        await sleep(waitMs, signal);
      }
    }
  }

  async #messages(waiting: readonly Told[], receiver: Receiver, now: number): Promise<Message[]> {
    const { store, log } = this.options;
    const news = waiting.filter((transition) => now - transition.at <= MAX_AGE_MS);
    if (news.length < waiting.length) {
      log.error("notifications_too_old", { receiver: receiver.name, transitions: waiting.length - news.length });
    }
    const alarms = new Map<string, AlarmRow>();
    for (const row of await store.alarms({ state: "open", limit: OPEN_LIMIT })) alarms.set(row.id, row);
    for (const { alarm_id: id } of news) {
      if (alarms.has(id)) continue;
      const found = await store.alarm(id);
      if (found !== null) alarms.set(id, found.alarm);
    }
    return gather(news, alarms);
  }

  /** Remembers that these are told; the cursor moves to before the first of the round that is not, else to the round's end. */
  async #advance(name: string, state: Cursor, told: readonly Told[], round: readonly Told[]): Promise<Cursor> {
    const done = new Set([...state.told, ...told.map((transition) => transition.sequence)]);
    const left = round.find(({ sequence: place }) => place > state.sequence && !done.has(place));
    const sequence = Math.max(state.sequence, left === undefined ? (round.at(-1)?.sequence ?? 0) : left.sequence - 1);
    if (done.size === state.told.length && sequence === state.sequence) return state;
    const next: Cursor = { sequence, told: [...done].filter((item) => item > sequence) };
    await this.options.store.commit({ meta: { [name]: next } });
    return next;
  }

  /** Alertmanager hears of every alarm that it was told of again and again, until it is over. */
  async #repeat(receiver: Receiver, now: number): Promise<Answer | null> {
    const rows = await this.options.store.alarms({ state: "open", limit: OPEN_LIMIT });
    const alerts = rows.filter((row) => row.memory["said"] === true).map((row) => alertOf(row, now));
    if (alerts.length === 0) return null;
    return post(receiver, { json: alerts, headers: {} }, this.options.timeoutMs, this.#ended.signal);
  }
}

class Unsent extends Error {
  constructor(readonly answer: Answer & { ok: false }) {
    super(answer.answer);
    this.name = "Unsent";
  }
}

/** The cursor belongs to the URL; the URL is a secret. */
function cursorName(url: string): string {
  return `notify_${createHash("sha256").update(url).digest("hex").slice(0, 16)}`;
}

async function post(receiver: Receiver, body: Body, timeoutMs = TIMEOUT_MS, signal?: AbortSignal): Promise<Answer> {
  const timeout = AbortSignal.timeout(timeoutMs);
  const failed = (answer: string): Answer => ({ ok: false, refused: false, answer, waitMs: null });
  let response: Response;
  try {
    response = await fetch(receiver.url, {
      method: "POST",
      redirect: "manual",
      body: JSON.stringify(body.json),
      headers: {
        "Content-Type": "application/json",
        "User-Agent": "kattila",
        "Accept-Encoding": "identity",
        ...(receiver.authorization === null ? {} : { Authorization: receiver.authorization }),
        ...body.headers,
      },
      signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
    });
    await discard(response);
  } catch (error) {
    if (timeout.aborted) return failed(`no answer within ${timeoutMs / 1000} s`);
    return failed(withoutUrl(unreachable(error), receiver));
  }
  const answer = `${response.status} ${response.statusText}`.trim();
  if (response.ok) return { ok: true, answer };
  if (response.status >= 300 && response.status < 400) return failed(`${answer}: redirects are not followed`);
  const seconds = Number(response.headers.get("Retry-After"));
  return {
    ok: false,
    // The message itself is at fault: the next one may pass. Everything else may be mended at the receiver.
    refused: [400, 413, 422].includes(response.status),
    answer,
    waitMs: Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds * 1000, RETRY_LAST_MS) : null,
  };
}

/** Reads an answer to its end, so that the connection can be used again; an endless one is cut. */
async function discard(response: Response): Promise<void> {
  let bytes = 0;
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    bytes += value.length;
    if (bytes > MAX_ANSWER_BYTES) return reader.cancel();
  }
}

/** Errors of fetch may quote the URL. */
function withoutUrl(text: string, receiver: Receiver): string {
  return text.replaceAll(receiver.url, receiver.name).replace(/https?:\/\/[^\s"']+/g, receiver.name);
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}

/**
 * Sends a test message to each receiver of NOTIFY_URL, and says what came back: `answer` is its status or why there was
 * none. For `manager -check-notify`.
 * @throws SettingError
 */
export function checkNotify(
  urls: readonly string[],
  now: number = Date.now(),
  timeoutMs: number = TIMEOUT_MS,
): Promise<{ receiver: string; ok: boolean; answer: string }[]> {
  const alarm: AlarmRow = {
    id: crypto.randomUUID(),
    code: "test",
    severity: "info",
    subject: "manager",
    agent_id: null,
    state: "open",
    message: "This is a test message of kattila: notifications arrive here.",
    since_at: now,
    opened_at: now,
    acknowledged_at: null,
    resolved_at: null,
    depends_on: [],
    details: {},
    flapping: false,
    memory: {},
  };
  const told: Told = {
    alarm_id: alarm.id,
    sequence: 0,
    at: now,
    from: "pending",
    to: "open",
    severity: "info",
    report: null,
    note: null,
    notify: true,
  };
  const message: Message = { key: `${alarm.id}-0`, alarm, transitions: [told], effects: [] };
  return Promise.all(
    parseReceivers(urls).map(async (receiver) => {
      const { ok, answer } = await post(receiver, bodyOf(receiver, message, now), timeoutMs);
      return { receiver: receiver.name, ok, answer };
    }),
  );
}
