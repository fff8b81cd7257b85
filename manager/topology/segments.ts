// Owns how a large L2 segment is shown: as one node that its members hang on, not as a line for every pair. Pure.
import type { EdgeEnd, TopologyEdge, TopologyNode, TopologyResponse } from "../../shared/api.ts";

/** More members than this are drawn as one segment: 8 hosts are 28 lines, 50 would be 1,225. */
export const MAX_PAIRED_MEMBERS = 8;

const place = ({ node, interface: name }: Pick<EdgeEnd, "node" | "interface">) => `${node} ${name ?? ""}`;

export type Segments = {
  nodes: TopologyNode[];
  edges: TopologyEdge[];
  /** Another edge as it is drawn beside them; null: a segment stands for it. */
  drawn(edge: TopologyEdge): TopologyEdge | null;
};

/** The picture with every physical segment of more than MAX_PAIRED_MEMBERS members as a node of its own. */
export function withSegments<T extends TopologyResponse>(picture: T): T {
  const segments = segmentsOf(picture.edges.filter(({ layer }) => layer === "physical"));
  if (segments.nodes.length === 0) return picture;
  return {
    ...picture,
    nodes: [...picture.nodes, ...segments.nodes],
    edges: [...picture.edges.map(segments.drawn).filter((edge) => edge !== null), ...segments.edges],
  };
}

/** The segments of more than MAX_PAIRED_MEMBERS members that these physical edges make. */
export function segmentsOf(physical: readonly TopologyEdge[]): Segments {
  const none: Segments = { nodes: [], edges: [], drawn: (edge) => edge };
  if (physical.length <= MAX_PAIRED_MEMBERS) return none;
  const parent = new Map<string, string>();
  const find = (text: string): string => {
    let root = text;
    for (let up = parent.get(root); up !== undefined && up !== root; up = parent.get(root)) root = up;
    parent.set(text, root);
    return root;
  };
  for (const edge of physical) {
    const [a, b] = [find(place(edge.a)), find(place(edge.b))];
    if (a !== b) parent.set(a, b);
  }
  const members = new Map<string, Map<string, { end: EdgeEnd; edges: TopologyEdge[] }>>();
  for (const edge of physical) {
    const root = find(place(edge.a));
    const ends = members.get(root) ?? new Map<string, { end: EdgeEnd; edges: TopologyEdge[] }>();
    members.set(root, ends);
    for (const end of [edge.a, edge.b]) {
      const member = ends.get(place(end)) ?? { end, edges: [] };
      member.edges.push(edge);
      ends.set(place(end), member);
    }
  }
  /** Id of a pair's edge → id of the segment that stands for it. */
  const segmentOf = new Map<string, string>();
  const nodes: TopologyNode[] = [];
  const edges: TopologyEdge[] = [];
  for (const ends of members.values()) {
    if (ends.size <= MAX_PAIRED_MEMBERS) continue;
    const id = `segment:${[...ends.keys()].sort()[0]}`;
    const nobody: EdgeEnd = {
      node: id,
      interface: null,
      endpoint: null,
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
    nodes.push({
      id,
      kind: "segment",
      label: `segment of ${ends.size} hosts`,
      status: "unknown",
      addresses: [],
      networks: [],
      attached: [],
      nat: false,
      exit: false,
      reason: null,
      wireguard_keys: [],
    });
    for (const [name, { end, edges: own }] of ends) {
      for (const edge of own) segmentOf.set(edge.id, id);
      edges.push({
        ...own[0]!,
        id: `${id}/${name}`,
        a: end,
        b: nobody,
        state: own.some(({ state }) => state === "up") ? "up" : own[0]!.state,
        observed_by: [...new Set(own.flatMap((edge) => edge.observed_by))].sort(),
        rides_on: [],
        first_seen_at: Math.min(...own.map((edge) => edge.first_seen_at)),
        changed_at: Math.max(...own.map((edge) => edge.changed_at)),
      });
    }
  }
  if (segmentOf.size === 0) return none;
  // What rode on a pair's edge rides on its own host's line to the segment.
  const onSegment = (ride: TopologyEdge["rides_on"][number]) => {
    const segment = ride.edge === null ? undefined : segmentOf.get(ride.edge);
    return segment === undefined ? ride : { ...ride, edge: `${segment}/${place(ride)}` };
  };
  return {
    nodes,
    edges,
    drawn(edge) {
      if (segmentOf.has(edge.id)) return null;
      return edge.rides_on.length === 0 ? edge : { ...edge, rides_on: edge.rides_on.map(onSegment) };
    },
  };
}
