// The special cases of 2-topology.md, row by row under their own words, with reports as agents send them.
import { describe, expect, test } from "bun:test";
import type { Observation } from "../../manager/model.ts";
import { Topology } from "../../manager/topology/topology.ts";
import { observed, record } from "./build.ts";
import type { Route } from "../../shared/report.ts";
import { BEGIN, key, type Pair, pair, peer, route, Scene, working } from "./scene.ts";

/** Six handshake attempts in an interval. */
const ATTEMPTS = 6 * 148;

test("A lists unknown key X at B's address and port, B lists A, A lacks B's key → key_mismatch, no foreign node", () => {
  const { scene, ab } = pair({ keepaliveA: 25, keepaliveB: 25 });
  ab.public_key = key("x");
  scene.rounds(2);
  expect(scene.edge()).toMatchObject({ state: "key_mismatch", cause: "wrong_key" });
  expect(scene.foreign()).toEqual([]);
  // At another port it is another host's key, and both ends are one-sided or foreign.
  ab.endpoint = "192.0.2.2:51821";
  scene.rounds(2);
  expect(scene.foreign()).toEqual([`wg:${key("x")}`]);
  expect(scene.edges().map(({ state }) => state)).not.toContain("key_mismatch");
});

test("keepalive on, endpoint known, tx flat for 2K → cannot_send: the fault is at this end", () => {
  const place = pair({ keepaliveA: 25 });
  working(place);
  place.scene.rounds(1);
  expect(place.scene.edge().cause).toBeNull();
  place.scene.rounds(1);
  expect(place.scene.edge()).toMatchObject({ cause: "cannot_send_a" });
  expect(place.scene.edge().reason).toEndWith("(cannot_send): the fault is at a");
});

test("endpoint routed into its own tunnel: tx explodes, age fresh → tunnel_loop", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  working(place);
  place.ab.via = { interface: "wg0", source: "10.9.0.1" };
  place.ab.tx_bytes += 1.7e9;
  working(place, 1);
  expect(place.scene.edge()).toMatchObject({ state: "up", cause: "tunnel_loop" });
  expect(place.scene.edge().reason).toEndWith("(tunnel_loop)");
});

test("endpoint routed into its own tunnel, on a host without iproute2: its main table says so where no mark leads elsewhere", () => {
  const inside = [route("192.0.2.0/24", "eth0"), route("192.0.2.2/32", "wg0")];
  const rule = { family: 4, not: false, src: null, dst: null, fwmark: null, iif: null, other: false } as const;
  const lookup = { action: "lookup", suppress_prefixlen: null } as const;
  const rows: [routes: Route[], change: (place: Pair) => void, loops: boolean][] = [
    [inside, () => {}, true],
    [inside, ({ a }) => (a.over = { rules: [{ ...rule, ...lookup, priority: 32766, table: "main" }] }), true],
    [inside, ({ wgA }) => (wgA.fwmark = 51820), false],
    [inside, ({ a }) => (a.over = { rules: [{ ...rule, ...lookup, priority: 100, table: "7" }] }), false],
    [inside, ({ a }) => (a.over = { routes_truncated: 3 }), false],
    [[route("192.0.2.0/24", "eth0"), route("0.0.0.0/0", "wg0")], () => {}, false],
  ];
  for (const [routes, change, loops] of rows) {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    place.a.routes = routes;
    change(place);
    working(place);
    expect(place.scene.edge()).toMatchObject({ state: "up", cause: loops ? "tunnel_loop" : null });
  }
});

test('one end without endpoint, the other without keepalive → "B cannot start"', () => {
  const place = pair({ keepaliveB: 25, endpointB: false });
  const { scene, ab, ba } = place;
  scene.rounds(1, () => scene.shake(ab, ba, 5));
  expect(scene.edge().reason).toBeNull();
  scene.rounds(10);
  expect(scene.edge()).toMatchObject({ state: "idle", cause: "cannot_start_b" });
  expect(scene.edge().reason).toStartWith("b cannot start");
});

test("A lists a key that no agent owns → foreign node; two agents that list the same foreign key share it", () => {
  const scene = new Scene();
  const [a, b] = [scene.host("a", "192.0.2.1/24"), scene.host("b", "192.0.2.2/24")];
  const phone = peer("phone", { allowed_ips: ["10.9.0.9/32"] });
  scene.wireguard(a, "wg0", "a", ["10.9.0.1/24"], [phone]);
  scene.wireguard(b, "wg0", "b", ["10.9.0.2/24"], [{ ...phone }]);
  scene.rounds(1);
  expect(scene.foreign()).toEqual([`wg:${key("phone")}`]);
  expect(scene.pairs()).toEqual([`a – wg:${key("phone")}`, `b – wg:${key("phone")}`]);
  // By its first AllowedIP until an endpoint is known.
  expect(scene.node(`wg:${key("phone")}`)).toMatchObject({ label: "10.9.0.9", addresses: ["10.9.0.9"] });
  phone.endpoint = "198.51.100.7:4500";
  phone.latest_handshake_at = scene.now;
  scene.rounds(1);
  expect(scene.node(`wg:${key("phone")}`).label).toBe("198.51.100.7:4500");
});

