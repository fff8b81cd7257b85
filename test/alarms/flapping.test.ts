// What holds for every alarm alike, whatever it is about: it flaps quietly, and late and superseded reports neither open
// nor close it. One act that breaks and one that repairs, rule by rule.
import { expect, setDefaultTimeout } from "bun:test";
import type { TopologyEdge } from "../../shared/api.ts";
import { acknowledge, type Step, type Table, tables } from "./steps.ts";
import { card, key, peer, type World } from "./world.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

type Fault = {
  code: string;
  agents?: string[];
  /** Before the fault. */
  prepare?: (world: World) => void;
  breaks: (world: World) => void;
  repairs: (world: World) => void;
  /** Within so many seconds it is open, and resolved. */
  opensS?: number;
  resolvesS?: number;
};

const about = (code: string, texts: readonly string[]) => texts.filter((text) => text.startsWith(`${code} `));

/** One alarm of this code is open, or none is; others may be. */
function isOpen(code: string, open: boolean) {
  return (world: World) =>
    expect({ code, open: about(code, world.open()).length }).toEqual({ code, open: Number(open) });
}

/** What receivers heard of this code: `open` and `resolved`, rises in severity left out. */
function told(code: string, ...states: string[]) {
  return (world: World) => {
    const ids = new Set(world.rows().flatMap((row) => (row.code === code ? [row.id] : [])));
    const heard = world.transitions.filter(
      ({ alarm_id: id, notify, note }) => ids.has(id) && notify && !note?.includes("→"),
    );
    expect({ code, told: heard.map(({ to }) => to) }).toEqual({ code, told: states });
  };
}

const QUIET_S = 1800;

function flapping({ code, agents, prepare, breaks, repairs, opensS = 31, resolvesS = 31 }: Fault): Table {
  const both =
    (...checks: ((world: World) => void)[]) =>
    (world: World) =>
      checks.forEach((check) => check(world));
  const opens: Step = { act: breaks, pass: opensS, check: isOpen(code, true) };
  const resolves: Step = { act: repairs, pass: resolvesS, check: isOpen(code, false) };
  const saidOnce = (world: World) => {
    const { id } = world.row(code);
    const said = world.transitions.filter((item) => item.alarm_id === id && item.note?.includes("flapping: further"));
    expect(said.map(({ to, notify }) => ({ to, notify }))).toEqual([{ to: "resolved", notify: true }]);
  };
  const flaps = (is: boolean) => (world: World) => expect(world.row(code).flapping).toBe(is);
  const four = told(code, "open", "resolved", "open", "resolved");
  return {
    name: `${code} flaps: said once at the fourth transition, told again after 30 quiet minutes`,
    agents,
    steps: [
      { act: prepare, pass: 31, check: isOpen(code, false) },
      opens,
      resolves,
      { ...opens, check: both(isOpen(code, true), flaps(false)) },
      { ...resolves, check: both(isOpen(code, false), flaps(true), saidOnce, four) },
      opens,
      resolves,
      { ...opens, check: both(isOpen(code, true), saidOnce, four) },
      { pass: QUIET_S - opensS - 1, check: both(isOpen(code, true), flaps(true), four) },
      {
        pass: opensS + 32,
        check: both(
          isOpen(code, true),
          flaps(false),
          saidOnce,
          told(code, "open", "resolved", "open", "resolved", "open"),
        ),
      },
    ],
  };
}

/** An old alarm that begins to flap: the fourth transition is an opening, and what it ended in is told after the quiet. */
function flappingEndsResolved({ code, agents, prepare, breaks, repairs, opensS = 31, resolvesS = 31 }: Fault): Table {
  const opens: Step = { act: breaks, pass: opensS, check: isOpen(code, true) };
  const resolves: Step = { act: repairs, pass: resolvesS, check: isOpen(code, false) };
  const heard = ["open", "resolved", "open", "resolved", "open"];
  return {
    name: `${code} flaps from an opening on: that it is over is told after 30 quiet minutes`,
    agents,
    steps: [
      { act: prepare, pass: 31 },
      opens,
      { pass: QUIET_S },
      resolves,
      opens,
      resolves,
      { ...opens, check: told(code, ...heard) },
      { ...resolves, check: told(code, ...heard) },
      {
        pass: QUIET_S - resolvesS - 1,
        check: (world) => {
          told(code, ...heard)(world);
          expect(world.row(code).flapping).toBe(true);
        },
      },
      {
        pass: resolvesS + 32,
        check: (world) => {
          told(code, ...heard, "resolved")(world);
          expect(world.row(code).flapping).toBe(false);
        },
      },
    ],
  };
}

