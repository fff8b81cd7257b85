// Path through whole layouts, each by its name: IPv6 alone, site to site, the same LAN twice, no way back, a tunnel in a
// tunnel, a line too long. Hand-written reports; what real packets do is test/path's.
import { expect, test } from "bun:test";
import { tracePath } from "../../manager/topology/path.ts";
import type { PathResponse } from "../../shared/api.ts";
import type { Neighbor, Peer } from "../../shared/report.ts";
import { card, host, type PathHost, peer, plainRules, route, rule, wireguard } from "./path_hosts.ts";
import { idOf, NOW, topologyOf } from "./path_reader.ts";

type Hosts = Record<string, PathHost>;

const trace = (hosts: Hosts, from: string, to: string): PathResponse =>
  tracePath(topologyOf(hosts), idOf(from), to, NOW);
const namesOf = (hosts: Hosts, { hops }: { hops: { node: string }[] }) =>
  hops.map(({ node }) => Object.keys(hosts).find((name) => idOf(name) === node));

/** a and b reach each other through the hub h, and nothing speaks IPv4. */
function ipv6Only(): Hosts {
  const one = (number: number, of: string, peers: Peer[]) =>
    host({
      interfaces: [
        card("eth0", "physical", [`2001:db8::${number}/64`], 1500),
        card("wg0", "wireguard", [`fd00:9::${number}/64`], 1420),
      ],
      routes: [
        route("fd00:9::/64", { metric: 256 }),
        route("2001:db8::/64", { interface: "eth0", metric: 256 }),
        route("::/0", { interface: "eth0", gateway: "2001:db8::ff", metric: 1024 }),
      ],
      rules: plainRules(6),
      wireguard: [wireguard("wg0", of, peers)],
      forwarding: { v4: true, v6: of === "h" },
    });
  return {
    a: one(1, "a", [peer("h", ["fd00:9::/64"], "[2001:db8::2]:51820")]),
    h: one(2, "h", [
      peer("a", ["fd00:9::1/128"], "[2001:db8::1]:51820"),
      peer("b", ["fd00:9::3/128"], "[2001:db8::3]:51820"),
    ]),
    b: one(3, "b", [peer("h", ["fd00:9::/64"], "[2001:db8::2]:51820")]),
  };
}

test("an IPv6-only mesh: over the hub and back, each with its own address", () => {
  const hosts = ipv6Only();
  const path = trace(hosts, "a", "fd00:9::3");
  expect(path).toMatchObject({ verdict: "delivered", source: "fd00:9::1", path_mtu: 1420 });
  expect(namesOf(hosts, path)).toEqual(["a", "h", "b"]);
  expect(path.back).toMatchObject({ verdict: "delivered", source: "fd00:9::3", destination: "fd00:9::1" });
});

test("an IPv6-only mesh: IPv4 forwarding does not forward IPv6", () => {
  const hosts = ipv6Only();
  hosts.h!.forwarding = { v4: true, v6: false };
  const path = trace(hosts, "a", "fd00:9::3");
  expect(path.verdict).toBe("not_forwarding");
  expect(path.reason).toContain("IPv6 forwarding is off");
  // The hub itself needs none.
  expect(trace(hosts, "a", "fd00:9::2").verdict).toBe("delivered");
});

test("an IPv6 host whose only way is a rule by source: without a route it asks again with a source", () => {
  const hosts = ipv6Only();
  const { a } = hosts;
  a!.routes = a!.routes!.filter(({ destination }) => destination !== "fd00:9::/64" && destination !== "::/0");
  expect(trace(hosts, "a", "fd00:9::3").verdict).toBe("no_route");
  a!.rules!.splice(1, 0, rule(70, "77", { family: 6, src: "fd00:9::/64" }));
  a!.routes!.push(route("::/0", { table: "77", metric: 1024 }));
  expect(trace(hosts, "a", "fd00:9::3")).toMatchObject({ verdict: "delivered", source: "fd00:9::1" });
});

const macOf = (text: string) => `02:00:00:00:00:${text}`;

