// Owns the inferred picture: it takes reports and the clock, keeps every layer in memory, answers what alarms, path and
// views ask, and hands out what history is to keep. Pure: time is given. One report costs what its own links cost.
import type { TopologyEdge, TopologyNetwork, TopologyNode, TopologyResponse } from "../../shared/api.ts";
import { isLinkLocal, isLoopback } from "../../shared/net.ts";
import type { Report } from "../../shared/report.ts";
import type {
  AgentRecord,
  NetworkLink,
  NewEvent,
  Observation,
  TopologyChange,
  TopologyReader,
  Version,
} from "../model.ts";
import { AgentMemory, type Arc, type Link, type Network, type Seat } from "./memory.ts";
import { networkView } from "./networks.ts";
import { PhysicalLayer } from "./physical.ts";
import { PlainEdge, PlainLayers } from "./plain.ts";
import { cachedPrefix, routedBy } from "./prefixes.ts";
import { RelayLayer } from "./relay.ts";
import { agentView, type Carriers, type Form, foreignView, isLate, linkView, plainView, seatLabel } from "./render.ts";
import { defaultRouteOf, routesChange, sameRoutes } from "./routes.ts";
import { type Segments, segmentsOf } from "./segments.ts";
import { isTroubled, newestHandshake } from "./state.ts";
import { TunnelLayer } from "./tunnels.ts";
import { edgeHash, hashOf } from "./versions.ts";
import { FRESH_INTERVALS, WireguardLayer } from "./wireguard.ts";

/** Not heard since the manager's start counts as silent after this, at least (2-topology.md, Alarms). */
const START_GRACE_MS = 90_000;
/** Changes of nodes and networks that lie no further apart than this become one version (see #take). */
const GATHER_MS = 1_000;

export type Stored = { nodes: TopologyNode[]; edges: TopologyEdge[]; networks: TopologyNetwork[] };

/** Whether two reports show the same interfaces with the same addresses: all but counters and whether they are up. */
function sameInterfaces(a: Report["interfaces"], b: Report["interfaces"]): boolean {
  if (a === null || b === null || a.length !== b.length) return false;
  return a.every((item, i) => {
    const other = b[i]!;
    return (
      item.name === other.name &&
      item.kind === other.kind &&
      item.mac === other.mac &&
      item.addresses === other.addresses &&
      item.tunnel === other.tunnel &&
      item.ports === other.ports
    );
  });
}

/** Sections that failed, as the last report had them; a WireGuard interface that could not be read likewise. */
function filled(report: Report, before: Report | null): Report {
  if (before === null) return report;
  const wireguard =
    report.wireguard?.map((item) => {
      if (item.peers !== null) return item;
      const last = before.wireguard?.find((other) => other.interface === item.interface);
      return last === undefined ? item : { ...last, status: item.status };
    }) ?? before.wireguard;
  const whole: Report = {
    ...report,
    system: report.system ?? before.system,
    interfaces: report.interfaces ?? before.interfaces,
    routes: report.routes ?? before.routes,
    neighbors: report.neighbors ?? before.neighbors,
    wireguard,
  };
  // A field that neither has stays absent: the next report is compared with this one field by field (parse_report.ts).
  if (before.rules !== undefined) whole.rules ??= before.rules;
  if (before.forwarding !== undefined) whole.forwarding ??= before.forwarding;
  if (before.firewall !== undefined) whole.firewall ??= before.firewall;
  return whole;
}

function* linksOf(network: Network): Iterable<NetworkLink> {
  for (const seat of network.seats) {
    for (const { id, a, b, state, cause } of seat.links.values())
      if (a === seat) yield { id, a: a.node, b: b.node, state, cause };
  }
}

