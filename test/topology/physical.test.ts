// Physical edges: what is evidence that two hosts share a wire, and what only looks like it (2-topology.md).
import { describe, expect, test } from "bun:test";
import { Topology } from "../../manager/topology/topology.ts";
import { isOnWire } from "../../manager/topology/physical.ts";
import { MAX_PAIRED_MEMBERS } from "../../manager/topology/segments.ts";
import type { Interface } from "../../shared/report.ts";
import { type Host, item, peer, Scene } from "./scene.ts";

const macOf = (number: number) => `02:00:00:00:00:${number.toString(16).padStart(2, "0")}`;

/** A host 192.168.1.`number` with a MAC of that number. */
function host(scene: Scene, name: string, number: number, card: Partial<Interface> = {}): Host {
  const own = scene.host(name, `192.168.1.${number}/24`);
  Object.assign(own.interfaces![0]!, { mac: macOf(number), ...card });
  return own;
}

const sees = (one: Host, number: number, mac = macOf(number), name = "eth0") =>
  one.neighbors.push({ address: `192.168.1.${number}`, mac, interface: name });

test("A's neighbour entry (address, MAC), and B owns both on one host → an edge, by A's word alone", () => {
  const scene = new Scene();
  const a = host(scene, "a", 1);
  host(scene, "b", 2);
  sees(a, 2);
  scene.rounds(2);
  const edge = scene.edge("physical");
  expect(edge).toMatchObject({ state: "up", observed_by: ["a"], network: null });
  expect([edge.a, edge.b].map((end) => [end.node, end.interface, end.endpoint])).toEqual([
    ["a", "eth0", "192.168.1.1"],
    ["b", "eth0", "192.168.1.2"],
  ]);
});

test("both see each other → still one edge", () => {
  const scene = new Scene();
  const [a, b] = [host(scene, "a", 1), host(scene, "b", 2)];
  sees(a, 2);
  sees(b, 1);
  scene.rounds(2);
  expect(scene.edge("physical").observed_by).toEqual(["a", "b"]);
});

describe("not evidence", () => {
  const rows: [string, (scene: Scene) => void][] = [
    [
      "the same private subnet",
      (scene) => {
        host(scene, "a", 1);
        host(scene, "b", 2);
      },
    ],
    [
      "the same gateway MAC (clouds answer every ARP with one)",
      (scene) => {
        const [a, b] = [host(scene, "a", 1), host(scene, "b", 2)];
        for (const one of [a, b]) for (const number of [1, 2, 254]) sees(one, number, "02:00:00:00:00:fe");
      },
    ],
    [
      "the address of one agent at the MAC of another",
      (scene) => {
        const a = host(scene, "a", 1);
        host(scene, "b", 2);
        host(scene, "c", 3);
        sees(a, 2, macOf(3));
      },
    ],
    [
      "an (address, MAC) pair that two agents own",
      (scene) => {
        const a = host(scene, "a", 1);
        host(scene, "b", 2);
        host(scene, "clone of b", 2);
        sees(a, 2);
      },
    ],
    [
      "its own pair, as a clone of its disk has it",
      (scene) => {
        const a = host(scene, "a", 1);
        sees(a, 1);
      },
    ],
    [
      "loopback",
      (scene) => {
        const a = host(scene, "a", 1);
        const b = host(scene, "b", 2);
        for (const one of [a, b])
          one.interfaces!.push(item("lo", "loopback", ["127.0.0.1/8"], { mac: "00:00:00:00:00:00" }));
        a.neighbors.push({ address: "127.0.0.1", mac: "00:00:00:00:00:00", interface: "lo" });
      },
    ],
    [
      "WireGuard interfaces",
      (scene) => {
        const a = host(scene, "a", 1);
        const b = host(scene, "b", 2);
        a.interfaces!.push(item("wg0", "wireguard", ["10.9.0.1/24"], { mac: macOf(11) }));
        b.interfaces!.push(item("wg0", "wireguard", ["10.9.0.2/24"], { mac: macOf(12) }));
        a.neighbors.push({ address: "10.9.0.2", mac: macOf(12), interface: "wg0" });
      },
    ],
    [
      "a host-local bridge (all ports veth): 172.17.0.1 is everywhere",
      (scene) => {
        const [a, b] = [host(scene, "a", 1), host(scene, "b", 2)];
        const ports = { veth: 3, tap: 0, other: 0 };
        a.interfaces!.push(item("docker0", "bridge", ["172.17.0.2/16"], { mac: macOf(17), ports }));
        b.interfaces!.push(item("docker0", "bridge", ["172.17.0.1/16"], { mac: macOf(18), ports }));
        a.neighbors.push({ address: "172.17.0.1", mac: macOf(18), interface: "docker0" });
      },
    ],
    ...(
      [
        ["VRRP", "00:00:5e:00:01:07"],
        ["VRRP for IPv6", "00:00:5e:00:02:07"],
        ["CARP", "00:00:5e:00:01:01"],
        ["HSRP", "00:00:0c:07:ac:01"],
        ["HSRP version 2", "00:00:0c:9f:f0:01"],
        ["GLBP", "00:07:b4:00:01:01"],
      ] as const
    ).map(([name, mac]): [string, (scene: Scene) => void] => [
      `a MAC of ${name}`,
      (scene) => {
        const a = host(scene, "a", 1);
        host(scene, "b", 2, { mac });
        sees(a, 2, mac);
      },
    ]),
  ];
  for (const [name, arrange] of rows) {
    test(name, () => {
      const scene = new Scene();
      arrange(scene);
      scene.rounds(3);
      expect(scene.edges("physical")).toEqual([]);
    });
  }
});

