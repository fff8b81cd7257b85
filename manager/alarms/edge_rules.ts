// Owns the alarms about edges, networks and foreign peers: what their states mean to an operator. Pure.
import { onlyAddress, parseEndpoint } from "../../shared/net.ts";
import type { EdgeEnd, TopologyEdge } from "../../shared/api.ts";
import { isOpen, memoryOf } from "./ledger.ts";
import { agentEnds, edgeName, endName, label, labels, on, shortKey, some, subjectRest, subjects } from "./names.ts";
import {
  type AlarmCode,
  clones,
  type Context,
  type Finding,
  type Key,
  keyOf,
  type Rule,
  type Verdict,
} from "./rule.ts";

const HOUR_MS = 3_600_000;
/** So many changes of an endpoint in an hour are no roaming any more (2-topology.md). */
const ENDPOINT_CHANGES = 4;

/**
 * A tunnel just configured has not failed: WireGuard asks again after 5 s (REKEY_TIMEOUT of its paper, section 6.1), and nothing
 * counts as unanswered in less than a window of 20 s. Only shorter intervals than the default's make two reports in that time.
 */
const NEVER_PATIENCE_MS = 20_000;

/** While one of its edges became `never` only just now, no number of reports opens a finding. */
function patience({ now }: Context, edges: readonly TopologyEdge[]): Pick<Finding, "hold"> {
  const isYoung = edges.some((edge) => edge.state === "never" && now - edge.changed_at < NEVER_PATIENCE_MS);
  return isYoung ? { hold: Number.POSITIVE_INFINITY } : {};
}

function edgeOf(subject: string, context: Context): TopologyEdge | null {
  return context.topology.edge(subjectRest(subject));
}

function* edgeSubjects(context: Context, applies: (edge: TopologyEdge) => boolean): Iterable<string> {
  for (const edge of context.troubled) if (applies(edge)) yield subjects.edge(edge.id);
}

function betweenAgents(context: Context, edge: TopologyEdge): boolean {
  return context.topology.agent(edge.a.node) !== null && context.topology.agent(edge.b.node) !== null;
}

/** What lies under an end: the cards or tunnels that its packets leave by. */
function underEnd(context: Context, edge: TopologyEdge, end: TopologyEdge["a"]): Key[] {
  const { node } = end;
  if (context.topology.agent(node) === null) return [];
  const names = new Set(edge.rides_on.filter((ride) => ride.node === node).map((ride) => ride.interface));
  // A card that is down takes its routes with it, and then nobody says what the tunnel rode on.
  if (names.size === 0) for (const underlay of context.factsOf(node)?.underlays ?? []) names.add(underlay.interface);
  if (end.interface !== null) names.add(end.interface);
  return [...names].flatMap((name) => [
    keyOf("iface_gone", subjects.interface(node, name)),
    keyOf("iface_down", subjects.interface(node, name)),
  ]);
}

const UNDER_EDGES: readonly AlarmCode[] = [
  "tunnel_loop",
  "cannot_send",
  "endpoint_outdated",
  "peer_one_sided",
  "peer_stale",
  "peer_never",
];

/** Alarms that explain why an edge does not work, apart from a partition of its network. */
function causesOf(context: Context, edge: TopologyEdge): Key[] {
  const causes: Key[] = [];
  for (const [end, other] of [
    [edge.a, edge.b],
    [edge.b, edge.a],
  ] as const) {
    if (context.topology.agent(end.node) !== null) {
      causes.push(keyOf("agent_down", subjects.agent(end.node)), ...clones([end.node]));
      if (end.interface !== null) {
        causes.push(keyOf("key_mismatch", subjects.interface(end.node, end.interface)));
        if (other.public_key !== null) {
          causes.push(keyOf("peer_removed", subjects.peer(end.node, end.interface, other.public_key)));
        }
      }
    }
    if (end.public_key !== null) causes.push(keyOf("key_reuse", subjects.key(end.public_key)));
    causes.push(...underEnd(context, edge, end));
  }
  for (const below of layersUnder(context, edge)) {
    causes.push(...UNDER_EDGES.map((code) => keyOf(code, subjects.edge(below.id))));
    for (const end of [below.a, below.b]) causes.push(...underEnd(context, below, end));
  }
  return causes;
}

