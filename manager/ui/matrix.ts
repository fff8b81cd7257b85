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
  /** By row × number of nodes + column: what the row's node sends to the column's. */
  cells: ReadonlyMap<number, Cell>;
};

/** The worse of two links between the same two nodes is the one that is shown. */
const WORSE: readonly EdgeState[] = [
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
const BADNESS = new Map(WORSE.map((state, i) => [state, WORSE.length - i]));

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
  const cells = new Map<number, Cell>();
  const put = (row: number, column: number, cell: Cell) => {
    const at = row * nodes.length + column;
    const before = cells.get(at);
    if (before === undefined || BADNESS.get(cell.state)! > BADNESS.get(before.state)!) cells.set(at, cell);
  };
  for (const edge of edges) {
    const [a, b] = [index.get(edge.a.node), index.get(edge.b.node)];
    if (a === undefined || b === undefined) continue;
    const [there, back] = halves(edge);
    put(a, b, { edge, state: there });
    put(b, a, { edge, state: back });
  }
  return { nodes, sites: nodes.map((node) => siteOf(picture, node)), cells };
}
