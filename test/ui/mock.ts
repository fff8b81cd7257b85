// Owns a manager of straw for developing and testing the dashboard: it serves the API's shapes from made-up networks, with
// a stream that can be cut. Hand-written, not captured; the tests that matter run on the real manager.
import type {
  AgentSummary,
  Alarm,
  EdgeHistory,
  EdgeState,
  Event,
  PathHop,
  PathResponse,
  TopologyEdge,
  TopologyNode,
  TopologyResponse,
} from "../../shared/api.ts";
import { uiAssets } from "../../manager/ui/assets.ts";

const MINUTE = 60_000;
const key = (i: number) => `${String(i).padStart(4, "0")}Kq8sVbXyZ0pLmN4rT6uW2eC5gH7jA9dF3kQ1oBsI=`.slice(0, 43) + "=";
const id = (i: number) => `00000000-0000-4000-8000-${String(i).padStart(12, "0")}`;

function node(
  i: number,
  label: string,
  networks: string[],
  now: number,
  extra: Partial<TopologyNode> = {},
): TopologyNode {
  void now;
  return {
    id: id(i),
    kind: "agent",
    label,
    status: "online",
    addresses: [`10.80.${i >> 8}.${i & 255}`],
    networks,
    attached: [],
    nat: false,
    exit: false,
    reason: null,
    wireguard_keys: [key(i)],
    ...extra,
  };
}

function edge(
  a: TopologyNode,
  b: TopologyNode,
  network: string | null,
  now: number,
  extra: Partial<TopologyEdge> = {},
): TopologyEdge {
  const end = (self: TopologyNode): TopologyEdge["a"] => ({
    node: self.id,
    interface: "wg0",
    endpoint: `192.0.2.${(Number(self.id.slice(-4)) % 250) + 1}:51820`,
    nat: self.nat,
    public_key: self.wireguard_keys[0] ?? null,
    listen_port: 51820,
    allowed_ips: [`${self.addresses[0] ?? "10.0.0.1"}/32`],
    handshake_age_s: 40,
    latest_handshake_at: now - 40_000,
    persistent_keepalive_s: 25,
    rx_bytes: 120_345_678,
    tx_bytes: 98_765_432,
    reported_at: now - 4000,
  });
  return {
    id: `e-${a.id.slice(-4)}-${b.id.slice(-4)}-${network ?? "x"}`,
    layer: "wireguard",
    network,
    a: end(a),
    b: end(b),
    state: "up",
    reason: null,
    cause: null,
    observed_by: [a.id, b.id],
    latest_handshake_at: now - 40_000,
    a_to_b_bps: 120_000,
    b_to_a_bps: 64_000,
    a_to_b_loss: 0,
    b_to_a_loss: 0,
    rides_on: [],
    first_seen_at: now - 9 * 86_400_000,
    changed_at: now - 3 * 86_400_000,
    ...extra,
  };
}

/** A full mesh: every node a peer of every other, a few of the links broken. */
export function fullMesh(agents: number, now: number): TopologyResponse {
  const nodes = Array.from({ length: agents }, (_, i) => node(i, `node-${i}`, ["mesh"], now));
  const edges: TopologyEdge[] = [];
  for (let i = 0; i < agents; i++)
    for (let j = i + 1; j < agents; j++) {
      const state: EdgeState = (i * 31 + j * 17) % 997 === 0 ? "stale" : (i * 7 + j) % 211 === 0 ? "late" : "up";
      edges.push(edge(nodes[i]!, nodes[j]!, "mesh", now, { state }));
    }
  return {
    nodes,
    edges,
    networks: [{ id: "mesh", name: "10.80.0.0/16", prefixes: ["10.80.0.0/16"], nodes: agents, parts: 1 }],
    at: now,
  };
}

/** `agents` nodes in a tree of hubs, with `links` edges in all. */
export function sparse(agents: number, links: number, now: number): TopologyResponse {
  const nodes = Array.from({ length: agents }, (_, i) => node(i, `host-${i}`, ["wide"], now));
  const edges = new Map<string, TopologyEdge>();
  const add = (i: number, j: number) => {
    if (i === j) return;
    const made = edge(nodes[Math.min(i, j)]!, nodes[Math.max(i, j)]!, "wide", now, {
      state: (i * 13 + j) % 401 === 0 ? "never" : "up",
    });
    edges.set(made.id, made);
  };
  for (let i = 1; i < agents; i++) add(i, Math.floor(i / 12));
  for (let k = 0; edges.size < links; k++)
    add((k * 7919) % agents, ((k * 104_729) % 97) + Math.floor(((k * 7919) % agents) / 100) * 20);
  return {
    nodes,
    edges: [...edges.values()],
    networks: [{ id: "wide", name: "10.64.0.0/10", prefixes: ["10.64.0.0/10"], nodes: agents, parts: 1 }],
    at: now,
  };
}

