// Owns the talk with the manager: the first answers, the stream and its coming back, the login, and what an operator asks for.
import type {
  AgentsResponse,
  Alarm,
  AlarmsResponse,
  ErrorResponse,
  Event,
  EventsResponse,
  HealthResponse,
  StreamEvents,
  TopologyResponse,
} from "../../shared/api.ts";
import { shownText } from "../../shared/text.ts";
import { Picture } from "./picture.ts";
import { BEFORE_MS } from "./situation.ts";
import type { Store } from "./store.ts";

/** Ages, rates and counters move without an event of the stream: they are asked for anew this often; a large network's
 * (its answer has tens of megabytes, and reading it holds the page up) every fifth minute. */
const REFRESH_MS = 30_000;
const LARGE_REFRESH_MS = 300_000;
const LARGE_EDGES = 5000;
/** After a stream that the manager refused; one that only broke off comes back by the browser's own hand, after 2 s. */
const RETRY_MS = 5000;
/** When the stream says that the picture is stale, it often says so again: the whole is asked for once. */
const STALE_MS = 2000;
/** An answer later than this is none. */
const TIMEOUT_MS = 20_000;
/** As many as one page of the API may hold. */
const PAGE = 1000;
/** Events kept in memory for the first screen. */
const MAX_EVENTS = 1000;

/** The manager said no: with its code and its remedy. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** The manager's JSON. Names in it are the hosts' own: what a page would obey instead of showing it (marks that turn the
 * direction of what stands beside them, invisible letters) is replaced here, once for all views. Of JSON's own text, which
 * escapes line breaks and controls, it changes nothing. */
export function parseShown(text: string): unknown {
  return JSON.parse(shownText(text));
}