export class Topology implements TopologyReader {
  readonly #agents = new Map<string, AgentMemory>();
  readonly #addresses = new Map<string, Set<AgentMemory>>();
  readonly #wireguard: WireguardLayer;
  readonly #plain: PlainLayers;
  readonly #physical: PhysicalLayer;
  readonly #tunnels: TunnelLayer;
  readonly #relay: RelayLayer;
  /** Nodes that history may have to hear of. */
  readonly #touched = new Set<string>();
  /** What history has: hash and since when. */
  readonly #nodeVersions = new Map<string, { hash: number; at: number }>();
  readonly #networkVersions = new Map<string, { hash: number; at: number }>();
  /** Agents that were up when the manager stopped: they have a moment to be heard again. */
  readonly #graced = new Set<string>();
  readonly #startedAt: number;
  /** Seats that were fresh when last looked at. */
  readonly #fresh = new Set<Seat>();
  /** Edges that are shown otherwise, though history keeps nothing of it: between up, late and idle. */
  readonly #moved = new Set<string>();
  /** Agents that became late, or were: likewise. */
  readonly #movedNodes = new Set<string>();
  /** null: a plain edge changed since they were looked at. */
  #segments: Segments | null = null;
  readonly #expected: Set<string>;
  #events: NewEvent[] = [];
  /** Nodes and networks that #take left for later, and the earliest moment of that; null: none. */
  readonly #waitingNodes = new Set<string>();
  readonly #waitingNetworks = new Set<Network>();
  #waitingSince: number | null = null;
  /** Versions of what had waited: they go with the next change. */
  #ready: Version[] = [];
  #settled = false;
  /** An agent whose first report tells of a moment before history has it. */
  #firstHeard: string | null = null;