test("the foreign key's host gets an agent → that node becomes the agent; edges keep ids and history", () => {
  const scene = new Scene();
  const a = scene.host("a", "192.0.2.1/24");
  scene.wireguard(a, "wg0", "a", ["10.9.0.1/24"], [peer("b", { endpoint: "192.0.2.2:51820" })]);
  scene.rounds(2);
  const before = scene.edge();
  scene.forgetHistory();
  const b = scene.host("b", "192.0.2.2/24");
  scene.wireguard(b, "wg0", "b", ["10.9.0.2/24"], [peer("a", { endpoint: "192.0.2.1:51820" })]);
  scene.rounds(2);
  const after = scene.edge();
  expect(after).toMatchObject({ id: before.id, first_seen_at: before.first_seen_at, network: before.network });
  expect(scene.pairs()).toEqual(["a – b"]);
  expect(scene.foreign()).toEqual([]);
  const ends = scene.versions.filter(({ body }) => body === null).map(({ kind, id }) => `${kind} ${id}`);
  expect(ends).toEqual([`node wg:${key("b")}`]);
});

test("B's agent is down, A still handshakes with B → edge by A's word, B down: \"agent stopped, host alive\"", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  working(place);
  place.b.speaks = false;
  working(place, 5);
  expect(place.scene.state()).toBe("up");
  expect(place.scene.node("b")).toMatchObject({ status: "down", reason: "agent stopped, host alive" });
  place.b.speaks = true;
  working(place, 1);
  expect(place.scene.node("b")).toMatchObject({ status: "online", reason: null });
});

/** Agents b and b2 with one key on both; a dials b's address. */
function reused() {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene } = place;
  const b2 = scene.host("b2", "192.0.2.3/24");
  const ba2 = peer("a", { endpoint: "192.0.2.1:51820", persistent_keepalive_s: 25 });
  scene.wireguard(b2, "wg0", "b", ["10.9.0.2/24"], [ba2]);
  return { ...place, b2 };
}
/** The edge that a's only peer entry is on, and the node at its far end. */
function edgeOfA(scene: Scene): { id: string; far: string } {
  const { edge, end } = scene.topology.edgeOfPeer("a", "wg0", key("b"))!;
  return { id: edge.id, far: (end === "a" ? edge.b : edge.a).node };
}

test("the same key on two agents, both reporting → the edge goes to the one whose address fits, and never flips", () => {
  // Whichever reports first.
  for (const order of [
    ["a", "b", "b2"],
    ["b2", "b", "a"],
    ["b2", "a", "b"],
  ]) {
    const { scene, ab, ba } = reused();
    scene.hosts.sort((one, other) => order.indexOf(one.name) - order.indexOf(other.name));
    working({ scene, ab, ba });
    const first = edgeOfA(scene);
    expect(first.far).toBe("b");
    scene.forgetHistory();
    for (let i = 0; i < 5; i++) {
      working({ scene, ab, ba });
      expect(edgeOfA(scene)).toEqual(first);
    }
    expect(scene.versions).toEqual([]);
    // Both send: the endpoint roams from one to the other.
    for (let i = 0; i < 5; i++) {
      ab.endpoint = `192.0.2.${2 + (i % 2)}:51820`;
      working({ scene, ab, ba }, 1);
      expect(edgeOfA(scene)).toEqual(first);
    }
    expect(
      scene.topology
        .ownersOfKey(key("b"))
        .map(({ agent_id }) => agent_id)
        .sort(),
    ).toEqual(["b", "b2"]);
  }
});

test("of two agents with the same key, the one whose overlay address the entry allows, though the other is dialled", () => {
  const { scene, ab, ba, b2 } = reused();
  b2.interfaces!.find(({ name }) => name === "wg0")!.addresses = ["10.9.0.3/24"];
  ab.endpoint = "192.0.2.3:51820";
  working({ scene, ab, ba });
  expect(edgeOfA(scene).far).toBe("b");
});

test("one of them silent → the other supersedes it, on the same edge, and stays when the first is back", () => {
  const place = reused();
  const { scene } = place;
  working(place);
  const before = edgeOfA(scene);
  place.b.speaks = false;
  working(place, 4);
  expect(edgeOfA(scene).far).toBe("b2");
  place.b.speaks = true;
  working(place, 4);
  const after = edgeOfA(scene);
  working(place, 4);
  expect(edgeOfA(scene)).toEqual(after);
  expect(before.far).toBe("b");
});

test("two tunnels between the same two hosts (v4 and v6, wg0 and wg1) → two edges", () => {
  const { scene, a, b } = pair();
  scene.wireguard(a, "wg1", "a1", ["10.8.0.1/24"], [peer("b1", { endpoint: "[2001:db8::2]:51821" })], 51821);
  scene.wireguard(b, "wg1", "b1", ["10.8.0.2/24"], [peer("a1", { endpoint: "[2001:db8::1]:51821" })], 51821);
  scene.rounds(2);
  expect(scene.pairs()).toEqual(["a – b", "a – b"]);
  expect(
    scene
      .edges()
      .map((edge) => edge.a.interface)
      .sort(),
  ).toEqual(["wg0", "wg1"]);
});