/** What an edge rides on, layer below layer. */
function layersUnder(context: Context, edge: TopologyEdge): TopologyEdge[] {
  const layers = [edge];
  for (const layer of layers) {
    for (const { edge: id } of layer.rides_on) {
      if (id === null || layers.some((known) => known.id === id)) continue;
      const below = context.topology.edge(id);
      if (below !== null) layers.push(below);
    }
  }
  return layers.slice(1);
}

/** And what the same edge's own, more telling alarms explain. */
function ownCauses(edge: TopologyEdge, ...codes: AlarmCode[]): Key[] {
  return codes.map((code) => keyOf(code, subjects.edge(edge.id)));
}

function seers(context: Context, edge: TopologyEdge): string[] {
  return labels(context.topology, edge.observed_by);
}

/** `wg show` on the first end that has an agent. */
function show(edge: TopologyEdge, context: Context): string {
  const end = context.topology.agent(edge.a.node) !== null ? edge.a : edge.b;
  return on(label(context.topology, end.node))`wg show ${end.interface ?? "all"}`;
}

function about(
  context: Context,
  edge: TopologyEdge,
): Pick<Finding, "agentId" | "agents" | "seenBy"> & { details: Record<string, unknown> } {
  const agents = agentEnds(context.topology, edge);
  return {
    agentId: agents[0] ?? null,
    agents,
    seenBy: seers(context, edge),
    details: { edge: edge.id, state: edge.state, reason: edge.reason, cause: edge.cause },
  };
}

const WHERE_TO_LOOK: Partial<Record<NonNullable<TopologyEdge["cause"]>, string>> = {
  preshared_key: "both ends shake hands in vain: compare the preshared keys of this peer on both hosts",
  a_to_b_blocked: "packets pass one way only: look at the firewalls on the way from the first end to the second",
  b_to_a_blocked: "packets pass one way only: look at the firewalls on the way from the second end to the first",
  a_to_b_or_preshared:
    "the second end's attempts arrive, the answers to them do not: compare the preshared keys, then look at the firewalls on the way from the first end to the second",
  b_to_a_or_preshared:
    "the first end's attempts arrive, the answers to them do not: compare the preshared keys, then look at the firewalls on the way from the second end to the first",
  nothing_returns: "nothing comes back: is the other host up, its address and port right, its key the one listed here?",
};

