// Alarms about agents and their configuration, as tables of timed steps (steps.ts): how each of them ends, and what of
// almost the same look is none.
import { expect, setDefaultTimeout, test } from "bun:test";
import { acknowledge, type Table, tables } from "./steps.ts";
import { card, DAY_MS, key, peer, World } from "./world.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

/** Among `agent`'s peers appears a key that nobody owns. */
function stranger(world: World, agent: string, name: string): void {
  world.connect(agent, `wg:${key(name)}`, { id: `${agent}-${name}`, state: "unused" });
  world.wireguard(agent).peers!.push(peer(name, { endpoint: null }));
}

/** A WireGuard interface more at `agent`, without peers. */
function secondInterface(world: World, agent: string, publicKey: string, addresses: string[] = []): void {
  const report = world.reports.get(agent)!;
  report.interfaces!.push({ ...card("wg1", addresses), kind: "wireguard", mtu: 1420 });
  report.wireguard!.push({ interface: "wg1", public_key: publicKey, listen_port: 51821, fwmark: null, peers: [] });
}

tables("peer_unknown", [
  {
    name: "off in the fleet's first 24 hours: a key that came before is none later either; one that comes after is",
    seenForMs: DAY_MS - 300_000,
    steps: [
      { act: (world) => stranger(world, "a", "early"), pass: 180, open: [] },
      { pass: 180, open: [] },
      {
        act: (world) => stranger(world, "a", "late"),
        pass: 31,
        open: [`peer_unknown node:wg:${key("late")}`],
        told: ["peer_unknown open info"],
      },
    ],
  },
  {
    name: "ends once an agent owns the key",
    steps: [
      { act: (world) => stranger(world, "a", "s"), pass: 31, open: [`peer_unknown node:wg:${key("s")}`] },
      { pass: 300, open: [`peer_unknown node:wg:${key("s")}`] },
      {
        act: (world) => secondInterface(world, "c", key("s")),
        pass: 61,
        open: [],
        told: ["peer_unknown open info", "peer_unknown resolved info"],
      },
    ],
  },
  {
    name: "ends by acknowledgement, though the key stays; it going is no all-clear",
    steps: [
      { act: (world) => stranger(world, "a", "s"), pass: 31, open: [`peer_unknown node:wg:${key("s")}`] },
      { act: (world) => acknowledge(world, "peer_unknown"), open: [] },
      { pass: 300, open: [], told: ["peer_unknown open info", "peer_unknown resolved info"] },
      { act: (world) => stranger(world, "b", "t"), pass: 31, open: [`peer_unknown node:wg:${key("t")}`] },
      {
        act: (world) => void world.wireguard("b").peers!.pop(),
        pass: 120,
        open: [`peer_removed peer:b/wg0/${key("t")}`, `peer_unknown node:wg:${key("t")}`],
      },
    ],
  },
]);

/** An interface of `agent` is not there any more. */
function lose(world: World, agent: string, name: string): void {
  const report = world.reports.get(agent)!;
  report.interfaces = report.interfaces!.filter((item) => item.name !== name);
  report.wireguard = report.wireguard!.filter((item) => item.interface !== name);
  report.routes = report.routes!.filter((route) => route.interface !== name);
}

/** What `lose` takes, put back as it was at `agent`'s start. */
function keep(world: World, agent: string): () => void {
  const { interfaces, wireguard, routes } = structuredClone(world.reports.get(agent)!);
  return () => void Object.assign(world.reports.get(agent)!, structuredClone({ interfaces, wireguard, routes }));
}

/** `agent` reaches the world by eth0. */
function defaultRoute(world: World, agent: string): void {
  const gateway = "192.168.50.254";
  world.reports.get(agent)!.routes!.push({ destination: "0.0.0.0/0", gateway, interface: "eth0", metric: 0 });
}

/** What brings back what a world's agent lost. */
const keeps = new WeakMap<World, () => void>();

