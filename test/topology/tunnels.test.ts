// Tunnel edges and what rides on what (2-topology.md, Physical and tunnel edges).
import { describe, expect, test } from "bun:test";
import type { Interface, InterfaceKind } from "../../shared/report.ts";
import { type Host, item, pair, peer, route, Scene, working } from "./scene.ts";

type Ends = { local: string | null; remote: string | null; id?: number | null };

function tunnel(name: string, kind: InterfaceKind, ends: Ends, more: Partial<Interface> = {}): Interface {
  const { local, remote, id = null } = ends;
  return item(name, kind, [], { tunnel: { local, remote, id, port: kind === "vxlan" ? 4789 : null }, ...more });
}

/** Hosts a and b, at 192.0.2.1 and .2, with one tunnel interface each (null: none). */
function two(one: Interface | null, other: Interface | null): { scene: Scene; a: Host; b: Host } {
  const scene = new Scene();
  const a = scene.host("a", "192.0.2.1/24", one === null ? [] : [one]);
  const b = scene.host("b", "192.0.2.2/24", other === null ? [] : [other]);
  scene.rounds(2);
  return { scene, a, b };
}
const A = { local: "192.0.2.1", remote: "192.0.2.2" };
const B = { local: "192.0.2.2", remote: "192.0.2.1" };

for (const kind of ["vxlan", "gre", "ipip", "sit", "geneve"] as const) {
  const id = kind === "ipip" || kind === "sit" ? null : 7;
  describe(kind, () => {
    test("local, remote and id of one end match the other's → one edge, by both", () => {
      const { scene } = two(tunnel("t0", kind, { ...A, id }), tunnel("t1", kind, { ...B, id }));
      const edge = scene.edge("tunnel");
      expect(edge).toMatchObject({ state: "up", observed_by: ["a", "b"] });
      expect([edge.a, edge.b].map((end) => [end.node, end.interface])).toEqual([
        ["a", "t0"],
        ["b", "t1"],
      ]);
    });
    test("nothing there that matches → one-sided, the reason names who lacks it", () => {
      const { scene } = two(tunnel("t0", kind, { ...A, id }), null);
      expect(scene.edge("tunnel")).toMatchObject({
        state: "one_sided",
        observed_by: ["a"],
        reason: `b has no matching ${kind} for t0 of a`,
      });
    });
    test("without a local address it is the route's: any of the host's fits", () => {
      const { scene } = two(
        tunnel("t0", kind, { ...A, local: null, id }),
        tunnel("t1", kind, { ...B, local: null, id }),
      );
      expect(scene.edge("tunnel").state).toBe("up");
    });
  });
}

test("another id, another kind or another remote is no match: each end is one-sided", () => {
  const ends = [
    tunnel("t1", "vxlan", { ...B, id: 8 }),
    tunnel("t1", "gre", { ...B, id: 7 }),
    tunnel("t1", "vxlan", { local: "198.51.100.2", remote: "192.0.2.1", id: 7 }),
  ];
  for (const other of ends) {
    const { scene } = two(tunnel("t0", "vxlan", { ...A, id: 7 }), other);
    expect(scene.edges("tunnel").map(({ state }) => state)).toEqual(["one_sided", "one_sided"]);
  }
});

test("a remote that no agent has is no edge", () => {
  const { scene } = two(tunnel("t0", "gre", { local: "192.0.2.1", remote: "203.0.113.5" }), null);
  expect(scene.edges("tunnel")).toEqual([]);
});

test("VXLAN's head-end replication: its remotes in the fdb make an edge to each", () => {
  const scene = new Scene();
  const all = [1, 2, 3].map((number) => `192.0.2.${number}`);
  for (const [i, address] of all.entries()) {
    const own = tunnel("vx0", "vxlan", { local: address, remote: null, id: 42 });
    own.remotes = all.filter((other) => other !== address);
    scene.host(`h${i + 1}`, `${address}/24`, [own]);
  }
  scene.rounds(2);
  expect(scene.pairs("tunnel")).toEqual(["h1 – h2", "h1 – h3", "h2 – h3"]);
  expect(scene.edges("tunnel").every(({ state }) => state === "up")).toBe(true);
});

test("an end that is down → down, and names it", () => {
  const { scene, b } = two(tunnel("t0", "gre", A), tunnel("t1", "gre", B));
  b.interfaces!.at(-1)!.up = false;
  scene.rounds(2);
  expect(scene.edge("tunnel")).toMatchObject({ state: "down", reason: "t1 is down at b" });
});

