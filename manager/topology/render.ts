// Owns how inference's objects are shown: nodes and edges in the shapes of the API, live or as history keeps them
// (without counters, ages and rates). Pure.
import type { EdgeEnd, TopologyEdge, TopologyNode } from "../../shared/api.ts";
import type { AgentMemory, Arc, Link, Seat } from "./memory.ts";
import { peerTowards } from "./prefixes.ts";
import type { PlainEdge, PlainEnd } from "./plain.ts";
import { newestHandshake } from "./state.ts";

/** `live`: with what moves all the time. */
export type Form = "live" | "history";

/** Finds the edges that others ride on. */
export type Carriers = {
  plain(nodeId: string): ReadonlySet<PlainEdge>;
  seat(agent: AgentMemory, interfaceName: string): Seat | null;
};

export function foreignLabel(seat: Seat): string {
  let newest: Arc | null = null;
  for (const link of seat.links.values()) {
    const arc = link.arcOf(link.other(seat));
    if (arc !== null && (newest === null || (arc.handshakeAt ?? 0) > (newest.handshakeAt ?? 0))) newest = arc;
  }
  if (newest === null) return seat.key;
  if (newest.peer.endpoint !== null) return newest.peer.endpoint;
  return newest.peer.allowed_ips[0]?.replace(/\/(32|128)$/, "") ?? seat.key;
}

export function seatLabel(seat: Seat): string {
  return seat.agent?.record.hostname ?? foreignLabel(seat);
}

function endView(seat: Seat, own: Arc | null, other: Arc | null, form: Form): EdgeEnd {
  const live = form === "live" && own !== null && own.samples > 0;
  return {
    node: seat.node,
    interface: seat.name,
    endpoint: other?.peer.endpoint ?? null,
    nat: other?.nat ?? false,
    public_key: seat.key,
    listen_port: seat.port,
    allowed_ips: own?.peer.allowed_ips ?? null,
    handshake_age_s: live && own.handshakeAt !== null ? Math.round(own.ageSeconds) : null,
    latest_handshake_at: live ? own.handshakeObservedAt : null,
    persistent_keepalive_s: own?.peer.persistent_keepalive_s ?? null,
    rx_bytes: live ? own.rx : null,
    tx_bytes: live ? own.tx : null,
    reported_at: live ? own.observedAt : null,
  };
}

type Ride = TopologyEdge["rides_on"][number];

/** What leaves `agent` by `interfaceName` towards `address` (of `farNode`, where known) rides on. */
function ride(
  agent: AgentMemory,
  interfaceName: string,
  address: string | null,
  farNode: string | null,
  self: string,
  carriers: Carriers,
): Ride {
  const result: Ride = { node: agent.id, interface: interfaceName, edge: null };
  const below = carriers.seat(agent, interfaceName);
  if (below !== null && address !== null && agent.effective !== null) {
    const peer = peerTowards(agent.effective, interfaceName, address);
    const link = peer === null ? null : (below.arcs.get(peer.public_key)?.link ?? null);
    // A cycle is reported (tunnel_loop), not followed.
    if (link !== null && link.id !== self) result.edge = link.id;
    return result;
  }
  for (const edge of carriers.plain(agent.id)) {
    if (edge.layer === "relay" || edge.id === self) continue;
    const [here, there] = edge.a.agent === agent ? [edge.a, edge.b] : [edge.b, edge.a];
    if (here.interface !== interfaceName) continue;
    if (edge.layer === "physical" && there.agent.id !== farNode) continue;
    result.edge = edge.id;
    break;
  }
  return result;
}

export function linkView(link: Link, reason: string | null, form: Form, carriers: Carriers): TopologyEdge {
  const { a, b, arcA, arcB } = link;
  const rides: Ride[] = [];
  for (const [seat, arc, far] of [
    [a, arcA, b],
    [b, arcB, a],
  ] as const) {
    if (arc === null || arc.carrier === null || seat.agent === null) continue;
    rides.push(ride(seat.agent, arc.carrier, arc.endpoint?.address ?? null, far.node, link.id, carriers));
  }
  const live = form === "live";
  const rate = (sender: Arc | null, receiver: Arc | null) => {
    const bps = sender?.txBps ?? receiver?.rxBps ?? null;
    return live && bps !== null ? Math.round(bps) : null;
  };
  const observedBy: string[] = [];
  if (arcA !== null && a.agent !== null) observedBy.push(a.agent.id);
  if (arcB !== null && b.agent !== null) observedBy.push(b.agent.id);
  return {
    id: link.id,
    layer: "wireguard",
    network: a.network?.id ?? null,
    a: endView(a, arcA, arcB, form),
    b: endView(b, arcB, arcA, form),
    state: link.state,
    reason,
    cause: link.cause,
    observed_by: observedBy,
    latest_handshake_at: live ? newestHandshake(arcA, arcB) : null,
    a_to_b_bps: rate(arcA, arcB),
    b_to_a_bps: rate(arcB, arcA),
    a_to_b_loss: live ? (link.loss?.aToB ?? null) : null,
    b_to_a_loss: live ? (link.loss?.bToA ?? null) : null,
    rides_on: rides,
    first_seen_at: link.firstSeenAt,
    changed_at: link.changedAt,
  };
}

