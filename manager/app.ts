// Owns the manager's routes and nothing else: each checks its input, asks who knows, and answers. Access is denied unless
// a route says otherwise; 405 comes from the same table.
import { Hono } from "hono";
import { BodySpace } from "../shared/body_space.ts";
import type { AgentsResponse, AlarmsResponse, EventsResponse, HealthResponse } from "../shared/api.ts";
import { LAYERS } from "../shared/api.ts";
import { type Log, reason } from "../shared/log.ts";
import { canonicalAddress } from "../shared/net.ts";
import type { PskSource } from "../shared/psk_source.ts";
import { agentIdSchema, MAX_BODY_BYTES } from "../shared/report.ts";
import {
  type Access,
  clientAddress,
  cookie,
  type RequestFacts,
  type Role,
  SESSION_COOKIE,
  SESSION_MS,
} from "./access.ts";
import { sourceOf } from "./auth_failures.ts";
import { acknowledge, type AdminOptions, adminReset, expectPeer, silence } from "./admin.ts";
import { dot } from "./export/dot.ts";
import { mermaid } from "./export/mermaid.ts";
import { netjson } from "./export/netjson.ts";
import type { Fleet } from "./fleet.ts";
import { edgeHistory } from "./history.ts";
import {
  errorResponse,
  HttpError,
  json,
  jsonList,
  NO_PAGE,
  query,
  readBody,
  readObject,
  refuseDeclared,
} from "./http.ts";
import { type Answer, type Ingest, RETRY_AFTER_S } from "./ingest.ts";
import { type Store, StoreError } from "./store/store.ts";
import type { Stream } from "./stream.ts";
import { diff } from "./topology/diff.ts";
import { tracePath } from "./topology/path.ts";
import { withSegments } from "./topology/segments.ts";
import type { AlarmRow } from "./model.ts";
import { agentDetail, agentSummary, filterTopology } from "./views.ts";

/** What Bun.serve gives each request beside it. */
export type Bindings = { remote: string; tls: boolean; keepOpen(request: Request): void };
type Context = { request: Request; url: URL; facts: RequestFacts; bindings: Bindings; parameter(name: string): string };
type Handler = (context: Context) => Response | Promise<Response>;

export type AppOptions = {
  fleet: Fleet;
  store: Store;
  ingest: Ingest;
  access: Access;
  psk: PskSource;
  stream: Stream;
  admin: AdminOptions;
  log: Log;
  version: string;
  startedAt: number;
  /** The dashboard's files by path, each with its headers. */
  assets: ReadonlyMap<string, { body: Uint8Array<ArrayBuffer>; headers: Record<string, string> }>;
  /** Prometheus text. */
  metrics(now: number): Promise<string>;
  now?: () => number;
};

/** A picture with more edges is written piece by piece. */
const MANY_EDGES = 2000;
/** A listing's page: at least 1, at most 1,000 rows, 100 unless told. */
const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1000;
/** Of bodies over 64 KiB that are still arriving: eight of the largest, or a hundred reports of a mesh of 1,000. */
const BODY_SPACE_BYTES = 32 * 1024 * 1024;
/** Bad tokens from one address within a minute, before it has to wait. */
const MAX_LOGIN_FAILURES = 10;
const LOGIN_WINDOW_MS = 60_000;

function alarmOf(row: AlarmRow, silenced: boolean): AlarmsResponse["alarms"][number] {
  const { since_at: _since, memory: _memory, state, ...rest } = row;
  return { ...rest, state: state === "pending" ? "open" : state, silenced };
}