function broken(code: "peer_stale" | "peer_never"): Rule {
  const state = code === "peer_stale" ? "stale" : "never";
  return {
    code,
    listens: "report",
    hold: 2,
    resolve: { reports: 2 },
    endsOnAcknowledge: false,
    compares: false,
    ofConfiguration: false,
    subjects: (context) => edgeSubjects(context, (edge) => edge.state === state && betweenAgents(context, edge)),
    check(subject, context, row): Verdict {
      const edge = edgeOf(subject, context);
      if (edge === null || !betweenAgents(context, edge)) return null;
      // Neither better nor worse: nobody reports on it, or it is not decided yet.
      if (edge.state === "unknown" || edge.state === "late") return "stays";
      if (edge.state !== state) return null;
      // These have alarms of their own; one that was open before it was known goes beneath, and ends with the fault.
      const told = edge.cause === "tunnel_loop" || edge.cause === "cannot_send_a" || edge.cause === "cannot_send_b";
      if (told && (row === null || !isOpen(row))) return null;
      const parts = edge.network === null ? null : context.parts(edge.network);
      const crosses = parts?.crossing.some((crossing) => crossing.id === edge.id) === true;
      const last = crosses && parts!.crossing.length === 1;
      const causes = [
        ...causesOf(context, edge),
        ...ownCauses(edge, "tunnel_loop", "cannot_send", "endpoint_outdated", "peer_one_sided", "keepalive_missing"),
      ];
      if (crosses && !last) causes.push(keyOf("partition", subjects.network(edge.network!)));
      const what = state === "never" ? "have never shaken hands" : "hear nothing of each other any more";
      const why = edge.reason === null || edge.reason === "" ? "" : `: ${edge.reason}`;
      return {
        severity: last ? "critical" : "warning",
        message: `${edgeName(context.topology, edge)} ${what}${why}${last ? "; it was the last path between two parts of the network" : ""}`,
        lookAt:
          (edge.cause === null ? undefined : WHERE_TO_LOOK[edge.cause]) ??
          "whether the other host is up, and what lies between: its reason is decided 210 s after the first unanswered packets",
        command: show(edge, context),
        causes,
        sinceAt: edge.changed_at,
        ...patience(context, [edge]),
        ...about(context, edge),
      };
    },
    help: {
      means:
        code === "peer_stale"
          ? "A tunnel between two agents that worked does not any more: what one end sends stays unanswered."
          : "A tunnel between two agents that both configured has never worked: every handshake stays unanswered.",
      todo: "The reason says which way is cut: preshared key, a firewall one way, or nothing comes back (host, address, port, key). Compare `wg show` on both hosts, then follow the path with `ping` and the firewalls on it.",
      severity: "warning; critical if it was the last path between two parts",
      opens: code === "peer_stale" ? "2 reports" : "2 reports, 20 s at least",
      resolves: "`up` twice",
    },
  };
}

/** A rule for a cause of edges, three reports in and out. */
function byEdge(
  code: AlarmCode,
  applies: (edge: TopologyEdge) => boolean,
  describe: (
    context: Context,
    edge: TopologyEdge,
  ) => Pick<Finding, "severity" | "message" | "lookAt" | "command" | "causes"> | null,
  help: Rule["help"],
  { hold = 3, reports = 3 } = {},
): Rule {
  return {
    code,
    listens: "report",
    hold,
    resolve: { reports },
    endsOnAcknowledge: false,
    compares: false,
    ofConfiguration: false,
    subjects: (context) => edgeSubjects(context, applies),
    check(subject, context) {
      const edge = edgeOf(subject, context);
      if (edge === null) return null;
      if (edge.state === "unknown") return "stays";
      if (!applies(edge)) return null;
      const found = describe(context, edge);
      return found === null ? null : { ...found, sinceAt: edge.changed_at, ...about(context, edge) };
    },
    help,
  };
}

/** An address whose packets go to this peer and no other: a whole one among the AllowedIPs. */
function hostWithin({ allowed_ips: prefixes }: EdgeEnd): string | null {
  return prefixes?.map(onlyAddress).find((address) => address !== null) ?? null;
}

const lossy = byEdge(
  "lossy",
  (edge) => edge.state === "lossy",
  (context, edge) => ({
    severity: "warning",
    message: `${edgeName(context.topology, edge)} shakes hands again every few seconds: large packets or many packets are lost`,
    lookAt: "the path's MTU (large packets lost: lower the interface's MTU), or a line that drops packets",
    command: on(
      label(context.topology, edge.a.node),
    )`ping -M do -s 1372 ${hostWithin(edge.a) ?? `<address of ${label(context.topology, edge.b.node)}>`}`,
    causes: [
      ...causesOf(context, edge),
      ...ownCauses(edge, "tunnel_loop"),
      ...[edge.a, edge.b].flatMap((end) =>
        end.interface === null ? [] : [keyOf("mtu_too_large", subjects.interface(end.node, end.interface))],
      ),
    ],
  }),
  {
    means: "Handshakes follow each other in under 90 s where 120 s are healthy: an MTU black hole, or heavy loss.",
    todo: "Ping through the tunnel with large packets (`ping -M do -s 1372`); if only those are lost, lower the MTU of the WireGuard interface; else look for the line that drops.",
    severity: "warning",
    opens: "3 reports",
    resolves: "3 reports without",
  },
);

