// Each verdict of path by name, and each reason to say `unknown`: a hub h between spokes a and b, as reports tell it. What
// real packets do is test/path's.
import { expect, test } from "bun:test";
import { tracePath } from "../../manager/topology/path.ts";
import { DOUBT_TEXTS } from "../../manager/topology/path/walk.ts";
import type { EdgeState, PathResponse, Verdict } from "../../shared/api.ts";
import type { Peer } from "../../shared/report.ts";
import { card, type PathHost, peer as peerAt, plainRules, route, rule } from "./path_hosts.ts";
import { idOf, keyOf, NOW, type Sections, topologyOf } from "./path_reader.ts";

const NUMBERS: Record<string, number> = { a: 1, h: 2, b: 3 };
type Network = Record<"a" | "h" | "b", PathHost>;

const at = (name: string) => `198.51.100.${NUMBERS[name]}`;
const peer = (of: string, allowedIps: string[]) => peerAt(of, allowedIps, `${at(of)}:51820`);

function host(name: "a" | "h" | "b", peers: Peer[]): Network["a"] {
  return {
    interfaces: [
      card("eth0", "physical", [`${at(name)}/24`], 1500),
      card("wg0", "wireguard", [`10.9.0.${NUMBERS[name]}/24`], 1420),
    ],
    routes: [
      route("10.9.0.0/24", { source: `10.9.0.${NUMBERS[name]}` }),
      route("198.51.100.0/24", { interface: "eth0", source: at(name) }),
    ],
    rules: plainRules(),
    wireguard: [
      { interface: "wg0", public_key: keyOf(name), listen_port: 51820, fwmark: null, peers, status: "ok" },
    ] as NonNullable<Sections["wireguard"]>,
    firewall: [],
    forwarding: { v4: name === "h", v6: false },
  };
}

/** a and b reach each other through h; `change` breaks something. */
function network(change: (hosts: Network) => void = () => {}): Network {
  const hosts: Network = {
    a: host("a", [peer("h", ["10.9.0.0/24"])]),
    h: host("h", [peer("a", ["10.9.0.1/32"]), peer("b", ["10.9.0.3/32"])]),
    b: host("b", [peer("h", ["10.9.0.0/24"])]),
  };
  change(hosts);
  return hosts;
}

function trace(hosts: Network, to = "10.9.0.3", from = "a"): PathResponse {
  return tracePath(topologyOf(hosts), idOf(from), to, NOW);
}

const wg = (hosts: Network, name: "a" | "h" | "b") => hosts[name].wireguard![0]!;

test("delivered: over the hub, there and back, hop by hop", () => {
  const path = trace(network());
  expect(path).toMatchObject({ verdict: "delivered", source: "10.9.0.1", destination: "10.9.0.3" });
  expect(path.hops.map((hop) => hop.node)).toEqual([idOf("a"), idOf("h"), idOf("b")]);
  expect(path.hops[0]).toMatchObject({ interface: "wg0", peer: keyOf("h"), allowed_ip: "10.9.0.0/24" });
  expect(path.hops[0]!.route).toContain("10.9.0.0/24");
  expect(path.hops[1]).toMatchObject({ interface: "wg0", peer: keyOf("b"), allowed_ip: "10.9.0.3/32" });
  expect(path.back).toMatchObject({ verdict: "delivered", source: "10.9.0.3" });
  expect(path.back.hops.map((hop) => hop.node)).toEqual([idOf("b"), idOf("h"), idOf("a")]);
  expect(path.path_mtu).toBe(1420);
});

test("to an agent: its overlay address is traced", () => {
  const path = tracePath(topologyOf(network()), idOf("a"), idOf("b"), NOW);
  expect(path).toMatchObject({ verdict: "delivered", destination: "10.9.0.3" });
  expect(path.traces.length).toBeGreaterThan(0);
});

/** The last handshake of every link, at both ends, so many seconds ago; null: never. */
function shaken(hosts: Network, secondsAgo: number | null, more: Partial<Peer> = {}): void {
  const latest_handshake_at = secondsAgo === null ? null : NOW - secondsAgo * 1000;
  for (const name of ["a", "h", "b"] as const)
    for (const item of wg(hosts, name).peers!) Object.assign(item, { latest_handshake_at, ...more });
}