/** iface_gone of one interface: back; and acknowledged, for as long as it stays away. */
function goneTable(name: string, prepare: (world: World) => void): Table[] {
  const alarm = `iface_gone interface:b/${name}`;
  const opened = "iface_gone open critical";
  const ended = "iface_gone resolved critical";
  const goes = (world: World) => {
    keeps.set(world, keep(world, "b"));
    lose(world, "b", name);
  };
  return [
    {
      name: `iface_gone of ${name}: until it is back`,
      steps: [
        { act: prepare, pass: 31, open: [] },
        { act: goes, pass: 31, open: [alarm], told: [opened] },
        { pass: 300, open: [alarm] },
        { act: (world) => keeps.get(world)!(), pass: 31, open: [], told: [opened, ended] },
      ],
    },
    {
      name: `iface_gone of ${name}: acknowledged, it stays away in quiet; gone once more it is another`,
      steps: [
        { act: prepare, pass: 31, open: [] },
        { act: goes, pass: 31, open: [alarm] },
        { act: (world) => acknowledge(world, "iface_gone"), open: [] },
        { pass: 300, open: [], told: [opened, ended] },
        { act: (world) => keeps.get(world)!(), pass: 31, open: [] },
        { act: goes, pass: 31, open: [alarm], told: [opened, ended, opened] },
      ],
    },
  ];
}

/** Agent b's wg0 is called `name`. */
function rename(world: World, name: string): void {
  world.interface("b", "wg0").name = name;
  world.reports.get("b")!.routes!.find((route) => route.interface === "wg0")!.interface = name;
  world.wireguard("b").interface = name;
}

/** What ends by being back, or acknowledged: `away` for as long as it likes. */
function backOrAcknowledged(
  code: string,
  subject: string,
  severity: string,
  away: (world: World) => void,
  back: (world: World) => void,
): Table[] {
  const alarm = `${code} ${subject}`;
  const told = [`${code} open ${severity}`, `${code} resolved ${severity}`];
  return [
    {
      name: `${code} ${subject}: until it is back`,
      steps: [
        { act: away, pass: 31, open: [alarm], told: told.slice(0, 1) },
        { pass: 300, open: [alarm] },
        { act: back, pass: 31, open: [], told },
      ],
    },
    {
      name: `${code} ${subject}: acknowledged, for as long as it lasts; a second time is told again`,
      steps: [
        { act: away, pass: 31, open: [alarm] },
        { act: (world) => acknowledge(world, code), open: [], told },
        { pass: 300, open: [], told },
        { act: back, pass: 31, open: [], told },
        { act: away, pass: 31, open: [alarm], told: [...told, told[0]!] },
      ],
    },
  ];
}

/** The last prefix of one of a's peers goes to another. */
function give(world: World, from: number, to: number): void {
  const peers = world.wireguard("a").peers!;
  peers[to]!.allowed_ips.push(peers[from]!.allowed_ips.pop()!);
}