const cannotSend = byEdge(
  "cannot_send",
  (edge) => edge.cause === "cannot_send_a" || edge.cause === "cannot_send_b",
  (context, edge) => {
    const [end, other] = edge.cause === "cannot_send_a" ? [edge.a, edge.b] : [edge.b, edge.a];
    return {
      severity: "warning",
      message: `${endName(context.topology, end)} cannot send to ${endName(context.topology, other)}: its keepalives do not leave the host`,
      lookAt: `the route from ${label(context.topology, end.node)} to ${other.endpoint ?? "the peer's endpoint"}, and its own firewall's output chain`,
      command: on(
        label(context.topology, end.node),
      )`ip route get ${parseEndpoint(other.endpoint ?? "")?.address ?? "<endpoint>"}`,
      causes: [
        ...underEnd(context, edge, end),
        ...ownCauses(edge, "tunnel_loop"),
        ...clones(agentEnds(context.topology, edge)),
      ],
    };
  },
  {
    means: "Keepalive is on and the endpoint known, but the sent counter stands still: the fault is at this end.",
    todo: "`ip route get <endpoint>` on that host: no route, an unreachable one, or an output firewall that drops.",
    severity: "warning",
    opens: "3 reports",
    resolves: "3 reports without",
  },
);

const tunnelLoop = byEdge(
  "tunnel_loop",
  (edge) => edge.cause === "tunnel_loop",
  (context, edge) => ({
    severity: "critical",
    message: `${edgeName(context.topology, edge)}: the tunnel's own packets are routed into the tunnel`,
    lookAt:
      "AllowedIPs or a route that covers the peer's endpoint: it needs a more specific route outside, or an fwmark",
    command: show(edge, context),
    causes: clones(agentEnds(context.topology, edge)),
  }),
  {
    means: "The peer's endpoint is routed into its own tunnel: packets go round and traffic explodes.",
    todo: "Take the endpoint out of AllowedIPs and routes, or give the interface an fwmark and a rule (as wg-quick does for /0).",
    severity: "critical",
    opens: "3 reports",
    resolves: "3 reports without",
  },
);

const oneSided = byEdge(
  "peer_one_sided",
  (edge) => edge.state === "one_sided" && (edge.cause === "missing_at_a" || edge.cause === "missing_at_b"),
  (context, edge) => {
    const [lacks, lists] = edge.cause === "missing_at_a" ? [edge.a, edge.b] : [edge.b, edge.a];
    return {
      severity: "warning",
      message: `${endName(context.topology, lists)} lists ${label(context.topology, lacks.node)} as a peer, which does not list it`,
      lookAt: `add the peer on ${label(context.topology, lacks.node)}, or remove it on ${label(context.topology, lists.node)}`,
      command: on(label(context.topology, lacks.node))`wg show ${lacks.interface ?? "all"} peers`,
      causes: causesOf(context, edge),
    };
  },
  {
    means: "One host lists the other's key; the other's agent reports, and does not list the first.",
    todo: "Add the missing peer, or remove the one that is left over.",
    severity: "warning",
    opens: "3 reports",
    resolves: "mutual, or the edge is gone",
  },
  { reports: 1 },
);