/** Two sites: a gateway with a tunnel to the other's, a LAN behind each, and a host on it whose default is the gateway. */
function sites(lans: readonly [string, string]): Hosts {
  const hosts: Hosts = {};
  for (const [place, site] of ["west", "east"].entries()) {
    const far = ["east", "west"][place]!;
    const [own, other] = [lans[place]!, lans[1 - place]!];
    const [gateway, inside] = [macOf(`${place}1`), macOf(`${place}2`)];
    const neighbor = (number: number, mac: string, name: string): Neighbor => ({
      address: `${own}.${number}`,
      mac,
      interface: name,
    });
    const wire = card("eth1", "physical", [`${own}.1/24`], 1500);
    wire.mac = gateway;
    hosts[site] = host({
      interfaces: [
        card("eth0", "physical", [`198.51.100.${place + 1}/24`], 1500),
        wire,
        card("wg0", "wireguard", [`10.9.0.${place + 1}/24`], 1420),
      ],
      routes: [
        route("10.9.0.0/24"),
        route("198.51.100.0/24", { interface: "eth0" }),
        route(`${own}.0/24`, { interface: "eth1", source: `${own}.1` }),
        ...(own === other ? [] : [route(`${other}.0/24`)]),
      ],
      wireguard: [
        wireguard("wg0", site, [
          peer(far, [`10.9.0.${2 - place}/32`, `${other}.0/24`], `198.51.100.${2 - place}:51820`),
        ]),
      ],
      neighbors: [neighbor(2, inside, "eth1")],
      forwarding: { v4: true, v6: false },
    });
    const port = card("eth0", "physical", [`${own}.2/24`], 1500);
    port.mac = inside;
    hosts[`in-${site}`] = host({
      interfaces: [port],
      routes: [
        route("0.0.0.0/0", { interface: "eth0", gateway: `${own}.1` }),
        route(`${own}.0/24`, { interface: "eth0", source: `${own}.2` }),
      ],
      neighbors: [neighbor(1, gateway, "eth0")],
    });
  }
  return hosts;
}

const TWO_LANS = ["192.168.61", "192.168.62"] as const;

test("site to site: from a host on one LAN to a host on the other, and back", () => {
  const hosts = sites(TWO_LANS);
  const path = trace(hosts, "in-west", "192.168.62.2");
  expect(path).toMatchObject({ verdict: "delivered", source: "192.168.61.2", path_mtu: 1420 });
  expect(namesOf(hosts, path)).toEqual(["in-west", "west", "east", "in-east"]);
  expect(path.hops[0]!.route).toBe("default via 192.168.61.1 dev eth0");
  expect(path.hops[1]).toMatchObject({ interface: "wg0", allowed_ip: "192.168.62.0/24" });
  expect(path.back.verdict).toBe("delivered");
  expect(namesOf(hosts, path.back)).toEqual(["in-east", "east", "west", "in-west"]);
});

test("site to site: the far gateway has no route back, and only the way back fails", () => {
  const hosts = sites(TWO_LANS);
  hosts.east!.routes = hosts.east!.routes!.filter(({ destination }) => destination !== "192.168.61.0/24");
  const path = trace(hosts, "in-west", "192.168.62.2");
  expect(path.verdict).toBe("delivered");
  expect(path.back).toMatchObject({ verdict: "no_route" });
  expect(path.back.reason).toContain("no route to 192.168.61.2");
  expect(namesOf(hosts, path.back).at(-1)).toBe("east");
});

test("site to site: the far gateway's AllowedIPs lack the LAN: it drops what comes from there, and sends nothing back", () => {
  const hosts = sites(TWO_LANS);
  hosts.east!.wireguard![0]!.peers![0]!.allowed_ips = ["10.9.0.1/32"];
  const path = trace(hosts, "in-west", "192.168.62.2");
  expect(path.verdict).toBe("source_filtered");
  expect(path.reason).toContain("192.168.61.2");
  // From its own overlay address the gateway gets through.
  expect(trace(hosts, "west", "192.168.62.2").verdict).toBe("delivered");
});

test("site to site: the host on the far LAN has another default gateway", () => {
  const hosts = sites(TWO_LANS);
  hosts["in-east"]!.routes![0] = route("0.0.0.0/0", { interface: "eth0", gateway: "192.168.62.254" });
  const path = trace(hosts, "in-west", "192.168.62.2");
  expect(path.verdict).toBe("delivered");
  expect(path.back.verdict).toBe("foreign");
  expect(path.back.reason).toContain("192.168.62.254");
});