tables("back, or acknowledged", [
  ...goneTable("wg0", () => {}),
  {
    name: "a WireGuard interface is renamed: by its key it is there, so none is gone",
    steps: [{ act: (world) => rename(world, "wg-site"), pass: 300, open: [], told: [] }],
  },
  {
    name: "iface_gone of wg0: back under another name",
    steps: [
      {
        act: (world) => {
          keeps.set(world, keep(world, "b"));
          lose(world, "b", "wg0");
        },
        pass: 31,
        open: ["iface_gone interface:b/wg0"],
      },
      {
        act: (world) => {
          keeps.get(world)!();
          rename(world, "wg-site");
        },
        pass: 31,
        open: [],
      },
    ],
  },
  {
    name: "iface_gone of wg0, while another interface has the same key as before",
    steps: [
      { act: (world) => secondInterface(world, "b", key("b")), pass: 31, open: [] },
      { act: (world) => lose(world, "b", "wg0"), pass: 300, open: ["iface_gone interface:b/wg0"] },
    ],
  },
  ...goneTable("eth0", (world) => defaultRoute(world, "b")),
  ...backOrAcknowledged(
    "iface_down",
    "interface:b/wg0",
    "critical",
    (world) => void (world.interface("b", "wg0").up = false),
    (world) => void (world.interface("b", "wg0").up = true),
  ),
  ...backOrAcknowledged(
    "peer_removed",
    `peer:b/wg0/${key("c")}`,
    "warning",
    (world) => void world.wireguard("b").peers!.pop(),
    (world) => void world.wireguard("b").peers!.push(peer("c")),
  ),
  ...backOrAcknowledged(
    "allowed_ips_moved",
    `peer:a/wg0/${key("b")}`,
    "warning",
    (world) => void (world.wireguard("a").peers![0]!.allowed_ips = []),
    (world) => void (world.wireguard("a").peers![0]!.allowed_ips = peer("b").allowed_ips),
  ),
  {
    name: "allowed_ips_moved to another peer: until it is back",
    steps: [
      { act: (world) => give(world, 0, 1), pass: 31, open: [`allowed_ips_moved peer:a/wg0/${key("b")}`] },
      { pass: 300, open: [`allowed_ips_moved peer:a/wg0/${key("b")}`] },
      {
        act: (world) => give(world, 1, 0),
        pass: 31,
        open: [],
        told: ["allowed_ips_moved open warning", "allowed_ips_moved resolved warning"],
      },
    ],
  },
  {
    name: "allowed_ips_moved to another peer: acknowledged it is how it should be, and moving back moves it again",
    steps: [
      { act: (world) => give(world, 0, 1), pass: 31, open: [`allowed_ips_moved peer:a/wg0/${key("b")}`] },
      { act: (world) => acknowledge(world, "allowed_ips_moved"), pass: 300, open: [] },
      { act: (world) => give(world, 1, 0), pass: 31, open: [`allowed_ips_moved peer:a/wg0/${key("c")}`] },
    ],
  },
  {
    name: "iface_down of a default route's card: until it is up",
    steps: [
      { act: (world) => defaultRoute(world, "c"), pass: 31, open: [] },
      {
        act: (world) => void (world.interface("c", "eth0").carrier = false),
        pass: 300,
        open: ["iface_down interface:c/eth0"],
      },
      {
        act: (world) => void (world.interface("c", "eth0").carrier = true),
        pass: 31,
        open: [],
        told: ["iface_down open critical", "iface_down resolved critical"],
      },
    ],
  },
]);

/** An agent's host is seen by its peers behind NAT, at this address. */
function behind(world: World, agent: string, address: string): void {
  for (const edge of world.edgesById.values()) {
    for (const end of [edge.a, edge.b]) {
      if (end.node === agent) Object.assign(end, { nat: true, endpoint: `${address}:${10_000 + agent.charCodeAt(0)}` });
    }
  }
}