test("two tunnels with one key on two interfaces: the listen port tells them apart", () => {
  const { scene, a, b } = pair();
  scene.wireguard(a, "wg1", "a1", ["10.8.0.1/24"], [peer("b", { endpoint: "192.0.2.2:51999" })], 51821);
  scene.wireguard(b, "wg1", "b", ["10.8.0.2/24"], [peer("a1", { endpoint: "192.0.2.1:51821" })], 51999);
  scene.rounds(2);
  const ends = scene.edges().map((edge) => [edge.a.interface, edge.b.interface, edge.observed_by.length]);
  expect(ends.sort()).toEqual([
    ["wg0", "wg0", 2],
    ["wg1", "wg1", 2],
  ]);
});

test('A\'s agent changes its key → "rekeyed" on the same edge; the old key is no foreign node', () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, wgA, ba } = place;
  working(place);
  const before = scene.edge();
  scene.forgetHistory();
  wgA.public_key = key("a-new");
  working(place, 2);
  expect(scene.edge()).toMatchObject({ id: before.id, state: "key_mismatch" });
  expect(scene.foreign()).toEqual([]);
  expect(scene.events.find(({ code }) => code === "rekeyed")).toMatchObject({
    subject: "agent:a",
    details: { interface: "wg0", public_key: key("a-new") },
  });
  const node = scene.versions.findLast(({ kind, id }) => kind === "node" && id === "a");
  expect(node?.body).toMatchObject({ wireguard_keys: [key("a-new")] });
  // And B learns it.
  ba.public_key = key("a-new");
  working(place, 2);
  expect(scene.edge()).toMatchObject({ id: before.id, first_seen_at: before.first_seen_at, state: "up" });
  expect(scene.foreign()).toEqual([]);
  expect(scene.codes().filter((code) => code === "rekeyed")).toHaveLength(1);
});

test("both ends change their keys in one interval → the same edge, no foreign node in between, and no state that never was", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, a, b, wgA, wgB, ab, ba } = place;
  working(place);
  const { id } = scene.edge();
  scene.forgetHistory();
  wgA.public_key = ba.public_key = key("a-new");
  wgB.public_key = ab.public_key = key("b-new");
  scene.now += 30_000;
  scene.report(a);
  expect(scene.edge()).toMatchObject({ id, state: "key_mismatch" });
  expect(scene.foreign()).toEqual([]);
  scene.report(b);
  expect(scene.edge()).toMatchObject({ id, state: "up" });
  const states = scene.events.filter(({ code }) => code === "edge_state").map(({ details }) => details.to);
  expect(states).toEqual(["key_mismatch", "up"]);
});

test("endpoint differs from every address that B has → nat: true on that end; roaming is an event, not a new edge", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, ab } = place;
  working(place);
  const before = scene.edge();
  expect([before.a.nat, before.b.nat]).toEqual([false, false]);
  scene.forgetHistory();
  ab.endpoint = "203.0.113.9:1024";
  working(place, 1);
  const after = scene.edge();
  expect(after.id).toBe(before.id);
  const end = [after.a, after.b].find(({ node }) => node === "b")!;
  expect(end).toMatchObject({ nat: true, endpoint: "203.0.113.9:1024" });
  expect([after.a, after.b].find(({ node }) => node === "a")!.nat).toBe(false);
  expect(scene.node("b").nat).toBe(true);
  expect(scene.events).toHaveLength(1);
  expect(scene.events[0]).toMatchObject({
    code: "roamed",
    subject: `edge:${before.id}`,
    details: { from: "192.0.2.2:51820", to: "203.0.113.9:1024", observed_by: "a" },
  });
});

test("B's address at another port than B listens at is a NAT, too", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  place.ab.endpoint = "192.0.2.2:1024";
  working(place);
  const edge = place.scene.edge();
  expect([edge.a, edge.b].find(({ node }) => node === "b")!.nat).toBe(true);
});

test("counters fall (interface made anew) → a reset; no negative rate", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, ab, ba } = place;
  for (const end of [ab, ba]) end.rx_bytes = end.tx_bytes = 1_000_000;
  working(place);
  expect(scene.edge().a_to_b_bps).toBeGreaterThan(0);
  for (const end of [ab, ba]) end.rx_bytes = end.tx_bytes = 0;
  scene.rounds(1);
  expect(scene.edge()).toMatchObject({ state: "up", a_to_b_bps: null, b_to_a_bps: null, a_to_b_loss: null });
  working(place, 1);
  expect(scene.edge().a_to_b_bps).toBeGreaterThan(0);
});

test("hub lists /32s, spokes the whole /24 → edges hub–spoke only", () => {
  const scene = new Scene();
  const names = ["s1", "s2", "s3"];
  const hub = scene.host("hub", "192.0.2.1/24");
  scene.wireguard(
    hub,
    "wg0",
    "hub",
    ["10.9.0.1/24"],
    names.map((name, i) => peer(name, { allowed_ips: [`10.9.0.${i + 2}/32`] })),
  );
  for (const [i, name] of names.entries()) {
    const spoke = scene.host(name, `198.51.100.${i + 2}/24`);
    const toHub = peer("hub", { endpoint: "192.0.2.1:51820", allowed_ips: ["10.9.0.0/24"] });
    scene.wireguard(spoke, "wg0", name, [`10.9.0.${i + 2}/24`], [toHub]);
  }
  scene.rounds(2);
  expect(scene.pairs()).toEqual(["hub – s1", "hub – s2", "hub – s3"]);
  // The mesh's own subnet is nothing that the hub routes for others.
  expect(scene.node("hub").attached).toEqual([]);
});