const endpointOutdated: Rule = {
  code: "endpoint_outdated",
  listens: "report",
  hold: 2,
  resolve: { reports: 2 },
  endsOnAcknowledge: false,
  compares: false,
  ofConfiguration: false,
  subjects: (context) => edgeSubjects(context, (edge) => edge.state === "stale" || edge.state === "never"),
  check(subject, context) {
    const edge = edgeOf(subject, context);
    if (edge === null) return null;
    if (edge.state === "unknown" || edge.state === "late") return "stays";
    if (edge.state !== "stale" && edge.state !== "never") return null;
    for (const [dialler, dialled] of [
      [edge.a, edge.b],
      [edge.b, edge.a],
    ] as const) {
      if (context.topology.agent(dialler.node) === null || dialled.endpoint === null) continue;
      const dials = parseEndpoint(dialled.endpoint)?.address;
      if (dials === undefined) continue;
      const own = context.topology.effective(dialled.node)?.interfaces ?? [];
      if (own.some((item) => item.addresses.some((address) => address.split("/")[0] === dials))) continue;
      const seen = new Map<string, string>();
      for (const other of context.topology.edgesOf(dialled.node)) {
        if (other.id === edge.id || other.layer !== "wireguard" || other.state !== "up") continue;
        const [there, by] = other.a.node === dialled.node ? [other.a, other.b] : [other.b, other.a];
        const address = there.endpoint === null ? undefined : parseEndpoint(there.endpoint)?.address;
        if (address !== undefined && context.topology.agent(by.node) !== null) seen.set(address, by.node);
      }
      if (seen.size === 0 || seen.has(dials)) continue;
      const [address, by] = [...seen][0]!;
      const names = context.topology;
      const to = `${address.includes(":") ? `[${address}]` : address}:${dialled.listen_port ?? "<port>"}`;
      return {
        severity: "warning",
        message: `${endName(names, dialler)} dials ${label(names, dialled.node)} at ${dialled.endpoint}, where nobody sees it: ${label(names, by)} sees it at ${address}`,
        lookAt: "WireGuard resolves a name once, when it is configured: set the endpoint anew",
        command:
          dialled.public_key === null
            ? null
            : on(
                label(names, dialler.node),
              )`wg set ${dialler.interface ?? "<interface>"} peer ${dialled.public_key} endpoint ${to}`,
        causes: causesOf(context, edge),
        sinceAt: edge.changed_at,
        ...about(context, edge),
      };
    }
    return null;
  },
  help: {
    means:
      "A host dials an address at which no other peer sees that host: names are resolved once, when the peer is set.",
    todo: "Set the endpoint anew (`wg set … endpoint …`, or restart the interface), and look at what renews it when names move.",
    severity: "warning",
    opens: "2 reports of a failing edge",
    resolves: "it fits, or the tunnel works",
  },
};

/** Endpoints that this report shows elsewhere than the one before: edge id → the node that moved. */
function moved(context: Context): Map<string, { node: string; from: string; to: string }> {
  const found = new Map<string, { node: string; from: string; to: string }>();
  const before = context.previous?.wireguard;
  const now = context.facts.wireguard;
  if (before === undefined || before === null || now === null || before === now) return found;
  for (const wg of now) {
    const was = before.find((item) => item.interface === wg.interface);
    if (was === undefined || was === wg) continue;
    const endpoints = new Map(was.peers.map((peer) => [peer.key, peer.endpoint]));
    for (const peer of wg.peers) {
      const from = endpoints.get(peer.key);
      if (from === undefined || from === null || peer.endpoint === null || from === peer.endpoint) continue;
      const place = context.topology.edgeOfPeer(context.agentId, wg.interface, peer.key);
      if (place === null) continue;
      const node = place.end === "a" ? place.edge.b.node : place.edge.a.node;
      found.set(place.edge.id, { node, from, to: peer.endpoint });
    }
  }
  return found;
}

