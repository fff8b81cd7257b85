// Owns the GraphViz form of a topology. Names come from strangers: they are quoted so that they stay text. Pure.
import type { TopologyNode, TopologyResponse } from "../../shared/api.ts";
import { shownText } from "../../shared/text.ts";
import { EDGE_LOOK, edgeWords, STATUS_COLOUR } from "./look.ts";

const SHAPE: Record<TopologyNode["kind"], string> = { agent: "box", foreign: "ellipse", segment: "hexagon" };

/** An undirected graph for `dot`, `neato`, `sfdp`. */
export function dot(topology: TopologyResponse): string {
  const lines = ["graph kattila {", '  node [fontname="sans-serif"];', '  edge [fontname="sans-serif", fontsize=10];'];
  for (const node of topology.nodes) {
    const label = [node.label, ...node.addresses.slice(0, 1), ...(node.kind === "agent" ? [node.status] : [])];
    lines.push(
      `  ${quote(node.id)} [label=${quote(...label)}, shape=${SHAPE[node.kind]}, color=${quote(STATUS_COLOUR[node.status])}];`,
    );
  }
  for (const edge of topology.edges) {
    const { line, colour } = EDGE_LOOK[edge.state];
    const words = edgeWords(edge);
    lines.push(
      `  ${quote(edge.a.node)} -- ${quote(edge.b.node)} [id=${quote(edge.id)}, style=${line}, color=${quote(colour)}` +
        `${words === "" ? "" : `, label=${quote(words)}`}${edge.reason === null ? "" : `, tooltip=${quote(edge.reason)}`}];`,
    );
  }
  lines.push("}", "");
  return lines.join("\n");
}

/** A quoted string of these lines. `dot` reads escapes (`\N` is the node's name) and HTML entities inside quotes. */
function quote(...lines: string[]): string {
  const escaped = lines.map((line) =>
    shownText(line).replaceAll("&", "&amp;").replaceAll("\\", "\\\\").replaceAll('"', '\\"'),
  );
  return `"${escaped.join("\\n")}"`;
}