function plainEnd({ agent, interface: name }: PlainEnd, edge: PlainEdge, other: PlainEnd): EdgeEnd {
  const own = agent.effective?.interfaces?.find((item) => item.name === name) ?? null;
  const theirs = other.agent.effective?.interfaces?.find((item) => item.name === other.interface) ?? null;
  return {
    node: agent.id,
    interface: name,
    endpoint: edge.layer === "tunnel" ? (theirs?.tunnel?.remote ?? null) : (own?.addresses[0]?.split("/")[0] ?? null),
    nat: false,
    public_key: null,
    listen_port: null,
    allowed_ips: null,
    handshake_age_s: null,
    latest_handshake_at: null,
    persistent_keepalive_s: null,
    rx_bytes: null,
    tx_bytes: null,
    reported_at: null,
  };
}

export function plainView(
  edge: PlainEdge,
  carriers: Carriers,
  routed: (agent: AgentMemory, address: string) => string | null,
): TopologyEdge {
  const rides: Ride[] = [];
  if (edge.layer === "tunnel") {
    for (const [end, far] of [
      [edge.a, edge.b],
      [edge.b, edge.a],
    ] as const) {
      const own = end.agent.effective?.interfaces?.find((item) => item.name === end.interface);
      const remote = own?.tunnel?.remote ?? own?.remotes?.[0] ?? null;
      const carrier = remote === null ? null : (routed(end.agent, remote) ?? own?.parent ?? null);
      if (carrier !== null) rides.push(ride(end.agent, carrier, remote, far.agent.id, edge.id, carriers));
    }
  }
  return {
    id: edge.id,
    layer: edge.layer,
    network: null,
    a: plainEnd(edge.a, edge, edge.b),
    b: plainEnd(edge.b, edge, edge.a),
    state: edge.state,
    reason: edge.reason,
    cause: null,
    observed_by: [...edge.evidence.keys()].sort(),
    latest_handshake_at: null,
    a_to_b_bps: null,
    b_to_a_bps: null,
    a_to_b_loss: null,
    b_to_a_loss: null,
    rides_on: rides,
    first_seen_at: edge.firstSeenAt,
    changed_at: edge.changedAt,
  };
}

/** What peers say of the node behind these seats. */
function repute(seats: readonly Seat[]): {
  networks: string[];
  attached: string[];
  nat: boolean;
  exit: boolean;
  heardAt: number;
} {
  const networks = new Set<string>();
  const attached = new Set<string>();
  let nat = false;
  let exit = false;
  let heardAt = Number.NEGATIVE_INFINITY;
  for (const seat of seats) {
    if (seat.network !== null) networks.add(seat.network.id);
    for (const link of seat.links.values()) {
      const arc = link.arcOf(link.other(seat));
      if (arc === null) continue;
      for (const prefix of arc.attached) attached.add(prefix);
      nat ||= arc.nat;
      exit ||= arc.exit;
      heardAt = Math.max(heardAt, arc.handshakeObservedAt ?? heardAt);
    }
  }
  return { networks: [...networks].sort(), attached: [...attached].sort(), nat, exit, heardAt };
}

/** Peers' handshakes with a silent host that are this much later than its last word prove that it lives. */
const ALIVE_SLACK_MS = 5000;

/** Nothing arrived for two intervals. */
export function isLate({ receivedAt, intervalMs }: AgentMemory, now: number): boolean {
  return receivedAt !== null && now - receivedAt >= 2 * intervalMs;
}

export function agentView(agent: AgentMemory, form: Form, now: number): TopologyNode {
  const { networks, attached, nat, exit, heardAt } = repute(agent.seats);
  const late = form === "live" && !agent.down && isLate(agent, now);
  const alive = agent.down && agent.receivedAt !== null && heardAt > agent.receivedAt + ALIVE_SLACK_MS;
  return {
    id: agent.id,
    kind: "agent",
    label: agent.record.hostname,
    status: agent.receivedAt === null ? "unknown" : agent.down ? "down" : late ? "late" : "online",
    addresses: [...agent.addresses.keys()],
    networks,
    attached,
    nat,
    exit,
    reason: alive ? "agent stopped, host alive" : agent.receivedAt === null ? "registered, no report yet" : null,
    wireguard_keys: agent.seats.filter((seat) => seat.goneSince === null).map((seat) => seat.key),
  };
}

export function foreignView(seat: Seat, expected: boolean): TopologyNode {
  const { networks, attached, exit } = repute([seat]);
  const addresses = new Set<string>();
  for (const link of seat.links.values()) {
    for (const prefix of link.arcOf(link.other(seat))?.peer.allowed_ips ?? []) {
      const host = /^(.*)\/(32|128)$/.exec(prefix);
      if (host !== null && (host[2] === "128") === prefix.includes(":")) addresses.add(host[1]!);
    }
  }
  return {
    id: seat.node,
    kind: "foreign",
    label: foreignLabel(seat),
    status: "unknown",
    addresses: [...addresses].sort(),
    networks,
    attached,
    nat: false,
    exit,
    reason: null,
    wireguard_keys: [seat.key],
    ...(expected ? { expected } : {}),
  };
}
