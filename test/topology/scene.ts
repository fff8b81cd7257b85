// Owns a small scene for inference: hosts whose state a test sets, a clock, and rounds in which those that speak report
// as agents do. Hand-written; what real tunnels do is in recordings.test.ts.
import { Topology, type Stored } from "../../manager/topology/topology.ts";
import type { NewEvent, TopologyChange, Version } from "../../manager/model.ts";
import type { TopologyEdge, TopologyNode } from "../../shared/api.ts";
import type { Interface, InterfaceKind, Neighbor, Peer, Report, Route, Wireguard } from "../../shared/report.ts";
import { observed, record } from "./build.ts";

export const BEGIN = Date.UTC(2026, 0, 5, 12);
export const INTERVAL_S = 30;
/** Agents do not report at one moment; the last of a round does at its end. */
const APART_MS = 3000;

/** A public key of a name. Test data, no key of anybody. */
export function key(name: string): string {
  return `${name.replace(/[^a-z0-9]/gi, "").padEnd(42, "0")}A=`;
}

export function item(name: string, kind: InterfaceKind, addresses: string[], more: Partial<Interface> = {}): Interface {
  return {
    name,
    kind,
    mac: null,
    mtu: 1500,
    up: true,
    carrier: true,
    addresses,
    rx_bytes: 0,
    tx_bytes: 0,
    speed_mbps: null,
    parent: null,
    master: null,
    tunnel: null,
    ...more,
  };
}

export function route(destination: string, name: string | null, more: Partial<Route> = {}): Route {
  return { destination, gateway: null, interface: name, metric: 0, ...more };
}

/** A peer entry for the key of `name`, as `wg` shows one that was never used. */
export function peer(name: string, more: Partial<Peer> = {}): Peer {
  return {
    public_key: key(name),
    endpoint: null,
    allowed_ips: [],
    latest_handshake_at: null,
    rx_bytes: 0,
    tx_bytes: 0,
    persistent_keepalive_s: null,
    ...more,
  };
}

export type Host = {
  name: string;
  interfaces: Interface[] | null;
  routes: Route[];
  neighbors: Neighbor[];
  wireguard: Wireguard[] | null;
  /** Whether it reports. */
  speaks: boolean;
  /** Its clock minus the manager's. */
  skewMs: number;
  tick: number;
  over: Partial<Report>;
};

export class Scene {
  now = BEGIN;
  readonly hosts: Host[] = [];
  readonly versions: Version[] = [];
  readonly events: NewEvent[] = [];
  topology: Topology;
  #id = 0;

  constructor(stored: Stored = { nodes: [], edges: [], networks: [] }) {
    this.topology = new Topology([], stored, BEGIN, () => `id-${++this.#id}`);
  }

  /** A host with one card, known to the manager; it speaks from the next round on. */
  host(name: string, address = "", interfaces: Interface[] = []): Host {
    const card = item("eth0", "physical", address === "" ? [] : [address]);
    const host: Host = {
      name,
      interfaces: [card, ...interfaces],
      routes: [],
      neighbors: [],
      wireguard: [],
      speaks: true,
      skewMs: 0,
      tick: 0,
      over: {},
    };
    this.hosts.push(host);
    this.keep(this.topology.addAgent(record(name, name, this.now), this.now));
    return host;
  }

  /** Gives a host a WireGuard interface with the key of `keyName`. */
  wireguard(host: Host, name: string, keyName: string, addresses: string[], peers: Peer[], port = 51820): Wireguard {
    const own = { interface: name, public_key: key(keyName), listen_port: port, fwmark: null, peers };
    host.interfaces!.push(item(name, "wireguard", addresses, { mtu: 1420 }));
    host.wireguard!.push(own);
    return own;
  }

  reportOf(host: Host): Report {
    const at = this.now + host.skewMs;
    return structuredClone({
      v: 1,
      type: "report",
      agent_id: host.name,
      tick: ++host.tick,
      nonce: "0".repeat(32),
      sent_at: at,
      collected_at: at,
      age_ms: 0,
      boot_id: "boot-1",
      agent_version: "0.1.0",
      interval_s: INTERVAL_S,
      dropped: 0,
      collectors: {},
      system: null,
      interfaces: host.interfaces,
      routes: host.routes,
      neighbors: host.neighbors,
      wireguard: host.wireguard,
      ...host.over,
    } satisfies Report);
  }

  /** One host reports now. */
  report(host: Host): TopologyChange {
    return this.keep(this.topology.observe(observed(this.reportOf(host), this.now), this.now));
  }