/** As `trace`, of hosts that have been heard for a while: a link that never shook hands is late at first. */
function traceLater(hosts: Network): PathResponse {
  return tracePath(topologyOf(hosts, NOW, NOW - 400_000), idOf("a"), "10.9.0.3", NOW);
}

const VERDICTS: {
  name: string;
  change: (hosts: Network) => void;
  there: Verdict;
  back?: Verdict;
  at?: string;
  to?: string;
}[] = [
  ...(["blackhole", "prohibit", "unreachable"] as const).map((type) => ({
    name: `blocked: a ${type} route`,
    change: (hosts: Network) => void hosts.a.routes!.push(route("10.9.0.3/32", { interface: null, type })),
    there: "blocked" as const,
    at: "a",
  })),
  {
    name: "blocked: a rule that refuses",
    change: (hosts) => void hosts.a.rules!.splice(1, 0, rule(10, null, { dst: "10.9.0.3/32", action: "prohibit" })),
    there: "blocked",
    at: "a",
  },
  {
    name: "not_forwarding: the hub does not",
    change: (hosts) => void (hosts.h.forwarding = { v4: false, v6: false }),
    there: "not_forwarding",
    at: "h",
  },
  {
    name: "no_route",
    change: (hosts) => void (hosts.a.routes = hosts.a.routes!.filter(({ interface: name }) => name !== "wg0")),
    there: "no_route",
    at: "a",
  },
  {
    name: "no_peer: the route leads into WireGuard, and no AllowedIPs cover the address",
    change: (hosts) => void (wg(hosts, "a").peers![0]!.allowed_ips = ["10.9.0.2/32"]),
    there: "no_peer",
    at: "a",
  },
  {
    name: "source_filtered: the receiver's AllowedIPs lack the source (cryptokey routing)",
    change: (hosts) => void (wg(hosts, "b").peers![0]!.allowed_ips = ["10.9.0.2/32"]),
    there: "source_filtered",
  },
  {
    name: "no_peer on the way back alone",
    change: (hosts) => {
      wg(hosts, "b").peers![0]!.allowed_ips = ["10.9.0.0/24"];
      wg(hosts, "h").peers![0]!.allowed_ips = ["10.9.0.1/32", "10.20.0.0/24"];
      hosts.b.routes!.push(route("10.9.0.1/32", { interface: null, type: "blackhole" }));
    },
    there: "delivered",
    back: "blocked",
  },
  {
    name: "rp_filtered: strict, and the way back to the source leads elsewhere",
    change: (hosts) => {
      hosts.b.interfaces!.find(({ name }) => name === "wg0")!.rp_filter = 1;
      hosts.b.routes!.push(route("10.9.0.1/32", { interface: "eth0", gateway: "198.51.100.9" }));
    },
    there: "rp_filtered",
    at: "b",
  },
  {
    name: "rp_filter loose (2) lets it in: the way back goes by another interface",
    change: (hosts) => {
      hosts.b.interfaces!.find(({ name }) => name === "wg0")!.rp_filter = 2;
      hosts.b.routes!.push(route("10.9.0.1/32", { interface: "eth0", gateway: "198.51.100.9" }));
    },
    there: "delivered",
    back: "foreign",
  },
  {
    name: "foreign: a gateway that no agent is",
    change: (hosts) => void hosts.a.routes!.push(route("0.0.0.0/0", { interface: "eth0", gateway: "198.51.100.254" })),
    there: "foreign",
    at: "a",
    to: "8.8.8.8",
  },
  {
    name: "loop: two routers on a LAN that send a packet to each other",
    change: (hosts) => {
      wg(hosts, "a").peers![0]!.allowed_ips.push("10.50.0.0/16");
      hosts.a.routes!.push(route("10.50.0.0/16"));
      hosts.b.forwarding = { v4: true, v6: false };
      for (const [name, other] of [
        ["h", "b"],
        ["b", "h"],
      ] as const) {
        const mac = (of: string) => `02:00:00:00:00:0${NUMBERS[of]}`;
        hosts[name].interfaces!.find((item) => item.name === "eth0")!.mac = mac(name);
        hosts[name].neighbors = [{ address: `198.51.100.${NUMBERS[other]}`, mac: mac(other), interface: "eth0" }];
        hosts[name].routes!.push(route("10.50.0.0/16", { interface: "eth0", gateway: `198.51.100.${NUMBERS[other]}` }));
      }
    },
    there: "loop",
    to: "10.50.0.1",
  },
];