tables("site_down", [
  {
    name: "all that peers see at one address, silent together: one alarm, theirs beneath, until one is back",
    agents: ["a", "b", "c", "d", "e"],
    steps: [
      {
        act: (world) => {
          for (const agent of ["d", "e"]) behind(world, agent, "203.0.113.7");
          behind(world, "a", "203.0.113.8");
        },
        pass: 60,
        open: [],
      },
      {
        act: (world) => {
          for (const agent of ["d", "e"]) world.speaking.delete(agent);
        },
        pass: 120,
        open: ["site_down site:address 203.0.113.7"],
        told: ["site_down open critical"],
      },
      {
        pass: 300,
        open: [
          "agent_down agent:d < site_down",
          "agent_down agent:e < site_down",
          "site_down site:address 203.0.113.7",
        ],
        told: ["site_down open critical"],
        check: (world) => expect(world.row("site_down").message).toContain("d, e"),
      },
      {
        act: (world) => void world.speaking.add("e"),
        pass: 31,
        open: ["agent_down agent:d"],
        told: ["site_down open critical", "site_down resolved critical"],
      },
      { act: (world) => void world.speaking.add("d"), pass: 31, open: [] },
    ],
  },
  {
    name: "three behind one address, two of them behind one gateway as well: one alarm with all three, also when theirs have opened",
    agents: ["a", "b", "c", "d", "e", "f", "g"],
    steps: [
      {
        act: (world) => {
          for (const agent of ["e", "f", "g"]) behind(world, agent, "203.0.113.7");
          for (const agent of ["f", "g"]) defaultRoute(world, agent);
        },
        pass: 60,
        open: [],
      },
      {
        act: (world) => {
          for (const agent of ["e", "f", "g"]) world.speaking.delete(agent);
        },
        pass: 120,
        open: ["site_down site:address 203.0.113.7"],
        told: ["site_down open critical"],
      },
      {
        pass: 1200,
        open: [
          "agent_down agent:e < site_down",
          "agent_down agent:f < site_down",
          "agent_down agent:g < site_down",
          "site_down site:address 203.0.113.7",
        ],
        told: ["site_down open critical"],
        check: (world) => expect(world.row("site_down").message).toContain("all 3 agents"),
      },
      {
        act: (world) => {
          for (const agent of ["e", "f", "g"]) world.speaking.add(agent);
        },
        pass: 31,
        open: [],
        told: ["site_down open critical", "site_down resolved critical"],
      },
    ],
  },
  {
    name: "one of those at the address is still heard: none, and each is down by itself",
    agents: ["a", "b", "c", "d", "e", "f"],
    steps: [
      {
        act: (world) => {
          for (const agent of ["d", "e", "f"]) behind(world, agent, "203.0.113.7");
        },
        pass: 60,
        open: [],
      },
      {
        act: (world) => {
          for (const agent of ["d", "e"]) world.speaking.delete(agent);
        },
        pass: 120,
        open: [],
      },
      { pass: 240, open: ["agent_down agent:d", "agent_down agent:e"] },
    ],
  },
]);

tables("key_reuse", [
  {
    name: "one key on two agents that both report, until one of them falls silent",
    agents: ["a", "b", "c", "d"],
    steps: [
      {
        act: (world) => secondInterface(world, "c", key("a")),
        pass: 31,
        open: [`key_reuse key:${key("a")}`],
        told: ["key_reuse open critical"],
        check: (world) => expect(world.row("key_reuse").message).toContain("a wg0, c wg1"),
      },
      { pass: 300, open: [`key_reuse key:${key("a")}`] },
      {
        act: (world) => void world.speaking.delete("c"),
        pass: 150,
        open: [],
        told: ["key_reuse open critical", "key_reuse resolved critical"],
      },
    ],
  },
  {
    name: "until one of them has another key; twice on one host is none",
    agents: ["a", "b", "c", "d"],
    steps: [
      { act: (world) => secondInterface(world, "a", key("a")), pass: 60, open: [] },
      { act: (world) => lose(world, "a", "wg1"), pass: 31, check: (world) => acknowledge(world, "iface_gone") },
      { act: (world) => secondInterface(world, "c", key("a")), pass: 31, open: [`key_reuse key:${key("a")}`] },
      { act: (world) => void (world.wireguard("c", "wg1").public_key = key("cnew")), pass: 31, open: [] },
    ],
  },
  {
    name: "the other owner is silent: the one that speaks supersedes it",
    agents: ["a", "b", "c", "d"],
    steps: [
      { act: (world) => void world.speaking.delete("a"), pass: 100, open: [] },
      { act: (world) => secondInterface(world, "c", key("a")), pass: 150, open: [] },
      { act: (world) => void world.speaking.add("a"), pass: 31, open: [`key_reuse key:${key("a")}`] },
    ],
  },
]);

/** a and b in one network, c and d in another. */
function twoNetworks(world: World): void {
  for (const id of ["a-c", "a-d", "b-c", "b-d"]) world.edgesById.delete(id);
  world.edge("c-d").network = "n2";
}