test("a tunnel that both ends take away ends; by one of them, it is one-sided", () => {
  const { scene, a, b } = two(tunnel("t0", "gre", A), tunnel("t1", "gre", B));
  b.interfaces!.pop();
  scene.rounds(2);
  expect(scene.edge("tunnel")).toMatchObject({ state: "one_sided", observed_by: ["a"] });
  a.interfaces!.pop();
  scene.rounds(2);
  expect(scene.edges("tunnel")).toEqual([]);
});

describe("tun and tap overlays: a point-to-point subnet that exactly two agents share", () => {
  const overlay = (kind: InterfaceKind, addresses: string[]) => {
    const scene = new Scene();
    for (const [i, address] of addresses.entries())
      scene.host(`h${i + 1}`, `192.0.2.${i + 1}/24`, [item("tun0", kind, [address])]);
    scene.rounds(2);
    return scene.pairs("tunnel");
  };
  test("/30, /31, /126 and /127", () => {
    expect(overlay("tun", ["10.8.0.1/30", "10.8.0.2/30"])).toEqual(["h1 – h2"]);
    expect(overlay("tap", ["10.8.0.0/31", "10.8.0.1/31"])).toEqual(["h1 – h2"]);
    expect(overlay("tun", ["fd00:8::1/126", "fd00:8::2/126"])).toEqual(["h1 – h2"]);
    expect(overlay("tun", ["fd00:8::/127", "fd00:8::1/127"])).toEqual(["h1 – h2"]);
  });
  test("a wide subnet, another subnet, three agents or another kind: nothing", () => {
    expect(overlay("tun", ["10.8.0.1/24", "10.8.0.2/24"])).toEqual([]);
    expect(overlay("tun", ["10.8.0.1/30", "10.8.0.5/30"])).toEqual([]);
    expect(overlay("tun", ["10.8.0.1/30", "10.8.0.2/30", "10.8.0.1/30"])).toEqual([]);
    expect(overlay("dummy", ["10.8.0.1/30", "10.8.0.2/30"])).toEqual([]);
  });
});

