// Alarm rules as tables of timed steps (steps.ts) on a small fleet.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { TopologyEdge } from "../../shared/api.ts";
import { ALARM_CODES } from "../../manager/alarms/rule.ts";
import { RULES } from "../../manager/alarms/rules.ts";
import { acknowledge, type Table, tables } from "./steps.ts";
import { card, key, peer, World } from "./world.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

/** Edge alarms: opens after its hold, not by late reports, resolves as it should, and an `unknown` edge changes nothing. */
function edgeTable(
  code: string,
  state: TopologyEdge["state"],
  changes: Partial<TopologyEdge>,
  { severity = "warning", hold, resolve }: { severity?: string; hold: number; resolve: number },
): Table[] {
  const alarm = `${code} edge:a-b`;
  return [
    {
      name: `${code} opens after ${hold} reports, stays through unknown, resolves after ${resolve}`,
      steps: [
        { act: (world) => world.set("a-b", state, changes), pass: 30 * (hold - 1) - 1, open: [] },
        { pass: 61, open: [alarm], told: [`${code} open ${severity}`] },
        { act: (world) => world.set("a-b", "unknown"), pass: 300, open: [alarm] },
        { act: (world) => world.set("a-b", "up"), pass: 30 * (resolve - 1) - 1, open: [alarm] },
        { pass: 61, open: [], told: [`${code} open ${severity}`, `${code} resolved ${severity}`] },
      ],
    },
    {
      name: `${code} is neither opened nor closed by late or superseded reports`,
      steps: [
        {
          act: (world) => {
            world.late = true;
            world.set("a-b", state, changes);
          },
          pass: 300,
          open: [],
        },
        {
          act: (world) => {
            world.late = false;
            world.superseded = true;
          },
          pass: 31,
          open: [],
        },
        { act: (world) => void (world.superseded = false), pass: 120, open: [alarm] },
        {
          act: (world) => {
            world.late = true;
            world.set("a-b", "up");
          },
          pass: 300,
          open: [alarm],
        },
        { act: (world) => void (world.late = false), pass: 180, open: [] },
      ],
    },
  ];
}

test("every code of the table is a rule, once, and explains itself", () => {
  expect(RULES.map((rule) => rule.code)).toEqual([...ALARM_CODES]);
  for (const { help } of RULES) {
    for (const text of Object.values(help)) expect(text.length).toBeGreaterThan(1);
  }
});