tables("address_duplicate", [
  {
    name: "one address on two agents of a network, until one gives it up",
    agents: ["a", "b", "c", "d"],
    steps: [
      { act: twoNetworks, pass: 60, open: [] },
      {
        act: (world) => void world.interface("d", "wg0").addresses.push("10.9.0.99/24"),
        pass: 31,
        open: ["address_duplicate address:n2/10.9.0.99"],
        told: ["address_duplicate open critical"],
        check: (world) => expect(world.row("address_duplicate").message).toContain("c wg0, d wg0"),
      },
      { pass: 300, open: ["address_duplicate address:n2/10.9.0.99"] },
      {
        act: (world) => void world.interface("c", "wg0").addresses.shift(),
        pass: 31,
        open: [],
        told: ["address_duplicate open critical", "address_duplicate resolved critical"],
      },
    ],
  },
  {
    name: "the same address in two networks is none, until the second is in both",
    agents: ["a", "b", "c", "d"],
    steps: [
      { act: twoNetworks, pass: 60, open: [] },
      { act: (world) => void world.interface("c", "wg0").addresses.push("10.9.0.97/24"), pass: 120, open: [] },
      {
        act: (world) => void world.connect("a", "c", { network: "n2" }),
        pass: 31,
        open: ["address_duplicate address:n2/10.9.0.97"],
      },
      { act: (world) => void world.interface("c", "wg0").addresses.pop(), pass: 31, open: [] },
    ],
  },
  {
    name: "its other owner is silent, or has it on an interface of no network: none",
    agents: ["a", "b", "c", "d"],
    steps: [
      { act: (world) => void world.interface("c", "eth0").addresses.push("10.9.0.97/24"), pass: 60, open: [] },
      { act: (world) => void world.speaking.delete("b"), pass: 100, open: [] },
      { act: (world) => void world.interface("d", "wg0").addresses.push("10.9.0.98/24"), pass: 100, open: [] },
      {
        act: (world) => void world.speaking.add("b"),
        pass: 31,
        open: ["address_duplicate address:n1/10.9.0.98"],
      },
    ],
  },
]);

/** The manager looks at who used a previous key when; `usedMsAgo` null: nobody that this process heard. */
function psk(world: World, changedAt: number, usedMsAgo: number | null): void {
  const used = new Map(usedMsAgo === null ? [] : [["a", world.now - usedMsAgo]]);
  world.do((alarms, now) => alarms.onPsk({ changed_at: changedAt, error: null, error_since_at: null }, used, now));
}

const CHANGED_AT = Date.UTC(2026, 0, 5, 12);
const HOLD_S = 7200;

tables("psk_old", [
  {
    name: "2 hours after the change it opens, not a report before; a report under the current key ends it",
    steps: [
      { act: (world) => psk(world, CHANGED_AT, 0), open: [] },
      // The world is 60 s old.
      { pass: HOLD_S - 61 },
      { act: (world) => psk(world, CHANGED_AT, 0), open: [] },
      { pass: 1 },
      { act: (world) => psk(world, CHANGED_AT, 0), open: ["psk_old agent:a"], told: ["psk_old open warning"] },
      { pass: 31, open: ["psk_old agent:a"] },
      { act: (world) => psk(world, CHANGED_AT, 0), pass: 31, open: ["psk_old agent:a"] },
      {
        act: (world) => psk(world, CHANGED_AT, 31_000),
        open: [],
        told: ["psk_old open warning", "psk_old resolved warning"],
      },
      { act: (world) => psk(world, CHANGED_AT, 62_000), pass: 60, open: [] },
    ],
  },
  {
    name: "the current key within the 2 hours: none, however long ago the change is",
    steps: [
      { act: (world) => psk(world, CHANGED_AT, 0), pass: HOLD_S },
      { act: (world) => psk(world, CHANGED_AT, HOLD_S * 1000), pass: HOLD_S, open: [], told: [] },
      { act: (world) => psk(world, CHANGED_AT, 2 * HOLD_S * 1000), open: [], told: [] },
    ],
  },
]);

