// Owns the WireGuard layer: from reports to interfaces ("seats"), what they list ("arcs") and the links between them.
// Public keys match reports to links (with the listen port, where one key sits on two interfaces); interface names and
// AllowedIPs never do. One report costs what its own links cost.
import type { TopologyEdge, TopologyNode } from "../../shared/api.ts";
import type { Peer, Report, Wireguard } from "../../shared/report.ts";
import type { NewEvent } from "../model.ts";
import { type AgentMemory, Arc, Link, Seat } from "./memory.ts";
import { Networks } from "./networks.ts";
import { attachedPrefixes, carrierOf, exitsBy, isOwnTunnel, layeredInterfaces } from "./prefixes.ts";
import { LossMeter } from "./rates.ts";
import { type EndWord, isQuietMove, judge } from "./state.ts";
import { edgeHash } from "./versions.ts";
import { reasonOf } from "./words.ts";

/** Heard under so many intervals ago is fresh (2-topology.md, Terms). */
export const FRESH_INTERVALS = 3;
/** Slower links are not measured for loss: 100 kB in five minutes is 2.7 kb/s. */
const LOSS_BPS = 2_700;

/** Two keys in their order: how a stored edge is found again. */
export function pairOf(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}

/** Whether a stored edge, which keeps its orientation, has this seat for its second end. */
function isTurned(stored: TopologyEdge, a: Seat): boolean {
  return stored.a.node !== a.node && stored.a.public_key !== a.key;
}

const NO_ARCS: ReadonlyMap<string, Arc> = new Map();

function sameList(a: readonly string[], b: readonly string[]): boolean {
  if (a === b) return true; // ingest hands on what did not change as the same object
  return a.length === b.length && a.every((item, index) => item === b[index]);
}

/** Whether these are what is listed, one by one. */
function isListOf(arcs: readonly Arc[], peers: readonly Peer[]): boolean {
  if (arcs.length !== peers.length) return false;
  for (let i = 0; i < arcs.length; i++) if (arcs[i]!.key !== peers[i]!.public_key) return false;
  return true;
}

/** What the layer needs of its surroundings. */
export type Surroundings = {
  newId(): string;
  /** Node names for people. */
  label(seat: Seat): string;
  agent(id: string): AgentMemory | null;
  /** Agents that have this address now. */
  agentsAt(address: string): ReadonlySet<AgentMemory> | null;
  /** The manager has only just started, and has not heard it since. */
  isGraced(agent: AgentMemory, now: number): boolean;
  /** What history has of a node may differ from what is so. */
  touchNode(id: string): void;
  event(event: NewEvent): void;
};

export class WireguardLayer {
  readonly links = new Map<string, Link>();
  /** Links whose shown form may differ from what history has. */
  readonly dirty = new Set<Link>();
  readonly networks: Networks;
  /** Foreign peers by key. */
  readonly foreign = new Map<string, Seat>();
  /** Agents' interfaces that have a key now. */
  readonly owners = new Map<string, Seat[]>();
  /** The interface that had a key last, while that interface is still known. */
  readonly #former = new Map<string, Seat>();
  /** Who lists a key. */
  readonly #listers = new Map<string, Set<Arc>>();
  /** Links that the report under way changes; null: none is. */
  #unjudged: Set<Link> | null = null;
  /** Edges as the store had them, not met again yet, by the pair of their keys. */
  readonly #stored = new Map<string, TopologyEdge[]>();
  /** Keys of interfaces that were gone already, maybe for longer than the replay reaches, and that others still list. */
  readonly #storedGone = new Map<string, { node: string; interface: string | null; goneSince: number }>();
  /** Of stored edges between the same two keys: node, interface and the key that it lists → the node it meant by that. */
  readonly #meant = new Map<string, string>();

  constructor(private readonly around: Surroundings) {
    this.networks = new Networks(
      () => around.newId(),
      (seat) => {
        around.touchNode(seat.node);
        for (const link of seat.links.values()) this.dirty.add(link);
      },
    );
  }

  /** Edges that memory should find again by their keys, and what the store knew of their nodes. */
  remember(edges: Iterable<TopologyEdge>, nodes: readonly TopologyNode[]): void {
    const shown = new Map(nodes.map((node) => [node.id, node.wireguard_keys]));
    for (const edge of edges) {
      this.#keep(edge);
      for (const { node, interface: name, public_key: key } of [edge.a, edge.b]) {
        if (key === null || this.around.agent(node) === null || shown.get(node)?.includes(key) !== false) continue;
        this.#storedGone.set(key, { node, interface: name, goneSince: edge.changed_at });
      }
    }
    for (const edges of this.#stored.values()) {
      if (edges.length < 2) continue;
      for (const { a, b, observed_by } of edges) {
        for (const [near, far] of [
          [a, b],
          [b, a],
        ] as const) {
          if (observed_by.includes(near.node))
            this.#meant.set(`${near.node} ${near.interface} ${far.public_key}`, far.node);
        }
      }
    }
  }