  /** Intervals in which `happens` is what the network did meanwhile, and every speaking host reports. */
  rounds(count: number, happens: (round: number) => void = () => {}): void {
    for (let round = 0; round < count; round++) {
      this.now += INTERVAL_S * 1000;
      happens(round);
      const endsAt = this.now;
      const speakers = this.hosts.filter(({ speaks }) => speaks);
      for (const [place, host] of speakers.entries()) {
        this.now = endsAt - (speakers.length - 1 - place) * APART_MS;
        this.report(host);
      }
      this.now = endsAt;
      this.keep(this.topology.advance(this.now));
    }
  }

  /** Time passes; nobody says anything. */
  wait(seconds: number): void {
    this.now += seconds * 1000;
    this.keep(this.topology.advance(this.now));
  }

  /** Both ends shook hands so many seconds ago: an attempt and its answer on their counters. */
  shake(one: Peer, other: Peer, secondsAgo = 0): void {
    for (const end of [one, other]) end.latest_handshake_at = this.now - secondsAgo * 1000;
    one.tx_bytes += 148;
    other.rx_bytes += 148;
    other.tx_bytes += 92;
    one.rx_bytes += 92;
  }

  keep(change: TopologyChange): TopologyChange {
    this.versions.push(...change.versions);
    this.events.push(...change.events);
    return change;
  }

  /** Forgets what history got so far. */
  forgetHistory(): void {
    this.versions.length = 0;
    this.events.length = 0;
  }

  codes(): string[] {
    return this.events.map(({ code }) => code);
  }

  edges(layer: TopologyEdge["layer"] = "wireguard"): TopologyEdge[] {
    return [...this.topology.edges()].filter((edge) => edge.layer === layer);
  }

  /** The only edge of the layer. */
  edge(layer: TopologyEdge["layer"] = "wireguard"): TopologyEdge {
    const edges = this.edges(layer);
    if (edges.length !== 1) throw new Error(`${edges.length} ${layer} edges`);
    return edges[0]!;
  }

  state(): string {
    return this.edge().state;
  }

  /** Node names of each edge of a layer, sorted. */
  pairs(layer: TopologyEdge["layer"] = "wireguard"): string[] {
    return this.edges(layer)
      .map(({ a, b }) => [a.node, b.node].sort().join(" – "))
      .sort();
  }

  node(id: string): TopologyNode {
    const node = this.topology.view(this.now).nodes.find((candidate) => candidate.id === id);
    if (node === undefined) throw new Error(`no node ${id}`);
    return node;
  }

  foreign(): string[] {
    return this.topology
      .view(this.now)
      .nodes.filter(({ kind }) => kind === "foreign")
      .map(({ id }) => id);
  }
}

export type Pair = { scene: Scene; a: Host; b: Host; ab: Peer; ba: Peer; wgA: Wireguard; wgB: Wireguard };

/** Two agents, a at 192.0.2.1 and b at 192.0.2.2, with one tunnel between them that was never used. */
export function pair(
  options: { keepaliveA?: number; keepaliveB?: number; endpointA?: boolean; endpointB?: boolean } = {},
): Pair {
  const { keepaliveA = 0, keepaliveB = 0, endpointA = true, endpointB = true } = options;
  const scene = new Scene();
  const a = scene.host("a", "192.0.2.1/24");
  const b = scene.host("b", "192.0.2.2/24");
  const ab = peer("b", {
    endpoint: endpointA ? "192.0.2.2:51820" : null,
    allowed_ips: ["10.9.0.2/32"],
    persistent_keepalive_s: keepaliveA === 0 ? null : keepaliveA,
  });
  const ba = peer("a", {
    endpoint: endpointB ? "192.0.2.1:51820" : null,
    allowed_ips: ["10.9.0.1/32"],
    persistent_keepalive_s: keepaliveB === 0 ? null : keepaliveB,
  });
  const wgA = scene.wireguard(a, "wg0", "a", ["10.9.0.1/24"], [ab]);
  const wgB = scene.wireguard(b, "wg0", "b", ["10.9.0.2/24"], [ba]);
  return { scene, a, b, ab, ba, wgA, wgB };
}

/** Keepalives both ways, and a handshake every fourth round: a tunnel that works. */
export function working({ scene, ab, ba }: Pick<Pair, "scene" | "ab" | "ba">, rounds = 4): void {
  scene.rounds(rounds, (round) => {
    if (round % 4 === 0) scene.shake(ab, ba, 5);
    for (const end of [ab, ba]) {
      end.rx_bytes += 32;
      end.tx_bytes += 32;
    }
  });
}