test("psk_old over a restart: who has not been heard since may still use the old key, who has does not", () => {
  const world = new World(["a", "b"], { restarts: false });
  world.pass(HOLD_S);
  psk(world, CHANGED_AT, 0);
  expect(world.open()).toEqual(["psk_old agent:a"]);
  world.restart();
  psk(world, CHANGED_AT, null);
  expect(world.open()).toEqual(["psk_old agent:a"]);
  world.report("b");
  psk(world, CHANGED_AT, null);
  expect(world.open()).toEqual(["psk_old agent:a"]);
  world.report("a");
  psk(world, CHANGED_AT, null);
  expect(world.open()).toEqual([]);
});

/** What the manager's own source of the key says. */
function source(reason: string | null) {
  return (world: World) =>
    world.do((alarms, now) =>
      alarms.onPsk(
        {
          changed_at: null,
          error: reason === null ? null : { reason, message: "TXT kattila.example.com: no record" },
          error_since_at: reason === null ? null : now,
        },
        new Map(),
        now,
      ),
    );
}

/** These agents cannot get the key from its source; the others can. */
function cannotFetch(world: World, ...agents: string[]): void {
  for (const agent of world.agents) {
    world.reports.get(agent)!.delivery!.psk_error = agents.includes(agent)
      ? "TXT kattila.example.com: no record"
      : null;
  }
}

tables("psk_fetch_failed", [
  {
    name: "a record that is bad for all: the manager's alarm, told once, with the agents' beneath, though they knew first",
    steps: [
      { act: (world) => cannotFetch(world, "a", "b", "c"), pass: 1800, open: [] },
      { act: source("none"), pass: HOLD_S - 60, open: [] },
      {
        act: source("none"),
        pass: 60,
        open: [],
      },
      {
        act: source("none"),
        pass: 31,
        open: [
          "psk_fetch_failed agent:a < psk_fetch_failed",
          "psk_fetch_failed agent:b < psk_fetch_failed",
          "psk_fetch_failed agent:c < psk_fetch_failed",
          "psk_fetch_failed manager",
        ],
        told: ["psk_fetch_failed open warning"],
      },
      {
        act: (world) => (source(null)(world), cannotFetch(world)),
        pass: 31,
        open: [],
        told: ["psk_fetch_failed open warning", "psk_fetch_failed resolved warning"],
      },
    ],
  },
  {
    name: "unusable again within half an hour: 2 hours once more, for the manager and for an agent",
    steps: [
      { act: (world) => cannotFetch(world, "b"), pass: HOLD_S + 60, open: ["psk_fetch_failed agent:b"] },
      { act: (world) => cannotFetch(world), pass: 60, open: [] },
      { act: (world) => cannotFetch(world, "b"), pass: HOLD_S - 60, open: [] },
      { pass: 120, open: ["psk_fetch_failed agent:b"] },
      { act: (world) => cannotFetch(world), pass: 60, open: [] },
      { act: source("ambiguous"), pass: 60, open: ["psk_fetch_failed manager"] },
      { act: source(null), pass: 60, open: [] },
      { act: source("none"), pass: HOLD_S - 60 },
      { act: source("none"), open: [] },
    ],
  },
  {
    name: "unusable for 2 hours, not a second less; success in between begins anew; success ends it",
    steps: [
      { act: source("none"), pass: 7000, open: [] },
      { act: source(null), pass: 100, open: [] },
      { act: source("none"), pass: HOLD_S - 1, open: [] },
      { act: source("none"), open: [] },
      { pass: 1 },
      { act: source("none"), open: ["psk_fetch_failed manager"], told: ["psk_fetch_failed open warning"] },
      {
        act: source(null),
        open: [],
        told: ["psk_fetch_failed open warning", "psk_fetch_failed resolved warning"],
      },
    ],
  },
  {
    name: "ambiguous at once, also while it waits as unusable; success ends it",
    steps: [
      { act: source("none"), pass: 600, open: [] },
      { act: source("ambiguous"), open: ["psk_fetch_failed manager"], told: ["psk_fetch_failed open warning"] },
      { act: source(null), open: [] },
    ],
  },
]);

