// Owns what a random network is before it is built: hosts, wires, tunnels, routes and faults as data, made from a seed.
// Nothing here knows whether packets will pass: that is what reality and the manager are asked.
import { seeded } from "../fleet/random.ts";

export type PeerPlan = { host: number; interface: string; allowedIps: string[]; endpoint: boolean };
export type TunnelPlan = { name: string; port: number; addresses: string[]; peers: PeerPlan[] };
export type HostPlan = {
  name: string;
  /** Segments that it is on, by number; 0 is the underlay. */
  segments: number[];
  forward: boolean;
  tunnels: TunnelPlan[];
  sysctl: Record<string, string>;
  /** Lines of `ip`, run after the tunnels are there; one that does not fit is passed over. */
  lines: string[];
  nft: string[];
};
export type Plan = {
  seed: number;
  shape: string;
  faults: string[];
  /** First three bytes of each segment's /24; several may have the same. */
  segments: string[];
  hosts: HostPlan[];
};

export type Dice = {
  /** 0 to n − 1. */
  below(n: number): number;
  chance(probability: number): boolean;
  pick<T>(items: readonly T[]): T;
};

export function diceOf(seed: number): Dice {
  const random = seeded(seed);
  const below = (n: number) => Math.floor(random() * n);
  return {
    below,
    chance: (probability) => random() < probability,
    pick: (items) => items[below(items.length)]!,
  };
}

export const UNDERLAY = "192.168.50";

export function host(name: string, segments: number[] = [0]): HostPlan {
  return { name, segments, forward: false, tunnels: [], sysctl: {}, lines: [], nft: [] };
}

/** The addresses of the `index`-th host of mesh `net`. */
export const overlay4 = (net: number, index: number) => `10.${net}.0.${index + 1}`;
export const overlay6 = (net: number, index: number) => `fd0${net}::${index + 1}`;

function tunnel(plan: HostPlan, net: number, index: number, length = 24): TunnelPlan {
  const name = `wg${plan.tunnels.length}`;
  const made = {
    name,
    port: 51820 + plan.tunnels.length,
    addresses: [`${overlay4(net, index)}/${length}`, `${overlay6(net, index)}/64`],
    peers: [],
  };
  plan.tunnels.push(made);
  return made;
}

const hostIps = (net: number, index: number) => [`${overlay4(net, index)}/32`, `${overlay6(net, index)}/128`];

/** Everyone is a peer of everyone, by host addresses. */
function mesh(hosts: HostPlan[], members: number[], net: number): void {
  const made = members.map((place, index) => tunnel(hosts[place]!, net, index));
  for (const [i, place] of members.entries())
    for (const [j, other] of members.entries())
      if (i !== j)
        made[i]!.peers.push({ host: other, interface: made[j]!.name, allowedIps: hostIps(net, j), endpoint: true });
}

/** Spokes send the whole subnet to the hub, which knows no endpoint of them. */
export function star(hosts: HostPlan[], hub: number, spokes: number[], net: number): void {
  const center = tunnel(hosts[hub]!, net, 0);
  hosts[hub]!.forward = true;
  for (const [i, place] of spokes.entries()) {
    const own = tunnel(hosts[place]!, net, i + 1);
    own.peers.push({
      host: hub,
      interface: center.name,
      allowedIps: [`10.${net}.0.0/24`, `fd0${net}::/64`],
      endpoint: true,
    });
    center.peers.push({ host: place, interface: own.name, allowedIps: hostIps(net, i + 1), endpoint: false });
  }
}

function planMesh(dice: Dice): Omit<Plan, "seed" | "faults"> {
  const hosts = Array.from({ length: 3 + dice.below(3) }, (_, i) => host(`h${i}`));
  mesh(hosts, [...hosts.keys()], 1);
  return { shape: "mesh", segments: [UNDERLAY], hosts };
}

function planHub(dice: Dice): Omit<Plan, "seed" | "faults"> {
  const hosts = Array.from({ length: 4 + dice.below(2) }, (_, i) => host(i === 0 ? "hub" : `spoke${i}`));
  star(hosts, 0, [...hosts.keys()].slice(1), 1);
  return { shape: "hub", segments: [UNDERLAY], hosts };
}

/** Two or three sites: a gateway each in a mesh, with a LAN behind it and a host or two on that. */
function planSites(dice: Dice): Omit<Plan, "seed" | "faults"> {
  const count = 2 + dice.below(2);
  const same = dice.chance(0.2);
  const segments = [UNDERLAY, ...Array.from({ length: count }, (_, i) => (same ? "192.168.60" : `192.168.${60 + i}`))];
  const hosts: HostPlan[] = [];
  for (let i = 0; i < count; i++) hosts.push({ ...host(`gw${i}`, [0, i + 1]), forward: true });
  for (let i = 0; i < count; i++) {
    for (let j = 0, lan = 1 + dice.below(count === 2 ? 2 : 1); j < lan; j++) {
      const inside = host(`lan${i}${j}`, [i + 1]);
      // The gateway took the segment's first address.
      inside.lines.push(
        `route add default via ${segments[i + 1]}.1`,
        `-6 route add default via fd50:${(i + 1).toString(16)}::1`,
      );
      hosts.push(inside);
    }
  }
  const gateways = Array.from({ length: count }, (_, i) => i);
  mesh(hosts, gateways, 1);
  for (const i of gateways)
    for (const peer of hosts[i]!.tunnels[0]!.peers)
      peer.allowedIps.push(`${segments[peer.host + 1]}.0/24`, `fd50:${(peer.host + 1).toString(16)}::/64`);
  return { shape: same ? "sites with the same LAN" : "sites", segments, hosts };
}