test("AllowedIPs carry a LAN → attached prefix of that peer; the same LAN on two sites is two", () => {
  const scene = new Scene();
  const hub = scene.host("hub", "192.0.2.1/24");
  const sites = ["s1", "s2"];
  scene.wireguard(
    hub,
    "wg0",
    "hub",
    ["10.9.0.1/24"],
    sites.map((name, i) => peer(name, { allowed_ips: [`10.9.0.${i + 2}/32`, "192.168.7.0/24"] })),
  );
  for (const [i, name] of sites.entries()) {
    const site = scene.host(name, `198.51.100.${i + 2}/24`);
    scene.wireguard(site, "wg0", name, [`10.9.0.${i + 2}/24`], [peer("hub", { allowed_ips: ["10.9.0.0/24"] })]);
  }
  scene.rounds(2);
  for (const name of sites) expect(scene.node(name).attached).toEqual(["192.168.7.0/24"]);
  // No third thing that they share: two agents, two edges, one network of WireGuard alone.
  expect(
    scene.topology
      .view(scene.now)
      .nodes.map(({ id }) => id)
      .sort(),
  ).toEqual(["hub", "s1", "s2"]);
  expect([...scene.topology.networks()].flatMap(({ prefixes }) => prefixes)).toEqual(["10.9.0.0/24"]);
});

test("0.0.0.0/0 → no flood of nodes; an exit only if the host's default route resolves to that interface", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, a, ab } = place;
  ab.allowed_ips = ["0.0.0.0/0", "::/0"];
  a.routes = [route("0.0.0.0/0", "eth0", { gateway: "192.0.2.254" })];
  working(place);
  expect(scene.topology.view(scene.now).nodes).toHaveLength(2);
  // One interface per link with /0, and BGP on top: no exit.
  expect(scene.node("b")).toMatchObject({ exit: false, attached: [] });
  const ways: [string, typeof a.routes, typeof a.over][] = [
    ["the best default route", [route("0.0.0.0/0", "wg0"), route("0.0.0.0/0", "eth0", { metric: 100 })], {}],
    ["two halves", [...a.routes, route("0.0.0.0/1", "wg0"), route("128.0.0.0/1", "wg0")], {}],
    [
      "wg-quick's table, which a rule leads to",
      [...a.routes, route("0.0.0.0/0", "wg0", { table: "51820" })],
      {
        rules: [
          {
            family: 4,
            priority: 32764,
            not: true,
            src: null,
            dst: null,
            fwmark: "0xca6c",
            iif: null,
            table: "51820",
            action: "lookup",
            suppress_prefixlen: null,
            other: false,
          },
        ],
      },
    ],
  ];
  for (const [way, routes, over] of ways) {
    const exits = () => ({ way, exit: scene.node("b").exit });
    [a.routes, a.over] = [routes, over];
    working(place, 1);
    expect(exits()).toEqual({ way, exit: true });
    [a.routes, a.over] = [[route("0.0.0.0/0", "eth0", { gateway: "192.0.2.254" })], { rules: [] }];
    working(place, 1);
    expect(exits()).toEqual({ way, exit: false });
  }
});

test("peer or interface removed → the edge ends, kept in history", () => {
  const place = pair();
  const { scene, wgA, wgB } = place;
  scene.rounds(2);
  const { id } = scene.edge();
  scene.forgetHistory();
  wgA.peers = [];
  scene.rounds(1);
  expect(scene.state()).toBe("one_sided");
  wgB.peers = [];
  scene.rounds(1);
  expect(scene.edges()).toEqual([]);
  expect(scene.versions.findLast(({ kind }) => kind === "edge")).toMatchObject({ id, body: null });
  expect(scene.codes()).toContain("peer_removed");

  const other = pair();
  other.scene.rounds(2);
  other.scene.forgetHistory();
  for (const host of [other.a, other.b]) {
    host.interfaces = host.interfaces!.filter(({ name }) => name !== "wg0");
    host.wireguard = [];
  }
  other.scene.rounds(1);
  expect(other.scene.edges()).toEqual([]);
  expect(other.scene.versions.filter(({ kind, body }) => kind === "edge" && body === null)).toHaveLength(1);
});

test("IPv6-only mesh, dual-stack AllowedIPs → as IPv4", () => {
  const scene = new Scene();
  const [a, b] = [scene.host("a", "2001:db8::1/64"), scene.host("b", "2001:db8::2/64")];
  const ab = peer("b", { endpoint: "[2001:db8::2]:51820", allowed_ips: ["fd00:9::2/128", "fd00:77::/64"] });
  const ba = peer("a", { endpoint: "[2001:db8::1]:51820", allowed_ips: ["fd00:9::1/128", "10.9.0.1/32"] });
  scene.wireguard(a, "wg0", "a", ["fd00:9::1/64", "fe80::1/64"], [ab]);
  scene.wireguard(b, "wg0", "b", ["fd00:9::2/64", "fe80::2/64"], [ba]);
  scene.rounds(1, () => scene.shake(ab, ba, 5));
  const edge = scene.edge();
  expect(edge).toMatchObject({ state: "up", observed_by: ["a", "b"] });
  expect([edge.a.nat, edge.b.nat]).toEqual([false, false]);
  expect(scene.node("b").attached).toEqual(["fd00:77::/64"]);
  expect([...scene.topology.networks()].map(({ name }) => name)).toEqual(["fd00:9::/64"]);
});

