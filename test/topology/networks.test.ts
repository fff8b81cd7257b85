// Networks: which WireGuard interfaces are one, what it is called, how long it keeps its id, and in how many parts it is.
import { expect, test } from "bun:test";
import { type Host, pair, peer, Scene, working } from "./scene.ts";

/** Joins two hosts by a tunnel on these interfaces, made where they are not there yet. */
function join(scene: Scene, one: Host, other: Host, name: string, addresses: [string, string], otherName = name): void {
  const ends = [
    { host: one, name, address: addresses[0] },
    { host: other, name: otherName, address: addresses[1] },
  ];
  for (const [i, end] of ends.entries()) {
    const far = ends[1 - i]!;
    const own =
      end.host.wireguard!.find((item) => item.interface === end.name) ??
      scene.wireguard(end.host, end.name, `${end.host.name} ${end.name}`, [end.address], []);
    own.peers!.push(peer(`${far.host.name} ${far.name}`, { latest_handshake_at: scene.now }));
  }
}

/** A full mesh on wg0, 10.`second`.0.0/24. */
function mesh(scene: Scene, names: string[], second = 0): Host[] {
  const hosts = names.map((name) => scene.host(name));
  for (const [i, one] of hosts.entries()) {
    for (const [j, other] of hosts.entries()) {
      if (i < j) join(scene, one, other, "wg0", [`10.${second}.0.${i + 1}/24`, `10.${second}.0.${j + 1}/24`]);
    }
  }
  return hosts;
}

const networks = (scene: Scene) => [...scene.topology.networks()];

test("named by the prefix that its interfaces share, with others listed after it", () => {
  const scene = new Scene();
  const hosts = mesh(scene, ["a", "b", "c"]);
  hosts[0]!.interfaces!.find(({ name }) => name === "wg0")!.addresses.push("10.200.0.1/24");
  scene.rounds(2);
  expect(networks(scene)).toMatchObject([
    { name: "10.0.0.0/24", prefixes: ["10.0.0.0/24", "10.200.0.0/24"], nodes: 3 },
  ]);
});

test("named by what covers host addresses, where there is nothing wider", () => {
  const scene = new Scene();
  const [a, b] = [scene.host("a"), scene.host("b")];
  join(scene, a, b, "wg0", ["10.0.0.1/32", "10.0.0.2/32"]);
  scene.rounds(2);
  expect(networks(scene).map(({ name }) => name)).toEqual(["10.0.0.0/30"]);
});

test("never named fe80::", () => {
  const scene = new Scene();
  const [a, b] = [scene.host("a"), scene.host("b")];
  join(scene, a, b, "wg0", ["fe80::1/64", "fe80::2/64"]);
  scene.rounds(2);
  expect(networks(scene)).toMatchObject([{ name: "unnamed", prefixes: [] }]);
  for (const [i, host] of [a, b].entries())
    host.interfaces!.find(({ name }) => name === "wg0")!.addresses.push(`fd00:9::${i + 1}/64`);
  scene.rounds(2);
  expect(networks(scene)).toMatchObject([{ name: "fd00:9::/64", prefixes: ["fd00:9::/64"] }]);
});

test("two meshes that both use 10.0.0.0/24 are two", () => {
  const scene = new Scene();
  mesh(scene, ["a", "b", "c"]);
  mesh(scene, ["d", "e", "f"]);
  scene.rounds(2);
  expect(networks(scene)).toMatchObject([
    { name: "10.0.0.0/24", nodes: 3 },
    { name: "10.0.0.0/24", nodes: 3 },
  ]);
  expect(scene.node("a").networks).not.toEqual(scene.node("d").networks);
});

test("a host in two meshes with different prefixes does not join them", () => {
  const scene = new Scene();
  const [a] = mesh(scene, ["a", "b"]);
  const c = scene.host("c");
  join(scene, a!, c, "wg1", ["10.1.0.1/24", "10.1.0.2/24"]);
  scene.rounds(2);
  expect(networks(scene).map(({ name, nodes }) => [name, nodes])).toEqual([
    ["10.0.0.0/24", 2],
    ["10.1.0.0/24", 2],
  ]);
  expect(scene.node("a").networks).toHaveLength(2);
});

/** A mesh with one interface per link: each host has one address, on all of them. */
function perLink(scene: Scene, names: string[]): Host[] {
  const hosts = names.map((name) => scene.host(name));
  for (const [i, one] of hosts.entries()) {
    for (const [j, other] of hosts.entries()) {
      if (i >= j) continue;
      const addresses: [string, string] = [`10.5.0.${i + 1}/32`, `10.5.0.${j + 1}/32`];
      join(scene, one, other, `wg-${other.name}`, addresses, `wg-${one.name}`);
    }
  }
  return hosts;
}

test("interfaces of one node that share an address are one network: meshes with one interface per link", () => {
  const scene = new Scene();
  perLink(scene, ["a", "b", "c"]);
  scene.rounds(2);
  expect(networks(scene)).toMatchObject([{ name: "10.5.0.0/30", nodes: 3, parts: 1 }]);
  expect(scene.edges()).toHaveLength(3);
});