tables("edges", [
  ...edgeTable(
    "peer_stale",
    "stale",
    { cause: "nothing_returns", reason: "nothing comes back" },
    { hold: 2, resolve: 2 },
  ),
  ...edgeTable("peer_never", "never", { cause: "undecided" }, { hold: 2, resolve: 2 }),
  {
    name: "a tunnel just configured: never for less than 20 s is no alarm, however many reports that is; nor is the partition",
    agents: ["a", "b"],
    intervalS: 2,
    steps: [
      { act: (world) => world.set("a-b", "never", { cause: "undecided" }), pass: 19, open: [] },
      { act: (world) => world.set("a-b", "up"), pass: 60, open: [], told: [] },
      { act: (world) => world.set("a-b", "never", { cause: "undecided" }), pass: 18, open: [] },
      {
        pass: 8,
        open: ["partition network:n1 < peer_never", "peer_never edge:a-b"],
        told: ["peer_never open critical"],
      },
    ],
  },
  ...edgeTable("lossy", "lossy", { cause: "lossy" }, { hold: 3, resolve: 3 }),
  ...edgeTable("cannot_send", "stale", { cause: "cannot_send_a" }, { hold: 3, resolve: 3 }),
  ...edgeTable("tunnel_loop", "up", { cause: "tunnel_loop" }, { severity: "critical", hold: 3, resolve: 3 }),
  ...edgeTable("peer_one_sided", "one_sided", { cause: "missing_at_b" }, { hold: 3, resolve: 1 }),
  {
    name: "one_sided for want of a view, and idle, late and unused tunnels, are no alarm",
    steps: [
      { act: (world) => world.set("a-b", "one_sided", { cause: "view_unavailable" }), pass: 300, open: [] },
      { act: (world) => world.set("a-b", "idle"), pass: 300, open: [] },
      { act: (world) => world.set("a-b", "unused"), pass: 300, open: [] },
      { act: (world) => world.set("a-b", "late"), pass: 300, open: [], told: [] },
    ],
  },
  {
    name: "an edge that ends takes its alarm with it",
    steps: [
      { act: (world) => world.set("a-b", "stale"), pass: 90, open: ["peer_stale edge:a-b"] },
      { act: (world) => void world.edgesById.delete("a-b"), pass: 90, open: [] },
    ],
  },
  {
    name: "the last path between two parts is critical, with the partition beneath; two paths cut are a partition with them beneath",
    agents: ["a", "b"],
    steps: [
      {
        act: (world) => world.set("a-b", "stale"),
        pass: 120,
        open: ["partition network:n1 < peer_stale", "peer_stale edge:a-b"],
        told: ["peer_stale open critical"],
      },
      { act: (world) => world.set("a-b", "up"), pass: 120, open: [] },
    ],
  },
  {
    name: "partition: the network in two parts is the cause of the edges between them",
    steps: [
      {
        act: (world) => {
          world.set("a-c", "stale");
          world.set("b-c", "stale");
        },
        pass: 120,
        open: ["partition network:n1", "peer_stale edge:a-c < partition", "peer_stale edge:b-c < partition"],
        told: ["partition open critical"],
        check: (world) => expect(world.row("partition").message).toContain("c cut off from a, b"),
      },
      {
        act: (world) => {
          world.set("a-c", "up");
          world.set("b-c", "up");
        },
        pass: 120,
        open: [],
        told: ["partition open critical", "partition resolved critical"],
      },
    ],
  },
  {
    name: "endpoint_outdated: the dialled address is where nobody sees it; the stale edge hangs beneath",
    steps: [
      {
        act: (world) => {
          world.set("a-b", "stale");
          world.edge("a-b").b.endpoint = "192.168.50.7:51820";
          world.interface("b", "eth0").addresses = ["192.168.50.200/24"];
          world.edge("b-c").a.endpoint = "192.168.50.200:51820";
        },
        pass: 120,
        open: ["endpoint_outdated edge:a-b", "peer_stale edge:a-b < endpoint_outdated"],
        told: ["endpoint_outdated open warning"],
      },
      { act: (world) => world.set("a-b", "up"), pass: 120, open: [] },
    ],
  },
  {
    name: "endpoint_changed opens at the fourth change in an hour, and ends after an hour of one",
    steps: [
      ...[1, 2, 3].map((port) => ({
        act: (world: World) => void (world.wireguard("a").peers![0]!.endpoint = `192.168.50.9:${port}`),
        pass: 60,
        open: [],
      })),
      {
        act: (world) => void (world.wireguard("a").peers![0]!.endpoint = "192.168.50.9:4"),
        pass: 60,
        open: ["endpoint_changed edge:a-b"],
      },
      { pass: 3500, open: ["endpoint_changed edge:a-b"] },
      { pass: 120, open: [] },
    ],
  },
  {
    name: "endpoint_changed: four changes over more than an hour are roaming",
    steps: [1, 2, 3, 4, 5].map((port) => ({
      act: (world: World) => void (world.wireguard("a").peers![0]!.endpoint = `192.168.50.9:${port}`),
      pass: 1300,
      open: [],
    })),
  },
  {
    name: "keepalive_missing: an end that cannot start; and an end behind NAT whose endpoint moved",
    steps: [
      {
        act: (world) => world.set("a-b", "idle", { cause: "cannot_start_a" }),
        pass: 91,
        open: ["keepalive_missing edge:a-b"],
        told: ["keepalive_missing open info"],
      },
      { act: (world) => world.set("a-b", "up"), pass: 31, open: [] },
      // It looks so until the moved host's own next report.
      {
        act: (world) => {
          world.edge("b-c").b.nat = true;
          world.edge("b-c").b.persistent_keepalive_s = null;
          world.wireguard("b").peers![1]!.endpoint = "192.168.50.200:51820";
        },
        pass: 31,
        open: [],
      },
      { act: (world) => void (world.edge("b-c").b.nat = false), pass: 91, open: [] },
      {
        act: (world) => {
          Object.assign(world.edge("b-c").b, { nat: true, persistent_keepalive_s: null });
          world.wireguard("b").peers![1]!.endpoint = "192.168.50.99:1024";
        },
        pass: 91,
        open: ["keepalive_missing edge:b-c"],
      },
      { act: (world) => void (world.edge("b-c").b.persistent_keepalive_s = 25), pass: 31, open: [] },
    ],
  },
  {
    name: "foreign_down: one alarm for the node, only when all who list it hear nothing",
    steps: [
      {
        act: (world) => {
          const foreign = `wg:${key("f")}`;
          world.connect("a", foreign, { id: "a-f", state: "stale" });
          world.connect("b", foreign, { id: "b-f", state: "up" });
        },
        pass: 120,
        open: [],
      },
      {
        act: (world) => world.set("b-f", "stale"),
        pass: 90,
        open: [`foreign_down node:wg:${key("f")}`],
        told: ["foreign_down open info"],
      },
      { act: (world) => world.set("a-f", "up"), pass: 60, open: [] },
    ],
  },
  {
    name: "foreign_down: a warning once an operator expects the peer, and an info again when no more",
    steps: [
      {
        act: (world) => {
          world.expected.add(key("f"));
          world.connect("a", `wg:${key("f")}`, { id: "a-f", state: "stale" });
        },
        pass: 90,
        open: [`foreign_down node:wg:${key("f")}`],
        told: ["foreign_down open warning"],
      },
      {
        act: (world) => void world.expected.delete(key("f")),
        pass: 60,
        check: (world) => expect(world.row("foreign_down").severity).toBe("info"),
      },
      {
        act: (world) => void world.expected.add(key("f")),
        pass: 60,
        check: (world) => expect(world.row("foreign_down").severity).toBe("warning"),
      },
      { act: (world) => world.set("a-f", "up"), pass: 60, open: [] },
    ],
  },
  {
    name: "peer_unknown: none for a key that an operator expects",
    steps: [
      {
        act: (world) => {
          world.expected.add(key("phone"));
          world.connect("a", `wg:${key("phone")}`, { id: "a-p", state: "unused" });
          world.wireguard("a").peers!.push(peer("phone", { endpoint: null }));
        },
        pass: 90,
        open: [],
      },
    ],
  },
  {
    name: "peer_unknown: a stranger's key, until acknowledged; not a key that an agent owns",
    steps: [
      {
        act: (world) => {
          world.connect("a", `wg:${key("stranger")}`, { id: "a-s", state: "unused" });
          world.wireguard("a").peers!.push(peer("stranger", { endpoint: null }));
        },
        pass: 31,
        open: [`peer_unknown node:wg:${key("stranger")}`],
      },
      {
        act: (world) => void world.wireguard("a").peers!.pop(),
        pass: 60,
        check: (world) => acknowledge(world, "peer_unknown"),
      },
      // The peer that went again was known by then.
      { open: [`peer_removed peer:a/wg0/${key("stranger")}`], pass: 60 },
    ],
  },
]);

