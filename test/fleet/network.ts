// Owns a simulated virtual network: hosts, WireGuard links with counters and handshakes that move as real ones do
// (2-topology.md, facts from real tunnels), and faults. Pure: time is given.
import type { Collected, Interface, Neighbor, Peer, Route, Wireguard } from "../../shared/report.ts";
import { fakeKey, fakeUuid, seeded } from "./random.ts";

/** What can be wrong with a link; `from` is the end whose packets are lost, or that lacks something. */
export type LinkFault =
  | { is: "blocked"; from: SimEnd }
  | { is: "cut" }
  | { is: "preshared_key" }
  | { is: "missing_peer"; at: SimEnd }
  | { is: "lossy" };

export type SimHost = {
  id: string;
  hostname: string;
  site: string;
  publicAddress: string;
  lanAddress: string;
  mac: string;
  behindNat: boolean;
  ends: SimEnd[];
  /** The agent and its host are gone. */
  down: boolean;
  /** Its agent cannot reach the manager; reports go through this host. */
  relayedBy: SimHost | null;
  bootId: string;
  bootedAt: number;
  tick: number;
  version: string;
  hasAgent: boolean;
  overlays: { name: string; remote: SimHost; vni: number }[];
};

/** One WireGuard interface of a host. */
export type SimInterface = { name: string; publicKey: string; port: number; address: string; up: boolean };

export type SimEnd = {
  host: SimHost;
  interface: SimInterface;
  allowedIps: string[];
  keepalive: number | null;
  rx: number;
  tx: number;
  link: SimLink;
  other: SimEnd;
};

export type SimLink = {
  a: SimEnd;
  b: SimEnd;
  /** Unix milliseconds; null: never. */
  handshakeAt: number | null;
  /** Bytes a second of payload, each way. */
  rate: number;
  fault: LinkFault | null;
  advancedTo: number;
};

export type SimNetwork = {
  hosts: SimHost[];
  /** The hosts of each site; sites are counted from 1 as they come. */
  sites: Map<string, { number: number; hosts: SimHost[] }>;
  links: SimLink[];
  random: () => number;
};

export function createNetwork(seed: number): SimNetwork {
  return { hosts: [], sites: new Map(), links: [], random: seeded(seed) };
}

export function addHost(
  network: SimNetwork,
  hostname: string,
  site: string,
  now: number,
  options: { hasAgent?: boolean; behindNat?: boolean } = {},
): SimHost {
  const { hosts, sites, random } = network;
  const number = hosts.length + 1;
  const place = sites.get(site) ?? { number: sites.size + 1, hosts: [] };
  sites.set(site, place);
  const siteNumber = place.number;
  const inSite = place.hosts.length + 1;
  const host: SimHost = {
    id: fakeUuid(random),
    hostname,
    site,
    // 198.18.0.0/15 is for benchmarks (RFC 2544): nobody's address. Over 511 sites go beyond it, in reports alone.
    publicAddress: `198.${18 + (siteNumber >> 8)}.${siteNumber & 255}.${options.behindNat === true ? 254 : inSite}`,
    lanAddress: `192.168.${siteNumber & 255}.${inSite}`,
    mac: `02:00:${(siteNumber >> 8).toString(16).padStart(2, "0")}:${(siteNumber & 255).toString(16).padStart(2, "0")}:${(inSite >> 8).toString(16).padStart(2, "0")}:${(inSite & 255).toString(16).padStart(2, "0")}`,
    behindNat: options.behindNat ?? false,
    ends: [],
    down: false,
    relayedBy: null,
    bootId: fakeUuid(random),
    bootedAt: now - 86_400_000 * (1 + (number % 40)),
    tick: 0,
    version: "0.1.0",
    hasAgent: options.hasAgent ?? true,
    overlays: [],
  };
  hosts.push(host);
  place.hosts.push(host);
  return host;
}

const interfaces = new WeakMap<SimHost, Map<string, SimInterface>>();

/** The host's WireGuard interface of that name, made with this address the first time. */
export function wireguardInterface(
  network: SimNetwork,
  host: SimHost,
  name: string,
  address: string,
  port: number,
): SimInterface {
  const own = interfaces.get(host) ?? new Map<string, SimInterface>();
  interfaces.set(host, own);
  let found = own.get(name);
  if (found === undefined) {
    found = { name, publicKey: fakeKey(network.random), port, address, up: true };
    own.set(name, found);
  }
  return found;
}