const endpointChanged: Rule = {
  code: "endpoint_changed",
  listens: "report",
  hold: 1,
  resolve: { quietMs: HOUR_MS },
  endsOnAcknowledge: false,
  compares: false,
  ofConfiguration: false,
  *subjects(context) {
    for (const id of moved(context).keys()) yield subjects.edge(id);
  },
  check(subject, context, row) {
    const edge = edgeOf(subject, context);
    if (edge === null) return row === null ? null : "stays";
    const move = moved(context).get(edge.id);
    // In a tunnel that carries itself the ends see each other inside it and outside by turns: that is told already.
    if (move === undefined || edge.cause === "tunnel_loop") return "stays";
    const kept = (row === null ? [] : (memoryOf(row).keep?.["times"] ?? [])) as number[];
    const times = [...kept.filter((at) => context.now - at < HOUR_MS), context.now].slice(-ENDPOINT_CHANGES);
    const enough = times.length >= ENDPOINT_CHANGES;
    return {
      severity: "warning",
      message: `${label(context.topology, move.node)} changes its endpoint again and again: 4 times in an hour`,
      lookAt:
        "a NAT that forgets its mappings (set keepalive 25 s), two uplinks that take turns, or two hosts with one key",
      command: show(edge, context),
      causes: [
        ...[edge.a, edge.b].flatMap((end) =>
          end.public_key === null ? [] : [keyOf("key_reuse", subjects.key(end.public_key))],
        ),
        ...clones(agentEnds(context.topology, edge)),
      ],
      keep: { times },
      ...(enough ? {} : { expiresAt: times.at(-1)! + HOUR_MS }),
      ...about(context, edge),
      details: { edge: edge.id, endpoint: move.to },
    };
  },
  help: {
    means: "A peer is seen at a new address or port; at four changes in an hour something makes it wander.",
    todo: "NAT that forgets (keepalive 25 s at the end behind it), load-balanced uplinks, or one key on two hosts.",
    severity: "warning",
    opens: "4 changes in an hour",
    resolves: "an hour of one",
  },
};

const keepaliveMissing: Rule = {
  code: "keepalive_missing",
  listens: "report",
  hold: 1,
  resolve: { reports: 1 },
  endsOnAcknowledge: false,
  compares: false,
  ofConfiguration: false,
  *subjects(context) {
    yield* edgeSubjects(context, (edge) => edge.cause === "cannot_start_a" || edge.cause === "cannot_start_b");
    for (const id of moved(context).keys()) yield subjects.edge(id);
  },
  check(subject, context, row) {
    const edge = edgeOf(subject, context);
    if (edge === null) return null;
    const off = (end: TopologyEdge["a"]) => (end.persistent_keepalive_s ?? 0) === 0;
    if (edge.cause === "cannot_start_a" || edge.cause === "cannot_start_b") {
      const [end, other] = edge.cause === "cannot_start_a" ? [edge.a, edge.b] : [edge.b, edge.a];
      return {
        severity: "info",
        message: `${endName(context.topology, end)} cannot start: it knows no endpoint of ${label(context.topology, other.node)}, which has no keepalive`,
        lookAt: `keepalive at ${label(context.topology, other.node)}, so that it keeps itself known`,
        command:
          end.public_key === null
            ? null
            : on(
                label(context.topology, other.node),
              )`wg set ${other.interface ?? "<interface>"} peer ${end.public_key} persistent-keepalive 25`,
        causes: causesOf(context, edge),
        ...about(context, edge),
      };
    }
    const move = moved(context).get(edge.id);
    const natted = [edge.a, edge.b].find((end) => end.nat && context.topology.agent(end.node) !== null && off(end));
    if (natted === undefined) return null;
    const movedNow = move !== undefined && move.node === natted.node;
    if (!movedNow && row === null) return null;
    if (!movedNow && isOpen(row!)) return "stays";
    return {
      severity: "info",
      // A host that takes another address looks as if behind NAT until its own next report names the address.
      hold: 3,
      message: `${endName(context.topology, natted)} is behind NAT without keepalive, and its endpoint has moved: it cannot be reached while it is quiet`,
      lookAt: "keepalive 25 s at the end behind the NAT",
      command: show(edge, context),
      causes: clones(agentEnds(context.topology, edge)),
      ...about(context, edge),
    };
  },
  help: {
    means:
      "One end knows no endpoint and the other sends nothing by itself; or an end behind NAT has no keepalive and its mapping was lost.",
    todo: "`PersistentKeepalive = 25` at the end that is behind NAT or has no fixed address.",
    severity: "info",
    opens: "at once; 3 reports behind NAT",
    resolves: "set, or the tunnel is known at both ends",
  },
};