function late({ code, agents, prepare, breaks, repairs, opensS = 31, resolvesS = 31 }: Fault): Table {
  return {
    name: `${code} is neither opened nor closed by late or superseded reports`,
    agents,
    steps: [
      { act: prepare, pass: 31, check: isOpen(code, false) },
      {
        act: (world) => {
          world.late = true;
          breaks(world);
        },
        pass: 300,
        check: isOpen(code, false),
      },
      {
        act: (world) => Object.assign(world, { late: false, superseded: true }),
        pass: 31,
        check: isOpen(code, false),
      },
      { act: (world) => void (world.superseded = false), pass: opensS, check: isOpen(code, true) },
      {
        act: (world) => {
          world.late = true;
          repairs(world);
        },
        pass: 300,
        check: isOpen(code, true),
      },
      {
        act: (world) => Object.assign(world, { late: false, superseded: true }),
        pass: 31,
        check: isOpen(code, true),
      },
      { act: (world) => void (world.superseded = false), pass: resolvesS, check: isOpen(code, false) },
    ],
  };
}

/** Tunnels of `agent` leave by eth0. */
function overEth0(world: World, agent: string): void {
  for (const item of world.wireguard(agent).peers!) item.via = { interface: "eth0", source: null };
}

/** A second WireGuard interface at b, all of whose traffic is routed. */
function wg1(world: World): void {
  const report = world.reports.get("b")!;
  report.interfaces!.push({ ...card("wg1", ["10.8.0.1/24"]), kind: "wireguard", mtu: 1420 });
  report.routes!.push({ destination: "10.0.0.0/8", gateway: null, interface: "wg1", metric: 0 });
  report.wireguard!.push({
    interface: "wg1",
    public_key: key("b1"),
    listen_port: 51821,
    fwmark: null,
    peers: [peer("c", { allowed_ips: ["10.8.0.0/24"] })],
  });
}

const states = (world: World, state: "stale" | "up", ...edges: string[]) => {
  for (const id of edges) world.set(id, state);
};

/** About the network: what fresh reports alone decide. */
const NETWORK: Fault[] = [
  {
    code: "clock_skew",
    breaks: (world) => void world.skewMs.set("a", 100_000),
    repairs: (world) => void world.skewMs.set("a", 1000),
    resolvesS: 91,
  },
  {
    code: "collector_error",
    breaks: (world) => void (world.reports.get("a")!.collectors = { routes: "error: timeout" }),
    repairs: (world) => void (world.reports.get("a")!.collectors = { routes: "ok" }),
    opensS: 91,
  },
  {
    code: "config",
    prepare: (world) => void (world.wireguard("c").peers![0]!.endpoint = "192.168.50.99:51999"),
    breaks: (world) => void (world.wireguard("c").listen_port = 51999),
    repairs: (world) => void (world.wireguard("c").listen_port = 51820),
  },
  {
    code: "iface_gone",
    breaks: (world) => void (world.reports.get("b")!.wireguard = []),
    repairs: (world) =>
      void (world.reports.get("b")!.wireguard = [
        {
          interface: "wg0",
          public_key: key("b"),
          listen_port: 51820,
          fwmark: null,
          peers: [peer("a"), peer("c")],
        },
      ]),
  },
  {
    code: "iface_down",
    breaks: (world) => void (world.interface("b", "wg0").up = false),
    repairs: (world) => void (world.interface("b", "wg0").up = true),
  },
  {
    code: "key_reuse",
    prepare: wg1,
    breaks: (world) => void (world.wireguard("b", "wg1").public_key = key("c")),
    repairs: (world) => void (world.wireguard("b", "wg1").public_key = key("b1")),
  },
  {
    code: "key_mismatch",
    breaks: (world) => {
      world.wireguard("b").public_key = key("bnew");
      world.set("a-b", "key_mismatch", { cause: "wrong_key" });
    },
    repairs: (world) => {
      world.wireguard("b").public_key = key("b");
      world.set("a-b", "up");
    },
  },
  {
    code: "address_duplicate",
    breaks: (world) => void world.interface("c", "wg0").addresses.push("10.9.0.97/24"),
    repairs: (world) => void world.interface("c", "wg0").addresses.pop(),
  },
  {
    code: "mtu_too_large",
    prepare: (world) => overEth0(world, "a"),
    breaks: (world) => void (world.interface("a", "wg0").mtu = 1500),
    repairs: (world) => void (world.interface("a", "wg0").mtu = 1420),
  },
  {
    code: "allowed_ips_moved",
    breaks: (world) => void (world.wireguard("a").peers![0]!.allowed_ips = []),
    repairs: (world) => void (world.wireguard("a").peers![0]!.allowed_ips = peer("b").allowed_ips),
  },
  {
    code: "allowed_ips_overlap",
    prepare: wg1,
    breaks: (world) => void world.wireguard("b", "wg1").peers![0]!.allowed_ips.push("10.9.0.97/32"),
    repairs: (world) => void world.wireguard("b", "wg1").peers![0]!.allowed_ips.pop(),
  },
  {
    code: "allowed_ips_unrouted",
    breaks: (world) => void world.wireguard("b").peers![0]!.allowed_ips.push("172.20.0.0/16"),
    repairs: (world) => void world.wireguard("b").peers![0]!.allowed_ips.pop(),
  },
  {
    code: "peer_removed",
    breaks: (world) => void world.wireguard("b").peers!.pop(),
    repairs: (world) => void world.wireguard("b").peers!.push(peer("c")),
  },
  {
    code: "keepalive_missing",
    breaks: (world) => world.set("a-b", "idle", { cause: "cannot_start_a" }),
    repairs: (world) => world.set("a-b", "up"),
    opensS: 91,
  },
  {
    code: "foreign_down",
    prepare: (world) => void world.connect("a", `wg:${key("f")}`, { id: "a-f" }),
    breaks: (world) => states(world, "stale", "a-f"),
    repairs: (world) => states(world, "up", "a-f"),
    opensS: 61,
  },
  {
    code: "partition",
    breaks: (world) => states(world, "stale", "a-c", "b-c"),
    repairs: (world) => states(world, "up", "a-c", "b-c"),
    opensS: 61,
    resolvesS: 61,
  },
];