/** Connects two interfaces; each end lists the other's host address and `extra` prefixes behind it. */
export function connect(
  network: SimNetwork,
  a: { host: SimHost; interface: SimInterface; extra?: string[]; keepalive?: number | null },
  b: { host: SimHost; interface: SimInterface; extra?: string[]; keepalive?: number | null },
  now: number,
  rate: number,
): SimLink {
  const hostPrefix = (item: SimInterface) => `${item.address.split("/")[0]}/32`;
  const link = {
    handshakeAt: now - network.random() * 100_000,
    rate,
    fault: null,
    advancedTo: now,
  } as unknown as SimLink;
  const end = (own: typeof a, peer: typeof b): SimEnd =>
    ({
      host: own.host,
      interface: own.interface,
      allowedIps: [hostPrefix(peer.interface), ...(peer.extra ?? [])],
      keepalive: own.keepalive === undefined ? 25 : own.keepalive,
      rx: Math.floor(network.random() * 1e9),
      tx: Math.floor(network.random() * 1e9),
      link,
    }) as unknown as SimEnd;
  link.a = end(a, b);
  link.b = end(b, a);
  link.a.other = link.b;
  link.b.other = link.a;
  a.host.ends.push(link.a);
  b.host.ends.push(link.b);
  network.links.push(link);
  return link;
}

// Bytes of a handshake attempt and its answer, attempts in 30 s (2-topology.md): 6 × 148, and 6 × 92.
const ATTEMPT_BYTES_PER_SECOND = 888 / 30;
const ANSWER_BYTES_PER_SECOND = 552 / 30;
const REKEY_MS = 120_000;
const LOSSY_REKEY_MS = 15_000;

function attempts(end: SimEnd, seconds: number, heard: boolean): void {
  end.tx += Math.round((heard ? ANSWER_BYTES_PER_SECOND : ATTEMPT_BYTES_PER_SECOND) * seconds);
  if (heard) end.rx += Math.round(ATTEMPT_BYTES_PER_SECOND * seconds);
}

/** Moves a link's counters and handshake on to `now`. */
export function advanceLink(link: SimLink, now: number): void {
  const seconds = (now - link.advancedTo) / 1000;
  if (seconds <= 0) return;
  link.advancedTo = now;
  const { a, b, fault } = link;
  if (a.host.down || b.host.down) {
    for (const end of [a, b]) if (!end.host.down) attempts(end, seconds, false);
    return;
  }
  switch (fault?.is) {
    case "blocked": {
      const deaf = fault.from.other;
      attempts(fault.from, seconds, true);
      attempts(deaf, seconds, false);
      // It asks for itself as well, and that is lost too.
      fault.from.tx += Math.round(ATTEMPT_BYTES_PER_SECOND * seconds);
      return;
    }
    case "cut":
      attempts(a, seconds, false);
      attempts(b, seconds, false);
      return;
    case "preshared_key": {
      // They take turns at asking; the other answers, and the answer does not fit.
      const [asks, answers] = Math.floor(now / 90_000) % 2 === 0 ? [a, b] : [b, a];
      attempts(asks, seconds, false);
      attempts(answers, seconds, true);
      return;
    }
    case "missing_peer":
      attempts(fault.at.other, seconds, false);
      return;
  }
  const every = fault?.is === "lossy" ? LOSSY_REKEY_MS : REKEY_MS;
  // Idle without keepalive: nothing moves.
  if (link.rate === 0 && a.keepalive === null && b.keepalive === null) return;
  link.handshakeAt ??= now;
  while (link.handshakeAt + every <= now) {
    link.handshakeAt += every;
    a.tx += 148;
    b.rx += 148;
    b.tx += 92;
    a.rx += 92;
  }
  const payload = Math.round(link.rate * seconds * (fault?.is === "lossy" ? 0.02 : 1));
  for (const end of [a, b]) {
    const keepalives = end.keepalive === null ? 0 : 32 * Math.floor(seconds / end.keepalive);
    end.tx += payload + keepalives;
    end.other.rx += payload + keepalives;
  }
}

function physicalInterface(host: SimHost, now: number): Interface {
  const bytes = Math.floor((now - host.bootedAt) * 12);
  return {
    name: "eth0",
    kind: "physical",
    mac: host.mac,
    mtu: 1500,
    up: true,
    carrier: true,
    addresses: host.behindNat ? [`${host.lanAddress}/24`] : [`${host.publicAddress}/24`, `${host.lanAddress}/24`],
    rx_bytes: bytes,
    tx_bytes: bytes,
    speed_mbps: 1000,
    parent: null,
    master: null,
    tunnel: null,
  };
}

const noTunnel = { speed_mbps: null, parent: null, master: null, tunnel: null, mac: null } as const;