test("own key among the peers → ignored", () => {
  const { scene, wgA } = pair();
  wgA.peers!.push(peer("a", { endpoint: "192.0.2.1:51820" }));
  scene.rounds(2);
  expect(scene.pairs()).toEqual(["a – b"]);
  expect(scene.foreign()).toEqual([]);
});

test("a handshake in the future → clamped", () => {
  const { scene, ab, ba } = pair({ keepaliveA: 25, keepaliveB: 25 });
  scene.rounds(1, () => {
    for (const end of [ab, ba]) end.latest_handshake_at = scene.now + 3_600_000;
  });
  const edge = scene.edge();
  expect(edge.state).toBe("up");
  expect([edge.a.handshake_age_s, edge.b.handshake_age_s]).toEqual([0, 0]);
  expect(edge.latest_handshake_at).toBe(scene.now);
});

test("a clock set back: the handshake that lies in the future now is no new one at each report, nor keeps a dead tunnel up", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, a, b, ab, ba } = place;
  working(place);
  a.skewMs = -3_600_000;
  const states = new Set<string>();
  const round = (happens: () => void) => {
    scene.rounds(1, happens);
    states.add(scene.state());
  };
  for (let i = 0; i < 3; i++)
    round(() => {
      for (const end of [ab, ba]) {
        end.rx_bytes += 32;
        end.tx_bytes += 32;
      }
    });
  expect([...states]).toEqual(["up"]);
  b.speaks = false;
  for (let i = 0; i < 3; i++) round(() => (ab.tx_bytes += 6 * 148));
  expect([...states]).toEqual(["up", "stale"]);
});

test("a clock set forward: packets received excuse a keepalive still, though the handshake looks old", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, a, ab, ba } = place;
  working(place);
  a.skewMs = 200_000;
  scene.rounds(3, () => {
    ab.rx_bytes += 32;
    ba.tx_bytes += 32;
    expect(scene.edge().cause).toBeNull();
  });
  expect(scene.edge()).toMatchObject({ state: "up", cause: null });
});

test("an agent's wrong clock moves no handshake: it is told by the manager's", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, a, ab, ba } = place;
  a.skewMs = -3_600_000;
  scene.rounds(2, () => {
    ab.latest_handshake_at = scene.now - 20_000 + a.skewMs;
    ba.latest_handshake_at = scene.now - 20_000;
  });
  expect(scene.edge()).toMatchObject({ state: "up", latest_handshake_at: scene.now - 20_000 });
});

test("the same report again, or by two ways; nothing changed → no history row", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, a } = place;
  working(place);
  const report = scene.reportOf(a);
  scene.topology.observe(observed(report, scene.now), scene.now);
  scene.forgetHistory();
  const before = scene.topology.view(scene.now);
  const again = scene.topology.observe(observed(structuredClone(report), scene.now), scene.now);
  expect(again).toEqual({ versions: [], events: [] });
  const relayed = observed(structuredClone(report), scene.now, { superseded: true });
  expect(scene.topology.observe(relayed, scene.now)).toEqual({ versions: [], events: [] });
  expect(scene.topology.view(scene.now).edges.map(({ id, state }) => [id, state])).toEqual(
    before.edges.map(({ id, state }) => [id, state]),
  );
  // An hour of a tunnel that works.
  for (let i = 0; i < 30; i++) working(place);
  expect(scene.versions).toEqual([]);
  expect(scene.events).toEqual([]);
});

/** The manager starts anew: from what it stored, then from these reports, or the newest of each agent. */
function restart(scene: Scene, recent?: Observation[]): void {
  const kept = new Map(scene.versions.map((version) => [`${version.kind} ${version.id}`, structuredClone(version)]));
  const bodies = (kind: string) =>
    [...kept.values()].filter((version) => version.kind === kind && version.body !== null).map(({ body }) => body);
  const stored = { nodes: bodies("node"), edges: bodies("edge"), networks: bodies("network") } as never;
  scene.topology = new Topology(
    scene.hosts.map(({ name }) => record(name, name, BEGIN)),
    stored,
    scene.now,
  );
  scene.forgetHistory();
  for (const replayed of recent ?? scene.hosts.map((host) => observed(scene.reportOf(host), scene.now))) {
    scene.keep(scene.topology.observe(replayed, replayed.received_at, { replay: true }));
  }
}

/** Whatever the scene's hosts report from now on. */
function overheard({ topology }: Scene): Observation[] {
  const heard: Observation[] = [];
  const observe = topology.observe.bind(topology);
  topology.observe = (observation, now, options) => {
    heard.push(structuredClone(observation));
    return observe(observation, now, options);
  };
  return heard;
}

test("a restart finds its edges and networks by their keys: same ids, same first sight, no row", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, ab, ba } = place;
  working(place, 8);
  const before = scene.edge();
  scene.now += 10_000;
  restart(scene);
  working({ scene, ab, ba });
  expect(scene.edge()).toMatchObject({
    id: before.id,
    network: before.network,
    first_seen_at: before.first_seen_at,
    changed_at: before.changed_at,
  });
  expect(scene.versions.filter(({ kind }) => kind !== "node")).toEqual([]);
});