const foreignDown: Rule = {
  code: "foreign_down",
  listens: "report",
  hold: 2,
  resolve: { reports: 1 },
  endsOnAcknowledge: false,
  compares: false,
  ofConfiguration: false,
  *subjects(context) {
    for (const edge of context.troubled) {
      if (edge.state !== "stale" && edge.state !== "never") continue;
      const other = edge.a.node === context.agentId ? edge.b.node : edge.a.node;
      if (context.topology.agent(other) === null) yield subjects.node(other);
    }
  },
  check(subject, context) {
    const node = subjectRest(subject);
    if (context.topology.agent(node) !== null) return null;
    const edges = context.topology.edgesOf(node).filter((edge) => edge.layer === "wireguard");
    if (edges.length === 0) return null;
    const known = edges.filter((edge) => edge.state !== "unknown");
    if (known.length === 0 || known.some((edge) => edge.state === "late")) return "stays";
    if (known.some((edge) => edge.state !== "stale" && edge.state !== "never")) return null;
    const listers = [...new Set(edges.flatMap((edge) => agentEnds(context.topology, edge)))];
    return {
      severity: context.topology.expected.has(node.slice("wg:".length)) ? "warning" : "info",
      message: `${label(context.topology, node)}, a peer without an agent, is not heard by ${some(labels(context.topology, listers))}`,
      lookAt: "that host is not monitored: whether it is up, and whether it should be",
      command: show(edges[0]!, context),
      agentId: null,
      agents: listers,
      seenBy: labels(context.topology, listers),
      // One lister's own trouble explains it; where several see the same, it does not.
      causes: listers.length === 1 ? edges.flatMap((edge) => causesOf(context, edge)) : [],
      sinceAt: Math.max(...known.map((edge) => edge.changed_at)),
      ...patience(context, known),
      details: { node, edges: edges.map((edge) => edge.id).slice(0, 50) },
    };
  },
  help: {
    means: "A peer that has no agent is stale (or never answered) by the word of all who list it.",
    todo: "Nobody reports from there: look whether the host is up; remove the peer where it is not wanted any more, or mark it as expected (in its panel) to be warned.",
    severity: "info; warning once marked as expected",
    opens: "2 reports",
    resolves: "one sees it",
  },
};

const peerUnknown: Rule = {
  code: "peer_unknown",
  listens: "report",
  hold: 1,
  resolve: { reports: 1 },
  endsOnAcknowledge: true,
  compares: true,
  ofConfiguration: false,
  *subjects(context) {
    // The fleet is being built in its first day: every peer is new then.
    if (context.now - context.fleetSince < 24 * HOUR_MS) return;
    const before = context.previous?.wireguard;
    const now = context.facts.wireguard;
    if (before === undefined || before === null || now === null || before === now) return;
    const known = new Set(before.flatMap((wg) => wg.peers.map((peer) => peer.key)));
    for (const wg of now) {
      for (const { key } of wg.peers) if (!known.has(key)) yield subjects.node(`wg:${key}`);
    }
  },
  check(subject, context, row) {
    const node = subjectRest(subject);
    const key = node.slice("wg:".length);
    if (context.topology.ownersOfKey(key).length > 0 || context.topology.expected.has(key)) return null;
    // Once seen, its going again is no all-clear: someone acknowledges it, or it gets an owner.
    if (row !== null && isOpen(row)) return "stays";
    const wg = context.facts.wireguard?.find((item) => item.peers.some((peer) => peer.key === key));
    if (wg === undefined) return null;
    const place = context.topology.edgeOfPeer(context.agentId, wg.interface, key);
    if (place?.edge.state === "key_mismatch") return null;
    const name = label(context.topology, context.agentId);
    return {
      severity: "info",
      message: `${name} ${wg.interface} has a new peer whose key no agent owns: ${shortKey(key)}`,
      lookAt: "whether someone meant to add it; acknowledge it then, or install an agent there",
      command: on(name)`wg show ${wg.interface}`,
      agentId: context.agentId,
      agents: [context.agentId],
      seenBy: [name],
      causes: clones([context.agentId]),
      details: { key, interface: wg.interface, edge: place?.edge.id ?? null },
    };
  },
  help: {
    means: "A key that no agent owns has appeared among an interface's peers (not in the fleet's first 24 hours).",
    todo: "If it was meant, acknowledge it or install an agent there; if not, remove the peer and ask who added it.",
    severity: "info",
    opens: "at once",
    resolves: "acknowledged, or an agent owns the key",
  },
};