/** The report's sections that this host's agent would collect at `now`. */
export function collectHost(network: SimNetwork, host: SimHost, now: number, intervalSeconds: number): Collected {
  const own = [...(interfaces.get(host)?.values() ?? [])];
  const wireguard: Wireguard[] = own.map((item) => ({
    interface: item.name,
    public_key: item.publicKey,
    listen_port: item.port,
    fwmark: null,
    peers: host.ends
      .filter((end) => end.interface === item && !(end.link.fault?.is === "missing_peer" && end.link.fault.at === end))
      .map((end): Peer => {
        advanceLink(end.link, now);
        const { other, link } = end;
        return {
          public_key: other.interface.publicKey,
          endpoint:
            host.behindNat || !other.host.behindNat
              ? `${other.host.publicAddress}:${other.interface.port}`
              : `${other.host.publicAddress}:${40000 + (other.interface.port % 1000)}`,
          allowed_ips: end.allowedIps,
          latest_handshake_at: link.handshakeAt === null ? null : Math.floor(link.handshakeAt / 1000) * 1000,
          rx_bytes: end.rx,
          tx_bytes: end.tx,
          persistent_keepalive_s: end.keepalive,
          via: { interface: "eth0", source: host.behindNat ? host.lanAddress : host.publicAddress },
        };
      }),
  }));
  const routes: Route[] = [
    { destination: "0.0.0.0/0", gateway: host.lanAddress.replace(/\.\d+$/, ".254"), interface: "eth0", metric: 0 },
    {
      destination: `${host.lanAddress.replace(/\.\d+$/, ".0")}/24`,
      gateway: null,
      interface: "eth0",
      metric: 0,
      source: host.lanAddress,
    },
    ...own.flatMap((item) =>
      host.ends
        .filter((end) => end.interface === item)
        .flatMap((end) => end.allowedIps)
        .map((destination): Route => ({ destination, gateway: null, interface: item.name, metric: 0 })),
    ),
  ];
  const neighbors: Neighbor[] = network.sites
    .get(host.site)!
    .hosts.filter((other) => other !== host && !other.down)
    .slice(0, 8)
    .map((other) => ({ address: other.lanAddress, mac: other.mac, interface: "eth0" }));
  const load = 0.2 + 0.6 * Math.abs(Math.sin(now / 300_000 + host.bootedAt));
  return {
    v: 1,
    type: "report",
    tick: host.tick,
    collected_at: now,
    boot_id: host.bootId,
    agent_version: host.version,
    interval_s: intervalSeconds,
    dropped: 0,
    delivery: {
      outbox_reports: 0,
      outbox_bytes: 0,
      outbox_limit_bytes: 16 * 1024 * 1024,
      relay_refused: { loop: 0, hop_limit: 0 },
      psk_error: null,
    },
    collectors: {
      wireguard: "ok",
      interfaces: "ok",
      routes: "ok",
      neighbors: "ok",
      system: "ok",
      rules: "ok",
      firewall: "ok",
    },
    system: {
      hostname: host.hostname,
      kernel: "6.12.48",
      arch: "x64",
      uptime_s: Math.round((now - host.bootedAt) / 1000),
      cpus: 4,
      load: [load, load * 0.9, load * 0.8].map((value) => Math.round(value * 100) / 100),
      memory_total_bytes: 8_000_000_000,
      memory_available_bytes: 5_000_000_000,
      ip_forward: true,
      ipv6_forward: false,
    },
    interfaces: [
      physicalInterface(host, now),
      ...own.map((item): Interface => ({
        ...noTunnel,
        name: item.name,
        kind: "wireguard",
        mtu: 1420,
        up: item.up,
        carrier: item.up,
        addresses: [item.address],
        rx_bytes: 0,
        tx_bytes: 0,
      })),
      ...host.overlays.map((overlay): Interface => ({
        ...noTunnel,
        name: overlay.name,
        kind: "vxlan",
        mtu: 1370,
        up: true,
        carrier: true,
        addresses: [],
        rx_bytes: 0,
        tx_bytes: 0,
        parent: own[0]?.name ?? null,
        tunnel: {
          local: own[0]?.address.split("/")[0] ?? null,
          remote: [...(interfaces.get(overlay.remote)?.values() ?? [])][0]?.address.split("/")[0] ?? null,
          id: overlay.vni,
          port: 4789,
        },
      })),
    ],
    routes,
    neighbors,
    wireguard,
    rules: [
      {
        family: 4,
        priority: 32766,
        not: false,
        src: null,
        dst: null,
        fwmark: null,
        iif: null,
        table: "main",
        action: "lookup",
        suppress_prefixlen: null,
        other: false,
      },
    ],
    forwarding: { v4: true, v6: false },
    firewall: [],
  };
}