for (const { name, change, there, back, at, to } of VERDICTS) {
  test(name, () => {
    const path = trace(network(change), to);
    expect({ verdict: path.verdict, because: path.reason }).toEqual({ verdict: there, because: path.reason });
    if (there !== "delivered") expect(path.reason).not.toBeNull();
    if (back !== undefined) expect(path.back.verdict).toBe(back);
    if (at !== undefined) expect(path.hops.at(-1)!.node).toBe(idOf(at));
  });
}

const LINKS: { name: string; state: EdgeState; change: (hosts: Network) => void }[] = [
  { name: "a handshake of 400 s ago, with keepalive", state: "stale", change: (hosts) => shaken(hosts, 400) },
  { name: "never a handshake, with keepalive", state: "never", change: (hosts) => shaken(hosts, null) },
  {
    name: "another key at the hub's address and port",
    state: "key_mismatch",
    change: (hosts) => void (wg(hosts, "a").peers![0]!.public_key = keyOf("x")),
  },
  { name: "the hub does not list it", state: "one_sided", change: (hosts) => void wg(hosts, "h").peers!.shift() },
  {
    name: "the hub's interface is",
    state: "down",
    change: (hosts) => void (hosts.h.interfaces!.find(({ name }) => name === "wg0")!.up = false),
  },
];
for (const { name, state, change } of LINKS) {
  test(`edge_down: ${state}: ${name}`, () => {
    const path = traceLater(network(change));
    expect(path.verdict).toBe("edge_down");
    expect(path.reason).toStartWith(`a: the link to h is ${state}`);
    expect(path.hops).toMatchObject([{ node: idOf("a"), interface: "wg0", state }]);
  });
}

const QUIET: { name: string; state: EdgeState; change: (hosts: Network) => void }[] = [
  { name: "late, not broken yet", state: "late", change: (hosts) => shaken(hosts, 250) },
  {
    name: "idle for hours without keepalive",
    state: "idle",
    change: (hosts) => shaken(hosts, 7200, { persistent_keepalive_s: null }),
  },
  {
    name: "unused: nobody has sent anything yet",
    state: "unused",
    change: (hosts) => shaken(hosts, null, { persistent_keepalive_s: null, rx_bytes: 0, tx_bytes: 0 }),
  },
];
for (const { name, state, change } of QUIET) {
  test(`no edge_down: ${name}`, () => {
    const path = traceLater(network(change));
    expect(path).toMatchObject({ verdict: "delivered", back: { verdict: "delivered" } });
    expect(path.hops[0]!.state).toBe(state);
  });
}

test("edge_down: an idle link of whose far end no endpoint is known cannot be woken from here", () => {
  const quiet = { persistent_keepalive_s: null };
  const path = traceLater(
    network((hosts) => {
      shaken(hosts, 7200, quiet);
      wg(hosts, "h").peers![1]!.endpoint = null;
    }),
  );
  expect(path).toMatchObject({ verdict: "edge_down", back: { verdict: "delivered" } });
  expect(path.reason).toBe("h: it knows no endpoint of b, which has not spoken yet");
});