const partition: Rule = {
  code: "partition",
  listens: "report",
  hold: 2,
  resolve: { reports: 1 },
  endsOnAcknowledge: false,
  compares: false,
  ofConfiguration: false,
  *subjects(context) {
    const seen = new Set<string>();
    for (const edge of context.troubled) {
      if (edge.network === null || seen.has(edge.network)) continue;
      if (!(["stale", "never", "down", "one_sided", "key_mismatch"] as string[]).includes(edge.state)) continue;
      seen.add(edge.network);
      yield subjects.network(edge.network);
    }
  },
  check(subject, context, row) {
    const id = subjectRest(subject);
    const parts = context.parts(id);
    if (parts === null) return null;
    // One end of every broken path may have just begun to speak again.
    if (parts.crossing.length === 0) return row === null ? null : "stays";
    const { topology } = context;
    const { name } = parts;
    // Who stands at the rift sees it mend; the others are many, and their reports say nothing of it.
    const agents = [...new Set(parts.crossing.flatMap((edge) => agentEnds(topology, edge)))];
    const causes = new Set(parts.crossing.flatMap((edge) => causesOf(context, edge)));
    // With a single path between the parts, that path's alarm says it all.
    const only = parts.crossing.length === 1 ? parts.crossing[0]! : null;
    for (const edge of parts.crossing) {
      for (const key of ownCauses(edge, "tunnel_loop", "cannot_send", "endpoint_outdated", "peer_one_sided"))
        causes.add(key);
    }
    if (only !== null) for (const key of ownCauses(only, "peer_stale", "peer_never")) causes.add(key);
    const [largest, ...others] = parts.names;
    return {
      severity: "critical",
      message: `network ${name} is in ${parts.parts.length} parts: ${some(others.flat().sort())} cut off from ${some(largest!)}`,
      lookAt: "what the broken edges between the parts have in common: a site's uplink, a firewall, a hub",
      command: null,
      agentId: null,
      agents,
      seenBy: labels(topology, agents).slice(0, 50),
      causes: [...causes],
      // It fell apart when the last of its paths broke.
      sinceAt: Math.max(...parts.crossing.map((edge) => edge.changed_at)),
      ...patience(context, parts.crossing),
      details: {
        network: id,
        parts: parts.names.map((part) => part.slice(0, 50)),
        edges: parts.crossing.map((edge) => edge.id).slice(0, 50),
      },
    };
  },
  help: {
    means: "A WireGuard network has fallen apart: agents that report cannot reach each other by any working edge.",
    todo: "Look at what the broken edges between the parts share. The alarm lists the parts and the edges.",
    severity: "critical",
    opens: "2 reports",
    resolves: "one part",
  },
};

export const EDGE_RULES: readonly Rule[] = [
  peerUnknown,
  endpointChanged,
  keepaliveMissing,
  endpointOutdated,
  tunnelLoop,
  cannotSend,
  foreignDown,
  partition,
  oneSided,
  broken("peer_stale"),
  broken("peer_never"),
  lossy,
];