/** The stale edge beneath it flaps at the same seconds. */
const WITH_AN_EFFECT: Fault[] = [
  {
    code: "endpoint_outdated",
    prepare: (world) => {
      world.edge("a-b").b.endpoint = "192.168.50.7:51820";
      world.interface("b", "eth0").addresses = ["192.168.50.200/24"];
      world.edge("b-c").a.endpoint = "192.168.50.200:51820";
    },
    breaks: (world) => states(world, "stale", "a-b"),
    repairs: (world) => states(world, "up", "a-b"),
    opensS: 61,
    resolvesS: 61,
  },
];

/** About what arrives: late reports speak of it too. */
const ARRIVAL: Fault[] = [
  {
    code: "data_lost",
    breaks: (world) => {
      const report = world.reports.get("b")!;
      report.dropped++;
      report.delivery!.outbox_reports = 9;
    },
    repairs: (world) => void (world.reports.get("b")!.delivery!.outbox_reports = 0),
  },
  {
    code: "agent_down",
    breaks: (world) => void world.speaking.delete("c"),
    repairs: (world) => void world.speaking.add("c"),
    opensS: 331,
  },
  {
    code: "relay_in_use",
    breaks: (world) => void world.relays.set("a", ["b"]),
    repairs: (world) => void world.relays.delete("a"),
    opensS: 91,
    resolvesS: 91,
  },
  {
    code: "backlog",
    breaks: (world) => Object.assign(world.reports.get("b")!.delivery!, { outbox_bytes: 501, outbox_reports: 50 }),
    repairs: (world) => Object.assign(world.reports.get("b")!.delivery!, { outbox_bytes: 0, outbox_reports: 0 }),
  },
];

/** Edge a-b in a state of its own. */
function edge(
  code: string,
  state: TopologyEdge["state"],
  cause: TopologyEdge["cause"],
  opensS: number,
  resolvesS: number,
): Fault {
  return {
    code,
    breaks: (world) => world.set("a-b", state, { cause }),
    repairs: (world) => world.set("a-b", "up"),
    opensS,
    resolvesS,
  };
}

const EDGES: Fault[] = [
  edge("peer_stale", "stale", "nothing_returns", 61, 61),
  edge("peer_never", "never", "nothing_returns", 61, 61),
  edge("lossy", "lossy", "lossy", 91, 91),
  edge("cannot_send", "stale", "cannot_send_a", 91, 91),
  edge("tunnel_loop", "up", "tunnel_loop", 91, 91),
  edge("peer_one_sided", "one_sided", "missing_at_b", 91, 31),
];

const known = (world: World): { stranger: boolean } => ({
  stranger: world.wireguard("a").peers!.some((item) => item.public_key === key("s")),
});

const UNKNOWN: Fault = {
  code: "peer_unknown",
  breaks: (world) => {
    if (!known(world).stranger) world.wireguard("a").peers!.push(peer("s", { endpoint: null }));
  },
  repairs: (world) => {
    world.wireguard("a").peers!.pop();
    acknowledge(world, "peer_unknown");
  },
};