const DOUBTS: { kind: keyof typeof DOUBT_TEXTS; name: string; change: (hosts: Network) => void; to?: string }[] = [
  {
    kind: "firewall",
    name: "a filter hook on the way",
    change: (hosts) =>
      void (hosts.h.firewall = [{ family: "inet", hook: "forward", type: "filter", policy: "accept" }]),
  },
  {
    kind: "firewall",
    name: "a nat chain on the way",
    change: (hosts) => void (hosts.h.firewall = [{ family: "ip", hook: "postrouting", type: "nat", policy: "accept" }]),
  },
  {
    kind: "firewall",
    name: "iptables' tables, of which no hook is told",
    change: (hosts) => void (hosts.h.firewall = [{ family: "ip", hook: null, type: "filter", policy: null }]),
  },
  {
    kind: "firewall",
    name: "an input hook at the far end",
    change: (hosts) => void (hosts.b.firewall = [{ family: "inet", hook: "input", type: "filter", policy: "drop" }]),
  },
  {
    kind: "firewall",
    name: "a firewall that could not be read",
    change: (hosts) => void (hosts.h.firewall = null),
  },
  {
    kind: "rule_selector",
    name: "a policy rule with a selector that is not evaluated",
    change: (hosts) => void hosts.a.rules!.splice(1, 0, rule(10, "100", { other: true })),
  },
  {
    kind: "rule_selector",
    name: "a rule that jumps to another",
    change: (hosts) => void hosts.a.rules!.splice(1, 0, rule(10, null, { action: "goto" })),
  },
  {
    kind: "routes_truncated",
    name: "routes that were cut",
    change: (hosts) => void (hosts.a.routes_truncated = 500),
  },
  {
    kind: "multipath",
    name: "multipath branches that differ",
    change: (hosts) => {
      hosts.a.routes!.push(
        route("10.9.0.3/32", {
          interface: null,
          nexthops: [
            { gateway: null, interface: "wg0", weight: 1 },
            { gateway: "198.51.100.254", interface: "eth0", weight: 1 },
          ],
        }),
      );
    },
  },
  {
    kind: "no_iproute2",
    name: "a host without iproute2, which may have rules that nobody sees",
    change: (hosts) => void (hosts.a.rules = null as never),
  },
];

for (const { kind, name, change, to } of DOUBTS) {
  test(`unknown: ${name}`, () => {
    const path = trace(network(change), to);
    expect(path.verdict).toBe("unknown");
    expect(path.reason).toStartWith(DOUBT_TEXTS[kind]);
  });
}

const MASQUERADING = { family: "ip", hook: "postrouting", type: "nat", policy: "accept" };

test("a nat chain on the way: the answer need not go to the source, so that its way is unknown, too", () => {
  const lost = (hosts: Network) => hosts.b.routes!.push(route("10.9.0.1/32", { interface: null, type: "unreachable" }));
  expect(trace(network((hosts) => void lost(hosts)))).toMatchObject({
    verdict: "delivered",
    back: { verdict: "blocked" },
  });
  for (const place of ["a", "h", "b"] as const) {
    const path = trace(
      network((hosts) => {
        lost(hosts);
        hosts[place].firewall = [MASQUERADING];
      }),
    );
    for (const way of [path, path.back]) {
      expect(way.verdict).toBe("unknown");
      expect(way.reason).toStartWith(`${DOUBT_TEXTS.firewall}: ${place}: it has a ip nat hook at postrouting`);
    }
    expect(path.back.reason).toEndWith("else blocked");
  }
  // A filter rewrites nothing: that the way back is lost is certain.
  const filtered = trace(
    network((hosts) => {
      lost(hosts);
      hosts.h.firewall = [{ family: "inet", hook: "forward", type: "filter", policy: "accept" }];
    }),
  );
  expect(filtered).toMatchObject({ verdict: "unknown", back: { verdict: "blocked" } });
});

test("what never leaves its host is lost for certain, whatever NAT is on it", () => {
  const path = trace(
    network(({ a }) => {
      a.routes!.push(route("10.9.0.3/32", { interface: null, type: "prohibit" }));
      a.firewall = [MASQUERADING, { ...MASQUERADING, hook: "prerouting" }];
    }),
  );
  expect(path.verdict).toBe("blocked");
});