tables("configuration", [
  {
    name: "peer_removed: a known peer goes, and its one-sided edge hangs beneath; back",
    steps: [
      {
        act: (world) => {
          world.wireguard("b").peers!.splice(0, 1);
          world.set("a-b", "one_sided", { cause: "missing_at_b" });
        },
        pass: 120,
        open: [`peer_one_sided edge:a-b < peer_removed`, `peer_removed peer:b/wg0/${key("a")}`],
        told: ["peer_removed open warning"],
      },
      {
        act: (world) => {
          world.wireguard("b").peers!.unshift(peer("a"));
          world.set("a-b", "up");
        },
        pass: 60,
        open: [],
        told: ["peer_removed open warning", "peer_removed resolved warning"],
      },
    ],
  },
  {
    name: "peer_removed: acknowledged ends it, though the peer stays away; a rekeyed peer is none",
    steps: [
      { act: (world) => void world.wireguard("b").peers!.splice(0, 1), pass: 60 },
      { check: (world) => acknowledge(world, "peer_removed"), open: [`peer_removed peer:b/wg0/${key("a")}`] },
      { pass: 300, open: [] },
      {
        act: (world) => void (world.wireguard("c").peers![0]!.public_key = key("other")),
        pass: 60,
        check: (world) => expect(world.open().filter((text) => text.startsWith("peer_removed"))).toEqual([]),
      },
    ],
  },
  {
    name: "peer_removed in a late report waits for a fresh one; withdrawn if that has the peer again",
    steps: [
      {
        act: (world) => {
          world.late = true;
          world.wireguard("b").peers!.splice(0, 1);
        },
        pass: 300,
        open: [],
      },
      { act: (world) => void (world.late = false), pass: 31, open: [`peer_removed peer:b/wg0/${key("a")}`] },
      { act: (world) => void world.wireguard("b").peers!.unshift(peer("a")), pass: 31, open: [] },
      {
        act: (world) => {
          world.late = true;
          world.wireguard("b").peers!.splice(0, 1);
        },
        pass: 90,
        open: [],
      },
      {
        act: (world) => {
          world.late = false;
          world.wireguard("b").peers!.unshift(peer("a"));
        },
        pass: 90,
        open: [],
        told: ["peer_removed open warning", "peer_removed resolved warning"],
      },
    ],
  },
  {
    name: "iface_gone: the interface, not its peers; what it breaks hangs beneath",
    steps: [
      {
        act: (world) => {
          const report = world.reports.get("b")!;
          report.wireguard = [];
          report.interfaces = report.interfaces!.filter((item) => item.name !== "wg0");
          world.set("a-b", "one_sided", { cause: "missing_at_b" });
          world.set("b-c", "one_sided", { cause: "missing_at_a" });
        },
        pass: 120,
        open: [
          "iface_gone interface:b/wg0",
          "partition network:n1 < iface_gone",
          "peer_one_sided edge:a-b < iface_gone",
          "peer_one_sided edge:b-c < iface_gone",
        ],
        told: ["iface_gone open critical"],
      },
    ],
  },
  {
    name: "a section that could not be read is no loss",
    steps: [
      {
        act: (world) => {
          world.wireguard("b").peers = null;
          world.wireguard("b").status = "error: timeout";
        },
        pass: 29,
        open: [],
      },
      { pass: 90, open: ["collector_error collector:b/wireguard/wg0"] },
    ],
  },
  {
    name: "iface_down: a WireGuard interface, and the card under tunnels by its carrier; acknowledged ends it",
    steps: [
      { act: (world) => void (world.interface("b", "wg0").up = false), pass: 31, open: ["iface_down interface:b/wg0"] },
      { act: (world) => void (world.interface("b", "wg0").up = true), pass: 31, open: [] },
      {
        act: (world) => {
          for (const item of world.wireguard("c").peers!) item.via = { interface: "eth0", source: null };
        },
        pass: 31,
        open: [],
      },
      {
        act: (world) => {
          world.interface("c", "eth0").carrier = false;
          for (const item of world.wireguard("c").peers!) item.via = null;
          world.set("a-c", "stale");
          world.set("b-c", "stale");
        },
        pass: 120,
        open: [
          "iface_down interface:c/eth0",
          "partition network:n1 < iface_down",
          "peer_stale edge:a-c < iface_down",
          "peer_stale edge:b-c < iface_down",
        ],
      },
    ],
  },
  {
    name: "allowed_ips_moved: WireGuard gave b's prefix to c; and a peer left with none",
    steps: [
      {
        act: (world) => {
          const [b, c] = world.wireguard("a").peers!;
          c!.allowed_ips.push(...b!.allowed_ips.splice(0));
        },
        pass: 31,
        open: [`allowed_ips_moved peer:a/wg0/${key("b")}`],
        check: (world) => expect(world.row("allowed_ips_moved").message).toContain("went from b to c"),
      },
      {
        act: (world) => {
          const [b, c] = world.wireguard("a").peers!;
          b!.allowed_ips.push(c!.allowed_ips.pop()!);
        },
        pass: 31,
        open: [],
      },
      {
        act: (world) => void (world.wireguard("b").peers![0]!.allowed_ips = []),
        pass: 31,
        open: [`allowed_ips_moved peer:b/wg0/${key("a")}`],
      },
    ],
  },
  {
    name: "allowed_ips_overlap on two interfaces, /0 left out; allowed_ips_unrouted, with a route again",
    steps: [
      {
        act: (world) => {
          const report = world.reports.get("b")!;
          report.interfaces!.push({ ...card("wg1", ["10.8.0.1/24"]), kind: "wireguard", mtu: 1420 });
          report.wireguard!.push({
            interface: "wg1",
            public_key: key("b1"),
            listen_port: 51821,
            fwmark: null,
            peers: [peer("c", { allowed_ips: ["0.0.0.0/0"] })],
          });
          world.wireguard("b").peers![0]!.allowed_ips.push("0.0.0.0/0");
        },
        pass: 60,
        open: [],
      },
      {
        act: (world) => void world.wireguard("b", "wg1").peers![0]!.allowed_ips.push("10.9.0.97/32"),
        pass: 31,
        open: ["allowed_ips_overlap agent:b", "allowed_ips_unrouted interface:b/wg1"],
      },
      {
        act: (world) => {
          world.wireguard("b", "wg1").peers![0]!.allowed_ips = ["10.20.0.0/16"];
          world.reports.get("b")!.routes!.push({
            destination: "10.20.7.0/24",
            gateway: null,
            interface: "wg1",
            metric: 0,
          });
        },
        pass: 31,
        open: [],
      },
      {
        act: (world) => void world.reports.get("b")!.routes!.pop(),
        pass: 31,
        open: ["allowed_ips_unrouted interface:b/wg1"],
      },
    ],
  },
  {
    name: "mtu_too_large by 60 and 80 bytes; config: its own key among the peers, or it dials itself",
    steps: [
      {
        act: (world) => {
          world.interface("a", "wg0").mtu = 1440;
          for (const item of world.wireguard("a").peers!) item.via = { interface: "eth0", source: null };
        },
        pass: 31,
        open: [],
      },
      {
        act: (world) => void (world.wireguard("a").peers![0]!.endpoint = "[2001:db8::1]:51820"),
        pass: 31,
        open: ["mtu_too_large interface:a/wg0"],
      },
      { act: (world) => void (world.interface("a", "wg0").mtu = 1420), pass: 31, open: [] },
      {
        act: (world) => void world.wireguard("c").peers!.push(peer("c", { allowed_ips: [] })),
        pass: 31,
        open: ["config interface:c/wg0"],
      },
      { act: (world) => void world.wireguard("c").peers!.pop(), pass: 31, open: [] },
      {
        act: (world) => {
          const [address] = world.interface("c", "eth0").addresses[0]!.split("/");
          world.wireguard("c").peers![0]!.endpoint = `${address}:${world.wireguard("c").listen_port}`;
        },
        pass: 31,
        open: ["config interface:c/wg0"],
      },
    ],
  },
  {
    name: "mtu_too_large: 60 bytes fit over IPv4, one more does not",
    steps: [
      {
        act: (world) => {
          world.interface("a", "wg0").mtu = 1440;
          for (const item of world.wireguard("a").peers!) {
            item.via = { interface: "eth0", source: null };
            item.endpoint = "192.168.50.2:51820";
          }
        },
        pass: 31,
        open: [],
      },
      {
        act: (world) => void (world.interface("a", "wg0").mtu = 1441),
        pass: 31,
        open: ["mtu_too_large interface:a/wg0"],
      },
    ],
  },
  {
    name: "iface_down: the card of the default route; acknowledged ends it",
    steps: [
      {
        act: (world) =>
          void world.reports.get("c")!.routes!.push({
            destination: "0.0.0.0/0",
            gateway: "192.168.50.254",
            interface: "eth0",
            metric: 0,
          }),
        pass: 31,
        open: [],
      },
      {
        act: (world) => void (world.interface("c", "eth0").carrier = false),
        pass: 31,
        open: ["iface_down interface:c/eth0"],
      },
      { act: (world) => acknowledge(world, "iface_down"), pass: 60, open: [] },
    ],
  },
  {
    name: "key_reuse and key_mismatch: one alarm for the interface; address_duplicate",
    steps: [
      {
        act: (world) => void (world.wireguard("c").public_key = key("a")),
        pass: 31,
        open: ["config interface:c/wg0 < key_reuse", `key_reuse key:${key("a")}`],
        told: ["key_reuse open critical"],
      },
      { act: (world) => void (world.wireguard("c").public_key = key("c")), pass: 31, open: [] },
      {
        act: (world) => {
          world.wireguard("b").public_key = key("bnew");
          world.set("a-b", "key_mismatch", { cause: "wrong_key" });
          world.set("b-c", "key_mismatch", { cause: "wrong_key" });
        },
        pass: 90,
        open: ["key_mismatch interface:b/wg0", "partition network:n1 < key_mismatch"],
        check: (world) => expect(world.row("key_mismatch").message).toContain("a, c list another key for b wg0"),
      },
      {
        act: (world) => {
          world.wireguard("b").public_key = key("b");
          world.set("a-b", "up");
          world.set("b-c", "up");
        },
        pass: 60,
        open: [],
      },
      {
        act: (world) => void world.interface("c", "wg0").addresses.push("10.9.0.97/24"),
        pass: 31,
        open: ["address_duplicate address:n1/10.9.0.97"],
      },
      { act: (world) => void world.interface("c", "wg0").addresses.pop(), pass: 31, open: [] },
    ],
  },
  {
    name: "a configuration that was copied whole, key and address: one alarm, with what follows beneath",
    steps: [
      {
        act: (world) => {
          world.wireguard("c").public_key = key("a");
          world.interface("c", "wg0").addresses = ["10.9.0.97/24"];
        },
        pass: 60,
        open: [
          "address_duplicate address:n1/10.9.0.97 < key_reuse",
          "config interface:c/wg0 < key_reuse",
          `key_reuse key:${key("a")}`,
        ],
        told: ["key_reuse open critical"],
      },
      {
        act: (world) => {
          world.wireguard("c").public_key = key("c");
          world.interface("c", "wg0").addresses = ["10.9.0.99/24"];
        },
        pass: 31,
        open: [],
      },
    ],
  },
  {
    name: "a key changed at both ends of its tunnels: one end reports of it first, and that is no key_mismatch",
    steps: [
      {
        act: (world) => {
          world.wireguard("a").public_key = key("anew");
          for (const id of ["a-b", "a-c"]) world.set(id, "key_mismatch", { cause: "wrong_key" });
          world.report("a");
          for (const other of ["b", "c"]) {
            for (const peer of world.wireguard(other).peers!)
              if (peer.public_key === key("a")) peer.public_key = key("anew");
          }
          world.set("a-b", "up");
          world.report("b");
          world.set("a-c", "up");
        },
        pass: 300,
        open: [],
        told: [],
      },
    ],
  },
]);