describe("rides_on", () => {
  /** Hosts a and b with a WireGuard tunnel, and a VXLAN whose ends are `outer`. */
  function stacked(outerA: string, outerB: string) {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const { a, b } = place;
    a.interfaces!.push(tunnel("vx0", "vxlan", { local: outerA, remote: outerB, id: 1 }, { parent: "wg0" }));
    b.interfaces!.push(tunnel("vx0", "vxlan", { local: outerB, remote: outerA, id: 1 }, { parent: "wg0" }));
    return place;
  }

  test("what the host said of the endpoint (`via`), whatever its main table says", () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const { scene, a, ab } = place;
    a.interfaces!.push(item("eth1", "physical", ["198.51.100.1/24"]));
    // A mark and its rule lead the packets elsewhere than the main table would.
    a.routes = [route("0.0.0.0/0", "eth0")];
    ab.via = { interface: "eth1", source: "198.51.100.1" };
    working(place);
    expect(scene.edge().rides_on).toEqual([{ node: "a", interface: "eth1", edge: null }]);
    ab.via = { interface: "eth0", source: "192.0.2.1" };
    working(place, 1);
    expect(scene.edge().rides_on).toEqual([{ node: "a", interface: "eth0", edge: null }]);
    // It said that there is no way.
    ab.via = null;
    working(place, 1);
    expect(scene.edge().rides_on).toEqual([]);
  });

  test("without the host's word: the longest prefix of its main table", () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const { scene, a } = place;
    a.routes = [
      route("0.0.0.0/0", "eth9"),
      route("192.0.2.0/24", "eth0"),
      route("192.0.2.2/32", "eth8", { table: "51820" }),
    ];
    working(place);
    expect(scene.edge().rides_on).toEqual([{ node: "a", interface: "eth0", edge: null }]);
  });

  test("VXLAN over WireGuard: the layers stack", () => {
    const place = stacked("10.9.0.1", "10.9.0.2");
    const { scene, a, b } = place;
    for (const host of [a, b]) host.routes = [route("10.9.0.0/24", "wg0")];
    working(place);
    expect(scene.edge("tunnel")).toMatchObject({
      state: "up",
      rides_on: [
        { node: "a", interface: "wg0", edge: scene.edge().id },
        { node: "b", interface: "wg0", edge: scene.edge().id },
      ],
    });
  });

  test("of several peers below, the one that AllowedIPs pick for the outer address", () => {
    const place = stacked("10.9.0.1", "10.9.0.2");
    const { scene, a, wgA } = place;
    scene.host("c", "192.0.2.3/24");
    wgA.peers!.unshift(peer("c", { endpoint: "192.0.2.3:51820", allowed_ips: ["10.9.0.0/24"] }));
    a.routes = [route("10.9.0.0/24", "wg0")];
    working(place);
    const toB = scene.topology.edgeOfPeer("a", "wg0", wgA.peers![1]!.public_key)!.edge;
    expect(scene.edge("tunnel").rides_on.find(({ node }) => node === "a")).toMatchObject({ edge: toB.id });
  });

  test("WireGuard over VXLAN", () => {
    const scene = new Scene();
    for (const [i, name] of ["a", "b"].entries()) {
      const [own, far] = [i + 1, 2 - i];
      const below = tunnel("vx0", "vxlan", { local: `192.0.2.${own}`, remote: `192.0.2.${far}`, id: 1 });
      below.addresses = [`10.7.0.${own}/24`];
      const host = scene.host(name, `192.0.2.${own}/24`, [below]);
      const entry = peer(name === "a" ? "b" : "a", {
        endpoint: `10.7.0.${far}:51820`,
        allowed_ips: [`10.9.0.${far}/32`],
        via: { interface: "vx0", source: `10.7.0.${own}` },
      });
      scene.wireguard(host, "wg0", name, [`10.9.0.${own}/24`], [entry]);
    }
    scene.rounds(2);
    const below = scene.edge("tunnel").id;
    expect(scene.edge().rides_on).toEqual([
      { node: "a", interface: "vx0", edge: below },
      { node: "b", interface: "vx0", edge: below },
    ]);
    expect([scene.edge().a.nat, scene.edge().b.nat]).toEqual([false, false]);
  });

  test("a cycle is reported, not followed: wg0 in wg0", () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    place.ab.allowed_ips = ["0.0.0.0/0"];
    place.ab.via = { interface: "wg0", source: "10.9.0.1" };
    working(place);
    const edge = place.scene.edge();
    expect(edge.cause).toBe("tunnel_loop");
    expect(edge.rides_on).toEqual([{ node: "a", interface: "wg0", edge: null }]);
  });

  test("a cycle is reported, not followed: wg0 in wg1 in wg0", () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const { scene, a, b, ab } = place;
    const onWg1 = peer("b1", {
      endpoint: "10.9.0.2:51821",
      allowed_ips: ["192.0.2.2/32"],
      via: { interface: "wg0", source: "10.9.0.1" },
    });
    scene.wireguard(a, "wg1", "a1", ["10.8.0.1/24"], [onWg1], 51821);
    scene.wireguard(b, "wg1", "b1", ["10.8.0.2/24"], [peer("a1")], 51821);
    ab.via = { interface: "wg1", source: "10.8.0.1" };
    working(place);
    const loops = scene.edges().map(({ a: end, cause, rides_on }) => [end.interface, cause, rides_on.length]);
    expect(loops.sort()).toEqual([
      ["wg0", "tunnel_loop", 1],
      ["wg1", "tunnel_loop", 1],
    ]);
  });

  /** wg0 in wg1, which lies in a VXLAN towards these. */
  function overVxlan(remotes: string[]): Scene {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const { scene, a, b, ab } = place;
    const [vxA, vxB] = [
      tunnel("vx0", "vxlan", { local: "10.9.0.1", remote: null, id: 1 }, { remotes }),
      tunnel("vx0", "vxlan", { local: "10.9.0.2", remote: null, id: 1 }, { remotes: ["10.9.0.1"] }),
    ];
    vxA.addresses = ["10.7.0.1/24"];
    vxB.addresses = ["10.7.0.2/24"];
    a.interfaces!.push(vxA);
    b.interfaces!.push(vxB);
    a.routes = [route("10.9.0.0/24", "wg0"), route("10.7.0.0/24", "vx0")];
    const onWg1 = peer("b1", {
      endpoint: "10.7.0.2:51821",
      allowed_ips: ["192.0.2.2/32"],
      via: { interface: "vx0", source: "10.7.0.1" },
    });
    scene.wireguard(a, "wg1", "a1", ["10.8.0.1/24"], [onWg1], 51821);
    scene.wireguard(b, "wg1", "b1", ["10.8.0.2/24"], [peer("a1")], 51821);
    ab.via = { interface: "wg1", source: "10.8.0.1" };
    working(place);
    return scene;
  }

  test("a cycle is reported, not followed: wg0 in wg1 in a VXLAN in wg0", () => {
    const loops = overVxlan(["10.9.0.2"])
      .edges()
      .map(({ a: end, cause }) => [end.interface, cause]);
    expect(loops.sort()).toEqual([
      ["wg0", "tunnel_loop"],
      ["wg1", "tunnel_loop"],
    ]);
  });

  test("of a VXLAN's several remotes one lies outside the tunnel: no cycle is claimed", () => {
    const scene = overVxlan(["10.9.0.2", "192.0.2.9"]);
    expect(scene.edges().filter(({ cause }) => cause === "tunnel_loop")).toEqual([]);
  });
});