const EARLY: { name: string; chain: NonNullable<PathHost["firewall"]>[number]; verdict: Verdict }[] = [
  { name: "nat at prerouting", chain: { ...MASQUERADING, hook: "prerouting" }, verdict: "unknown" },
  {
    name: "a filter at prerouting, which may set a mark",
    chain: { family: "inet", hook: "prerouting", type: "filter", policy: "accept" },
    verdict: "unknown",
  },
  { name: "iptables' nat", chain: { family: "ip", hook: null, type: "nat", policy: null }, verdict: "unknown" },
  {
    name: "iptables' raw, which may set a mark",
    chain: { family: "ip", hook: null, type: "raw", policy: null },
    verdict: "unknown",
  },
  {
    name: "iptables' filter",
    chain: { family: "ip", hook: null, type: "filter", policy: null },
    verdict: "not_forwarding",
  },
  { name: "nat at postrouting", chain: MASQUERADING, verdict: "not_forwarding" },
];
for (const { name, chain, verdict } of EARLY) {
  test(`a hub that does not forward, with ${name}: ${verdict}`, () => {
    const path = trace(
      network(({ h }) => {
        h.forwarding = { v4: false, v6: false };
        h.firewall = [chain];
      }),
    );
    expect(path.verdict).toBe(verdict);
    if (verdict === "unknown") expect(path.reason).toEndWith("else not_forwarding");
  });
}

test("rules as wg-quick makes them: what goes to the endpoint is marked, all else goes into the tunnel", () => {
  const hosts = network(({ a }) => {
    a.rules = [
      rule(0, "local"),
      rule(32764, "main", { suppress_prefixlen: 0 }),
      rule(32765, "51820", { not: true, fwmark: "0xca6c" }),
      rule(32766, "main"),
      rule(32767, "default"),
    ];
    a.routes!.push(route("0.0.0.0/0", { table: "51820" }));
    a.routes!.push(route("0.0.0.0/0", { interface: "eth0", gateway: "198.51.100.254" }));
    a.wireguard![0]!.peers![0]!.allowed_ips = ["0.0.0.0/0"];
  });
  const path = trace(hosts, "203.0.113.7");
  expect(path.hops[0]).toMatchObject({ interface: "wg0", allowed_ip: "0.0.0.0/0" });
  expect(path.hops[0]!.rule).toContain("51820");
  // The hub has no route for it.
  expect(path).toMatchObject({ verdict: "no_route" });
  // A shorter way in main, that is no default route, goes before.
  expect(trace(hosts, "198.51.100.3").hops[0]).toMatchObject({ interface: "eth0" });
});

test("the longest prefix wins, then the metric; among AllowedIPs the longest prefix", () => {
  const hosts = network(({ a }) => {
    a.routes!.push(route("10.9.0.3/32", { interface: "eth0", gateway: "198.51.100.254", metric: 50 }));
    a.routes!.push(route("10.9.0.3/32", { metric: 10, source: "10.9.0.1" }));
    a.wireguard![0]!.peers!.push(peer("b", ["10.9.0.3/32"]));
  });
  expect(trace(hosts).hops[0]).toMatchObject({ interface: "wg0", peer: keyOf("b"), allowed_ip: "10.9.0.3/32" });
});

test("a throw route goes on with the next rule", () => {
  const hosts = network(({ a }) => {
    a.rules!.splice(1, 0, rule(10, "100"));
    a.routes!.push(route("10.9.0.3/32", { table: "100", interface: null, type: "throw" }));
  });
  expect(trace(hosts)).toMatchObject({ verdict: "delivered" });
});

test("a rule by source that refuses: a connection asks again once its source is chosen", () => {
  const path = trace(
    network(({ a }) => void a.rules!.splice(1, 0, rule(70, null, { src: "10.9.0.0/24", action: "prohibit" }))),
  );
  expect(path).toMatchObject({ verdict: "blocked", source: "10.9.0.1" });
  expect(path.reason).toContain("from 10.9.0.0/24");
  // What is only passed on has its source from the start.
  const forwarded = trace(
    network(({ h }) => void h.rules!.splice(1, 0, rule(70, null, { src: "10.9.0.1/32", action: "prohibit" }))),
  );
  expect(forwarded).toMatchObject({ verdict: "blocked" });
});

