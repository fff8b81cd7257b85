// Owns how an edge looks in the drawn exports (DOT, Mermaid): line and colour by state, words beside the line. State is
// never colour alone. Pure.
import type { EdgeState, NodeStatus, TopologyEdge } from "../../shared/api.ts";

export type Line = "solid" | "dashed" | "dotted" | "bold";
export type Look = { line: Line; colour: string };

const GREEN = "#1a7f37";
const GREY = "#6e7781";
const AMBER = "#9a6700";
const RED = "#cf222e";

export const EDGE_LOOK: Record<EdgeState, Look> = {
  up: { line: "solid", colour: GREEN },
  late: { line: "solid", colour: AMBER },
  idle: { line: "dashed", colour: GREY },
  unused: { line: "dotted", colour: GREY },
  lossy: { line: "bold", colour: AMBER },
  stale: { line: "bold", colour: RED },
  never: { line: "bold", colour: RED },
  down: { line: "bold", colour: RED },
  one_sided: { line: "dashed", colour: RED },
  key_mismatch: { line: "bold", colour: RED },
  unknown: { line: "dotted", colour: GREY },
};

export const STATUS_COLOUR: Record<NodeStatus, string> = { online: GREEN, late: AMBER, down: RED, unknown: GREY };

/** What stands beside the line: the layer where it is not WireGuard, the state where it is not up; "" is nothing. */
export function edgeWords(edge: TopologyEdge): string {
  const words: string[] = [];
  if (edge.layer !== "wireguard") words.push(edge.layer);
  if (edge.state !== "up") words.push(edge.state);
  return words.join(" ");
}
