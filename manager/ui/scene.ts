// Owns what the map shows of a picture: which nodes and edges, how each half of an edge looks, and when a network is too
// dense for lines. Pure.
import type { EdgeState, Layer, TopologyEdge, TopologyNode } from "../../shared/api.ts";
import { STATE_DASH, STATE_TONE, type Tone } from "./look.ts";
import { isProblem, type Picture } from "./picture.ts";

/** A full mesh of 30 has 435 edges and still reads; above, where nodes have more than six edges each, lines are a carpet. */
const DENSE_EDGES = 440;
const DENSE_PER_NODE = 6;

/** Edges decide, not nodes: two thousand nodes in a tree are a picture, two hundred in a full mesh are not. */
export function isDense(nodes: number, edges: number): boolean {
  return edges > DENSE_EDGES && edges > DENSE_PER_NODE * nodes;
}

export type Filter = {
  layers: ReadonlySet<Layer>;
  /** Network id; null: all. */
  network: string | null;
  foreign: boolean;
  /** all: every edge; problems: those alone, and the nodes they join; auto: all, or, in a dense network, problems and what
   * is pointed at, with every node. */
  edges: "auto" | "all" | "problems";
};

export type Style = { tone: Tone; dash: readonly number[]; width: number };
export type SceneEdge = {
  edge: TopologyEdge;
  /** Half at a's end, half at b's: what that end's packets meet. */
  a: Style;
  b: Style;
  /** Pixels beside the straight line, where several edges join two nodes. */
  offset: number;
  /** Drawn only when one of its nodes is pointed at. */
  onDemand: boolean;
};
export type Scene = { nodes: TopologyNode[]; edges: SceneEdge[]; dense: boolean; problems: number };

const ONE_WAY: Partial<Record<NonNullable<TopologyEdge["cause"]>, "a" | "b">> = {
  a_to_b_blocked: "a",
  b_to_a_blocked: "b",
  a_to_b_or_preshared: "a",
  b_to_a_or_preshared: "b",
  cannot_send_a: "a",
  cannot_send_b: "b",
  cannot_start_a: "a",
  cannot_start_b: "b",
  interface_down_a: "a",
  interface_down_b: "b",
  missing_at_a: "a",
  missing_at_b: "b",
};

/** From this share on, loss belongs to that direction. */
const LOSS = 0.01;

/** The state of each half: a link that fails one way shows which. */
export function halves(edge: TopologyEdge): [a: EdgeState, b: EdgeState] {
  const side = edge.cause === null ? undefined : ONE_WAY[edge.cause];
  if (side !== undefined) return side === "a" ? [edge.state, "up"] : ["up", edge.state];
  if (edge.state === "lossy") {
    const [there, back] = [edge.a_to_b_loss ?? 0, edge.b_to_a_loss ?? 0];
    if (there >= LOSS && back < LOSS) return ["lossy", "up"];
    if (back >= LOSS && there < LOSS) return ["up", "lossy"];
  }
  return [edge.state, edge.state];
}

/** Healthy links of other layers than WireGuard are grey; these are how they are broken. */
export const LAYER_DASH: Partial<Record<Layer, readonly number[]>> = { relay: [1, 4], tunnel: [5, 3] };
/** CSS pixels between edges of one pair of nodes. */
const PARALLEL_GAP = 7;

function style(state: EdgeState, layer: Layer, broken: boolean): Style {
  const tone = STATE_TONE[state];
  const healthy = tone === "good" || tone === "quiet";
  return {
    tone: layer !== "wireguard" && healthy ? "quiet" : tone,
    dash: (healthy ? LAYER_DASH[layer] : undefined) ?? STATE_DASH[state],
    width: broken ? 2.4 : tone === "warn" ? 1.8 : 1.2,
  };
}

type Derived = { pair: string; sign: 1 | -1; broken: boolean; a: Style; b: Style };