test("a rule by source that leads another way: unknown where it matters whether a program binds its source first", () => {
  const elsewhere = ({ a }: Network, way: Partial<Parameters<typeof route>[1]>) => {
    a.rules!.splice(1, 0, rule(70, "77", { src: "10.9.0.0/24" }));
    a.routes!.push(route("0.0.0.0/0", { table: "77", ...way }));
  };
  const lost = trace(network((hosts) => elsewhere(hosts, { interface: "eth0", gateway: "198.51.100.254" })));
  expect(lost.verdict).toBe("unknown");
  expect(lost.reason).toStartWith(DOUBT_TEXTS.rule_selector);
  expect(lost.reason).toContain("what binds one first is foreign, what does not is delivered");
  const same = trace(network((hosts) => elsewhere(hosts, {})));
  expect(same).toMatchObject({ verdict: "delivered", source: "10.9.0.1" });
  expect(same.hops[0]!.rule).toContain("lookup 77");
});

test("a gateway that is the host's own address: the destination is looked for on the link itself", () => {
  const hosts = network(({ a, b }) => {
    const mac = (of: string) => `02:00:00:00:00:0${NUMBERS[of]}`;
    a.interfaces![0]!.mac = mac("a");
    b.interfaces![0]!.mac = mac("b");
    // Linux answers ARP for any address that it has, on whatever card.
    a.neighbors = [{ address: at("b"), mac: mac("b"), interface: "eth0" }];
    a.routes!.push(route("10.9.0.3/32", { interface: "eth0", gateway: at("a") }));
  });
  const path = trace(hosts);
  expect(path).toMatchObject({ verdict: "delivered", hops: [{ interface: "eth0" }, { node: idOf("b") }] });
  expect(path.hops[0]!.route).toBe("10.9.0.3/32 via 198.51.100.1 dev eth0");
});

test("a gateway that is the host's own address on another interface is a gateway like any", () => {
  const hosts = network(({ a }) => {
    a.interfaces!.push(card("eth1", "physical", ["203.0.113.1/24"], 1500));
    a.routes!.push(route("10.9.0.3/32", { interface: "eth1", gateway: at("a") }));
  });
  const path = trace(hosts);
  expect(path.verdict).toBe("foreign");
  expect(path.reason).toContain(at("a"));
});

test("a rule by source that leads to several next hops: unknown where they differ", () => {
  const path = trace(
    network(({ a }) => {
      a.rules!.splice(1, 0, rule(70, "77", { src: "10.9.0.0/24" }));
      const nexthops = [
        { gateway: null, interface: "wg0", weight: 1 },
        { gateway: "198.51.100.254", interface: "eth0", weight: 1 },
      ];
      a.routes!.push(route("0.0.0.0/0", { table: "77", interface: null, nexthops }));
    }),
  );
  expect(path.verdict).toBe("unknown");
  expect(path.reason).toStartWith(DOUBT_TEXTS.multipath);
});

test("a forward hook at either end leaves alone what it sends and takes itself", () => {
  const forward = [{ family: "inet", hook: "forward", type: "filter", policy: "drop" }] as const;
  const path = trace(network(({ a, b }) => void (a.firewall = b.firewall = [...forward])));
  expect(path).toMatchObject({ verdict: "delivered", back: { verdict: "delivered" } });
});

test("without a source in the route: the first address of the way out, not a later one", () => {
  const path = trace(
    network(({ a }) => {
      a.interfaces![1]!.addresses = ["10.9.0.1/24", "10.9.0.200/24", "10.44.0.1/16"];
      a.routes![0]!.source = null;
    }),
  );
  expect(path).toMatchObject({ verdict: "delivered", source: "10.9.0.1" });
});

test("a rule by the interface that a packet came in by: not for the host's own, for what it passes on", () => {
  const inside = rule(10, null, { iif: "wg0", action: "blackhole" });
  expect(trace(network(({ a }) => void a.rules!.splice(1, 0, inside))).verdict).toBe("delivered");
  const hub = trace(network(({ h }) => void h.rules!.splice(1, 0, inside)));
  expect(hub.verdict).toBe("blocked");
  expect(hub.hops.at(-1)!.node).toBe(idOf("h"));
});