/** A line of hosts with a tunnel between neighbours, and routes along it. */
function planChain(dice: Dice): Omit<Plan, "seed" | "faults"> {
  const hosts = Array.from({ length: 4 + dice.below(2) }, (_, i) => ({ ...host(`c${i}`), forward: true }));
  for (let i = 0; i + 1 < hosts.length; i++) {
    const [left, right] = [tunnel(hosts[i]!, i + 1, 0), tunnel(hosts[i + 1]!, i + 1, 1)];
    const open = dice.chance(0.5);
    const nets = (from: number, to: number) => {
      const found: string[] = [];
      for (let net = from; net <= to; net++) found.push(`10.${net}.0.0/24`, `fd0${net}::/64`);
      return found;
    };
    left.peers.push({
      host: i + 1,
      interface: right.name,
      allowedIps: open ? ["0.0.0.0/0", "::/0"] : nets(i + 1, hosts.length - 1),
      endpoint: true,
    });
    right.peers.push({
      host: i,
      interface: left.name,
      allowedIps: open ? ["0.0.0.0/0", "::/0"] : nets(1, i + 1),
      endpoint: true,
    });
    for (const net of nets(i + 2, hosts.length - 1)) hosts[i]!.lines.push(`route replace ${net} dev ${left.name}`);
    for (const net of nets(1, i)) hosts[i + 1]!.lines.push(`route replace ${net} dev ${right.name}`);
  }
  return { shape: "chain", segments: [UNDERLAY], hosts };
}

/** The mark of every tunnel's own packets, as wg-quick would set it. */
export const TUNNEL_MARK = 51820;

/** wg-quick's way with a default route: a mark on the tunnel's own packets, a table, two rules. */
export function wgQuick(plan: HostPlan, name: string): void {
  plan.lines.push(
    `route add default dev ${name} table 51820`,
    `rule add not fwmark ${TUNNEL_MARK} table 51820 priority 32765`,
    "rule add table main suppress_prefixlength 0 priority 32764",
    `-6 route add default dev ${name} table 51820`,
    `-6 rule add not fwmark ${TUNNEL_MARK} table 51820 priority 32765`,
    "-6 rule add table main suppress_prefixlength 0 priority 32764",
  );
}

/** A hub with a LAN behind it, spokes of which some send everything through it. */
function planRoadWarriors(dice: Dice): Omit<Plan, "seed" | "faults"> {
  const hosts = [host("hub", [0, 1]), host("road1"), host("road2"), host("road3"), host("lan0", [1])];
  star(hosts, 0, [1, 2, 3], 1);
  hosts[4]!.lines.push("route add default via 192.168.60.1", "-6 route add default via fd50:1::1");
  for (const place of [1, 2, 3]) {
    const peer = hosts[place]!.tunnels[0]!.peers[0]!;
    if (dice.chance(0.6)) {
      peer.allowedIps = ["0.0.0.0/0", "::/0"];
      wgQuick(hosts[place]!, "wg0");
    } else peer.allowedIps.push("192.168.60.0/24", "fd50:1::/64");
  }
  return { shape: "road warriors", segments: [UNDERLAY, "192.168.60"], hosts };
}

/** Two hubs that know each other, spokes on each. */
function planTwoHubs(dice: Dice): Omit<Plan, "seed" | "faults"> {
  const hosts = ["hub0", "hub1", "s00", "s01", "s10"].map((name) => host(name));
  if (dice.chance(0.5)) hosts.push(host("s11"));
  star(hosts, 0, [2, 3], 1);
  star(hosts, 1, hosts.length === 6 ? [4, 5] : [4], 2);
  mesh(hosts, [0, 1], 3);
  for (const [place, far] of [
    [0, 2],
    [1, 1],
  ] as const)
    hosts[place]!.tunnels[1]!.peers[0]!.allowedIps.push(`10.${far}.0.0/24`, `fd0${far}::/64`);
  for (const [place, spoke] of hosts.entries()) {
    if (place < 2) continue;
    const far = spoke.tunnels[0]!.addresses[0]!.startsWith("10.1.") ? 2 : 1;
    spoke.tunnels[0]!.peers[0]!.allowedIps.push(`10.${far}.0.0/24`, `fd0${far}::/64`);
  }
  return { shape: "two hubs", segments: [UNDERLAY], hosts };
}

export const SHAPES = [planMesh, planHub, planSites, planChain, planRoadWarriors, planTwoHubs];