tables("layers", [
  {
    name: "a tunnel in a VXLAN that rides on a tunnel: the lowest that is broken is told, what it carries hangs beneath",
    agents: ["a", "b"],
    steps: [
      {
        act: (world) => {
          const outer = world.edge("a-b");
          const over = (node: string, name: string, edge: string) => ({ node, interface: name, edge });
          const vxlan = { layer: "tunnel" as const, rides_on: [over("a", "wg0", "a-b"), over("b", "wg0", "a-b")] };
          world.edgesById.set("vxlan", { ...outer, id: "vxlan", network: null, ...vxlan });
          const rides = [over("a", "vx0", "vxlan"), over("b", "vx0", "vxlan")];
          world.edgesById.set("inner", { ...outer, id: "inner", network: "n2", rides_on: rides });
          for (const id of ["inner", "a-b"]) world.set(id, "stale", { cause: "undecided" });
        },
        pass: 90,
        open: [
          "partition network:n1 < peer_stale",
          "partition network:n2 < peer_stale",
          "peer_stale edge:a-b",
          "peer_stale edge:inner < peer_stale",
        ],
        told: ["peer_stale open critical"],
      },
    ],
  },
]);

tables("agents", [
  {
    name: "agent_down after 10 intervals, critical after 30; any report ends it, a late one too",
    steps: [
      { act: (world) => void world.speaking.delete("c"), pass: 280, open: [] },
      { pass: 31, open: ["agent_down agent:c"], told: ["agent_down open warning"] },
      { pass: 600, told: ["agent_down open warning", "agent_down open critical"] },
      {
        act: (world) => {
          world.late = true;
          world.speaking.add("c");
        },
        pass: 31,
        open: [],
        told: ["agent_down open warning", "agent_down open critical", "agent_down resolved critical"],
      },
    ],
  },
  {
    name: "agent stopped, host alive: peers shake hands with it; never critical",
    steps: [
      { act: (world) => void world.speaking.delete("c"), pass: 200 },
      {
        act: (world) => void (world.edge("a-c").latest_handshake_at = world.now),
        pass: 800,
        told: ["agent_down open warning"],
        check: (world) => expect(world.row("agent_down").message).toContain("host alive"),
      },
    ],
  },
  {
    name: "a host dies in a mesh of 20: one message, its 19 edges beneath, and they end quietly",
    agents: [..."abcdefghijklmnopqrst"],
    steps: [
      { act: (world) => void world.speaking.delete("t"), pass: 100, open: [] },
      {
        act: (world) => {
          for (const id of world.edgesById.keys())
            if (id.endsWith("-t")) world.set(id, "stale", { cause: "nothing_returns" });
        },
        pass: 260,
        told: ["agent_down open warning"],
        check: (world) => {
          expect(world.open().filter((text) => /^peer_stale edge:.-t < agent_down$/.test(text)).length).toBe(19);
          expect(world.open().length).toBe(20);
        },
      },
      {
        act: (world) => void world.speaking.add("t"),
        pass: 60,
        told: ["agent_down open warning", "agent_down resolved warning"],
      },
      {
        act: (world) => {
          for (const id of world.edgesById.keys()) if (id.endsWith("-t")) world.set(id, "up");
        },
        pass: 120,
        open: [],
        told: ["agent_down open warning", "agent_down resolved warning"],
      },
    ],
  },
  {
    name: "an effect that stays after its cause is gone is told of, later",
    steps: [
      { act: (world) => void world.speaking.delete("c"), pass: 100 },
      {
        act: (world) => {
          world.set("a-c", "stale");
          world.set("b-c", "up");
        },
        pass: 300,
        open: ["agent_down agent:c", "peer_stale edge:a-c < agent_down"],
      },
      {
        act: (world) => void world.speaking.add("c"),
        pass: 200,
        open: ["peer_stale edge:a-c"],
        told: ["agent_down open warning", "agent_down resolved warning"],
      },
      { pass: 100, told: ["agent_down open warning", "agent_down resolved warning", "peer_stale open warning"] },
      {
        act: (world) => world.set("a-c", "up"),
        pass: 100,
        open: [],
        told: [
          "agent_down open warning",
          "agent_down resolved warning",
          "peer_stale open warning",
          "peer_stale resolved warning",
        ],
      },
    ],
  },
  {
    name: "manager_isolated instead of the many; those who stay away are down by themselves",
    agents: ["a", "b", "c", "d"],
    steps: [
      {
        act: (world) => void world.speaking.clear(),
        pass: 130,
        open: ["manager_isolated manager"],
        told: ["manager_isolated open critical"],
      },
      { pass: 600, open: ["manager_isolated manager"], told: ["manager_isolated open critical"] },
      {
        act: (world) => {
          for (const agent of ["a", "b"]) world.speaking.add(agent);
        },
        pass: 60,
        open: [],
        told: ["manager_isolated open critical", "manager_isolated resolved critical"],
      },
      { pass: 200, check: (world) => expect(world.open()).toEqual(["agent_down agent:c", "agent_down agent:d"]) },
    ],
  },
  {
    name: "site_down: all behind one gateway, the others not; its agents hang beneath",
    agents: ["a", "b", "c", "d", "e"],
    steps: [
      {
        act: (world) => {
          for (const agent of ["d", "e"]) {
            const report = world.reports.get(agent)!;
            report.routes!.push({ destination: "0.0.0.0/0", gateway: "192.168.1.1", interface: "eth0", metric: 0 });
            report.neighbors!.push({ address: "192.168.1.1", mac: "02:00:00:00:00:01", interface: "eth0" });
          }
          // The same gateway address, another gateway.
          const elsewhere = world.reports.get("a")!;
          elsewhere.routes!.push({ destination: "0.0.0.0/0", gateway: "192.168.1.1", interface: "eth0", metric: 0 });
          elsewhere.neighbors!.push({ address: "192.168.1.1", mac: "02:00:00:00:00:99", interface: "eth0" });
        },
        pass: 60,
        open: [],
      },
      {
        act: (world) => {
          for (const agent of ["d", "e"]) world.speaking.delete(agent);
        },
        pass: 120,
        open: ["site_down site:gateway 192.168.1.1 (02:00:00:00:00:01)"],
      },
      {
        pass: 300,
        told: ["site_down open critical"],
        check: (world) => expect(world.open().filter((text) => text.endsWith("< site_down")).length).toBe(2),
      },
      { act: (world) => void world.speaking.add("d"), pass: 31, open: ["agent_down agent:e"] },
      {
        act: (world) => void world.speaking.add("e"),
        pass: 31,
        open: [],
        told: ["site_down open critical", "site_down resolved critical"],
      },
    ],
  },
  {
    name: "two of five that share nothing are two alarms",
    agents: ["a", "b", "c", "d", "e"],
    steps: [
      {
        act: (world) => {
          for (const agent of ["d", "e"]) world.speaking.delete(agent);
        },
        pass: 340,
        open: ["agent_down agent:d", "agent_down agent:e"],
      },
    ],
  },
  {
    name: "an agent that was reached by way of one that is down hangs under it",
    agents: ["a", "b", "c", "d"],
    steps: [
      { act: (world) => void world.relays.set("d", ["c"]), pass: 100, open: ["relay_in_use agent:d"] },
      {
        act: (world) => {
          world.speaking.delete("c");
          world.speaking.delete("d");
        },
        pass: 340,
        open: ["agent_down agent:c", "agent_down agent:d < agent_down", "relay_in_use agent:d"],
      },
    ],
  },
  {
    name: "relay_in_use: 3 in a row and 3 direct, late ones count; backlog; data_lost until drained",
    steps: [
      {
        act: (world) => {
          world.late = true;
          world.relays.set("a", ["b"]);
        },
        pass: 50,
        open: [],
      },
      { pass: 41, open: ["relay_in_use agent:a"] },
      { act: (world) => void world.relays.delete("a"), pass: 50, open: ["relay_in_use agent:a"] },
      { pass: 41, open: [] },
      {
        act: (world) =>
          void Object.assign(world.reports.get("b")!.delivery!, { outbox_bytes: 501, outbox_reports: 50 }),
        pass: 31,
        open: ["backlog agent:b"],
      },
      {
        act: (world) => void (world.reports.get("b")!.dropped = 3),
        pass: 31,
        open: ["backlog agent:b", "data_lost agent:b < backlog"],
      },
      {
        act: (world) =>
          void Object.assign(world.reports.get("b")!.delivery!, { outbox_bytes: 400, outbox_reports: 40 }),
        pass: 31,
        open: ["backlog agent:b", "data_lost agent:b < backlog"],
      },
      {
        act: (world) => void Object.assign(world.reports.get("b")!.delivery!, { outbox_bytes: 0, outbox_reports: 0 }),
        pass: 31,
        open: [],
      },
    ],
  },
  {
    name: "relay_loop and hop_limit for 15 minutes after the last refusal",
    steps: [
      {
        act: (world) => void (world.reports.get("b")!.delivery!.relay_refused.loop = 2),
        pass: 31,
        open: ["relay_loop agent:b"],
      },
      {
        act: (world) => void (world.reports.get("b")!.delivery!.relay_refused.hop_limit = 2),
        pass: 31,
        open: ["hop_limit agent:b", "relay_loop agent:b"],
      },
      { pass: 820, open: ["hop_limit agent:b", "relay_loop agent:b"] },
      { pass: 120, open: [] },
    ],
  },
  {
    name: "clock_skew: over 60 s, critical over 300 s, until 3 reports under 30 s",
    steps: [
      { act: (world) => void world.skewMs.set("a", 59_000), pass: 60, open: [] },
      {
        act: (world) => void world.skewMs.set("a", -61_000),
        pass: 31,
        open: ["clock_skew agent:a"],
        told: ["clock_skew open warning"],
      },
      {
        act: (world) => void world.skewMs.set("a", -301_000),
        pass: 31,
        told: ["clock_skew open warning", "clock_skew open critical"],
      },
      { act: (world) => void world.skewMs.set("a", -40_000), pass: 200, open: ["clock_skew agent:a"] },
      { act: (world) => void world.skewMs.set("a", 1000), pass: 59, open: ["clock_skew agent:a"] },
      { pass: 40, open: [] },
    ],
  },
  {
    name: "id_clone: another key; two boots in turn, not a reboot; 10 minutes of one end it",
    steps: [
      { act: (world) => void (world.reports.get("a")!.boot_id = "boot-2"), pass: 61, open: [] },
      { act: (world) => void (world.reports.get("a")!.boot_id = "boot-1"), pass: 31, open: ["id_clone agent:a"] },
      { act: (world) => void (world.reports.get("a")!.boot_id = "boot-2"), pass: 300, open: ["id_clone agent:a"] },
      { pass: 330, open: [] },
      {
        act: (world) => world.do((alarms, now) => alarms.onIdConflict("b", { hostname: "copy" }, now)),
        open: ["id_clone agent:b"],
      },
      { pass: 620, open: [] },
      { act: (world) => void (world.reports.get("c")!.boot_id = "boot-2"), pass: 700, open: [] },
      { act: (world) => void (world.reports.get("c")!.boot_id = "boot-1"), pass: 60, open: [] },
    ],
  },
  {
    name: "replay until acknowledged; beneath a clone when there is one",
    steps: [
      {
        act: (world) => world.do((alarms, now) => alarms.onReplay("a", { tick: 4, verdict: "tick_seen" }, now)),
        pass: 3600,
        open: ["replay agent:a"],
      },
      { act: (world) => acknowledge(world, "replay"), open: [] },
      {
        act: (world) => {
          world.do((alarms, now) => alarms.onIdConflict("b", { hostname: "copy" }, now));
          world.do((alarms, now) => alarms.onReplay("b", { tick: 4, verdict: "tick_seen" }, now));
        },
        open: ["id_clone agent:b", "replay agent:b < id_clone"],
      },
    ],
  },
  {
    name: "psk_fetch_failed: ambiguous at once, else after 2 hours, whatever restarts; success ends it",
    steps: [
      { act: psk({ reason: "ambiguous" }), open: ["psk_fetch_failed manager"] },
      { act: psk(null), open: [] },
      { act: psk({ reason: "none" }), pass: 2000, open: [] },
      // A restart in between: the source says that it failed only now.
      { act: (world) => psk({ reason: "none" }, world.now)(world), pass: 5000, open: [] },
      { act: (world) => psk({ reason: "none" }, world.now)(world), pass: 300, open: [] },
      { act: (world) => psk({ reason: "none" }, world.now)(world), open: ["psk_fetch_failed manager"] },
      { act: psk(null), open: [] },
    ],
  },
  {
    name: "psk_fetch_failed of an agent, by its own word, after 2 hours",
    steps: [
      {
        act: (world) => void (world.reports.get("b")!.delivery!.psk_error = "TXT kattila.example.com: no record"),
        pass: 7100,
        open: [],
      },
      { pass: 150, open: ["psk_fetch_failed agent:b"] },
      { act: (world) => void (world.reports.get("b")!.delivery!.psk_error = null), pass: 31, open: [] },
    ],
  },
  {
    name: "a reboot shorter than 10 intervals is no alarm, though its tunnels need a while to mend",
    steps: [
      { act: (world) => void world.speaking.delete("c"), pass: 120 },
      {
        act: (world) => {
          world.set("a-c", "stale");
          world.set("b-c", "stale");
        },
        pass: 100,
        open: [],
      },
      { act: (world) => void world.speaking.add("c"), pass: 180, open: [] },
      {
        act: (world) => {
          world.set("a-c", "up");
          world.set("b-c", "up");
        },
        pass: 300,
        open: [],
        told: [],
      },
    ],
  },
  {
    name: "a reboot after which a tunnel does not mend",
    steps: [
      { act: (world) => void world.speaking.delete("c"), pass: 120 },
      { act: (world) => world.set("a-c", "stale"), pass: 100, open: [] },
      { act: (world) => void world.speaking.add("c"), pass: 200, open: [] },
      { pass: 120, open: ["peer_stale edge:a-c"], told: ["peer_stale open warning"] },
    ],
  },
]);