/** What a hostile host calls itself. */
export const HOSTILE = `<img src=x onerror="window.pwned=1">`;

/** 50 nodes on six sites, a hub-and-spoke and a small full mesh, with faults. */
export function office(now: number): TopologyResponse {
  const sites = ["fra", "ams", "hel", "waw", "lon", "mad"];
  const nodes: TopologyNode[] = [];
  const add = (label: string, networks: string[], extra: Partial<TopologyNode> = {}) => {
    const made = node(nodes.length, label, networks, now, extra);
    nodes.push(made);
    return made;
  };
  const hubs = sites.slice(0, 3).map((site) => add(`hub-${site}`, ["hub"]));
  const spokes = Array.from({ length: 32 }, (_, i) =>
    add(`${["web", "app", "edge", "cache"][i % 4]}-${sites[i % 6]}-${Math.floor(i / 6) + 1}`, ["hub"], {
      nat: i % 11 === 10,
      attached: i < 3 ? [`192.168.${i + 1}.0/24`] : [],
    }),
  );
  const bases = Array.from({ length: 13 }, (_, i) => add(`db-${sites[i % 3]}-${Math.floor(i / 3) + 1}`, ["db"]));
  const foreign = add("203.0.113.77:41000", ["hub"], {
    kind: "foreign",
    id: `wg:${key(900)}`,
    status: "unknown",
    wireguard_keys: [key(900)],
  });
  add(HOSTILE, ["hub"]);
  const down = spokes[20]!;
  down.status = "down";
  down.reason = "nothing reported for 14 min";
  const edges: TopologyEdge[] = [];
  const link = (...parameters: Parameters<typeof edge>) => void edges.push(edge(...parameters));
  hubs.forEach((a, i) => hubs.slice(i + 1).forEach((b) => link(a, b, "hub", now)));
  spokes.forEach((spoke, i) => {
    for (const hub of [hubs[i % 3]!, hubs[(i + 1) % 3]!])
      link(
        hub,
        spoke,
        "hub",
        now,
        spoke === down
          ? {
              state: "stale",
              cause: "nothing_returns",
              reason: "nothing comes back",
              changed_at: now - 14 * MINUTE,
              a_to_b_bps: 240,
              b_to_a_bps: 0,
            }
          : {},
      );
  });
  link(hubs[0]!, foreign, "hub", now, { state: "up" });
  link(nodes.at(-1)!, hubs[0]!, "hub", now);
  Object.assign(edges[19]!, {
    state: "stale",
    cause: "b_to_a_blocked",
    reason: "packets from the second end are dropped on the way",
    changed_at: now - 18 * MINUTE,
  });
  Object.assign(edges[26]!, {
    state: "one_sided",
    cause: "missing_at_a",
    reason: "hub-hel does not list it",
    changed_at: now - 12 * MINUTE,
  });
  Object.assign(edges[40]!, {
    state: "lossy",
    cause: "lossy",
    reason: "a new handshake every 15 s",
    a_to_b_loss: 0.31,
    changed_at: now - 5 * MINUTE,
  });
  bases.forEach((a, i) =>
    bases.slice(i + 1).forEach((b, j) =>
      link(
        a,
        b,
        "db",
        now,
        i === 0 && j === 3
          ? {
              state: "never",
              cause: "preshared_key",
              reason: "the preshared keys differ",
              changed_at: now - 25 * MINUTE,
            }
          : {},
      ),
    ),
  );
  const physical = edge(bases[0]!, bases[3]!, null, now, { id: "p-1", layer: "physical" });
  edges.push(physical, edge(spokes[2]!, hubs[2]!, null, now, { id: "r-1", layer: "relay" }));
  edges.push(
    edge(bases[0]!, bases[1]!, null, now, {
      id: "t-1",
      layer: "tunnel",
      rides_on: [{ node: bases[0]!.id, interface: "eth0", edge: "p-1" }],
    }),
  );
  edges[5]!.rides_on = [{ node: edges[5]!.a.node, interface: "eth0", edge: null }];
  return {
    nodes,
    edges,
    networks: [
      { id: "hub", name: "10.80.0.0/24", prefixes: ["10.80.0.0/24"], nodes: 37, parts: 1 },
      { id: "db", name: "10.81.0.0/24", prefixes: ["10.81.0.0/24"], nodes: 13, parts: 1 },
    ],
    at: now,
  };
}