  #keep(edge: TopologyEdge): void {
    if (edge.a.public_key === null || edge.b.public_key === null) return;
    const pair = pairOf(edge.a.public_key, edge.b.public_key);
    this.#stored.set(pair, [...(this.#stored.get(pair) ?? []), edge]);
  }

  /** Stored edges that nothing claimed: nobody lists them any more. */
  *unclaimed(): Iterable<TopologyEdge> {
    for (const edges of this.#stored.values()) yield* edges;
    this.#stored.clear();
    this.#storedGone.clear();
  }

  isFresh(seat: Seat, now: number): boolean {
    if (seat.agent === null || seat.heardAt === Number.NEGATIVE_INFINITY) return false;
    const limit = FRESH_INTERVALS * seat.agent.intervalMs;
    if (now - seat.heardAt < limit) return true;
    // What its agent could not read any more when the manager stopped was not fresh then, either.
    return (seat.agent.receivedAt ?? 0) - seat.heardAt < limit && this.around.isGraced(seat.agent, now);
  }

  /** Takes an agent's WireGuard section. `first`: its first report, whose peers are no news; `rerouted`: its routes changed. */
  take(
    agent: AgentMemory,
    report: Report,
    effective: Report,
    at: number,
    now: number,
    first: boolean,
    rerouted: boolean,
  ): void {
    if (report.wireguard === null) return;
    const shown = new Set<Seat>();
    const recheck = new Set<Arc>();
    const moved = new Set<Seat>();
    const told: Seat[] = [];
    for (const item of report.wireguard) {
      const seat = this.#seatOf(agent, item, shown, at, first, recheck);
      if (seat === null) continue;
      shown.add(seat);
      if (item.peers === null) continue;
      this.#configure(seat, item, effective, moved);
      seat.heardAt = now;
      this.#list(seat, item.peers, at, first, recheck);
      told.push(seat);
    }
    for (const seat of [...agent.seats]) {
      if (shown.has(seat)) continue;
      this.#gone(seat, at, recheck);
      seat.heardAt = now; // its host says that it is gone
    }
    // What a report changes is judged when all of it is in place: its links were in no state in between.
    this.#unjudged = new Set();
    for (const arc of recheck) this.#resolve(arc, at, now);
    // Who is listed now may have listed us under a key that nobody has: that was us.
    for (const arc of recheck) {
      if (arc.seat.agent !== agent || arc.link === null) continue;
      for (const theirs of this.#meantFor(arc.seat, arc.link.other(arc.seat))) this.#resolve(theirs, at, now);
    }
    const unjudged = this.#unjudged;
    this.#unjudged = null;
    for (const seat of moved) this.networks.readdressed(seat);
    const layered = layeredInterfaces(effective);
    for (const seat of told)
      for (const arc of seat.arcs.values()) this.#sample(arc, report, effective, layered, at, rerouted);
    for (const seat of agent.seats) for (const link of seat.links.values()) this.judge(link, at, now);
    for (const link of unjudged)
      if (!link.ended && link.a.agent !== agent && link.b.agent !== agent) this.judge(link, at, now);
  }

  /** Judges a link anew. `at`: the moment that history gets; `now`: by which ends are fresh. */
  judge(link: Link, at: number, now: number): void {
    const judgement = judge(
      this.#word(link, link.a, now),
      this.#word(link, link.b, now),
      link.state === "never" ? link.changedAt : null,
      link.remembered,
    );
    if (judgement.state === link.state && judgement.cause === link.cause) return;
    const { state: before, cause: causeBefore } = link;
    link.state = judgement.state;
    link.cause = judgement.cause;
    this.dirty.add(link);
    this.networks.moved(link);
    for (const seat of [link.a, link.b]) if (seat.agent === null || seat.agent.down) this.around.touchNode(seat.node);
    if (before === judgement.state) {
      if (causeBefore !== judgement.cause)
        this.#tell(link, "edge_cause", "info", at, `${judgement.state}: ${this.reason(link) ?? "no reason"}`);
      return;
    }
    if (isQuietMove(before, judgement.state)) return;
    link.changedAt = Math.max(at, link.storedAt);
    if (link.loaded !== null) {
      if (link.loaded.state === judgement.state) link.changedAt = link.loaded.changedAt;
      // What leaves the stored state after the replay really left it.
      else if (this.networks.settled && link.loaded.state === before) link.loaded.state = null;
    }
    if (judgement.state === "up" || judgement.state === "idle" || judgement.state === "unused") link.remembered = null;
    if (link.stored === null) return;
    const reason = this.reason(link);
    this.#tell(
      link,
      "edge_state",
      "info",
      at,
      `${before} → ${judgement.state}${reason === null ? "" : `: ${reason}`}`,
      {
        from: before,
        to: judgement.state,
        cause: judgement.cause,
      },
    );
  }

  reason(link: Link): string | null {
    const { around } = this;
    return reasonOf(link.state, link.cause, {
      get a() {
        return around.label(link.a);
      },
      get b() {
        return around.label(link.b);
      },
      aInterface: link.a.name,
      bInterface: link.b.name,
    });
  }

  /** An agent that no longer counts: its keys become foreign where others list them. */
  forget(agent: AgentMemory, at: number, now: number): void {
    for (const seat of [...agent.seats]) {
      const recheck = new Set<Arc>();
      this.#dropArcs(seat, at);
      this.#disown(seat, recheck);
      for (const [key, former] of this.#former) {
        if (former !== seat) continue;
        this.#former.delete(key);
        for (const arc of this.#listers.get(key) ?? []) recheck.add(arc);
      }
      for (const link of [...seat.links.values()]) {
        // Its own entries are gone: the other end's speaks, maybe by a key from before a rekeying.
        const key = link.arcOf(link.other(seat))?.key ?? seat.key;
        this.#replace(link, seat, this.#foreignSeat(key), at);
        for (const arc of [link.arcA, link.arcB]) if (arc !== null) this.#regardFar(arc, link);
        if (!link.ended) this.judge(link, at, now);
      }
      agent.seats = agent.seats.filter((other) => other !== seat);
      for (const arc of recheck) this.#resolve(arc, at, now);
    }
  }

  /** One of two owners of a key fell silent, or came back: who lists the key may mean the other now. */
  recheckKey(key: string, at: number, now: number): void {
    if ((this.owners.get(key)?.length ?? 0) < 2) return;
    for (const arc of [...(this.#listers.get(key) ?? [])]) this.#resolve(arc, at, now);
  }

  /** Drops interfaces that are gone and that nobody lists any more. */
  #sweep(seat: Seat): void {
    if (seat.links.size > 0 || seat.arcs.size > 0) return;
    if (seat.agent === null) {
      this.foreign.delete(seat.key);
      this.around.touchNode(seat.node);
    } else if (seat.goneSince !== null) {
      seat.agent.seats = seat.agent.seats.filter((other) => other !== seat);
      for (const [key, former] of this.#former) if (former === seat) this.#former.delete(key);
    }
  }

  // --- interfaces

  /** By key first (a renamed interface stays itself), then by name (a new key is a rekeying), else a new one. */
  #seatOf(
    agent: AgentMemory,
    item: Wireguard,
    taken: ReadonlySet<Seat>,
    at: number,
    first: boolean,
    recheck: Set<Arc>,
  ): Seat | null {
    const free = agent.seats.filter((seat) => !taken.has(seat));
    const key = item.public_key;
    if (key === null) return free.find((seat) => seat.name === item.interface) ?? null;
    let seat =
      free.find((candidate) => candidate.key === key && candidate.name === item.interface) ??
      free.find((candidate) => candidate.key === key && candidate.port === item.listen_port) ??
      free.find((candidate) => candidate.name === item.interface);
    if (seat === undefined) {
      seat = new Seat(agent, key);
      agent.seats.push(seat);
      this.#own(seat, at, recheck);
    } else if (seat.key !== key || seat.goneSince !== null) {
      const rekeyed = seat.key !== key;
      this.#disown(seat, recheck);
      seat.key = key;
      seat.order = null; // one that it lists may be its own now
      this.#own(seat, at, recheck);
      for (const link of seat.links.values()) {
        this.dirty.add(link);
        if (rekeyed) this.#reclaim(link);
      }
      if (rekeyed && !first) {
        this.around.event({
          at,
          code: "rekeyed",
          severity: "info",
          subject: `agent:${agent.id}`,
          agent_id: agent.id,
          message: `${agent.record.hostname} changed the key of ${item.interface}`,
          details: { interface: item.interface, public_key: key },
        });
      }
    }
    seat.goneSince = null;
    return seat;
  }

  #configure(seat: Seat, item: Wireguard, effective: Report, moved: Set<Seat>): void {
    const own = effective.interfaces?.find((candidate) => candidate.name === item.interface);
    const up = own?.up ?? null;
    if (seat.name !== item.interface || seat.port !== item.listen_port || seat.up !== up) {
      seat.name = item.interface;
      seat.port = item.listen_port;
      seat.up = up;
      for (const link of seat.links.values()) this.dirty.add(link);
    }
    const addresses = own?.addresses ?? seat.addresses;
    if (!sameList(seat.addresses, addresses)) {
      seat.addresses = addresses;
      moved.add(seat);
    }
  }

  #own(seat: Seat, at: number, recheck: Set<Arc>): void {
    const { key } = seat;
    this.around.touchNode(seat.node);
    this.owners.set(key, [...(this.owners.get(key) ?? []), seat]);
    if (this.#former.get(key) === seat) this.#former.delete(key);
    const foreign = this.foreign.get(key);
    if (foreign !== undefined) {
      // The foreign key's host got an agent: the links keep ids and history.
      for (const link of [...foreign.links.values()]) this.#replace(link, foreign, seat, at);
      this.#sweep(foreign);
    }
    for (const arc of this.#listers.get(key) ?? []) recheck.add(arc);
  }

  #disown(seat: Seat, recheck: Set<Arc>): void {
    this.around.touchNode(seat.node);
    const rest = (this.owners.get(seat.key) ?? []).filter((other) => other !== seat);
    if (rest.length === 0) this.owners.delete(seat.key);
    else this.owners.set(seat.key, rest);
    this.#former.set(seat.key, seat);
    for (const arc of this.#listers.get(seat.key) ?? []) recheck.add(arc);
  }

  #gone(seat: Seat, at: number, recheck: Set<Arc>): void {
    if (seat.goneSince !== null) return;
    seat.goneSince = at;
    this.#dropArcs(seat, at);
    this.#disown(seat, recheck);
    for (const link of seat.links.values()) this.dirty.add(link);
    this.#sweep(seat);
  }

  #foreignSeat(key: string): Seat {
    let seat = this.foreign.get(key);
    if (seat === undefined) {
      seat = new Seat(null, key);
      this.foreign.set(key, seat);
      this.around.touchNode(seat.node);
    }
    return seat;
  }

  // --- what they list

  #list(seat: Seat, peers: readonly Peer[], at: number, first: boolean, recheck: Set<Arc>): void {
    const { order } = seat;
    if (order !== null && isListOf(order, peers)) {
      for (let i = 0; i < order.length; i++) {
        this.#reconfigured(order[i]!, peers[i]!, at, recheck);
        order[i]!.peer = peers[i]!;
      }
      return;
    }
    const listed = new Set<string>();
    let changed = false;
    for (const peer of peers) {
      const key = peer.public_key;
      if (key === seat.key || listed.has(key)) continue; // its own key among the peers is the alarms' affair
      listed.add(key);
      const arc = seat.arcs.get(key);
      if (arc === undefined) {
        const added = new Arc(seat, key, peer);
        seat.arcs.set(key, added);
        seat.unsettled.add(added);
        const listers = this.#listers.get(key) ?? new Set();
        listers.add(added);
        this.#listers.set(key, listers);
        recheck.add(added);
        changed = true;
        if (!first) this.#tellPeer(seat, peer, "peer_added", at);
        continue;
      }
      this.#reconfigured(arc, peer, at, recheck);
      arc.peer = peer;
    }
    for (const [key, arc] of listed.size === seat.arcs.size ? NO_ARCS : seat.arcs) {
      if (listed.has(key)) continue;
      this.#tellPeer(seat, arc.peer, "peer_removed", at);
      this.#dropArc(arc, at);
      changed = true;
    }
    seat.order = listed.size === peers.length ? peers.map((peer) => seat.arcs.get(peer.public_key)!) : null;
    if (!changed) return;
    // A wrong key may be right now, and a far end's wrong key may be for us.
    for (const arc of seat.arcs.values()) {
      if (!arc.isSettled) recheck.add(arc);
      if (arc.link !== null) for (const theirs of this.#meantFor(seat, arc.link.other(seat))) recheck.add(theirs);
    }
  }

  /** What `far` lists that may be meant for `seat`, or was: as yet it is shadowed, a wrong key, or one that no agent owns. */
  #meantFor(seat: Seat, far: Seat): Arc[] {
    const found: Arc[] = [];
    for (const theirs of far.unsettled) {
      if (theirs.isSettled || far.arcs.get(theirs.key) !== theirs) {
        far.unsettled.delete(theirs);
        continue;
      }
      // A key that nobody owns is taken for the interface at whose address and port it is dialled (#target).
      const { endpoint } = theirs;
      const dialled = endpoint !== null && endpoint.port === seat.port && seat.agent!.addresses.has(endpoint.address);
      if (dialled || theirs.wrongKey || theirs.link === null) found.push(theirs);
    }
    return found;
  }

  #reconfigured(arc: Arc, peer: Peer, at: number, recheck: Set<Arc>): void {
    const before = arc.peer;
    const { link } = arc;
    if (before.endpoint !== peer.endpoint) {
      if (link !== null) {
        this.dirty.add(link);
        const far = link.other(arc.seat);
        if (before.endpoint !== null && peer.endpoint !== null) {
          this.#tell(
            link,
            "roamed",
            "info",
            at,
            `${this.around.label(far)} is seen at ${peer.endpoint} now (was ${before.endpoint})`,
            {
              from: before.endpoint,
              to: peer.endpoint,
              observed_by: arc.seat.node,
            },
          );
        }
        if (far.agent === null) this.around.touchNode(far.node);
      }
      if (link === null || arc.wrongKey || link.other(arc.seat).agent === null) recheck.add(arc);
    }
    if (!sameList(before.allowed_ips, peer.allowed_ips)) {
      if (link !== null) {
        this.dirty.add(link);
        this.around.touchNode(link.other(arc.seat).node);
        this.#tell(
          link,
          "allowed_ips_changed",
          "info",
          at,
          `${this.around.label(arc.seat)} changed AllowedIPs for ${this.around.label(link.other(arc.seat))}`,
          {
            from: before.allowed_ips,
            to: peer.allowed_ips,
            observed_by: arc.seat.node,
          },
        );
      }
    }
    if (
      link !== null &&
      (before.persistent_keepalive_s !== peer.persistent_keepalive_s || before.via?.interface !== peer.via?.interface)
    ) {
      this.dirty.add(link);
    }
  }

  #sample(
    arc: Arc,
    report: Report,
    effective: Report,
    layered: ReadonlySet<string>,
    at: number,
    rerouted: boolean,
  ): void {
    const { link, peer, seat } = arc;
    const other = link?.arcOf(link.other(seat)) ?? null;
    arc.take(
      {
        collectedAt: report.collected_at,
        observedAt: at,
        handshakeAt: peer.latest_handshake_at,
        rx: peer.rx_bytes,
        tx: peer.tx_bytes,
        keepalive: peer.persistent_keepalive_s ?? 0,
      },
      other,
    );
    if (link === null) return;
    // Without the host's own word it takes a walk through its routes: only when they or the endpoint changed.
    if (peer.via !== undefined || rerouted || arc.samples === 1 || arc.carriedFor !== peer.endpoint) {
      const carrier = carrierOf(effective, peer);
      if (carrier !== arc.carrier) this.dirty.add(link);
      arc.carrier = carrier;
      arc.carriedFor = peer.endpoint;
    }
    // Nearly every peer's packets leave by no tunnel.
    arc.loops =
      arc.carrier !== null && layered.has(arc.carrier) && isOwnTunnel(effective, seat.name!, peer, arc.carrier);
    this.#regardFar(arc, link);
    const exit = arc.offersDefault && exitsBy(effective, seat.name!);
    if (exit !== arc.exit) {
      arc.exit = exit;
      this.around.touchNode(link.other(seat).node);
    }
    if (link.arcA !== null && link.arcB !== null && link.arcA.samples > 0 && link.arcB.samples > 0) {
      if (link.loss !== null) link.loss.take(at, link.arcA, link.arcB);
      else if ((arc.txBps ?? 0) + (arc.rxBps ?? 0) > LOSS_BPS) link.loss = new LossMeter(at, link.arcA, link.arcB);
    }
  }

  /** What an entry says of its far end, by what that is and has. */
  #regardFar(arc: Arc, link: Link): void {
    const { peer, seat } = arc;
    const far = link.other(seat);
    const farAddresses = far.agent === null ? null : far.agent.addresses;
    const from = arc.attachedFrom;
    if (
      from === null ||
      from.own !== seat.addresses ||
      from.far !== farAddresses ||
      from.allowed !== peer.allowed_ips
    ) {
      arc.attachedFrom = { own: seat.addresses, far: farAddresses, allowed: peer.allowed_ips };
      arc.offersDefault = peer.allowed_ips.some((prefix) => prefix === "0.0.0.0/0" || prefix === "::/0");
      const attached = attachedPrefixes(seat.addresses, farAddresses, peer.allowed_ips);
      if (!sameList(attached, arc.attached)) {
        arc.attached = attached;
        this.around.touchNode(far.node);
      }
    }
    const nat = this.#isNatted(arc, far);
    if (nat !== arc.nat) {
      arc.nat = nat;
      this.dirty.add(link);
      this.around.touchNode(far.node);
    }
  }

  /** By the handshake's word alone: an endpoint that was only configured proves nothing. */
  #isNatted(arc: Arc, far: Seat): boolean {
    if (far.agent === null || far.agent.addresses.size === 0) return false;
    if (arc.handshakeAt === null || arc.wrongKey) return false;
    const { natFrom: from, peer } = arc;
    const { addresses } = far.agent;
    if (from?.endpoint === peer.endpoint && from.addresses === addresses && from.port === far.port) return from.natted;
    const { endpoint } = arc;
    const natted =
      endpoint !== null && (!addresses.has(endpoint.address) || (far.port !== null && far.port !== endpoint.port));
    arc.natFrom = { endpoint: peer.endpoint, addresses, port: far.port, natted };
    return natted;
  }

  #dropArcs(seat: Seat, at: number): void {
    for (const arc of [...seat.arcs.values()]) this.#dropArc(arc, at);
  }

  #dropArc(arc: Arc, at: number): void {
    arc.seat.arcs.delete(arc.key);
    arc.seat.order = null;
    this.#meant.delete(`${arc.seat.node} ${arc.seat.name} ${arc.key}`);
    const listers = this.#listers.get(arc.key);
    listers?.delete(arc);
    if (listers?.size === 0) this.#listers.delete(arc.key);
    this.#detach(arc, at);
    arc.seat.unsettled.delete(arc);
  }

  // --- links

  /** Finds the far end of what an interface lists, and puts it on the link between the two. */
  #resolve(arc: Arc, at: number, now: number): void {
    if (arc.seat.arcs.get(arc.key) !== arc) return;
    const { seat: target, wrongKey } = this.#target(arc, now);
    const { seat } = arc;
    if (arc.link !== null && arc.link.other(seat) === target && arc.wrongKey === wrongKey) return;
    const former = arc.link;
    // The same key, now meant for another interface: the edge goes with it; after a restart also from whoever, reporting
    // first, was taken for the owner that the store knew.
    const was = arc.link?.other(seat) ?? null;
    if (arc.link !== null && was !== null && was !== target && was.key === target.key && !seat.links.has(target)) {
      const theirs = arc.link.arcOf(was);
      const nodes = arc.link.loaded?.nodes ?? [];
      const mistaken = nodes.includes(target.node) && !nodes.includes(was.node);
      if (theirs === null || mistaken) this.#replace(arc.link, was, target, at);
      if (theirs !== null && mistaken) this.#resolve(theirs, at, now);
    }
    let link = seat.links.get(target) ?? null;
    const standing = link?.arcOf(seat) ?? null;
    if (standing !== null && standing !== arc) {
      // Two entries for one far end: the one with its present key speaks.
      if (wrongKey || !standing.wrongKey) {
        this.#detach(arc, at);
        arc.wrongKey = wrongKey;
        if (former?.ended === false) this.#judgeLater(former, at, now);
        return;
      }
      standing.link = null;
      seat.unsettled.add(standing);
      link!.setArc(seat, null);
    }
    if (arc.link !== null && arc.link !== link) this.#detach(arc, at);
    link = seat.links.get(target) ?? this.#newLink(seat, target, arc, at);
    arc.link = link;
    arc.wrongKey = wrongKey;
    if (!arc.isSettled) seat.unsettled.add(arc);
    link.setArc(seat, arc);
    this.dirty.add(link);
    this.around.touchNode(target.node);
    this.#judgeLater(link, at, now);
    // What it was taken for before has lost its word.
    if (former !== null && former !== link && !former.ended) this.#judgeLater(former, at, now);
  }

  #judgeLater(link: Link, at: number, now: number): void {
    if (this.#unjudged === null) this.judge(link, at, now);
    else this.#unjudged.add(link);
  }

  #target(arc: Arc, now: number): { seat: Seat; wrongKey: boolean } {
    const { seat, key } = arc;
    const owners = (this.owners.get(key) ?? []).filter((owner) => owner !== seat);
    if (owners.length > 0) {
      const owner = owners.length === 1 ? owners[0]! : this.#pick(arc, owners, now);
      arc.picked = owners.length > 1;
      return { seat: owner, wrongKey: false };
    }
    const former = this.#former.get(key) ?? this.#goneBefore(key);
    if (former !== undefined && former !== seat && former.agent !== seat.agent) {
      return { seat: former, wrongKey: former.goneSince === null && former.key !== key };
    }
    const { endpoint } = arc;
    if (endpoint !== null) {
      for (const agent of this.around.agentsAt(endpoint.address) ?? []) {
        if (agent === seat.agent) continue;
        for (const candidate of agent.seats) {
          // At B's address and port; B lists us, maybe by a key from before a rekeying, and we lack B's key.
          if (
            candidate.goneSince === null &&
            candidate.port === endpoint.port &&
            (candidate.arcs.has(seat.key) || seat.links.get(candidate)?.arcOf(candidate)?.wrongKey === true) &&
            !seat.arcs.has(candidate.key)
          ) {
            return { seat: candidate, wrongKey: true };
          }
        }
      }
    }
    return { seat: this.#foreignSeat(key), wrongKey: false };
  }

  /** The interface that had a key before the replay began. */
  #goneBefore(key: string): Seat | undefined {
    const known = this.#storedGone.get(key);
    const agent = known === undefined ? null : this.around.agent(known.node);
    if (known === undefined || agent === null) return undefined;
    this.#storedGone.delete(key);
    const seat = new Seat(agent, key);
    seat.name = known.interface;
    seat.goneSince = known.goneSince;
    agent.seats.push(seat);
    this.#former.set(key, seat);
    return seat;
  }

  /**
   * Of several interfaces with one key: those that report; the one that was picked before; whose overlay address the entry
   * allows; whose address and port are dialled (that roams from one to the other); the first.
   */
  #pick(arc: Arc, owners: readonly Seat[], now: number): Seat {
    const { endpoint } = arc;
    const was = arc.picked && arc.link !== null ? [arc.link.other(arc.seat).node] : this.#loadedNodes(arc);
    const isAllowed = (owner: Seat) =>
      owner.addresses.some((text) =>
        arc.peer.allowed_ips.includes(`${text.split("/")[0]}/${text.includes(":") ? 128 : 32}`),
      );
    const score = (owner: Seat) =>
      (this.isFresh(owner, now) ? 16 : 0) +
      (was.includes(owner.node) ? 8 : 0) +
      (isAllowed(owner) ? 4 : 0) +
      (endpoint !== null && owner.agent!.addresses.has(endpoint.address) ? 2 : 0) +
      (endpoint !== null && owner.port === endpoint.port ? 1 : 0);
    return owners.reduce((best, owner) => (score(owner) > score(best) ? owner : best));
  }

  /** The nodes that the store had an entry's edge between: a restart picks of a key's owners as before. */
  #loadedNodes(arc: Arc): readonly string[] {
    const meant = this.#meant.get(`${arc.seat.node} ${arc.seat.name} ${arc.key}`);
    if (meant !== undefined) return [meant];
    if (arc.link !== null) return arc.link.loaded?.nodes ?? [];
    const edges = this.#stored.get(pairOf(arc.seat.key, arc.key)) ?? [];
    return edges.flatMap(({ a, b }) => [a.node, b.node]);
  }

  #newLink(a: Seat, b: Seat, arc: Arc, at: number): Link {
    const stored = this.#claim(arc, a, b);
    const [first, second] = stored !== null && isTurned(stored, a) ? [b, a] : [a, b];
    const link = new Link(
      stored?.id ?? this.around.newId(),
      first,
      second,
      stored?.first_seen_at ?? at,
      stored?.changed_at ?? at,
    );
    if (stored !== null) {
      this.#continue(link, stored);
      if (stored.network !== null) for (const seat of [a, b]) this.networks.adopt(seat, stored.network);
    }
    this.links.set(link.id, link);
    a.links.set(b, link);
    b.links.set(a, link);
    this.networks.linked(link);
    return link;
  }

  /** A link goes on as the edge that the store had. */
  #continue(link: Link, stored: TopologyEdge): void {
    link.state = stored.state;
    link.cause = stored.cause;
    link.loaded = {
      state: stored.state,
      changedAt: stored.changed_at,
      nodes: [stored.a.node, stored.b.node],
      edge: stored,
    };
    link.stored = edgeHash(stored);
    if (stored.state === "stale" || stored.state === "never")
      link.remembered = { since: stored.changed_at, cause: stored.cause };
  }

  /** The replay began before a rekeying, and the store has the edge by the keys that came then: it is this one. */
  #reclaim(link: Link): void {
    const arc = link.arcA ?? link.arcB;
    if (this.#stored.size === 0 || link.stored !== null || arc === null) return;
    const stored = this.#claim(arc, link.a, link.b);
    if (stored === null) return;
    if (isTurned(stored, link.a)) {
      [link.a, link.b] = [link.b, link.a];
      [link.arcA, link.arcB] = [link.arcB, link.arcA];
      link.loss = null; // it goes by the ends' places
    }
    this.links.delete(link.id);
    link.id = stored.id;
    this.links.set(link.id, link);
    link.firstSeenAt = stored.first_seen_at;
    link.changedAt = stored.changed_at;
    this.#continue(link, stored);
    if (stored.network !== null && link.a.network !== null) this.networks.rename(link.a.network, stored.network);
  }

  /** The stored edge of two keys, taken once. */
  #claim(arc: Arc, a: Seat, b: Seat): TopologyEdge | null {
    for (const pair of new Set([pairOf(a.key, b.key), pairOf(a.key, arc.key)])) {
      const edges = this.#stored.get(pair);
      if (edges === undefined) continue;
      // Two tunnels may join the same two keys' hosts: names, nodes, and who spoke of it tell them apart.
      const fit = (edge: TopologyEdge) =>
        [edge.a, edge.b].filter(
          (end) =>
            (end.node === a.node && end.interface === a.name) || (end.node === b.node && end.interface === b.name),
        ).length + (edge.observed_by.includes(arc.seat.node) ? 1 : 0);
      const best = edges.reduce((one, other) => (fit(other) > fit(one) ? other : one));
      const rest = edges.filter((edge) => edge !== best);
      if (rest.length === 0) this.#stored.delete(pair);
      else this.#stored.set(pair, rest);
      return best;
    }
    return null;
  }

  #detach(arc: Arc, at: number): void {
    const { link } = arc;
    arc.link = null;
    arc.seat.unsettled.add(arc);
    if (link === null) return;
    if (link.arcOf(arc.seat) === arc) link.setArc(arc.seat, null);
    // Another entry of the same interface may have stood in its shadow.
    this.dirty.add(link);
    this.around.touchNode(link.other(arc.seat).node);
    if (link.arcA === null && link.arcB === null) this.#end(link, at);
  }

  #end(link: Link, _at: number): void {
    link.ended = true;
    this.links.delete(link.id);
    if (!this.networks.settled && link.loaded !== null) {
      // It ended before the store's edge began: that one is still to come.
      this.#keep(link.loaded.edge);
      link.stored = null;
    }
    link.a.links.delete(link.b);
    link.b.links.delete(link.a);
    this.dirty.add(link);
    this.networks.unlinked(link);
    this.#sweep(link.a);
    this.#sweep(link.b);
  }

  /** Puts `to` where `from` was on a link; a link between the same two that is there already gives way to the older. */
  #replace(link: Link, from: Seat, to: Seat, at: number): void {
    const other = link.other(from);
    const standing = other.links.get(to) ?? null;
    const theirs = link.arcOf(other);
    if (standing !== null || other === to) {
      for (const arc of [theirs, link.arcOf(from)]) {
        if (arc === null) continue;
        arc.link = null;
        arc.seat.unsettled.add(arc);
        link.setArc(arc.seat, null);
      }
      this.#end(link, at);
      return;
    }
    from.links.delete(other);
    other.links.delete(from);
    const ours = link.arcOf(from);
    if (ours !== null) {
      ours.link = null;
      from.unsettled.add(ours);
      link.setArc(from, null);
    }
    if (theirs !== null && to.agent === null) other.unsettled.add(theirs);
    if (link.a === from) link.a = to;
    else link.b = to;
    to.links.set(other, link);
    other.links.set(to, link);
    if (from.network !== null && to.network === null) this.networks.adopt(to, from.network.id);
    this.networks.linked(link);
    this.dirty.add(link);
    this.around.touchNode(from.node);
    this.around.touchNode(to.node);
    if (from.links.size === 0 && from.network !== null) this.networks.left(from);
    if (from.agent === null) this.#sweep(from);
  }

  #word(link: Link, seat: Seat, now: number): EndWord {
    const arc = link.arcOf(seat);
    return {
      fresh: this.isFresh(seat, now),
      up: seat.up,
      goneSince: seat.goneSince,
      listed:
        arc === null
          ? null
          : { memory: arc, hasEndpoint: arc.peer.endpoint !== null, wrongKey: arc.wrongKey, loops: arc.loops },
    };
  }

  // --- events

  #tell(
    link: Link,
    code: string,
    severity: NewEvent["severity"],
    at: number,
    what: string,
    details: Record<string, unknown> = {},
  ): void {
    if (link.stored === null) return;
    this.around.event({
      at,
      code,
      severity,
      subject: `edge:${link.id}`,
      agent_id: link.a.agent?.id ?? link.b.agent?.id ?? null,
      message: `${this.around.label(link.a)} – ${this.around.label(link.b)}: ${what}`,
      details: { a: link.a.node, b: link.b.node, ...details },
    });
  }

  #tellPeer(seat: Seat, peer: Peer, code: "peer_added" | "peer_removed", at: number): void {
    const agent = seat.agent!;
    const owner = this.owners.get(peer.public_key)?.[0] ?? this.foreign.get(peer.public_key);
    const name = owner === undefined ? peer.public_key : this.around.label(owner);
    this.around.event({
      at,
      code,
      severity: "info",
      subject: `agent:${agent.id}`,
      agent_id: agent.id,
      message: `${agent.record.hostname} ${code === "peer_added" ? "lists" : "no longer lists"} ${name} on ${seat.name ?? "an interface"}`,
      details: { interface: seat.name, public_key: peer.public_key, allowed_ips: peer.allowed_ips },
    });
  }
}
