// Owns the matrix of a picture: who to whom, one cell for each direction, ordered by site. Pure.
import type { EdgeState, TopologyEdge, TopologyNode } from "../../shared/api.ts";
import type { Picture } from "./picture.ts";
import { bySite, type Filter, halves, siteOf } from "./scene.ts";
import { isProblem } from "./picture.ts";

export type Cell = { edge: TopologyEdge; state: EdgeState };
export type Matrix = {
  nodes: readonly TopologyNode[];
  /** Site of each node; where it changes, a line is drawn. */
  sites: readonly string[];
  /** What the row's node sends to the column's; null: no link. */
  at(row: number, column: number): Cell | null;
  /** By row × number of nodes + column: 0 is no link, else the state's place in EDGE_ORDER plus one. */
  states: Uint8Array;
};

/** The worse of two links between the same two nodes is the one that is shown. */
export const EDGE_ORDER: readonly EdgeState[] = [
  "key_mismatch",
  "one_sided",
  "down",
  "never",
  "stale",
  "lossy",
  "late",
  "unknown",
  "idle",
  "unused",
  "up",
];
const PLACE = new Map(EDGE_ORDER.map((state, i) => [state, i + 1]));

/** Nodes that have an edge which passes the filter; `problemsOnly`: those that have a broken one. */
export function createMatrix(picture: Picture, filter: Filter): Matrix {
  const edges = [...picture.edges.values()].filter(
    (edge) => filter.layers.has(edge.layer) && (filter.network === null || edge.network === filter.network),
  );
  const touched = new Set<string>();
  for (const edge of edges)
    if (filter.edges !== "problems" || isProblem(edge)) touched.add(edge.a.node).add(edge.b.node);
  const chosen = [...touched].flatMap((id) => {
    const node = picture.nodes.get(id);
    return node === undefined || (node.kind === "foreign" && !filter.foreign) ? [] : [node];
  });
  const nodes = bySite(picture, chosen);
  const index = new Map(nodes.map(({ id }, i) => [id, i]));
  const size = nodes.length;
  const states = new Uint8Array(size * size);
  const edgeAt = new Int32Array(size * size);
  edges.forEach((edge, i) => {
    const [a, b] = [index.get(edge.a.node), index.get(edge.b.node)];
    if (a === undefined || b === undefined) return;
    const [there, back] = halves(edge);
    for (const [at, state] of [
      [a * size + b, there],
      [b * size + a, back],
    ] as const) {
      const place = PLACE.get(state)!;
      if (states[at] !== 0 && states[at]! <= place) continue;
      states[at] = place;
      edgeAt[at] = i;
    }
  });
  return {
    nodes,
    sites: nodes.map((node) => siteOf(picture, node)),
    states,
    at(row, column) {
      const place = states[row * size + column] ?? 0;
      return place === 0 ? null : { edge: edges[edgeAt[row * size + column]!]!, state: EDGE_ORDER[place - 1]! };
    },
  };
}