function agentsOf(topology: TopologyResponse, now: number): AgentSummary[] {
  return topology.nodes
    .filter(({ kind }) => kind === "agent")
    .map((item, i) => ({
      agent_id: item.id,
      hostname: item.label,
      status: item.status === "unknown" ? "down" : item.status,
      first_seen_at: now - 9 * 86_400_000,
      last_seen_at: item.status === "down" ? now - 14 * MINUTE : now - (i % 28) * 1000,
      tick: 4000 + i,
      agent_version: "0.1.0",
      via: i === 5 ? "relay" : "direct",
      relay_path: i === 5 ? [id(2)] : [],
      addresses: item.addresses,
      wireguard: [{ interface: "wg0", public_key: item.wireguard_keys[0]!, listen_port: 51820, peers: 3 }],
      load: [0.1 * (i % 20), 0.2, 0.3],
      interval_s: 30,
      skew_ms: i === 7 ? 64_000 : 12,
      outbox_reports: i === 5 ? 3 : 0,
      dropped: 0,
      blocked: false,
    }));
}

function alarmsOf(topology: TopologyResponse, now: number): Alarm[] {
  const label = (nodeId: string) => topology.nodes.find((item) => item.id === nodeId)!.label;
  const base = {
    agent_id: null,
    acknowledged_at: null,
    resolved_at: null,
    depends_on: [],
    flapping: false,
    silenced: false,
    state: "open" as const,
  };
  const alarms: Alarm[] = [];
  for (const item of topology.nodes.filter(({ status }) => status === "down"))
    alarms.push({
      ...base,
      id: `a-${item.id}`,
      code: "agent_down",
      severity: "critical",
      subject: `agent:${item.id}`,
      agent_id: item.id,
      message: `${item.label} has been silent for 10 intervals; its peers hear nothing of it either`,
      opened_at: now - 14 * MINUTE,
      details: {
        since_at: now - 14 * MINUTE,
        look_at: "whether the host is up and reaches the manager",
        command: `on ${item.label}: systemctl status kattila-agent`,
        seen_by: [],
      },
    });
  const downIds = new Set(alarms.map(({ agent_id: agent }) => agent));
  for (const item of topology.edges
    .filter(({ state }) => ["stale", "never", "one_sided", "lossy"].includes(state))
    .slice(0, 40)) {
    const root = alarms.find(
      ({ agent_id: agent }) => downIds.has(agent) && (agent === item.a.node || agent === item.b.node),
    );
    alarms.push({
      ...base,
      id: `e-${item.id}`,
      code: item.state === "one_sided" ? "peer_one_sided" : item.state === "lossy" ? "lossy" : `peer_${item.state}`,
      severity: "warning",
      subject: `edge:${item.id}`,
      depends_on: root === undefined ? [] : [root.id],
      message: `${label(item.a.node)} wg0 – ${label(item.b.node)} wg0 hear nothing of each other any more: ${item.reason}`,
      opened_at: item.changed_at,
      details: {
        since_at: item.changed_at,
        look_at: "the firewalls on the way, first end to second",
        command: `on ${label(item.a.node)}: wg show wg0`,
        seen_by: [label(item.a.node)],
        edge: item.id,
      },
    });
  }
  return alarms;
}

function eventsOf(topology: TopologyResponse, now: number): Event[] {
  const some = topology.nodes.slice(0, 40);
  const made = (index: number, code: string, subject: string, message: string, minutes: number): Event => ({
    id: 1000 - index,
    at: now - minutes * MINUTE,
    code,
    severity: "info",
    subject,
    agent_id: null,
    message,
    details: {},
  });
  return [
    made(0, "edge_state", `edge:${topology.edges[0]?.id}`, `${some[0]?.label} – ${some[1]?.label}: up → stale`, 14),
    made(
      1,
      "roamed",
      `agent:${some[4]?.id}`,
      `${some[4]?.label} moved from 198.51.100.4:51820 to 198.51.100.9:51820`,
      16,
    ),
    made(
      2,
      "default_route_changed",
      `agent:${some[5]?.id}`,
      `${some[5]?.label}: default route moved from eth0 to wwan0`,
      19,
    ),
    made(3, "rekeyed", `agent:${some[6]?.id}`, `${some[6]?.label} wg0 has a new key`, 27),
    made(4, "agent_registered", `agent:${some[8]?.id}`, `${some[8]?.label} registered`, 44),
  ];
}