// What follows from an edge alone. Most edges are the same object from update to update: twenty thousand of them are looked
// up, not worked out.
const derived = new WeakMap<TopologyEdge, Derived>();
function derive(edge: TopologyEdge): Derived {
  const known = derived.get(edge);
  if (known !== undefined) return known;
  const [a, b] = halves(edge);
  const broken = isProblem(edge);
  const forward = edge.a.node < edge.b.node;
  const made: Derived = {
    pair: forward ? `${edge.a.node} ${edge.b.node}` : `${edge.b.node} ${edge.a.node}`,
    sign: forward ? 1 : -1,
    broken,
    a: style(a, edge.layer, broken),
    b: style(b, edge.layer, broken),
  };
  derived.set(edge, made);
  return made;
}

export function createScene(picture: Picture, filter: Filter): Scene {
  const chosen: TopologyEdge[] = [];
  const isForeign = (id: string) => picture.nodes.get(id)?.kind === "foreign";
  let problems = 0;
  for (const edge of picture.edges.values()) {
    if (!filter.layers.has(edge.layer)) continue;
    if (filter.network !== null && edge.network !== filter.network) continue;
    if (!filter.foreign && (isForeign(edge.a.node) || isForeign(edge.b.node))) continue;
    if (isProblem(edge)) problems++;
    else if (filter.edges === "problems") continue;
    chosen.push(edge);
  }
  const touched = new Set<string>();
  for (const edge of chosen) touched.add(edge.a.node).add(edge.b.node);
  const nodes = [...picture.nodes.values()].filter((node) => {
    if (node.kind === "foreign" && !filter.foreign) return false;
    if (filter.edges === "problems") return touched.has(node.id) || node.status === "down";
    return touched.has(node.id) || filter.network === null || node.networks.includes(filter.network);
  });
  const dense = filter.edges === "auto" && isDense(nodes.length, chosen.length);
  const firstOf = new Map<string, SceneEdge>();
  const several = new Map<string, SceneEdge[]>();
  const edges = chosen.map((edge): SceneEdge => {
    const { pair, broken, a, b } = derive(edge);
    const made = { edge, a, b, offset: 0, onDemand: dense && !broken };
    const first = firstOf.get(pair);
    if (first === undefined) firstOf.set(pair, made);
    else several.set(pair, [...(several.get(pair) ?? [first]), made]);
    return made;
  });
  for (const list of several.values()) {
    // The same side for both directions of counting: seen from the lesser id.
    list.forEach((item, i) => {
      item.offset = derive(item.edge).sign * (i - (list.length - 1) / 2) * PARALLEL_GAP;
    });
  }
  return { nodes, edges, dense, problems };
}

let last: { picture: Picture; version: number; filter: string; scene: Scene } | null = null;

/** The scene of a picture as it is now; the canvas, its legend and its label ask for the same one. */
export function sceneOf(picture: Picture, filter: Filter): Scene {
  const key = [...filter.layers, filter.network, filter.foreign, filter.edges].join();
  if (last?.picture !== picture || last.version !== picture.version || last.filter !== key)
    last = { picture, version: picture.version, filter: key, scene: createScene(picture, filter) };
  return last.scene;
}

/** Where a node stands in order: nodes that are dialled at one network are one site. */
export function siteOf(picture: Picture, node: TopologyNode): string {
  for (const edge of picture.edgesOf(node.id)) {
    const end = edge.a.node === node.id ? edge.a : edge.b;
    if (end.endpoint === null) continue;
    const address = end.endpoint.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
    const parts = address.split(address.includes(":") ? ":" : ".");
    return parts.slice(0, 3).join(".");
  }
  return "~";
}

/** Nodes by site, then by name with numbers in numbers' order. */
export function bySite(picture: Picture, nodes: readonly TopologyNode[]): TopologyNode[] {
  const keyed = nodes.map((node) => ({ node, site: siteOf(picture, node) }));
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  keyed.sort((x, y) => compare(x.site, y.site) || compare(x.node.label, y.node.label) || compare(x.node.id, y.node.id));
  return keyed.map(({ node }) => node);
}