export function createApp(options: AppOptions): Hono<{ Bindings: Bindings }> {
  const { fleet, store, ingest, access, psk, stream, log } = options;
  const now = options.now ?? Date.now;
  const app = new Hono<{ Bindings: Bindings }>();
  const bodies = new BodySpace(BODY_SPACE_BYTES);
  const routes: { method: string; pattern: RegExp; path: string }[] = [];

  const factsOf = (request: Request, bindings: Bindings): RequestFacts => ({
    remote: bindings.remote,
    method: request.method,
    header: (name) => request.headers.get(name),
  });

  // Bun refuses most malformed framing itself; it joins repeated headers and lets equal lengths and two Hosts through.
  // Without a usable Host (HTTP/1.0, `Host: a b`) the request's URL is no URL. A body that is too large is refused on every path.
  app.use(async (c, next) => {
    const { headers, url } = c.req.raw;
    const length = headers.get("content-length");
    if (length !== null && !/^[0-9]+$/.test(length))
      throw new HttpError(400, "malformed", "Content-Length: send one number, once", { Connection: "close" });
    if (headers.get("host")?.includes(",") === true || !URL.canParse(url))
      throw new HttpError(400, "malformed", "Host: send one name or address, once", { Connection: "close" });
    await refuseDeclared(c.req.raw, MAX_BODY_BYTES);
    await next();
  });

  /** Adds a route. `needs` null: open to all. */
  const route = (method: "GET" | "POST", path: string, needs: Role | null, handler: Handler) => {
    routes.push({ method, path, pattern: new RegExp(`^${path.replace(/\./g, "\\.").replace(/:[a-z]+/g, "[^/]+")}$`) });
    app.on(method, path, (c) => {
      const request = c.req.raw;
      const facts = factsOf(request, c.env);
      if (needs !== null) {
        const decision = access.decide(facts, needs, now());
        if (!decision.ok) {
          const headers: Record<string, string> =
            decision.status === 401 ? { "WWW-Authenticate": 'Bearer realm="kattila"' } : {};
          throw new HttpError(decision.status, decision.code, decision.message, headers);
        }
      }
      return handler({
        request,
        get url() {
          return new URL(request.url);
        },
        facts,
        bindings: c.env,
        parameter: (name) => c.req.param(name) ?? "",
      });
    });
  };

  // --- agents speak

  const signed =
    (endpoint: "updates" | "register"): Handler =>
    async ({ request, facts }) => {
      const body = await readBody(request, MAX_BODY_BYTES, bodies);
      const answer: Answer = await ingest.take(endpoint, body, clientAddress(facts, access.settings.trustedProxies));
      return json(
        answer.status,
        answer.body,
        answer.retryAfter === undefined ? {} : { "Retry-After": String(answer.retryAfter) },
      );
    };
  route("POST", "/status/updates", null, signed("updates"));
  route("POST", "/status/register", null, signed("register"));

  // --- everybody

  route("GET", "/status/healthcheck", null, async () => {
    const health = await store.health();
    const { confirmed_at: confirmedAt } = psk.status;
    const body: HealthResponse = {
      status: health === "ok" ? "ok" : "failing",
      version: options.version,
      uptime_s: Math.round((now() - options.startedAt) / 1000),
      database: health,
      psk_age_s: confirmedAt === null ? null : Math.max(0, Math.round((now() - confirmedAt) / 1000)),
      last_report_at: fleet.lastReportAt,
      ingest_lag_ms: fleet.ingestLagMs === null ? null : Math.round(fleet.ingestLagMs),
    };
    return json(health === "ok" ? 200 : 503, body, health === "ok" ? {} : { "Retry-After": String(RETRY_AFTER_S) });
  });

  const loginFailures = new Map<string, { count: number; since: number }>();
  route("POST", "/status/login", null, async ({ request, facts, bindings }) => {
    const address = clientAddress(facts, access.settings.trustedProxies);
    const source = sourceOf(address);
    // First the body: of many whose bodies come late and together, each must see the failures of those before it.
    const body = await readBody(request, 4096, bodies);
    const failures = loginFailures.get(source);
    const recent = failures !== undefined && now() - failures.since < LOGIN_WINDOW_MS ? failures : null;
    if (recent !== null && recent.count >= MAX_LOGIN_FAILURES) {
      throw new HttpError(429, "too_many", "too many wrong tokens: wait a minute", { "Retry-After": "60" });
    }
    const { token } = readObject(body);
    if (typeof token !== "string") throw new HttpError(422, "schema", "token: must be a string");
    const login = access.login(token.trim(), now());
    if (login === null) {
      if (loginFailures.size > 1000) loginFailures.clear();
      loginFailures.set(source, { count: (recent?.count ?? 0) + 1, since: recent?.since ?? now() });
      throw new HttpError(401, "unauthenticated", "this is neither READ_TOKEN nor ADMIN_TOKEN");
    }
    await fleet.mutate((turn) => void (turn.batch.meta = { ...turn.batch.meta, sessions: access.dump() }));
    const forwardedTls = bindings.remote !== address && facts.header("x-forwarded-proto") === "https";
    const secure = bindings.tls || forwardedTls ? "; Secure" : "";
    return json(
      200,
      { role: login.role },
      {
        "Set-Cookie": `${SESSION_COOKIE}=${login.cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age=${SESSION_MS / 1000}${secure}`,
      },
    );
  });
  route("POST", "/status/logout", null, async ({ facts }) => {
    // Nothing is written for a stranger who has no session.
    if (access.logout(cookie(facts.header("cookie"), SESSION_COOKIE))) {
      stream.recheck();
      await fleet.mutate((turn) => void (turn.batch.meta = { ...turn.batch.meta, sessions: access.dump() }));
    }
    return json(
      200,
      { ok: true },
      { "Set-Cookie": `${SESSION_COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0` },
    );
  });

  // --- readers

  const summary = (agentId: string) => {
    const agent = fleet.agents.get(agentId);
    if (agent === undefined) throw new HttpError(404, "unknown_agent", "no agent has this id: see GET /status/agents");
    return agentSummary(
      agent,
      fleet.contacts.get(agentId) ?? null,
      fleet.topology.latest(agentId),
      fleet.topology.effective(agentId),
      now(),
    );
  };
  route("GET", "/status/agents", "read", () => {
    const body: AgentsResponse = { agents: [...fleet.agents.keys()].map(summary), server_time_at: now() };
    return json(200, body);
  });
  route("GET", "/status/agents/:id", "read", ({ parameter }) => {
    const id = parameter("id");
    return json(200, agentDetail(summary(id), fleet.topology.latest(id)));
  });

  const picture = async (url: URL) => {
    const asked = query(url);
    const at = asked.instant("at");
    const layer = asked.oneOf("layer", LAYERS);
    const network = asked.text("network");
    const whole =
      at === null || at >= now() ? fleet.topology.view(now()) : withSegments({ ...(await store.topologyAt(at)), at });
    if (network !== null && !whole.networks.some((item) => item.id === network)) {
      throw new HttpError(404, "unknown_network", "no network has this id: see networks in GET /status/topology");
    }
    return filterTopology(whole, layer, network);
  };
  route("GET", "/status/topology", "read", async ({ url }) => {
    if (url.search === "") {
      const { edges, edgeCount, ...rest } = fleet.topology.picture(now());
      return edgeCount > MANY_EDGES ? jsonList(rest, "edges", edges) : json(200, { ...rest, edges: [...edges] });
    }
    const { edges, ...rest } = await picture(url);
    return edges.length > MANY_EDGES ? jsonList(rest, "edges", edges) : json(200, { ...rest, edges });
  });
  route("GET", "/status/topology.json", "read", async ({ url }) => json(200, netjson(await picture(url))));
  const text = (type: string, body: string) =>
    new Response(body, { headers: { "Content-Type": `${type}; charset=utf-8`, ...NO_PAGE } });
  route("GET", "/status/topology.dot", "read", async ({ url }) => text("text/vnd.graphviz", dot(await picture(url))));
  route("GET", "/status/topology.mmd", "read", async ({ url }) =>
    text("text/vnd.mermaid", mermaid(await picture(url))),
  );
  route("GET", "/status/topology/diff", "read", async ({ url }) => {
    const asked = query(url);
    const from = asked.instant("from");
    if (from === null) throw new HttpError(400, "malformed", "from: give a moment in Unix milliseconds");
    const to = Math.min(asked.instant("to") ?? now(), now());
    if (from > to) throw new HttpError(400, "malformed", "from: must not lie after to");
    // As `?at=` shows the two: what it does not show is no difference.
    const shownAt = async (at: number) => withSegments({ ...(await store.topologyAt(at)), at });
    return json(200, diff(await shownAt(from), await shownAt(to)));
  });
  route("GET", "/status/edges/:id/history", "read", async ({ url, parameter }) => {
    const asked = query(url);
    const until = asked.instant("to") ?? now();
    const history = await edgeHistory(store, parameter("id"), asked.instant("from") ?? until - 86_400_000, until);
    if (history === null)
      throw new HttpError(404, "unknown_edge", "no edge has or had this id: see GET /status/topology");
    return json(200, history);
  });
  route("GET", "/status/path", "read", ({ url }) => {
    const asked = query(url);
    const from = asked.text("from");
    const to = asked.text("to");
    if (from === null || to === null)
      throw new HttpError(400, "malformed", "give from=<agent id> and to=<agent id or address>");
    if (!fleet.agents.has(from))
      throw new HttpError(404, "unknown_agent", "from: no agent has this id: see GET /status/agents");
    const target = fleet.agents.has(to) ? to : canonicalAddress(to);
    if (target === null && agentIdSchema.safeParse(to).success)
      throw new HttpError(404, "unknown_agent", "to: no agent has this id: see GET /status/agents");
    if (target === null) throw new HttpError(400, "malformed", "to: is neither an agent's id nor an IP address");
    return json(200, tracePath(fleet.topology, from, target, now()));
  });

  const limitOf = (url: URL) => query(url).wholeNumber("limit", 1, MAX_LIMIT) ?? DEFAULT_LIMIT;
  const agentOf = (url: URL) => {
    const id = query(url).text("agent_id");
    return id === null ? {} : { agent_id: id };
  };
  route("GET", "/status/alarms", "read", async ({ url }) => {
    const asked = query(url);
    const limit = limitOf(url);
    const before = asked.text("before");
    const state = asked.oneOf("state", ["open", "resolved", "all"]) ?? "open";
    const rows = await store.alarms({
      state,
      limit: limit + 1,
      ...agentOf(url),
      ...(before === null ? {} : { before }),
    });
    const page = rows.slice(0, limit);
    const body: AlarmsResponse = {
      alarms: page.map((row) => alarmOf(row, fleet.alarms.isSilenced(row, now()))),
      next_before: rows.length > limit ? page.at(-1)!.id : null,
    };
    return json(200, body);
  });
  route("GET", "/status/alarms/:id", "read", async ({ parameter }) => {
    const found = await store.alarm(parameter("id"));
    if (found === null)
      throw new HttpError(404, "unknown_alarm", "no alarm has this id: see GET /status/alarms?state=all");
    const transitions = found.transitions.map(({ to, at, report, note }) => ({ state: to, at, report, note }));
    return json(200, { ...alarmOf(found.alarm, fleet.alarms.isSilenced(found.alarm, now())), transitions });
  });
  route("GET", "/status/events", "read", async ({ url }) => {
    const asked = query(url);
    const limit = limitOf(url);
    const before = asked.wholeNumber("before", 0, Number.MAX_SAFE_INTEGER);
    const from = asked.instant("from");
    const to = asked.instant("to");
    const events = await store.events({
      limit: limit + 1,
      ...agentOf(url),
      ...(before === null ? {} : { before }),
      ...(from === null ? {} : { from_at: from }),
      ...(to === null ? {} : { to_at: to }),
    });
    const page = events.slice(0, limit);
    const body: EventsResponse = { events: page, next_before: events.length > limit ? String(page.at(-1)!.id) : null };
    return json(200, body);
  });
  route("GET", "/status/silences", "read", async () => json(200, { silences: await store.silences(now()) }));

  route("GET", "/status/stream", "read", ({ request, bindings, facts }) => {
    const headers = { "Content-Type": "text/event-stream", "X-Accel-Buffering": "no", ...NO_PAGE };
    // The answer to HEAD has no body: a listener of it would never be read, nor end.
    if (request.method === "HEAD") return new Response(null, { headers });
    const body = stream.open(
      { version: options.version, server_time_at: now(), session: access.hasSession(facts, now()) },
      () => access.decide(facts, "read", now()).ok,
    );
    if (body === null)
      throw new HttpError(503, "too_many_streams", "too many dashboards are open: try again", { "Retry-After": "10" });
    bindings.keepOpen(request);
    return new Response(body, { headers });
  });
  route("GET", "/metrics", "read", async () => text("text/plain; version=0.0.4", await options.metrics(now())));

  // --- administrators

  route("POST", "/status/alarms/:id/ack", "admin", async ({ parameter }) =>
    json(200, await acknowledge(parameter("id"), fleet)),
  );
  route("POST", "/status/admin/reset", "admin", async ({ request }) =>
    json(200, await adminReset(await readBody(request, 65_536, bodies), options.admin)),
  );
  route("POST", "/status/admin/expect", "admin", async ({ request }) =>
    json(200, await expectPeer(await readBody(request, 65_536, bodies), fleet)),
  );
  route("POST", "/status/admin/silence", "admin", async ({ request }) =>
    json(200, await silence(await readBody(request, 65_536, bodies), fleet)),
  );

  // --- the dashboard: files of ours alone, open to all; what it shows comes from the routes above

  for (const [path, asset] of options.assets) {
    route("GET", path, null, ({ request }) => {
      const etag = asset.headers.ETag;
      if (etag !== undefined && request.headers.get("if-none-match") === etag)
        return new Response(null, { status: 304, headers: asset.headers });
      return new Response(asset.body, { headers: asset.headers });
    });
  }

  app.notFound((c) => {
    const path = new URL(c.req.url).pathname;
    const allowed = routes.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method);
    if (allowed.length > 0) {
      const allow = [...new Set(allowed.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method])))].join(
        ", ",
      );
      return errorResponse(new HttpError(405, "method_not_allowed", `use ${allow}`, { Allow: allow }));
    }
    return errorResponse(new HttpError(404, "not_found", "no such path: README lists the endpoints"));
  });
  app.onError((error) => {
    if (error instanceof HttpError) return errorResponse(error);
    if (error instanceof StoreError) {
      return errorResponse(
        new HttpError(503, "unavailable", `the database cannot be used now (${error.fault})`, {
          "Retry-After": String(RETRY_AFTER_S),
        }),
      );
    }
    log.error("request_failed", { reason: reason(error) });
    return errorResponse(new HttpError(500, "internal", "this is a bug: the log has the reason"));
  });
  return app;
}
