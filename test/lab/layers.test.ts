// Layers on real hosts, by the compiled agent: a LAN by its ARP entries, VXLAN over WireGuard and WireGuard over VXLAN, an
// IPv6-only mesh, the same LAN behind two sites, two meshes that use one prefix, and docker-like bridges that connect
// nothing.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { AgentsResponse, PathResponse, TopologyEdge, TopologyResponse } from "../../shared/api.ts";
import { compiled } from "../support/binary.ts";
import { describeWith, LAB_NEEDS } from "../support/needs.ts";
import type { Host } from "./host.ts";
import { createLab, type Lab } from "./lab.ts";
import { eventually, MANAGER_PORT, RunningAgent, RunningManager } from "./programs.ts";
import { generateKeyPair } from "./wireguard.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const INTERVAL_S = 1;
const PSK = "layers-test-fleet-key-0123456789abcdef01234";
const NAMES = ["a", "b", "c", "d"] as const;
/** Docker's default on every host: address and prefix are the same everywhere. */
const DOCKER = "172.17.0.1";
/** First three bytes of the /24 behind both gateways. */
const SITE = "192.168.1";
/** Who knows of a site, the site's gateway, and a host behind it with its address there. */
const SITES = [
  { user: "a", gateway: "c", inside: "in-c", number: 2 },
  { user: "b", gateway: "d", inside: "in-d", number: 3 },
] as const;
const AGENTS = [...NAMES, ...SITES.map(({ inside }) => inside)];