function psk(error: { reason: string } | null, since?: number) {
  return (world: World) =>
    world.do((alarms, now) =>
      alarms.onPsk(
        {
          changed_at: null,
          error: error === null ? null : { ...error, message: "TXT kattila.example.com: no record" },
          error_since_at: error === null ? null : (since ?? now),
        },
        new Map(),
        now,
      ),
    );
}

tables("life", [
  {
    name: "flapping: said once at the fourth transition, quiet until 30 minutes are",
    steps: [
      ...[1, 2].flatMap(() => [
        { act: (world: World) => world.set("a-b", "stale"), pass: 90, open: ["peer_stale edge:a-b"] },
        { act: (world: World) => world.set("a-b", "up"), pass: 90, open: [] },
      ]),
      {
        check: (world) => {
          expect(world.row("peer_stale").flapping).toBe(true);
          expect(world.told()).toEqual([
            "peer_stale open warning",
            "peer_stale resolved warning",
            "peer_stale open warning",
            "peer_stale resolved warning",
          ]);
        },
      },
      { act: (world) => world.set("a-b", "stale"), pass: 90, open: ["peer_stale edge:a-b"] },
      {
        act: (world) => world.set("a-b", "up"),
        pass: 90,
        open: [],
        check: (world) => expect(world.told().length).toBe(4),
      },
      { act: (world) => world.set("a-b", "stale"), pass: 1700, check: (world) => expect(world.told().length).toBe(4) },
      {
        pass: 200,
        open: ["peer_stale edge:a-b"],
        check: (world) => {
          expect(world.row("peer_stale").flapping).toBe(false);
          expect(world.told().length).toBe(5);
        },
      },
    ],
  },
  {
    name: "acknowledged is quiet until it resolves; a rise in severity ends the acknowledgement",
    steps: [
      { act: (world) => void world.skewMs.set("a", 100_000), pass: 31 },
      {
        act: (world) => acknowledge(world, "clock_skew"),
        pass: 60,
        open: ["clock_skew agent:a (acknowledged)"],
        told: ["clock_skew open warning"],
      },
      {
        act: (world) => void world.skewMs.set("a", 400_000),
        pass: 31,
        open: ["clock_skew agent:a"],
        told: ["clock_skew open warning", "clock_skew open critical"],
      },
    ],
  },
  {
    name: "maintenance: opens in silence, and is told of when the window ends and it is still there",
    steps: [
      {
        act: (world) =>
          void world.silence({ agents: ["b"], codes: [], until_at: world.now + 600_000, reason: "new kernel" }),
      },
      {
        act: (world) => {
          world.set("a-b", "stale");
          world.set("a-c", "lossy");
        },
        pass: 200,
        open: ["lossy edge:a-c", "peer_stale edge:a-b"],
        told: ["lossy open warning"],
        check: (world) => {
          expect(world.alarms.isSilenced(world.row("peer_stale"), world.now)).toBe(true);
          expect(world.alarms.isSilenced(world.row("lossy"), world.now)).toBe(false);
        },
      },
      { pass: 420, told: ["lossy open warning", "peer_stale open warning"] },
    ],
  },
  {
    name: "maintenance that is ended before its time: what it kept quiet is told at once",
    steps: [
      {
        act: (world) =>
          void world.silence({ agents: [], codes: [], until_at: world.now + 86_400_000, reason: "a slip" }),
      },
      { act: (world) => world.set("a-b", "stale"), pass: 100, open: ["peer_stale edge:a-b"], told: [] },
      {
        act: (world) => {
          expect(world.endSilence("another")).toBe(false);
          expect(world.endSilence(world.silences[0]!.id)).toBe(true);
          expect(world.endSilence(world.silences[0]!.id)).toBe(false);
        },
        told: ["peer_stale open warning"],
        check: (world) => expect(world.alarms.isSilenced(world.row("peer_stale"), world.now)).toBe(false),
      },
    ],
  },
  {
    name: "maintenance by code; what opened and ended within it is never told",
    steps: [
      {
        act: (world) =>
          void world.silence({ agents: [], codes: ["peer_stale"], until_at: world.now + 600_000, reason: "test" }),
      },
      { act: (world) => world.set("a-b", "stale"), pass: 100, open: ["peer_stale edge:a-b"] },
      { act: (world) => world.set("a-b", "up"), pass: 100, open: [], told: [] },
    ],
  },
  {
    name: "the same alarm within half an hour keeps its id; later it is another",
    steps: [
      { act: (world) => world.set("a-b", "stale"), pass: 90 },
      { act: (world) => world.set("a-b", "up"), pass: 90, open: [] },
      { act: (world) => world.set("a-b", "stale"), pass: 90, check: (world) => expect(world.rows().length).toBe(1) },
      { act: (world) => world.set("a-b", "up"), pass: 2000, open: [] },
      { act: (world) => world.set("a-b", "stale"), pass: 90, check: (world) => expect(world.rows().length).toBe(2) },
    ],
  },
  {
    name: "a forgotten agent takes its own alarms with it, and leaves those of others",
    steps: [
      { act: (world) => void world.skewMs.set("c", 100_000), pass: 31, open: ["clock_skew agent:c"] },
      {
        act: (world) => {
          world.speaking.delete("c");
          world.records.delete("c");
          for (const id of ["a-c", "b-c"]) world.edgesById.delete(id);
          world.do((alarms, now) => alarms.forgetAgent("c", now));
        },
        pass: 400,
        open: [],
      },
    ],
  },
]);