/** Asks the manager for JSON. @throws Refusal with its words; TypeError or AbortError when it was not reached. */
export async function ask<T>(path: string, body?: unknown): Promise<T> {
  const response = await fetch(path, {
    signal: AbortSignal.timeout(TIMEOUT_MS),
    ...(body === undefined
      ? {}
      : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
  });
  const answer = await response
    .text()
    .then(parseShown)
    .catch(() => null);
  // 503 of the healthcheck is an answer too: it says what is wrong.
  if (response.ok || (answer !== null && typeof answer === "object" && "database" in answer)) return answer as T;
  const { error, message } = (answer ?? {}) as Partial<ErrorResponse>;
  throw new Refusal(response.status, error ?? "failed", message ?? `the manager answered ${response.status}`);
}

export function words(error: unknown): string {
  if (error instanceof Refusal) return error.message;
  return "the manager does not answer";
}

/** Why something was not done, and whether a login would help. */
export type Hindrance = { words: string; login: boolean };

/** As `words`, of what needs the admin token: `action` is what the operator wanted to do. */
export function onlyAdmin(error: unknown, action: string): Hindrance {
  const login = error instanceof Refusal && (error.status === 401 || error.status === 403);
  return { words: login ? `Only the admin token may ${action}` : words(error), login };
}

export type Client = {
  login(token: string): Promise<void>;
  logout(): Promise<void>;
  /** Shows the login: an operator who may read wants to act. */
  askForLogin(): void;
  acknowledge(alarm: Alarm): Promise<void>;
  /** Whether a foreign peer is to be there. The stream brings the change. */
  expectPeer(publicKey: string, expected: boolean): Promise<void>;
  /** Shows a past moment, or now again (null). */
  showAt(at: number | null): Promise<void>;
  refresh(): Promise<void>;
};

export function startClient(store: Store): Client {
  let stream: EventSource | null = null;
  let greeted = false;
  let retry: ReturnType<typeof setTimeout> | null = null;
  let stale: ReturnType<typeof setTimeout> | null = null;
  let shownAt: number | null = null;
  let refreshedAt = 0;
  // Changes that arrive while a whole answer is on its way: they are newer than it, or do no harm.
  let waiting: StreamEvents["topology"][] | null = null;

  const failed = (error: unknown) => {
    if (error instanceof Refusal && (error.status === 401 || error.status === 421)) {
      stream?.close();
      stream = null;
      store.set({ phase: "login", live: false, problem: null });
      return;
    }
    const { phase } = store.get();
    store.set({ problem: words(error), phase: phase === "ready" ? "ready" : "failed" });
    later();
  };

  const later = () => {
    retry ??= setTimeout(() => {
      retry = null;
      if (store.get().phase !== "login") void begin();
    }, RETRY_MS);
  };

  const refresh = async () => {
    waiting ??= [];
    const [agents, topology, health] = await Promise.all([
      ask<AgentsResponse>("/status/agents"),
      ask<TopologyResponse>("/status/topology"),
      ask<HealthResponse>("/status/healthcheck"),
    ]);
    const { picture } = store.get();
    picture.replace(topology);
    for (const change of waiting ?? []) if (change.at >= topology.at) picture.apply(change);
    waiting = null;
    refreshedAt = Date.now();
    store.set({
      agents: agents.agents,
      health,
      version: health.version,
      clockOffset: agents.server_time_at - Date.now(),
      problem: null,
    });
  };

  /** Once for all that is stale within a moment. */
  const refreshSoon = () => {
    stale ??= setTimeout(() => {
      stale = null;
      // A hidden page asks for all when it is shown again.
      if (!document.hidden) void refresh().catch(failed);
    }, STALE_MS);
  };

  const refreshAlarms = async () => {
    const { alarms } = await ask<AlarmsResponse>(`/status/alarms?state=open&limit=${PAGE}`);
    store.set({ alarms: new Map(alarms.map((alarm) => [alarm.id, alarm])) });
  };

  /** After `refresh`, which knows the manager's clock. Two hours: the hour before a cause of the last hour. */
  const refreshEvents = async () => {
    const from = Math.max(0, Math.round(store.now() - 2 * BEFORE_MS));
    const { events } = await ask<EventsResponse>(`/status/events?limit=${PAGE}&from=${from}`);
    store.set({ events });
  };

  const begin = async () => {
    try {
      listen();
      // Ready only with the alarms: a page that says "nothing is wrong" for a moment lies.
      await Promise.all([refresh().then(refreshEvents), refreshAlarms()]);
      store.set({ phase: "ready" });
    } catch (error) {
      failed(error);
    }
  };

  const lost = () => {
    const { lostAt } = store.get();
    store.set({ live: false, lostAt: lostAt ?? Date.now() });
  };

  const listen = () => {
    if (stream !== null && stream.readyState !== EventSource.CLOSED) return;
    stream = new EventSource("/status/stream");
    const on = <Name extends keyof StreamEvents>(name: Name, take: (data: StreamEvents[Name]) => void) =>
      stream!.addEventListener(name, (message) =>
        take(parseShown((message as MessageEvent<string>).data) as StreamEvents[Name]),
      );
    on("hello", ({ version, server_time_at: at, session }) => {
      store.set({ live: true, session, lostAt: null, version, clockOffset: at - Date.now(), problem: null });
      // What happened between two streams is in no event: ask for all of it.
      if (greeted) void Promise.all([refresh().then(refreshEvents), refreshAlarms()]).catch(failed);
      greeted = true;
    });
    on("topology", (change) => {
      if (change.stale) refreshSoon();
      if (waiting !== null) return void waiting.push(change);
      store.get().picture.apply(change);
      store.set({});
    });
    on("alarm", (alarm) => {
      const alarms = new Map(store.get().alarms);
      if (alarm.state === "resolved") alarms.delete(alarm.id);
      else alarms.set(alarm.id, alarm);
      store.set({ alarms });
    });
    on("event", (event: Event) => {
      store.set({ events: [event, ...store.get().events].slice(0, MAX_EVENTS) });
    });
    stream.addEventListener("error", () => {
      lost();
      if (stream?.readyState === EventSource.CLOSED) later();
    });
  };

  setInterval(() => {
    const { phase, picture } = store.get();
    if (document.hidden || phase !== "ready") return;
    if (picture.edges.size > LARGE_EDGES && Date.now() - refreshedAt < LARGE_REFRESH_MS) return;
    void refresh().catch(failed);
  }, REFRESH_MS);
  setInterval(() => {
    if (!document.hidden) store.set({ second: store.get().second + 1 });
  }, 1000);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && store.get().phase === "ready") void refresh().catch(failed);
  });

  void begin();
  return {
    async login(token) {
      await ask("/status/login", { token });
      // A local reader's stream stays open through a login: no `hello` tells.
      store.set({ phase: "loading", session: true });
      await begin();
    },
    async logout() {
      await ask("/status/logout", {});
      location.reload();
    },
    askForLogin: () => store.set({ phase: "login" }),
    async acknowledge(alarm) {
      const answer = await ask<Partial<Alarm>>(`/status/alarms/${encodeURIComponent(alarm.id)}/ack`, {});
      const alarms = new Map(store.get().alarms);
      // The stream may have told of its end before the answer came.
      if (answer.state === "resolved") alarms.delete(alarm.id);
      else if (alarms.has(alarm.id)) alarms.set(alarm.id, { ...alarms.get(alarm.id)!, ...answer });
      store.set({ alarms });
    },
    async expectPeer(publicKey, expected) {
      await ask("/status/admin/expect", { public_key: publicKey, expected });
    },
    async showAt(at) {
      shownAt = at;
      if (at === null) return store.set({ past: null });
      const topology = await ask<TopologyResponse>(`/status/topology?at=${at}`);
      // A later wish came meanwhile.
      if (shownAt === at) store.set({ past: new Picture(topology) });
    },
    refresh,
  };
}