describeWith([...LAB_NEEDS, "bridge"], "layers", () => {
  let lab: Lab;
  let manager: RunningManager;
  const hosts = new Map<string, Host>();
  const ids = new Map<string, string>();
  const host = (name: string) => hosts.get(name)!;
  const topology = () => manager.get<TopologyResponse>("/status/topology");
  /** Edges between two hosts, in a layer. */
  const between = (edges: readonly TopologyEdge[], one: string, other: string, layer: TopologyEdge["layer"]) =>
    edges.filter(
      (edge) =>
        edge.layer === layer &&
        [edge.a.node, edge.b.node].sort().join() === [ids.get(one)!, ids.get(other)!].sort().join(),
    );
  const onInterface = (edges: readonly TopologyEdge[], name: string) =>
    edges.find((edge) => edge.a.interface === name || edge.b.interface === name);

  beforeAll(async () => {
    compiled("agent");
    lab = await createLab("layers");
    const made = await Promise.all(["m", ...NAMES].map((name) => lab.host(name)));
    for (const one of made) hosts.set(one.name, one);
    const [a, b, c, d] = NAMES.map(host) as [Host, Host, Host, Host];

    // a – b: WireGuard, and VXLAN 7 over it.
    await lab.mesh([a, b], { keepalive: 25 });
    for (const [one, other, number] of [
      [a, 2, 1],
      [b, 1, 2],
    ] as const) {
      await one.ip(
        `link add vx7 type vxlan id 7 dstport 4789 local 10.9.0.${number} remote 10.9.0.${other} dev wg0`,
        `addr add 10.70.0.${number}/24 dev vx7`,
        "link set vx7 mtu 1370 up",
      );
    }
    // c – d: VXLAN 8 on the LAN, and WireGuard over it.
    for (const [one, other, number] of [
      [c, d, 1],
      [d, c, 2],
    ] as const) {
      await one.ip(
        `link add vx8 type vxlan id 8 dstport 4789 local ${one.address} remote ${other.address} dev eth0`,
        `addr add 10.80.0.${number}/24 dev vx8`,
        "link set vx8 mtu 1450 up",
      );
    }
    const [keyC, keyD] = [generateKeyPair(), generateKeyPair()];
    await c.wireguard("wg1", {
      mtu: 1370,
      ...keyC,
      port: 51821,
      addresses: ["10.81.0.1/24"],
      peers: [{ publicKey: keyD.publicKey, endpoint: "10.80.0.2:51821", allowedIps: ["10.81.0.2/32"], keepalive: 25 }],
    });
    await d.wireguard("wg1", {
      mtu: 1370,
      ...keyD,
      port: 51821,
      addresses: ["10.81.0.2/24"],
      peers: [{ publicKey: keyC.publicKey, endpoint: "10.80.0.1:51821", allowedIps: ["10.81.0.1/32"], keepalive: 25 }],
    });
    // b – c: IPv6 only, inside and outside.
    const [keyB, keyC2] = [generateKeyPair(), generateKeyPair()];
    await b.wireguard("wg6", {
      ...keyB,
      port: 51826,
      addresses: ["fd66::1/64"],
      peers: [
        {
          publicKey: keyC2.publicKey,
          endpoint: `[${c.nics[0]!.address6}]:51826`,
          allowedIps: ["fd66::2/128"],
          keepalive: 25,
        },
      ],
    });
    await c.wireguard("wg6", {
      ...keyC2,
      port: 51826,
      addresses: ["fd66::2/64"],
      peers: [
        {
          publicKey: keyB.publicKey,
          endpoint: `[${b.nics[0]!.address6}]:51826`,
          allowedIps: ["fd66::1/128"],
          keepalive: 25,
        },
      ],
    });
    // a – c and b – d: two meshes with one prefix, each with a site behind its second host. Both sites are the LAN that
    // routers come with; a knows the one, b the other.
    for (const [i, site] of SITES.entries()) {
      const [one, gateway] = [host(site.user), host(site.gateway)];
      const lan = await lab.segment(`site-${site.gateway}`, { prefix: SITE });
      await gateway.attach(lan, { index: 1 });
      await gateway.forward();
      const inside = await lab.host(site.inside, { segments: [] });
      hosts.set(site.inside, inside);
      await inside.attach(lan, { index: site.number });
      await inside.ip(`route add default via ${SITE}.1`);
      // For its reports alone.
      await host("m").ip(`route add ${inside.address} via ${gateway.address}`);
      const keys = [generateKeyPair(), generateKeyPair()] as const;
      const addresses = [`10.30.0.${2 * i + 1}`, `10.30.0.${2 * i + 2}`] as const;
      await one.wireguard("wgs", {
        ...keys[0],
        port: 51830,
        addresses: [`${addresses[0]}/24`],
        peers: [
          {
            publicKey: keys[1].publicKey,
            endpoint: `${gateway.address}:51830`,
            allowedIps: [`${addresses[1]}/32`, `${SITE}.0/24`],
            keepalive: 25,
          },
        ],
      });
      await gateway.wireguard("wgs", {
        ...keys[1],
        port: 51830,
        addresses: [`${addresses[1]}/24`],
        peers: [
          {
            publicKey: keys[0].publicKey,
            endpoint: `${one.address}:51830`,
            allowedIps: [`${addresses[0]}/32`],
            keepalive: 25,
          },
        ],
      });
    }
    // A bridge as docker makes it, with a container's veth, on all of them.
    for (const one of [a, b, c, d]) {
      await one.ip(
        "link add docker0 type bridge",
        `addr add ${DOCKER}/16 dev docker0`,
        "link add veth0 type veth peer name inside0",
        "link set veth0 master docker0",
        "link set veth0 up",
        "link set inside0 up",
        "link set docker0 up",
      );
    }
    manager = await RunningManager.start(host("m"), { settings: { PSK } });
    for (const name of AGENTS) {
      await RunningAgent.start(host(name), {
        managerUrl: `http://${host("m").address}:${MANAGER_PORT}`,
        settings: { PSK },
        intervalSeconds: INTERVAL_S,
      });
    }
    // Neighbours become evidence by being talked to.
    for (const [from, to] of [
      ["a", host("b").address],
      ["a", "10.70.0.2"],
      ["c", "10.80.0.2"],
      ["c", "10.81.0.2"],
      ["b", "fd66::2"],
      ["a", "10.30.0.2"],
      ["b", "10.30.0.4"],
      ...SITES.map(({ user, number }) => [user, `${SITE}.${number}`] as const),
    ] as const)
      expect([from, to, await host(from).pingUntil(to)]).toEqual([from, to, true]);
    await eventually("all report", async () => {
      const { agents } = await manager.get<AgentsResponse>("/status/agents");
      for (const agent of agents) if (agent.tick !== null) ids.set(agent.hostname, agent.agent_id);
      return ids.size === AGENTS.length;
    });
  }, 90_000);
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
  });

  test("VXLAN over WireGuard: the tunnel rides on the WireGuard edge, and that on the LAN", async () => {
    const { edges } = await eventually("the tunnel rides on WireGuard", async () => {
      const now = await topology();
      const [tunnel] = between(now.edges, "a", "b", "tunnel");
      return tunnel !== undefined && tunnel.rides_on.some((item) => item.edge !== null) ? now : null;
    });
    const tunnels = between(edges, "a", "b", "tunnel");
    expect(tunnels).toHaveLength(1);
    expect(tunnels[0]).toMatchObject({ a: { interface: "vx7" }, b: { interface: "vx7" } });
    const wireguard = between(edges, "a", "b", "wireguard");
    expect(wireguard).toHaveLength(1);
    expect(tunnels[0]!.rides_on.map((item) => [item.interface, item.edge])).toEqual([
      ["wg0", wireguard[0]!.id],
      ["wg0", wireguard[0]!.id],
    ]);
    expect(wireguard[0]!.rides_on.map((item) => item.interface)).toEqual(["eth0", "eth0"]);
  });

  test("WireGuard over VXLAN: the edge rides on the tunnel", async () => {
    const { edges } = await eventually("WireGuard rides on the tunnel", async () => {
      const now = await topology();
      const edge = onInterface(between(now.edges, "c", "d", "wireguard"), "wg1");
      return edge?.state === "up" && edge.rides_on.some((item) => item.edge !== null) ? now : null;
    });
    const tunnel = onInterface(between(edges, "c", "d", "tunnel"), "vx8")!;
    const wireguard = onInterface(between(edges, "c", "d", "wireguard"), "wg1")!;
    expect(wireguard.rides_on.map((item) => [item.interface, item.edge])).toEqual([
      ["vx8", tunnel.id],
      ["vx8", tunnel.id],
    ]);
    const path = await manager.get<PathResponse>(`/status/path?from=${ids.get("c")}&to=10.81.0.2`);
    expect(path.verdict).toBe("delivered");
    // The interface's own, which fits into what VXLAN leaves.
    expect(path.path_mtu).toBe(1370);
  });

  test("an IPv6-only mesh is an edge and a network like any other", async () => {
    const edge = await eventually("it is up", async () => {
      const found = onInterface(between((await topology()).edges, "b", "c", "wireguard"), "wg6");
      return found?.state === "up" ? found : null;
    });
    expect(edge.a.endpoint).toMatch(/^\[fd50/);
    const { networks } = await topology();
    expect(networks.find((network) => network.id === edge.network)).toMatchObject({ name: "fd66::/64", nodes: 2 });
  });

  test("a LAN by ARP: hosts that talked are joined, those that share a private subnet by chance are not", async () => {
    const { edges } = await eventually("a and b are on one LAN", async () => {
      const now = await topology();
      return between(now.edges, "a", "b", "physical").length > 0 ? now : null;
    });
    const physical = edges.filter((edge) => edge.layer === "physical");
    for (const edge of physical.filter(({ a, b }) => a.interface !== "eth1" && b.interface !== "eth1")) {
      for (const end of [edge.a, edge.b]) expect(["eth0", "vx7", "vx8"]).toContain(end.interface!);
    }
    // docker0 has one address on all hosts: it joins nothing.
    expect(edges.filter((edge) => [edge.a.interface, edge.b.interface].some((name) => name === "docker0"))).toEqual([]);
  });

  test("the same LAN behind two sites is two attached prefixes, of two peers in two networks", async () => {
    const [now, links] = await eventually("both sites are up", async () => {
      const seen = await topology();
      const found = SITES.map(({ user, gateway }) =>
        onInterface(between(seen.edges, user, gateway, "wireguard"), "wgs"),
      );
      const wired = SITES.every(({ gateway, inside }) => between(seen.edges, gateway, inside, "physical").length === 1);
      return wired && found.every((edge) => edge?.state === "up") ? ([seen, found as TopologyEdge[]] as const) : null;
    });
    const node = (name: string) => now.nodes.find((item) => item.id === ids.get(name))!;
    for (const { user, gateway } of SITES)
      expect([node(gateway).attached, node(user).attached]).toEqual([[`${SITE}.0/24`], []]);
    // Nor are the meshes one for their prefix: each is its two hosts.
    const names = now.networks.map(({ name, nodes }) => `${name} ${nodes}`).sort();
    expect(names).toEqual(["10.30.0.0/24 2", "10.30.0.0/24 2", "10.81.0.0/24 2", "10.9.0.0/24 2", "fd66::/64 2"]);
    expect(links[0]!.network).not.toBe(links[1]!.network);
    const on = (name: string) => now.edges.filter(({ a, b }) => a.interface === name || b.interface === name);
    expect(on("wgs")).toHaveLength(2);
    // The gateways have one address on their inner cards: no wire but each site's own.
    const inner = now.edges.filter(({ a, b }) =>
      SITES.some(({ inside }) => [a.node, b.node].includes(ids.get(inside)!)),
    );
    expect(inner.map(({ layer }) => layer)).toEqual(["physical", "physical"]);
    expect(on("eth1").map(({ id }) => id)).toEqual(inner.map(({ id }) => id));
    expect(now.nodes.filter((item) => item.kind === "foreign")).toEqual([]);
  });

  test("one prefix on two sites: each path leads to the site that its sender knows", async () => {
    const trace = (from: string, number: number) =>
      manager.get<PathResponse>(`/status/path?from=${ids.get(from)}&to=${SITE}.${number}`);
    for (const { user, gateway, inside, number } of SITES) {
      // The gateways' own address is on both of them.
      for (const [target, way] of [
        [1, [user, gateway]],
        [number, [user, gateway, inside]],
      ] as const) {
        const path = await trace(user, target);
        expect(path).toMatchObject({ verdict: "delivered", back: { verdict: "delivered" } });
        expect(path.hops.map((hop) => hop.node)).toEqual(way.map((name) => ids.get(name)!));
      }
    }
    const [left, right] = SITES;
    expect((await trace(left.user, right.number)).verdict).toBe("foreign");
    expect(await host(left.user).ping(`${SITE}.${right.number}`)).toBe(false);
  });

  test("nothing of this is an alarm", async () => {
    const { alarms } = await manager.get<{ alarms: { code: string; message: string }[] }>("/status/alarms?state=all");
    expect(alarms.map((alarm) => `${alarm.code}: ${alarm.message}`)).toEqual([]);
  });
});