describe("the manager's own clock", () => {
  test("after a start, an agent not heard yet has max(3 intervals, 90 s)", () => {
    const world = new World(["a", "b", "c", "d"], { restarts: false });
    world.pass(60);
    world.speaking.delete("d");
    // The manager was away for an hour.
    world.now += 3_600_000;
    const again = new World(["a", "b", "c", "d"], { restarts: false, startedAt: world.now });
    again.now = world.now;
    again.speaking.clear();
    again.pass(85);
    expect(again.open()).toEqual([]);
    again.pass(10);
    expect(again.open()).toEqual(["manager_isolated manager"]);
  });

  test("a leap of the clock is no silence", () => {
    const world = new World(["a", "b", "c", "d"], { restarts: false });
    world.pass(60);
    world.now += 7_200_000;
    world.pass(120);
    expect(world.told()).toEqual([]);
    world.now -= 3_600_000;
    world.pass(120);
    expect(world.told()).toEqual([]);
  });

  test("an hour of buffered reports opens nothing about the past", () => {
    const world = new World(["a", "b", "c"], { restarts: false });
    world.pass(60);
    world.late = true;
    world.set("a-b", "stale");
    world.wireguard("a").peers!.pop();
    for (let i = 0; i < 120; i++) for (const agent of world.agents) world.report(agent);
    world.wireguard("a").peers!.push(peer("c"));
    world.late = false;
    world.set("a-b", "up");
    world.pass(120);
    expect(world.transitions).toEqual([]);
  });
});