test("the same LAN on two sites: an address of the other site's is looked for on one's own wire", () => {
  const hosts = sites(["192.168.60", "192.168.60"]);
  hosts["in-east"]!.interfaces![0]!.addresses = ["192.168.60.7/24"];
  hosts["in-east"]!.routes![1]!.source = "192.168.60.7";
  hosts.east!.neighbors = [{ address: "192.168.60.7", mac: macOf("12"), interface: "eth1" }];
  const path = trace(hosts, "in-west", "192.168.60.7");
  expect(path.verdict).toBe("foreign");
  expect(path.reason).toContain("192.168.60.7");
  expect(namesOf(hosts, path)).toEqual(["in-west"]);
});

/** a and b: a tunnel (wg1) whose endpoints are addresses of another tunnel (wg0). */
function stacked(): Hosts {
  const one = (number: number, of: string, far: string): PathHost => {
    const other = 3 - number;
    return host({
      interfaces: [
        card("eth0", "physical", [`198.51.100.${number}/24`], 1500),
        card("wg0", "wireguard", [`10.9.0.${number}/24`], 1420),
        card("wg1", "wireguard", [`10.10.0.${number}/24`], 1340),
      ],
      routes: [
        route("10.9.0.0/24"),
        route("10.10.0.0/24", { interface: "wg1" }),
        route("198.51.100.0/24", { interface: "eth0" }),
      ],
      wireguard: [
        wireguard("wg0", of, [peer(far, [`10.9.0.${other}/32`], `198.51.100.${other}:51820`)]),
        wireguard(
          "wg1",
          `${of} inner`,
          [peer(`${far} inner`, [`10.10.0.${other}/32`], `10.9.0.${other}:51821`)],
          51821,
        ),
      ],
    });
  };
  return { a: one(1, "a", "b"), b: one(2, "b", "a") };
}

test("path_mtu: each tunnel's own, in a tunnel of a tunnel; a route's counts where it is less", () => {
  const hosts = stacked();
  expect(trace(hosts, "a", "10.9.0.2")).toMatchObject({ verdict: "delivered", path_mtu: 1420 });
  expect(trace(hosts, "a", "10.10.0.2")).toMatchObject({ verdict: "delivered", path_mtu: 1340 });
  hosts.a!.routes![1]!.mtu = 1280;
  expect(trace(hosts, "a", "10.10.0.2")).toMatchObject({ path_mtu: 1280, back: { path_mtu: 1340 } });
});

test("path_mtu: the least on the way, not the first", () => {
  const hosts = sites(TWO_LANS);
  hosts.east!.interfaces!.find(({ name }) => name === "eth1")!.mtu = 1300;
  expect(trace(hosts, "in-west", "192.168.62.2")).toMatchObject({ path_mtu: 1300, back: { path_mtu: 1420 } });
});

/** h0 – h1 – … – h(count−1): a tunnel between neighbours, and routes along the line. */
function line(count: number): Hosts {
  const hosts: Hosts = {};
  const net = "10.0.0.0/8";
  for (let i = 0; i < count; i++) {
    const parts = host({ forwarding: { v4: true, v6: false } });
    parts.interfaces!.push(card("lo", "loopback", ["127.0.0.1/8", `10.1.0.${i + 1}/32`], 65536));
    const link = (name: string, far: number, side: string, back: string) => {
      parts.interfaces!.push(card(name, "wireguard", [], 1420));
      parts.wireguard!.push(
        wireguard(name, `${i} ${side}`, [peer(`${far} ${back}`, [net], `198.51.100.${far + 1}:51820`)]),
      );
    };
    if (i > 0) link("left", i - 1, "left", "right");
    if (i < count - 1) link("right", i + 1, "right", "left");
    const source = `10.1.0.${i + 1}`;
    for (let j = 0; j < count; j++)
      if (j !== i) parts.routes!.push(route(`10.1.0.${j + 1}/32`, { interface: j < i ? "left" : "right", source }));
    hosts[`h${i}`] = parts;
  }
  return hosts;
}

test("ttl: a line of 64 routers is one too many for a packet that begins with 64", () => {
  const hosts = line(66);
  // 63 routers lie between h0 and h64.
  expect(trace(hosts, "h0", "10.1.0.65").verdict).toBe("delivered");
  const path = trace(hosts, "h0", "10.1.0.66");
  expect(path.verdict).toBe("ttl");
  expect(namesOf(hosts, path).at(-1)).toBe("h64");
});