test("a restart so soon that its replay begins before a rekeying: the same edge and network, no row", () => {
  for (const rekeyed of ["a", "b", "both"]) {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const { scene, wgA, wgB, ab, ba } = place;
    const heard = overheard(scene);
    working(place, 8);
    if (rekeyed !== "b") wgA.public_key = ba.public_key = key("a-new");
    if (rekeyed !== "a") wgB.public_key = ab.public_key = key("b-new");
    working(place, 4);
    const before = scene.edge();
    scene.now += 10_000;
    restart(scene, heard);
    working(place);
    const { id, network, first_seen_at, changed_at } = before;
    expect(scene.edge()).toMatchObject({ id, network, first_seen_at, changed_at, state: "up" });
    expect(scene.topology.view(scene.now).networks.map((item) => item.id)).toEqual([network!]);
    expect(scene.versions.filter(({ kind }) => kind !== "node")).toEqual([]);
  }
});

test("a restart so soon that its replay holds the end of a former edge: the new one keeps its id", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, wgA, wgB, ab, ba } = place;
  const heard = overheard(scene);
  working(place);
  const former = scene.edge().id;
  [wgA.peers, wgB.peers] = [[], []];
  scene.rounds(2);
  [wgA.peers, wgB.peers] = [[ab], [ba]];
  working(place, 4);
  const { id, network } = scene.edge();
  expect(id).not.toBe(former);
  scene.now += 10_000;
  restart(scene, heard);
  working(place);
  expect(scene.edge()).toMatchObject({ id, network });
  expect(scene.versions.filter(({ kind }) => kind !== "node")).toEqual([]);
});

test("a restart leaves an interface gone that was gone for longer than the replay reaches: its key is no foreign peer's", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, b, wgB, ab, ba } = place;
  working(place);
  b.wireguard = [];
  scene.rounds(4, () => scene.shake(ab, ba, 1));
  const { id } = scene.edge();
  scene.now += 10_000;
  restart(scene);
  scene.rounds(3, () => scene.shake(ab, ba, 1));
  expect(scene.edge()).toMatchObject({ id, state: "one_sided", cause: "view_unavailable" });
  expect(scene.foreign()).toEqual([]);
  b.wireguard = [wgB];
  working(place, 2);
  expect(scene.edge()).toMatchObject({ id, observed_by: ["a", "b"] });
});

test("a restart asks no second time which way is cut, where it was decided at once", () => {
  const place = pair({ keepaliveA: 25 });
  const { scene, b, ab } = place;
  working(place);
  const wg0 = b.interfaces!.find(({ name }) => name === "wg0")!;
  wg0.up = false;
  scene.rounds(15, () => (ab.tx_bytes += 32));
  expect(scene.state()).toBe("down");
  wg0.up = true;
  scene.rounds(1, () => (ab.tx_bytes += 32));
  const { id, changed_at } = scene.edge();
  expect(scene.edge()).toMatchObject({ state: "stale", cause: "nothing_returns" });
  scene.now += 10_000;
  restart(scene);
  scene.rounds(1, () => (ab.tx_bytes += 32));
  expect(scene.edge()).toMatchObject({ id, changed_at, state: "stale", cause: "nothing_returns" });
});

test("a restart soon after a rekeying in a mesh: edges keep orientation, and their network its id and its row", () => {
  const scene = new Scene();
  const names = ["a", "b", "c", "d"];
  const hosts = names.map((name, i) => scene.host(name, `192.0.2.${i + 1}/24`));
  const entry = (name: string) =>
    peer(name, {
      endpoint: `192.0.2.${names.indexOf(name) + 1}:51820`,
      allowed_ips: [`10.9.0.${names.indexOf(name) + 1}/32`],
    });
  const own = hosts.map((host, i) => {
    const others = names.filter((name) => name !== host.name);
    return scene.wireguard(host, "wg0", host.name, [`10.9.0.${i + 1}/24`], others.map(entry));
  });
  const heard = overheard(scene);
  scene.rounds(3);
  for (const name of ["b", "c"]) {
    own[names.indexOf(name)]!.public_key = key(`${name}-new`);
    for (const { peers } of own)
      for (const item of peers!) if (item.public_key === key(name)) item.public_key = key(`${name}-new`);
    scene.rounds(3);
  }
  const shown = () => ({
    edges: scene
      .edges()
      .map(({ id, a, b, network }) => [id, a.node, b.node, network].join(" "))
      .sort(),
    networks: scene.topology.view(scene.now).networks.map(({ id }) => id),
  });
  const before = shown();
  scene.now += 10_000;
  restart(scene, heard);
  scene.rounds(2);
  expect(shown()).toEqual(before);
  expect(scene.versions.filter(({ kind }) => kind !== "node")).toEqual([]);
});

test("an edge that fails and heals after a restart is up since it healed", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, ab, ba } = place;
  working(place, 8);
  const before = scene.edge().changed_at;
  scene.now += 10_000;
  restart(scene);
  working(place, 4);
  expect(scene.edge()).toMatchObject({ state: "up", changed_at: before });
  scene.rounds(20, () => {
    ab.tx_bytes += 6 * 148;
    ba.tx_bytes += 6 * 148;
  });
  const failed = scene.edge();
  expect(failed.state).toBe("stale");
  working(place, 4);
  expect(scene.edge().state).toBe("up");
  expect(scene.edge().changed_at).toBeGreaterThan(failed.changed_at);
});