export type Mock = {
  url: string;
  port: number;
  /** Requests seen, as `METHOD path`. */
  requests: string[];
  send(name: string, data: unknown): void;
  stop(): Promise<void>;
};

/** Serves `make(now)` on loopback. `token`: a login is needed. */
export async function startMock(
  options: { port?: number; make?: (now: number) => TopologyResponse; token?: string } = {},
): Promise<Mock> {
  const make = options.make ?? office;
  const assets = await uiAssets();
  const requests: string[] = [];
  const topology = make(Date.now());
  const alarms = alarmsOf(topology, Date.now());
  const listeners = new Set<ReadableStreamDefaultController<Uint8Array>>();
  const frame = (name: string, data: unknown) =>
    new TextEncoder().encode(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  const json = (body: unknown, status = 200, headers: Record<string, string> = {}) =>
    Response.json(body, { status, headers });

  const past = (at: number): TopologyResponse => ({
    ...topology,
    at,
    nodes: topology.nodes.map((item) => ({
      ...item,
      status: item.status === "down" && at < Date.now() - 14 * MINUTE ? "online" : item.status,
    })),
    edges: topology.edges.map((item) =>
      item.changed_at > at
        ? { ...item, state: "up" as const, reason: null, cause: null, changed_at: item.first_seen_at }
        : item,
    ),
  });

  const history = (edgeId: string): EdgeHistory | null => {
    const found = topology.edges.find((item) => item.id === edgeId);
    if (found === undefined) return null;
    const now = Date.now();
    return {
      edge_id: edgeId,
      states: [
        {
          state: "up",
          reason: null,
          from_at: now - 86_400_000,
          until_at: found.changed_at > now - 86_400_000 ? found.changed_at : null,
        },
        ...(found.changed_at > now - 86_400_000
          ? [{ state: found.state, reason: found.reason, from_at: found.changed_at, until_at: null }]
          : []),
      ],
      samples: Array.from({ length: 120 }, (_, i) => ({
        at: now - (120 - i) * 30_000,
        handshake_age_s: (i * 30) % 120,
        a_to_b_bps: i === 40 ? null : 100_000 + 80_000 * Math.sin(i / 7),
        b_to_a_bps: 50_000 + 30_000 * Math.cos(i / 9),
        a_to_b_loss: 0,
        b_to_a_loss: 0,
      })),
      events: eventsOf(topology, now).slice(0, 1),
    };
  };

  const path = (from: string, to: string): PathResponse => {
    const target = topology.nodes.find((item) => item.id === to) ?? topology.nodes[9]!;
    const first = topology.edges.find((item) => item.a.node === from || item.b.node === from);
    const middle = first === undefined ? null : first.a.node === from ? first.b.node : first.a.node;
    const hop = (nodeId: string, extra: Partial<PathHop>): PathHop => ({
      node: nodeId,
      interface: null,
      rule: null,
      route: null,
      peer: null,
      allowed_ip: null,
      edge: null,
      state: null,
      note: null,
      ...extra,
    });
    const hops = [
      hop(from, {
        interface: "wg0",
        rule: "32766: from all lookup main",
        route: "10.80.0.0/24 dev wg0",
        peer: key(1),
        allowed_ip: "10.80.0.0/24",
        edge: first?.id ?? null,
        state: first?.state ?? null,
      }),
    ];
    const second = topology.edges.find(
      (item) =>
        middle !== null &&
        (item.a.node === middle || item.b.node === middle) &&
        (item.a.node === target.id || item.b.node === target.id),
    );
    if (middle !== null && middle !== target.id)
      hops.push(
        hop(middle, {
          interface: "wg0",
          route: "10.80.0.9 dev wg0",
          edge: second?.id ?? null,
          state: "stale",
          note: "the tunnel to the next host is stale: nothing comes back",
        }),
      );
    hops.push(hop(target.id, { note: "not reached" }));
    const trace = {
      source: "10.80.0.4",
      destination: target.addresses[0] ?? to,
      verdict: "edge_down" as const,
      reason: "the tunnel to the next host is stale",
      path_mtu: 1420,
      hops,
    };
    const back = { ...trace, verdict: "delivered" as const, reason: null, hops: [...hops].reverse() };
    return { from, to, at: Date.now(), ...trace, back, traces: [{ there: trace, back }] };
  };

  const diff = (from: number, to: number) => {
    const [before, after] = [past(from), past(to)];
    const changed = after.edges.flatMap((item, i) =>
      item.state === before.edges[i]!.state
        ? []
        : [{ id: item.id, before: before.edges[i]!, after: item, fields: ["state"] }],
    );
    return { from, to, nodes: { added: [], removed: [], changed: [] }, edges: { added: [], removed: [], changed } };
  };

  const answer = (request: Request): Response => {
    const url = new URL(request.url);
    const at = url.pathname;
    requests.push(`${request.method} ${at}${url.search}`);
    const asset = assets.get(at);
    if (asset !== undefined) return new Response(asset.body, { headers: asset.headers });
    const now = Date.now();
    if (at === "/status/healthcheck")
      return json({
        status: "ok",
        version: "0.1.0",
        uptime_s: 86_400,
        database: "ok",
        psk_age_s: 30,
        last_report_at: topology.nodes.length === 0 ? null : now - 2000,
        ingest_lag_ms: topology.nodes.length === 0 ? null : 12,
      });
    if (at === "/status/login")
      return json({ role: "admin" }, 200, { "Set-Cookie": `mock=${options.token}; HttpOnly; SameSite=Strict; Path=/` });
    if (options.token !== undefined && !(request.headers.get("cookie") ?? "").includes(`mock=${options.token}`))
      return json({ error: "unauthenticated", message: "log in with READ_TOKEN or ADMIN_TOKEN" }, 401);
    if (at === "/status/agents") return json({ agents: agentsOf(topology, now), server_time_at: now });
    if (at === "/status/topology")
      return json(url.searchParams.has("at") ? past(Number(url.searchParams.get("at"))) : { ...topology, at: now });
    if (at === "/status/topology/diff")
      return json(diff(Number(url.searchParams.get("from")), Number(url.searchParams.get("to") ?? now)));
    if (at === "/status/alarms")
      return json({ alarms: url.searchParams.get("state") === "resolved" ? [] : alarms, next_before: null });
    const ack = /^\/status\/alarms\/([^/]+)\/ack$/.exec(at);
    if (ack !== null) {
      const found = alarms.find((item) => item.id === decodeURIComponent(ack[1]!));
      if (found === undefined) return json({ error: "unknown_alarm", message: "no alarm has this id" }, 404);
      Object.assign(found, { state: "acknowledged", acknowledged_at: now });
      for (const listener of listeners) listener.enqueue(frame("alarm", found));
      return json(found);
    }
    if (at === "/status/events") return json({ events: eventsOf(topology, now), next_before: null });
    if (at === "/status/path") return json(path(url.searchParams.get("from")!, url.searchParams.get("to")!));
    const edgePath = /^\/status\/edges\/([^/]+)\/history$/.exec(at);
    if (edgePath !== null) {
      const found = history(decodeURIComponent(edgePath[1]!));
      return found === null ? json({ error: "unknown_edge", message: "no edge has this id" }, 404) : json(found);
    }
    if (at === "/status/stream") {
      let own: ReadableStreamDefaultController<Uint8Array>;
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          own = controller;
          listeners.add(controller);
          controller.enqueue(new TextEncoder().encode("retry: 500\n\n"));
          controller.enqueue(
            frame("hello", { version: "0.1.0", server_time_at: now, session: options.token !== undefined }),
          );
        },
        cancel: () => void listeners.delete(own),
      });
      return new Response(body, { headers: { "Content-Type": "text/event-stream", "Cache-Control": "no-store" } });
    }
    return json({ error: "not_found", message: "no such path" }, 404);
  };

  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: options.port ?? 0,
    idleTimeout: 0,
    development: false,
    fetch: answer,
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    port: server.port!,
    requests,
    send(name, data) {
      for (const listener of listeners) listener.enqueue(frame(name, data));
    },
    stop: () => server.stop(true),
  };
}

if (import.meta.main) {
  const kinds: Record<string, (now: number) => TopologyResponse> = {
    office,
    mesh: (now) => fullMesh(200, now),
    wide: (now) => sparse(2000, 8000, now),
    empty: (now) => ({ nodes: [], edges: [], networks: [], at: now }),
  };
  const mock = await startMock({
    port: Number(process.argv[3] ?? 5186),
    make: kinds[process.argv[2] ?? "office"] ?? office,
  });
  console.log(mock.url);
}