describe("auth_failure", () => {
  test("five in five minutes from one source, quiet after 15; the 65th source is one for all", () => {
    const world = new World(["a"], { restarts: false });
    world.pass(31);
    for (let i = 0; i < 4; i++) {
      world.do((alarms, now) => alarms.onSecurity([{ source: "203.0.113.9", count: 1 }], now));
      world.pass(80);
    }
    world.do((alarms, now) => alarms.onSecurity([{ source: "203.0.113.9", count: 1 }], now));
    expect(world.open()).toEqual([]);
    world.do((alarms, now) => alarms.onSecurity([{ source: "192.168.50.97", count: 9 }], now));
    expect(world.open()).toEqual(["auth_failure source:192.168.50.97"]);
    expect(world.row("auth_failure").agent_id).toBe("a");
    world.pass(890);
    expect(world.open().length).toBe(1);
    world.pass(20);
    expect(world.open()).toEqual([]);
    for (let i = 0; i < 200; i++) {
      world.do((alarms, now) => alarms.onSecurity([{ source: `198.51.100.${i}`, count: 5 }], now));
    }
    expect(world.open().length).toBe(65);
    expect(world.open()).toContain("auth_failure source:other");
  });

  test("its agent's silence hangs under it", () => {
    const world = new World(["a", "b"], { restarts: false });
    world.pass(60);
    world.speaking.delete("b");
    world.pass(60);
    world.do((alarms, now) => alarms.onSecurity([{ source: "192.168.50.98", count: 5 }], now));
    world.pass(300);
    expect(world.open()).toEqual(["agent_down agent:b < auth_failure", "auth_failure source:192.168.50.98"]);
  });
});