test("a peer that is taken out after a restart, and added for the key's other owner, goes to that", () => {
  const place = reused();
  const { scene, ab, wgA, b2 } = place;
  b2.interfaces!.find(({ name }) => name === "wg0")!.addresses = ["10.9.0.3/24"];
  working(place, 6);
  expect(edgeOfA(scene).far).toBe("b");
  restart(scene);
  working(place, 4);
  wgA.peers = [];
  scene.rounds(20);
  Object.assign(ab, { endpoint: "192.0.2.3:51820", allowed_ips: ["10.9.0.3/32"] });
  wgA.peers = [ab];
  working(place, 6);
  expect(edgeOfA(scene).far).toBe("b2");
});

test("a restart leaves the edge of a reused key with the agent that had it, whoever is replayed first", () => {
  for (const order of ["a b b2", "a b2 b", "b a b2", "b b2 a", "b2 a b", "b2 b a"]) {
    const place = reused();
    const { scene } = place;
    working(place);
    // b is silent for a while: b2 has taken over, though b's address is the one that fits.
    place.b.speaks = false;
    working(place, 4);
    place.b.speaks = true;
    working(place, 4);
    const before = edgeOfA(scene);
    expect(before.far).toBe("b2");
    scene.now += 10_000;
    scene.hosts.sort((one, other) => order.split(" ").indexOf(one.name) - order.split(" ").indexOf(other.name));
    restart(scene);
    expect(edgeOfA(scene)).toEqual(before);
    working(place, 3);
    expect(edgeOfA(scene)).toEqual(before);
  }
});

test("loss for free: 1 − Δrx(B)/Δtx(A), over at least 5 minutes and 100 kB, else null", () => {
  const loss = (bytesPerRound: number, received: number, rounds: number) => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const { scene, ab, ba } = place;
    scene.rounds(rounds, (round) => {
      if (round % 4 === 0) for (const end of [ab, ba]) end.latest_handshake_at = scene.now - 5000;
      ab.tx_bytes += bytesPerRound;
      ba.rx_bytes += Math.round(bytesPerRound * received);
      ba.tx_bytes += 32;
      ab.rx_bytes += 32;
    });
    const edge = scene.edge();
    return edge.a.node === "a" ? [edge.a_to_b_loss, edge.b_to_a_loss] : [edge.b_to_a_loss, edge.a_to_b_loss];
  };
  expect(loss(28_080, 1, 14)).toEqual([0, null]);
  expect(loss(28_080, 0.9, 14)).toEqual([0.1, null]);
  expect(loss(28_080, 0.9, 10)).toEqual([null, null]); // under five minutes
  expect(loss(9_000, 0.9, 14)).toEqual([null, null]); // under 100 kB in five minutes
});

test("a tunnel that fails and heals is told once each way", () => {
  const place = pair({ keepaliveA: 25 });
  const { scene, ab } = place;
  working(place);
  scene.forgetHistory();
  scene.rounds(4, () => (ab.tx_bytes += ATTEMPTS));
  working(place);
  expect(
    scene.events.filter(({ code }) => code === "edge_state").map(({ details }) => [details["from"], details["to"]]),
  ).toEqual([
    ["up", "stale"],
    ["stale", "up"],
  ]);
});

const EVENTS: { code: string; change(place: ReturnType<typeof pair>): void; says: string }[] = [
  {
    code: "default_route_changed",
    change: ({ a }) => void a.routes.push(route("0.0.0.0/0", "eth0", { gateway: "192.0.2.254" })),
    says: "192.0.2.254",
  },
  {
    code: "routes_changed",
    change: ({ a }) => void a.routes.push(route("10.77.0.0/16", "eth0", { gateway: "192.0.2.253", metric: 50 })),
    says: "route added: 10.77.0.0/16 via 192.0.2.253 dev eth0 metric 50",
  },
  {
    code: "addresses_changed",
    change: ({ a }) => void (a.interfaces![0]!.addresses = ["192.0.2.9/24"]),
    says: "192.0.2.9",
  },
  { code: "rebooted", change: ({ a }) => void (a.over = { boot_id: "boot-2" }), says: "rebooted" },
  {
    code: "peer_added",
    change: ({ wgA }) => void wgA.peers!.push(peer("c", { allowed_ips: ["10.9.0.3/32"] })),
    says: "lists",
  },
];

for (const { code, change, says } of EVENTS) {
  test(`an event, once: ${code}`, () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    working(place);
    place.scene.forgetHistory();
    change(place);
    working(place);
    const told = place.scene.events.filter((event) => event.code === code);
    expect(told.map(({ severity, agent_id }) => [severity, agent_id])).toEqual([["info", "a"]]);
    expect(told[0]!.message).toContain(says);
  });
}