/** Of `agent`, these collectors fail now and no others. */
function failing(world: World, agent: string, ...names: string[]): void {
  const collectors = ["wireguard", "interfaces", "routes", "neighbors"].map((name) => [
    name,
    names.includes(name) ? "error: timeout" : "ok",
  ]);
  world.reports.get(agent)!.collectors = Object.fromEntries(collectors);
}

tables("collector_error", [
  {
    name: "the same collector in 3 reports; ok ends it, of that collector",
    steps: [
      { act: (world) => failing(world, "a", "routes"), pass: 60, open: [] },
      {
        act: (world) => failing(world, "a", "routes", "neighbors"),
        pass: 30,
        open: ["collector_error collector:a/routes"],
        told: ["collector_error open warning"],
      },
      { pass: 60, open: ["collector_error collector:a/neighbors", "collector_error collector:a/routes"] },
      { act: (world) => failing(world, "a", "neighbors"), pass: 30, open: ["collector_error collector:a/neighbors"] },
      {
        act: (world) => failing(world, "a"),
        pass: 30,
        open: [],
        told: [
          "collector_error open warning",
          "collector_error open warning",
          "collector_error resolved warning",
          "collector_error resolved warning",
        ],
      },
    ],
  },
  {
    name: "collectors that fail in turn, of one agent or of two, do not count together",
    steps: [
      ...["routes", "neighbors", "routes", "neighbors", "routes"].map((name) => ({
        act: (world: World) => failing(world, "a", name),
        pass: 30,
        open: [],
      })),
      { act: (world) => failing(world, "a"), pass: 30, open: [] },
      {
        act: (world) => {
          failing(world, "a", "routes");
          failing(world, "b", "routes");
        },
        pass: 60,
        open: [],
      },
      { act: (world) => failing(world, "a"), pass: 30, open: ["collector_error collector:b/routes"] },
    ],
  },
]);

tables("relay_loop", [
  {
    name: "an agent that started anew counts from 0, and what it refused since counts",
    steps: [
      { act: (world) => void (world.reports.get("a")!.delivery!.relay_refused.loop = 7), pass: 1000, open: [] },
      { act: (world) => void (world.reports.get("a")!.delivery!.relay_refused.loop = 0), pass: 60, open: [] },
      { act: (world) => void (world.reports.get("a")!.delivery!.relay_refused.loop = 6), pass: 1000, open: [] },
      {
        act: (world) => void (world.reports.get("a")!.delivery!.relay_refused.loop = 2),
        pass: 31,
        open: ["relay_loop agent:a"],
      },
    ],
  },
]);

tables("keepalive_missing", [
  {
    name: "an end that cannot start: at once",
    steps: [
      {
        act: (world) => world.set("a-b", "idle", { cause: "cannot_start_a" }),
        pass: 31,
        open: ["keepalive_missing edge:a-b"],
        told: ["keepalive_missing open info"],
      },
      { act: (world) => world.set("a-b", "idle"), pass: 31, open: [] },
    ],
  },
]);

tables("endpoint_changed", [
  {
    name: "a peer without an agent wanders: a warning as well",
    steps: [
      { act: (world) => stranger(world, "a", "s"), pass: 31, check: (world) => acknowledge(world, "peer_unknown") },
      ...[1, 2, 3, 4, 5].map((port) => ({
        act: (world: World) => void (world.wireguard("a").peers!.at(-1)!.endpoint = `203.0.113.9:${port}`),
        pass: 60,
        open: port < 5 ? [] : ["endpoint_changed edge:a-s"],
      })),
      { told: ["peer_unknown open info", "peer_unknown resolved info", "endpoint_changed open warning"] },
    ],
  },
]);

tables("peer_unknown", [
  {
    name: "a key that one host lists already appears on another: that is new there",
    steps: [
      { act: (world) => stranger(world, "a", "s"), pass: 31, check: (world) => acknowledge(world, "peer_unknown") },
      { pass: 2000, open: [] },
      { act: (world) => stranger(world, "b", "s"), pass: 31, open: [`peer_unknown node:wg:${key("s")}`] },
    ],
  },
]);