/** As `perLink`, but every interface has an address of its own out of one /24, beside a link-local one. */
function prefixPerLink(scene: Scene, names: string[]): Host[] {
  const hosts = names.map((name) => scene.host(name));
  let last = 0;
  for (const [i, one] of hosts.entries()) {
    for (const other of hosts.slice(i + 1)) {
      join(scene, one, other, `wg-${other.name}`, [`10.0.0.${++last}/24`, `10.0.0.${++last}/24`], `wg-${one.name}`);
      for (const [host, far] of [
        [one, other],
        [other, one],
      ] as const)
        host.interfaces!.find(({ name }) => name === `wg-${far.name}`)!.addresses.unshift(`fe80::${last}/64`);
    }
  }
  return hosts;
}

test("interfaces of one node that share a prefix are one network, though no address is on two of them", () => {
  const scene = new Scene();
  prefixPerLink(scene, ["a", "b", "c", "d"]);
  scene.rounds(2);
  expect(networks(scene)).toMatchObject([{ name: "10.0.0.0/24", prefixes: ["10.0.0.0/24"], nodes: 4, parts: 1 }]);
  expect(new Set(scene.edges().map(({ network }) => network)).size).toBe(1);
});

test("two meshes with one interface per link that both use 10.0.0.0/24 are two", () => {
  const scene = new Scene();
  prefixPerLink(scene, ["a", "b", "c"]);
  prefixPerLink(scene, ["d", "e", "f"]);
  scene.rounds(2);
  expect(networks(scene)).toMatchObject([
    { name: "10.0.0.0/24", prefixes: ["10.0.0.0/24"], nodes: 3 },
    { name: "10.0.0.0/24", prefixes: ["10.0.0.0/24"], nodes: 3 },
  ]);
  expect(scene.node("a").networks).not.toEqual(scene.node("d").networks);
});

test("interfaces of one node that share an address are one network, whatever the lengths", () => {
  const scene = new Scene();
  const [a, b, c] = ["a", "b", "c"].map((name) => scene.host(name)) as [Host, Host, Host];
  join(scene, a, b, "wg0", ["10.5.0.1/24", "10.5.0.2/24"]);
  join(scene, a, c, "wg1", ["10.5.0.1/32", "10.5.0.3/32"]);
  scene.rounds(2);
  expect(networks(scene)).toMatchObject([{ name: "10.5.0.0/24", nodes: 3 }]);
});

test("of two interfaces that shared a prefix, one that is readdressed takes its network with it", () => {
  const scene = new Scene();
  const [a, b, c] = prefixPerLink(scene, ["a", "b", "c"]) as [Host, Host, Host];
  for (const host of [b, c]) host.wireguard = host.wireguard!.filter(({ interface: name }) => name === "wg-a");
  scene.rounds(2);
  expect(networks(scene)).toMatchObject([{ nodes: 3 }]);
  a.interfaces!.find(({ name }) => name === "wg-c")!.addresses = ["10.7.0.1/24"];
  c.interfaces!.find(({ name }) => name === "wg-a")!.addresses = ["10.7.0.2/24"];
  scene.rounds(2);
  expect(
    networks(scene)
      .map(({ name, nodes }) => [name, nodes])
      .sort(),
  ).toEqual([
    ["10.0.0.0/24", 2],
    ["10.7.0.0/24", 2],
  ]);
});

test("fe80::1 on every interface joins nothing", () => {
  const scene = new Scene();
  const [a, b, c] = ["a", "b", "c"].map((name) => scene.host(name)) as [Host, Host, Host];
  join(scene, a, b, "wg0", ["fe80::1/64", "fe80::2/64"]);
  join(scene, a, c, "wg1", ["fe80::1/64", "fe80::2/64"]);
  scene.rounds(2);
  expect(networks(scene)).toHaveLength(2);
});

test("it keeps its id while most of its members stay", () => {
  const scene = new Scene();
  const hosts = mesh(scene, ["a", "b", "c", "d", "e"]);
  scene.rounds(2);
  const { id } = networks(scene)[0]!;
  // One more joins.
  const f = scene.host("f");
  join(scene, hosts[0]!, f, "wg0", ["10.0.0.1/24", "10.0.0.6/24"]);
  scene.rounds(2);
  expect(networks(scene)).toMatchObject([{ id, nodes: 6 }]);
  // Two leave, and stay with each other.
  const [d, e] = [hosts[3]!, hosts[4]!];
  for (const host of scene.hosts) {
    const own = host.wireguard![0]!;
    const away = (other: Host) => [d, e].includes(host) !== [d, e].includes(other);
    const gone = new Set(scene.hosts.filter(away).map((other) => other.wireguard![0]!.public_key));
    own.peers = own.peers!.filter(({ public_key }) => !gone.has(public_key));
  }
  scene.rounds(2);
  expect(networks(scene).map((network) => [network.id === id, network.nodes])).toEqual([
    [true, 4],
    [false, 2],
  ]);
  expect(scene.node("a").networks).toEqual([id]);
  expect(scene.node("d").networks).not.toContain(id);
  // And come back: the larger one's id stays.
  join(scene, hosts[0]!, d, "wg0", ["10.0.0.1/24", "10.0.0.4/24"]);
  scene.rounds(2);
  expect(networks(scene)).toMatchObject([{ id, nodes: 6 }]);
});