test("a healthy fleet writes nothing", () => {
  const world = new World(["a", "b", "c", "d"], { restarts: false });
  world.pass(3600);
  expect(world.written).toEqual({ rows: 0, withdrawn: 0 });
  expect(world.transitions).toEqual([]);
});

test("what is open and does not change is not written again", () => {
  const world = new World(["a", "b", "c"], { restarts: false });
  world.pass(60);
  world.set("a-b", "stale");
  world.speaking.delete("c");
  world.pass(1200);
  const { rows } = world.written;
  world.pass(3600);
  expect(world.written.rows).toBe(rows);
});

test("lossy: the ping names an address that leads through this tunnel alone; where AllowedIPs hold no whole one, a place to fill in", () => {
  const commandOf = (allowedIps: string[]) => {
    const world = new World(["a", "b"], { restarts: false });
    world.set("a-b", "lossy", { a: { ...world.edge("a-b").a, allowed_ips: allowedIps } });
    world.pass(120);
    return (world.row("lossy").details as { command: string }).command;
  };
  expect(commandOf(["192.168.2.0/24", "10.80.0.2/32"])).toBe("on a: ping -M do -s 1372 10.80.0.2");
  expect(commandOf(["2001:db8::/32", "fd00::2/128"])).toBe("on a: ping -M do -s 1372 fd00::2");
  expect(commandOf(["2001:db8::/32", "10.80.0.0/24"])).toBe("on a: ping -M do -s 1372 '<address of b>'");
});