/** Fed by the manager itself. */
const SIGNALS: Fault[] = [
  {
    code: "replay",
    breaks: (world) => world.do((alarms, now) => alarms.onReplay("a", { tick: 4, verdict: "tick_seen" }, now)),
    repairs: (world) => acknowledge(world, "replay"),
  },
  { code: "psk_fetch_failed", breaks: source(true), repairs: source(false) },
  { code: "psk_old", breaks: previousKey(true), repairs: previousKey(false) },
  {
    code: "manager_isolated",
    agents: ["a", "b", "c", "d"],
    breaks: (world) => world.speaking.clear(),
    repairs: (world) => world.agents.forEach((agent) => world.speaking.add(agent)),
    opensS: 131,
  },
  {
    code: "site_down",
    agents: ["a", "b", "c", "d", "e"],
    prepare: (world) => {
      for (const agent of ["d", "e"])
        world.reports
          .get(agent)!
          .routes!.push({ destination: "0.0.0.0/0", gateway: "192.168.50.254", interface: "eth0", metric: 0 });
    },
    breaks: (world) => ["d", "e"].forEach((agent) => world.speaking.delete(agent)),
    repairs: (world) => ["d", "e"].forEach((agent) => world.speaking.add(agent)),
    opensS: 131,
  },
];

function source(ambiguous: boolean) {
  const error = ambiguous ? { reason: "ambiguous", message: "TXT: two strings" } : null;
  return (world: World) =>
    world.do((alarms, now) =>
      alarms.onPsk({ changed_at: null, error, error_since_at: ambiguous ? now : null }, new Map(), now),
    );
}

function previousKey(used: boolean) {
  return (world: World) =>
    world.do((alarms, now) =>
      alarms.onPsk(
        { changed_at: now - 3 * 3_600_000, error: null, error_since_at: null },
        new Map([["a", used ? now : now - 3_600_000]]),
        now,
      ),
    );
}

const ALL = [...NETWORK, ...EDGES, UNKNOWN, ...ARRIVAL, ...SIGNALS];
tables("flapping", ALL.map(flapping));
tables("flapping until it is over", ALL.map(flappingEndsResolved));
tables("late and superseded reports", [...NETWORK, ...WITH_AN_EFFECT, ...EDGES].map(late));
tables("late and superseded reports", [
  {
    name: "peer_unknown: a late report remembers the key, a fresh one decides; a late one without it ends nothing",
    steps: [
      { act: (world) => (Object.assign(world, { late: true }), UNKNOWN.breaks(world)), pass: 300, open: [] },
      {
        act: (world) => Object.assign(world, { late: false, superseded: true }),
        pass: 31,
        open: [],
      },
      {
        act: (world) => void (world.superseded = false),
        pass: 31,
        open: [`peer_unknown node:wg:${key("s")}`],
      },
    ],
  },
  {
    name: "peer_unknown: the key that a late report showed is gone in the next: none, ever",
    steps: [
      { act: (world) => (Object.assign(world, { late: true }), UNKNOWN.breaks(world)), pass: 90, open: [] },
      {
        act: (world) => {
          world.late = false;
          world.wireguard("a").peers!.pop();
        },
        pass: 60,
        check: (world) => {
          told("peer_unknown")(world);
          expect(world.rows().filter(({ code }) => code === "peer_unknown")).toEqual([]);
        },
      },
    ],
  },
  {
    name: "endpoint_changed counts no late report",
    steps: [
      ...[1, 2, 3, 4, 5].map((port) => ({
        act: (world: World) => {
          world.late = true;
          world.wireguard("a").peers![0]!.endpoint = `192.168.50.9:${port}`;
        },
        pass: 60,
        open: [],
      })),
      { act: (world) => void (world.late = false), pass: 60, open: [] },
    ],
  },
]);
tables("flapping", [
  {
    name: "id_clone flaps: 10 minutes of one, twice within half an hour",
    steps: [
      ...[1, 2].flatMap(() => [
        {
          act: (world: World) => world.do((alarms, now) => alarms.onIdConflict("a", { hostname: "copy" }, now)),
          pass: 599,
          open: ["id_clone agent:a"],
        },
        { pass: 2, open: [] },
      ]),
      {
        check: (world) => {
          expect(world.row("id_clone").flapping).toBe(true);
          told("id_clone", "open", "resolved", "open", "resolved")(world);
        },
      },
      { pass: QUIET_S, check: (world) => expect(world.row("id_clone").flapping).toBe(false) },
    ],
  },
]);