  constructor(
    agents: readonly AgentRecord[],
    stored: Stored,
    startedAt: number,
    newId: () => string = () => crypto.randomUUID(),
    expected: Iterable<string> = [],
  ) {
    this.#expected = new Set(expected);
    this.#startedAt = startedAt;
    this.#wireguard = new WireguardLayer({
      newId,
      label: seatLabel,
      agent: (id) => this.#agents.get(id) ?? null,
      isGraced: (agent, now) => this.#isGraced(agent, now),
      agentsAt: (address) => this.#addresses.get(address) ?? null,
      touchNode: (id) => this.#touched.add(id),
      event: (event) => this.#events.push(event),
    });
    this.#plain = new PlainLayers(newId);
    const agentsAt = (address: string) => this.#addresses.get(address) ?? null;
    this.#physical = new PhysicalLayer(this.#plain, agentsAt);
    this.#tunnels = new TunnelLayer(this.#plain, agentsAt);
    this.#relay = new RelayLayer(this.#plain, (id) => this.#agents.get(id) ?? null);
    for (const record of agents) this.#agents.set(record.agent_id, new AgentMemory(record));
    this.#wireguard.remember(
      stored.edges.filter(({ layer }) => layer === "wireguard"),
      stored.nodes,
    );
    this.#plain.remember(stored.edges);
    for (const node of stored.nodes) {
      this.#nodeVersions.set(node.id, { hash: hashOf(node), at: Number.NEGATIVE_INFINITY });
      this.#touched.add(node.id);
      if (node.kind === "agent" && node.status !== "down") this.#graced.add(node.id);
    }
    for (const network of stored.networks) {
      this.#networkVersions.set(network.id, { hash: hashOf(network), at: Number.NEGATIVE_INFINITY });
    }
  }

  // --- what happens

  addAgent(record: AgentRecord, now: number): TopologyChange {
    this.#gather(now);
    this.#agents.set(record.agent_id, new AgentMemory(record));
    this.#touched.add(record.agent_id);
    this.#events.push({
      at: now,
      code: "agent_registered",
      severity: "info",
      subject: `agent:${record.agent_id}`,
      agent_id: record.agent_id,
      message: `${record.hostname} registered`,
      details: { hostname: record.hostname, agent_version: record.agent_version },
    });
    return this.#take(now);
  }

  updateAgent(record: AgentRecord, now: number): TopologyChange {
    const agent = this.#agents.get(record.agent_id);
    if (agent === undefined) return this.addAgent(record, now);
    this.#gather(now);
    const before = agent.record;
    agent.record = record;
    this.#touched.add(agent.id);
    if (before.hostname !== record.hostname)
      for (const seat of agent.seats) for (const link of seat.links.values()) this.#wireguard.dirty.add(link);
    if (before.agent_version !== record.agent_version) {
      this.#agentEvent(
        agent,
        "agent_version_changed",
        now,
        `${record.hostname} runs agent ${record.agent_version} (was ${before.agent_version})`,
        {
          from: before.agent_version,
          to: record.agent_version,
        },
      );
    }
    return this.#take(now);
  }

  forgetAgent(agentId: string, now: number): TopologyChange {
    const agent = this.#agents.get(agentId);
    if (agent === undefined) return { versions: [], events: [] };
    this.#gather(now);
    this.#agents.delete(agentId);
    this.#wireguard.forget(agent, now, now);
    this.#physical.forget(agent);
    this.#tunnels.forget(agent);
    this.#relay.forget(agent);
    this.#plain.forget(agentId);
    this.#address(agent, new Map());
    this.#touched.add(agentId);
    return this.#take(now);
  }

  /**
   * Takes an accepted report. A superseded one changes nothing but the relay's way; a late one counts at its own time.
   * `replay`: it is in the store already; what it changes is kept back until the replay is over and then compared.
   */
  observe(observation: Observation, now: number, options: { replay?: boolean } = {}): TopologyChange {
    const { report } = observation;
    const agent = this.#agents.get(report.agent_id);
    if (agent === undefined) return { versions: [], events: [] };
    const first = agent.latest === null && !observation.superseded;
    if (options.replay !== true) this.#gather(observation.observed_at);
    agent.receivedAt = Math.max(agent.receivedAt ?? 0, observation.received_at);
    this.#setLate(agent, false);
    if (agent.down) this.#setDown(agent, false);
    if (!observation.superseded) this.#current(agent, observation, now);
    this.#relay.take(agent, observation.relay_path, now);
    if (options.replay === true) {
      this.#events = [];
      return { versions: [], events: [] };
    }
    // It may have waited for the manager: it was there before it registered.
    const known = this.#nodeVersions.get(agent.id);
    if (first && known !== undefined && observation.observed_at < known.at) {
      known.at = observation.observed_at;
      this.#firstHeard = agent.id;
    }
    return this.#take(observation.observed_at, agent.id);
  }

  #current(agent: AgentMemory, observation: Observation, now: number): void {
    const { report, observed_at: at } = observation;
    const before = agent.effective;
    const first = before === null;
    const effective = filled(report, before);
    agent.latest = observation;
    agent.effective = effective;
    agent.intervalMs = report.interval_s * 1000;
    const steady = sameInterfaces(before?.interfaces ?? null, report.interfaces);
    if (report.interfaces !== null && !steady) {
      const addresses = new Map<string, string>();
      for (const item of report.interfaces) {
        for (const text of item.addresses) {
          const prefix = cachedPrefix(text);
          if (prefix === null || isLoopback(prefix) || isLinkLocal(prefix)) continue;
          addresses.set(text.slice(0, text.lastIndexOf("/")), item.name);
        }
      }
      const [was, is] = [[...agent.addresses.keys()].join(" "), [...addresses.keys()].join(" ")];
      if (was !== is || first) {
        this.#address(agent, addresses);
        this.#touched.add(agent.id);
        if (!first)
          this.#agentEvent(
            agent,
            "addresses_changed",
            at,
            `${agent.record.hostname} has other addresses: ${is === "" ? "none" : is.replaceAll(" ", ", ")}`,
            { from: was.split(" "), to: is.split(" ") },
          );
      } else agent.addresses = addresses;
    }
    if (!first && before.boot_id !== report.boot_id)
      this.#agentEvent(agent, "rebooted", at, `${agent.record.hostname} rebooted`, {});
    const rerouted = !sameRoutes(before?.routes ?? null, effective.routes);
    if (report.routes !== null && (first || report.routes !== before.routes)) {
      const route = defaultRouteOf(report);
      if (agent.defaultRoute !== undefined && agent.defaultRoute !== route) {
        this.#agentEvent(
          agent,
          "default_route_changed",
          at,
          `${agent.record.hostname}: default route is ${route ?? "gone"} (was ${agent.defaultRoute ?? "none"})`,
          {
            from: agent.defaultRoute,
            to: route,
          },
        );
      }
      agent.defaultRoute = route;
      if (before !== null) this.#tellRoutes(agent, before, report, at);
    }
    this.#wireguard.take(agent, report, effective, at, now, first, rerouted);
    for (const seat of agent.seats) if (this.#isFresh(seat, now)) this.#fresh.add(seat);
    this.#physical.take(agent, report, at, steady);
    this.#tunnels.take(agent, report, at);
  }

  /** An operator expects a foreign peer, by its public key, or expects it no longer. */
  expect(publicKey: string, expected: boolean, now: number): TopologyChange {
    if (expected) this.#expected.add(publicKey);
    else this.#expected.delete(publicKey);
    this.#touched.add(`wg:${publicKey}`);
    return this.#take(now, "all");
  }

  /** Public keys of the foreign peers that an operator expects. */
  get expected(): ReadonlySet<string> {
    return this.#expected;
  }

  /** Time passes: silence, evidence that grew old, networks that fell apart. Cheap enough for once a second. */
  advance(now: number): TopologyChange {
    this.#gather(Number.POSITIVE_INFINITY);
    if (!this.#settled) this.#settle(now);
    for (const agent of this.#agents.values()) {
      if (!agent.down && !this.#isHeard(agent, now)) this.#setDown(agent, true);
      this.#setLate(agent, !agent.down && isLate(agent, now));
      for (const seat of agent.seats) {
        const fresh = this.#isFresh(seat, now);
        if (fresh === this.#fresh.has(seat)) continue;
        if (fresh) this.#fresh.add(seat);
        else this.#fresh.delete(seat);
        for (const link of [...seat.links.values()]) this.#wireguard.judge(link, now, now);
        this.#wireguard.recheckKey(seat.key, now, now);
      }
    }
    this.#plain.expire(now);
    this.#wireguard.networks.settle((seat) => seat.agent !== null && !seat.agent.down);
    return this.#take(now, "all");
  }

  /** After the replay at start: what the store had and nobody lists any more ends; agents that nobody heard are silent. */
  #settle(now: number): void {
    this.#settled = true;
    for (const agent of this.#agents.values()) {
      this.#touched.add(agent.id);
      if (agent.receivedAt !== null) this.#setDown(agent, !this.#isHeard(agent, now));
      for (const seat of agent.seats)
        for (const link of [...seat.links.values()]) this.#wireguard.judge(link, now, now);
    }
    this.#wireguard.networks.settled = true;
    this.#physical.recover((id) => this.#agents.get(id) ?? null, now);
    for (const edge of [...this.#wireguard.unclaimed(), ...this.#plain.unclaimed()])
      this.#orphans.push({ kind: "edge", id: edge.id });
    // Networks of the store that no link brought back.
    for (const id of this.#networkVersions.keys())
      if (!this.#wireguard.networks.all.has(id)) this.#orphans.push({ kind: "network", id });
  }
  readonly #orphans: { kind: "edge" | "network"; id: string }[] = [];

  #isHeard(agent: AgentMemory, now: number): boolean {
    if (agent.receivedAt === null) return false;
    return now - agent.receivedAt < FRESH_INTERVALS * agent.intervalMs || this.#isGraced(agent, now);
  }

  #isFresh(seat: Seat, now: number): boolean {
    return this.#wireguard.isFresh(seat, now);
  }

  #isGraced(agent: AgentMemory, now: number): boolean {
    return (
      this.#graced.has(agent.id) && now < this.#startedAt + Math.max(FRESH_INTERVALS * agent.intervalMs, START_GRACE_MS)
    );
  }

  #address(agent: AgentMemory, addresses: ReadonlyMap<string, string>): void {
    for (const address of agent.addresses.keys()) {
      if (addresses.has(address)) continue;
      const owners = this.#addresses.get(address);
      owners?.delete(agent);
      if (owners?.size === 0) this.#addresses.delete(address);
    }
    for (const address of addresses.keys()) {
      const owners = this.#addresses.get(address) ?? new Set();
      owners.add(agent);
      this.#addresses.set(address, owners);
    }
    agent.addresses = addresses;
    this.#physical.readdressed();
  }

  #tellRoutes(agent: AgentMemory, before: Report, report: Report, at: number): void {
    const change = routesChange(before, report);
    if (change === null) return;
    this.#agentEvent(agent, "routes_changed", at, `${agent.record.hostname}: ${change.words}`, {
      added: change.added,
      removed: change.removed,
    });
  }

  #agentEvent(agent: AgentMemory, code: string, at: number, message: string, details: Record<string, unknown>): void {
    this.#events.push({
      at,
      code,
      severity: "info",
      subject: `agent:${agent.id}`,
      agent_id: agent.id,
      message,
      details,
    });
  }

  // --- what history is to keep

  /**
   * A node costs as much as it has links, a network as it has members: what a report changes of those is looked at when
   * the second is over, but for the reporter's own node (`at once`; "all": whatever waits) and what history has not met yet.
   */
  #take(at: number, atOnce?: string): TopologyChange {
    const versions = this.#ready;
    this.#ready = [];
    const { dirty, networks } = this.#wireguard;
    for (const { kind, id } of this.#orphans.splice(0)) {
      if (kind === "edge") versions.push({ kind, id, at, body: null });
      else this.#networkBody(versions, id, null, at);
    }
    for (const link of dirty)
      this.#edgeVersion(versions, link, link.ended ? null : this.#linkView(link, "history"), at);
    dirty.clear();
    for (const edge of this.#plain.dirty)
      this.#edgeVersion(versions, edge, edge.ended ? null : this.#plainView(edge), at);
    this.#plain.dirty.clear();
    const all = atOnce === "all";
    for (const id of this.#touched) {
      if (!all && id !== atOnce && this.#nodeVersions.has(id)) this.#waitingNodes.add(id);
      else this.#nodeVersion(versions, id, at);
    }
    this.#touched.clear();
    for (const network of networks.dirty) {
      if (!all && this.#networkVersions.has(network.id)) this.#waitingNetworks.add(network);
      else this.#networkVersion(versions, network, at);
    }
    networks.dirty.clear();
    if (all) {
      for (const id of this.#waitingNodes) this.#nodeVersion(versions, id, at);
      this.#waitingNodes.clear();
      for (const network of this.#waitingNetworks) this.#networkVersion(versions, network, at);
      this.#waitingNetworks.clear();
    }
    if (this.#waitingNodes.size + this.#waitingNetworks.size === 0) this.#waitingSince = null;
    else this.#waitingSince = Math.min(this.#waitingSince ?? at, at);
    const events = this.#events;
    this.#events = [];
    return { versions, events };
  }

  /** Before anything of another moment happens: what waits gets its own. */
  #gather(at: number): void {
    const since = this.#waitingSince;
    if (since === null || Math.abs(at - since) <= GATHER_MS) return;
    const { versions, events } = this.#take(since, "all");
    this.#ready = versions;
    this.#events = events;
  }

  /** Edges that moved between up, late and idle since the last call, agents between online and late: no history, but news
   * to who watches. */
  takeMoved(): { nodes: string[]; edges: string[] } {
    const moved = { nodes: [...this.#movedNodes], edges: [...this.#moved] };
    this.#movedNodes.clear();
    this.#moved.clear();
    return moved;
  }

  /** Who reports counts in the parts of its networks, who does not makes none. */
  #setDown(agent: AgentMemory, down: boolean): void {
    agent.down = down;
    this.#touched.add(agent.id);
    for (const seat of agent.seats) this.#wireguard.networks.recount(seat);
  }

  #setLate(agent: AgentMemory, late: boolean): void {
    if (agent.late === late) return;
    agent.late = late;
    this.#movedNodes.add(agent.id);
  }

  #edgeVersion(versions: Version[], edge: Link | PlainEdge, body: TopologyEdge | null, at: number): void {
    if (edge instanceof PlainEdge) this.#segments = null;
    const hash = body === null ? null : edgeHash(body);
    if (hash === edge.stored) {
      if (body !== null) this.#moved.add(edge.id);
      return;
    }
    edge.stored = hash;
    // History only goes on: a late report's change stands right after what is there already.
    edge.storedAt = Math.max(at, edge.storedAt);
    versions.push({ kind: "edge", id: edge.id, at: edge.storedAt, body });
  }

  #nodeVersion(versions: Version[], id: string, at: number): void {
    const body = this.#node(id, "history", at);
    const first = id === this.#firstHeard ? { first: true as const } : {};
    if (id === this.#firstHeard) this.#firstHeard = null;
    this.#version(versions, this.#nodeVersions, id, body, at, (time) => ({
      kind: "node",
      id,
      at: time,
      body,
      ...first,
    }));
  }

  #networkVersion(versions: Version[], network: Network, at: number): void {
    const living = this.#wireguard.networks.all.get(network.id);
    // One that went on under the id of another, which it took up, speaks for itself.
    if (living !== undefined && living !== network) return;
    this.#networkBody(versions, network.id, living === undefined ? null : networkView(network), at);
  }

  #networkBody(versions: Version[], id: string, body: TopologyNetwork | null, at: number): void {
    this.#version(versions, this.#networkVersions, id, body, at, (time) => ({ kind: "network", id, at: time, body }));
  }

  #version(
    versions: Version[],
    known: Map<string, { hash: number; at: number }>,
    id: string,
    body: TopologyNode | TopologyNetwork | null,
    at: number,
    make: (at: number) => Version,
  ): void {
    const before = known.get(id);
    if (body === null) {
      if (before === undefined) return;
      known.delete(id);
      versions.push(make(Math.max(at, before.at)));
      return;
    }
    const hash = hashOf(body);
    if (before?.hash === hash) return;
    const time = Math.max(at, before?.at ?? at);
    known.set(id, { hash, at: time });
    versions.push(make(time));
  }

  // --- what is shown

  readonly #carriers: Carriers = {
    plain: (id) => this.#plain.of(id),
    seat: (agent, name) => agent.seats.find((seat) => seat.name === name && seat.goneSince === null) ?? null,
  };

  #linkView(link: Link, form: Form): TopologyEdge {
    return linkView(link, this.#wireguard.reason(link), form, this.#carriers);
  }

  #plainView(edge: PlainEdge): TopologyEdge {
    return plainView(edge, this.#carriers, (agent, address) =>
      agent.effective === null ? null : routedBy(agent.effective, address),
    );
  }

  #node(id: string, form: Form, now: number): TopologyNode | null {
    const agent = this.#agents.get(id);
    if (agent !== undefined) return agentView(agent, form, now);
    const foreign = id.startsWith("wg:") ? this.#wireguard.foreign.get(id.slice(3)) : undefined;
    return foreign === undefined ? null : this.#foreign(foreign);
  }

  #foreign(seat: Seat): TopologyNode {
    return foreignView(seat, this.#expected.has(seat.key));
  }

  /** The whole picture now, large segments as one node each. */
  view(now: number): TopologyResponse {
    const picture = this.picture(now);
    return { ...picture, edges: [...picture.edges] };
  }

  /**
   * As `view`, with the edges drawn as they are asked for: of a large fleet they are more than memory should hold at once.
   * Nodes and networks are those of this moment; an edge that has ended when its turn comes is left out.
   */
  picture(now: number): Omit<TopologyResponse, "edges"> & { edges: Iterable<TopologyEdge>; edgeCount: number } {
    const plain = [...this.#plain.edges.values()].map((edge) => this.#plainView(edge));
    const segments = segmentsOf(plain.filter(({ layer }) => layer === "physical"));
    const links = [...this.#wireguard.links.values()];
    return {
      nodes: [...this.#allNodes(now), ...segments.nodes],
      edges: this.#drawn(links, plain, segments),
      edgeCount: links.length + plain.length,
      networks: [...this.networks()],
      at: now,
    };
  }

  /** A node as the picture of this moment shows it; null: there is none. */
  shownNode(nodeId: string, now: number): TopologyNode | null {
    return this.#node(nodeId, "live", now);
  }

  /** How large segments are shown, for edges drawn one at a time: as of the last change of a physical edge. */
  segments(): Segments {
    const physical = () => [...this.#plain.edges.values()].map((edge) => this.#plainView(edge));
    return (this.#segments ??= segmentsOf(physical().filter(({ layer }) => layer === "physical")));
  }

  *#drawn(links: readonly Link[], plain: readonly TopologyEdge[], segments: Segments): Iterable<TopologyEdge> {
    for (const link of links) {
      const edge = link.ended ? null : segments.drawn(this.#linkView(link, "live"));
      if (edge !== null) yield edge;
    }
    for (const edge of plain) {
      const drawn = segments.drawn(edge);
      if (drawn !== null) yield drawn;
    }
    yield* segments.edges;
  }

  *#allNodes(now: number): Iterable<TopologyNode> {
    for (const agent of this.#agents.values()) yield agentView(agent, "live", now);
    for (const seat of this.#wireguard.foreign.values()) yield this.#foreign(seat);
  }

  agents(): Iterable<string> {
    return this.#agents.keys();
  }

  agent(agentId: string): AgentRecord | null {
    return this.#agents.get(agentId)?.record ?? null;
  }

  latest(agentId: string): Observation | null {
    return this.#agents.get(agentId)?.latest ?? null;
  }

  effective(agentId: string): Report | null {
    return this.#agents.get(agentId)?.effective ?? null;
  }

  edge(edgeId: string): TopologyEdge | null {
    const link = this.#wireguard.links.get(edgeId);
    if (link !== undefined) return this.#linkView(link, "live");
    const plain = this.#plain.edges.get(edgeId);
    return plain === undefined ? null : this.#plainView(plain);
  }

  edgesOf(nodeId: string): TopologyEdge[] {
    const seats =
      this.#agents.get(nodeId)?.seats ??
      (nodeId.startsWith("wg:") ? [this.#wireguard.foreign.get(nodeId.slice(3))] : []);
    const edges: TopologyEdge[] = [];
    for (const seat of seats) for (const link of seat?.links.values() ?? []) edges.push(this.#linkView(link, "live"));
    for (const edge of this.#plain.of(nodeId)) edges.push(this.#plainView(edge));
    return edges;
  }

  troubledEdgesOf(agentId: string): TopologyEdge[] {
    const edges: TopologyEdge[] = [];
    for (const seat of this.#agents.get(agentId)?.seats ?? [])
      for (const link of seat.links.values()) if (isTroubled(link)) edges.push(this.#linkView(link, "live"));
    return edges;
  }

  network(networkId: string): { nodes: ReadonlySet<string>; links: Iterable<NetworkLink> } | null {
    const network = this.#wireguard.networks.all.get(networkId);
    if (network === undefined) return null;
    const nodes = new Set<string>();
    for (const seat of network.seats) nodes.add(seat.node);
    return { nodes, links: linksOf(network) };
  }

  natAddressesOf(agentId: string): Set<string> {
    const addresses = new Set<string>();
    for (const { arc } of this.#wordsOn(agentId)) {
      const address = arc?.nat === true ? arc.endpoint?.address : undefined;
      if (address !== undefined) addresses.add(address);
    }
    return addresses;
  }

  handshakeSince(agentId: string, after: number): string | null {
    for (const { link, other } of this.#wordsOn(agentId)) {
      if (link.state === "up" && (newestHandshake(link.arcA, link.arcB) ?? 0) > after) return other.node;
    }
    return null;
  }

  /** An agent's links, and what the far end says of each: no picture is drawn of them. */
  *#wordsOn(agentId: string): Iterable<{ link: Link; other: Seat; arc: Arc | null }> {
    for (const seat of this.#agents.get(agentId)?.seats ?? []) {
      for (const [other, link] of seat.links) yield { link, other, arc: link.arcOf(other) };
    }
  }

  *edges(): Iterable<TopologyEdge> {
    for (const link of this.#wireguard.links.values()) yield this.#linkView(link, "live");
    for (const edge of this.#plain.edges.values()) yield this.#plainView(edge);
  }

  node(nodeId: string): TopologyNode | null {
    return this.#node(nodeId, "history", 0);
  }

  *nodes(): Iterable<TopologyNode> {
    for (const agent of this.#agents.values()) yield agentView(agent, "history", 0);
    for (const seat of this.#wireguard.foreign.values()) yield this.#foreign(seat);
  }

  *networks(): Iterable<TopologyNetwork> {
    for (const network of this.#wireguard.networks.all.values()) yield networkView(network);
  }

  ownersOfKey(publicKey: string): { agent_id: string; interface: string }[] {
    return (this.#wireguard.owners.get(publicKey) ?? []).map((seat) => ({
      agent_id: seat.node,
      interface: seat.name ?? "",
    }));
  }

  ownersOfAddress(address: string): { agent_id: string; interface: string }[] {
    return [...(this.#addresses.get(address) ?? [])].map((agent) => ({
      agent_id: agent.id,
      interface: agent.addresses.get(address)!,
    }));
  }

  edgeOfPeer(agentId: string, interfaceName: string, peerKey: string): { edge: TopologyEdge; end: "a" | "b" } | null {
    const seat = this.#agents
      .get(agentId)
      ?.seats.find((candidate) => candidate.name === interfaceName && candidate.arcs.has(peerKey));
    const link = seat?.arcs.get(peerKey)?.link ?? null;
    if (seat === undefined || link === null) return null;
    return { edge: this.#linkView(link, "live"), end: link.a === seat ? "a" : "b" };
  }
}