test("it keeps its id when all its members are readdressed; the name follows", () => {
  const scene = new Scene();
  const hosts = mesh(scene, ["a", "b", "c"]);
  scene.rounds(2);
  const { id } = networks(scene)[0]!;
  for (const [i, host] of hosts.entries())
    host.interfaces!.find(({ name }) => name === "wg0")!.addresses = [`172.20.0.${i + 1}/24`];
  scene.rounds(2);
  expect(networks(scene)).toMatchObject([{ id, name: "172.20.0.0/24" }]);
});

test("parts: an interface out of its agent's sight goes on shaking hands, and makes none", () => {
  const { scene, b, ab, ba } = pair({ keepaliveA: 25, keepaliveB: 25 });
  working({ scene, ab, ba });
  b.wireguard = [];
  scene.rounds(1);
  expect(networks(scene)).toMatchObject([{ parts: 2 }]);
  scene.rounds(3, () => scene.shake(ab, ba, 1));
  expect(scene.edge()).toMatchObject({ state: "one_sided", cause: "view_unavailable" });
  expect(networks(scene)).toMatchObject([{ parts: 1 }]);
});

test("parts: what working links connect; a break between the halves makes two, and healing one", () => {
  const scene = new Scene();
  const [a, b, c, d] = ["a", "b", "c", "d"].map((name) => scene.host(name)) as [Host, Host, Host, Host];
  join(scene, a, b, "wg0", ["10.0.0.1/24", "10.0.0.2/24"]);
  join(scene, b, c, "wg0", ["10.0.0.2/24", "10.0.0.3/24"]);
  join(scene, c, d, "wg0", ["10.0.0.3/24", "10.0.0.4/24"]);
  scene.rounds(2);
  expect(networks(scene)).toMatchObject([{ nodes: 4, parts: 1 }]);
  const { id } = networks(scene)[0]!;
  scene.forgetHistory();
  // b's attempts to reach c go unanswered.
  const toC = b.wireguard![0]!.peers![1]!;
  scene.rounds(2, () => (toC.tx_bytes += 888));
  expect(networks(scene)).toMatchObject([{ id, nodes: 4, parts: 2 }]);
  expect(scene.versions.filter(({ kind }) => kind === "network")).toMatchObject([{ id, body: { parts: 2 } }]);
  const toB = c.wireguard![0]!.peers![0]!;
  scene.rounds(1, () => scene.shake(toC, toB, 5));
  expect(networks(scene)).toMatchObject([{ id, parts: 1 }]);
});

test("a silent host makes no part of its own, and foreign peers none", () => {
  const scene = new Scene();
  const [a, b] = [scene.host("a"), scene.host("b")];
  join(scene, a, b, "wg0", ["10.0.0.1/24", "10.0.0.2/24"]);
  a.wireguard![0]!.peers!.push(peer("phone", { endpoint: "198.51.100.7:4500", persistent_keepalive_s: 25 }));
  scene.rounds(2);
  b.speaks = false;
  scene.rounds(12, () => (a.wireguard![0]!.peers![1]!.tx_bytes += 888));
  expect(networks(scene)).toMatchObject([{ nodes: 3, parts: 1 }]);
});

test("a host that was a part of its own makes none once it is silent, though no link changes its state for it", () => {
  const scene = new Scene();
  const [a, b, c] = ["a", "b", "c"].map((name) => scene.host(name)) as [Host, Host, Host];
  join(scene, a, b, "wg0", ["10.0.0.1/24", "10.0.0.2/24"]);
  join(scene, b, c, "wg0", ["10.0.0.2/24", "10.0.0.3/24"]);
  const toC = b.wireguard![0]!.peers![1]!;
  scene.rounds(4, () => (toC.tx_bytes += 888));
  expect(networks(scene)).toMatchObject([{ nodes: 3, parts: 2 }]);
  c.speaks = false;
  scene.rounds(4, () => (toC.tx_bytes += 888));
  expect(networks(scene)).toMatchObject([{ nodes: 3, parts: 1 }]);
  c.speaks = true;
  scene.rounds(1, () => (toC.tx_bytes += 888));
  expect(networks(scene)).toMatchObject([{ nodes: 3, parts: 2 }]);
});

test("a network whose last link ends is gone, with a row that says so", () => {
  const scene = new Scene();
  const [a, b] = mesh(scene, ["a", "b"]) as [Host, Host];
  scene.rounds(2);
  const { id } = networks(scene)[0]!;
  scene.forgetHistory();
  for (const host of [a, b]) host.wireguard![0]!.peers = [];
  scene.rounds(2);
  expect(networks(scene)).toEqual([]);
  expect(scene.versions.filter(({ kind }) => kind === "network")).toMatchObject([{ id, body: null }]);
});