test("which interfaces are on a wire", () => {
  const mac = macOf(1);
  const is = (kind: Interface["kind"], more: Partial<Interface> = {}) =>
    isOnWire(item("x", kind, ["192.168.1.1/24"], { mac, ...more }));
  expect(is("physical")).toBe(true);
  expect(is("bond")).toBe(true);
  expect(is("vlan")).toBe(true);
  // A bridge with a card in it is; one with guests alone is not; ports that nobody told are given the benefit.
  expect(is("bridge", { ports: { veth: 2, tap: 1, other: 1 } })).toBe(true);
  expect(is("bridge", { ports: { veth: 0, tap: 2, other: 0 } })).toBe(false);
  expect(is("bridge")).toBe(true);
  for (const kind of ["loopback", "wireguard", "dummy", "tun"] as const) expect(is(kind)).toBe(false);
  expect(is("vxlan", { tunnel: { local: null, remote: null, id: 1, port: 4789 } })).toBe(false);
  expect(isOnWire(item("x", "physical", []))).toBe(false);
});

test("a bridge that has its card's MAC: the one with the address is the end", () => {
  const scene = new Scene();
  const a = host(scene, "a", 1);
  const b = host(scene, "b", 2);
  b.interfaces![0]!.addresses = [];
  b.interfaces!.push(
    item("br0", "bridge", ["192.168.1.2/24"], { mac: macOf(2), ports: { veth: 2, tap: 0, other: 1 } }),
  );
  sees(a, 2);
  scene.rounds(2);
  expect(scene.edge("physical").b).toMatchObject({ node: "b", interface: "br0" });
});

test("the edge ends 24 h after the last evidence", () => {
  const scene = new Scene();
  const a = host(scene, "a", 1);
  host(scene, "b", 2);
  sees(a, 2);
  scene.rounds(2);
  a.neighbors.length = 0;
  const last = scene.now - 3000; // a reports first in a round
  scene.rounds(2);
  const { id } = scene.edge("physical");
  scene.forgetHistory();
  scene.wait((last + 24 * 3_600_000 - 1 - scene.now) / 1000);
  expect(scene.edges("physical")).toHaveLength(1);
  scene.wait(5.001);
  expect(scene.edges("physical")).toEqual([]);
  expect(scene.versions.filter(({ kind }) => kind === "edge")).toMatchObject([{ id, body: null }]);
});

test("a restart of the manager ends no edge whose evidence is older than its replay; a day later it ends", () => {
  const scene = new Scene();
  const a = host(scene, "a", 1);
  const b = host(scene, "b", 2);
  sees(a, 2);
  scene.rounds(2);
  a.neighbors.length = 0;
  scene.rounds(31); // more than the 15 minutes that are replayed
  const { id } = scene.edge("physical");
  const before = scene.topology;
  const records = [a, b].map(({ name }) => before.agent(name)!);
  const stored = { nodes: [...before.nodes()], edges: [...before.edges()], networks: [...before.networks()] };
  scene.topology = new Topology(records, stored, scene.now);
  for (const { name } of [a, b]) scene.topology.observe(before.latest(name)!, scene.now, { replay: true });
  scene.forgetHistory();
  scene.wait(1);
  expect(scene.edge("physical")).toMatchObject({ id, state: "up", observed_by: ["a"] });
  expect(scene.versions.filter(({ kind }) => kind === "edge")).toEqual([]);
  scene.wait(24 * 3600);
  expect(scene.edges("physical")).toEqual([]);
  expect(scene.versions.filter(({ kind }) => kind === "edge")).toMatchObject([{ id, body: null }]);
});

test("a host that moves to another wire: the proof goes with its address, and the old edge is not renewed", () => {
  const scene = new Scene();
  const a = host(scene, "a", 1);
  const b = host(scene, "b", 2);
  sees(a, 2);
  scene.rounds(2);
  b.interfaces![0]!.addresses = ["10.0.0.2/24"];
  scene.rounds(1);
  const last = scene.now - 3000; // a spoke before b did
  scene.rounds(4); // a's cache has it still
  expect(scene.edges("physical")).toHaveLength(1);
  scene.wait((last + 24 * 3_600_000 + 5000 - scene.now) / 1000);
  expect(scene.edges("physical")).toEqual([]);
});

test("a segment with many members is drawn as one node", () => {
  const scene = new Scene();
  const members = MAX_PAIRED_MEMBERS + 2;
  const hosts = Array.from({ length: members }, (_, i) => host(scene, `h${i + 1}`, i + 1));
  for (const [i, one] of hosts.entries()) for (const [j] of hosts.entries()) if (i !== j) sees(one, j + 1);
  scene.rounds(1);
  expect(scene.edges("physical")).toHaveLength((members * (members - 1)) / 2);
  const view = scene.topology.view(scene.now);
  expect(view.nodes.filter(({ kind }) => kind === "segment")).toMatchObject([{ label: `segment of ${members} hosts` }]);
  expect(view.edges.filter(({ layer }) => layer === "physical")).toHaveLength(members);
});

test("a WireGuard link between neighbours rides on their wire", () => {
  const scene = new Scene();
  const [a, b] = [host(scene, "a", 1), host(scene, "b", 2)];
  sees(a, 2);
  const via = { interface: "eth0", source: null };
  scene.wireguard(a, "wg0", "a", ["10.9.0.1/24"], [peer("b", { endpoint: "192.168.1.2:51820", via })]);
  scene.wireguard(b, "wg0", "b", ["10.9.0.2/24"], [peer("a", { endpoint: "192.168.1.1:51820", via })]);
  scene.rounds(2);
  const wire = scene.edge("physical").id;
  expect(scene.edge().rides_on).toEqual([
    { node: "a", interface: "eth0", edge: wire },
    { node: "b", interface: "eth0", edge: wire },
  ]);
});