test("routes that change: what came and what went in one event, by name up to 20; none by their order, by the default route, or of who has too many", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { a, scene } = place;
  const told = () => scene.events.filter((event) => event.code === "routes_changed");
  a.routes.push(route("10.77.0.0/16", "eth0"), route("10.78.0.0/16", "eth0", { metric: 50, table: "7" }));
  working(place);
  scene.forgetHistory();
  a.routes.reverse();
  working(place);
  a.routes.push(route("0.0.0.0/0", "eth0", { gateway: "192.0.2.254" }));
  working(place);
  expect(told()).toEqual([]);
  a.routes = a.routes.filter(({ table }) => table !== "7");
  const many = Array.from({ length: 25 }, (_, i) => route(`10.${100 + i}.0.0/16`, null, { type: "blackhole" }));
  a.routes.push(...many);
  working(place);
  expect(told()).toHaveLength(1);
  const [{ message, details }] = told() as [ReturnType<typeof told>[number]];
  expect(message).toBe(
    "a: 25 routes added: blackhole 10.100.0.0/16, blackhole 10.101.0.0/16 and 23 more; route gone: 10.78.0.0/16 dev eth0 table 7 metric 50",
  );
  expect(details).toMatchObject({ removed: ["10.78.0.0/16 dev eth0 table 7 metric 50"] });
  expect(details["added"]).toHaveLength(20);
  a.over = { routes_truncated: 1 };
  a.routes.pop();
  working(place);
  expect(told()).toHaveLength(1);
});

test("AllowedIPs that change are an event of their edge, and no other", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  working(place);
  place.scene.forgetHistory();
  place.ab.allowed_ips = ["10.9.0.2/32", "10.20.0.0/24"];
  working(place);
  expect(place.scene.events.map(({ code }) => code)).toEqual(["allowed_ips_changed"]);
  expect(place.scene.events[0]!.details).toMatchObject({
    from: ["10.9.0.2/32"],
    to: ["10.9.0.2/32", "10.20.0.0/24"],
    observed_by: "a",
  });
});

test("an agent that registers, and one that is upgraded: an event each", () => {
  const { scene } = pair();
  const registered = scene.events.filter(({ code }) => code === "agent_registered");
  expect(registered.map(({ agent_id }) => agent_id)).toEqual(["a", "b"]);
  scene.rounds(1);
  scene.forgetHistory();
  scene.keep(scene.topology.updateAgent({ ...record("a", "a", BEGIN), agent_version: "9.9.9" }, scene.now));
  const [told] = scene.events.filter(({ code }) => code === "agent_version_changed");
  expect(told).toMatchObject({ agent_id: "a", severity: "info" });
  expect(told!.message).toContain("9.9.9");
});

test("one interface name twice in a report: each is sampled once, as its own", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, a, ab } = place;
  // A second interface of that name with another key, as no kernel has it.
  a.wireguard!.push({
    interface: "wg0",
    public_key: key("other"),
    listen_port: 1,
    fwmark: null,
    peers: [peer("phone", { tx_bytes: 0 })],
  });
  const phone = a.wireguard!.at(-1)!.peers![0]!;
  working(place);
  for (let i = 0; i < 3; i++) {
    ab.tx_bytes += 1_500_000;
    phone.tx_bytes += 300_000;
    working(place, 1);
  }
  const bps = (other: string) => scene.edges().find(({ b }) => b.node === other)!.a_to_b_bps;
  const [toB, toPhone] = ["b", `wg:${key("phone")}`].map(bps);
  expect(toB).toBeGreaterThan(300_000);
  expect(toPhone).toBeCloseTo(80_000, -3);
});

test("two interfaces swap their names, and one could not be read: the other's peers alone are heard of", () => {
  const place = pair({ keepaliveA: 25, keepaliveB: 25 });
  const { scene, a } = place;
  scene.wireguard(a, "wg1", "a1", ["10.8.0.1/24"], [], 51821);
  working(place);
  const [first, second] = a.wireguard!;
  first!.interface = "wg1";
  first!.peers = null;
  second!.interface = "wg0";
  const before = scene.edge();
  const near = (edge: typeof before) => (edge.a.node === "a" ? edge.a : edge.b);
  scene.rounds(2);
  expect(near(scene.edge()).reported_at).toBe(near(before).reported_at);
});

test("what an agent never says is not there in its whole picture either", () => {
  const { scene } = pair({});
  scene.rounds(3);
  const report = scene.topology.effective("a")!;
  for (const field of ["rules", "forwarding", "firewall"]) expect(Object.keys(report)).not.toContain(field);
});

describe("an agent is forgotten, and others still list it", () => {
  test("its key is foreign, and the edge says at once what is known without it: nothing of a list, nor of NAT", () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const { scene, ab, wgB } = place;
    working(place);
    const { id } = scene.edge();
    ab.endpoint = "198.51.100.9:4500";
    wgB.peers = [];
    working(place, 1);
    expect(scene.edge()).toMatchObject({ id, state: "one_sided", b: { node: "b", nat: true } });
    scene.keep(scene.topology.forgetAgent("b", scene.now));
    expect(scene.edge()).toMatchObject({ id, state: "up", reason: null, b: { node: `wg:${key("b")}`, nat: false } });
  });

  test("after a rekeying of its own: the foreign node has the key that is listed", () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const { scene, wgB } = place;
    working(place);
    const { id } = scene.edge();
    wgB.public_key = key("new");
    working(place, 1);
    expect(scene.edge()).toMatchObject({ id, state: "key_mismatch" });
    scene.keep(scene.topology.forgetAgent("b", scene.now));
    expect(scene.foreign()).toEqual([`wg:${key("b")}`]);
    expect(scene.edge()).toMatchObject({ id, state: "up", b: { node: `wg:${key("b")}` } });
  });
});
