// Owns the Mermaid form of a topology, for Markdown that shows a small network. Names come from strangers: whatever is
// no letter, digit or harmless sign travels as an entity. Pure.
import { PROBLEM_STATES, type TopologyNode, type TopologyResponse } from "../../shared/api.ts";
import { shownText } from "../../shared/text.ts";
import { EDGE_LOOK, edgeWords, type Line, STATUS_COLOUR } from "./look.ts";

/** Mermaid refuses a drawing with more (its setting maxEdges, which a drawing cannot raise). */
export const MAX_EDGES = 500;

const SHAPE: Record<TopologyNode["kind"], [open: string, close: string]> = {
  agent: ["[", "]"],
  foreign: ["([", "])"],
  segment: ["{{", "}}"],
};
// Mermaid has three lines; a dashed one is drawn by linkStyle.
const LINK: Record<Line, string> = { solid: "---", dashed: "-.-", dotted: "-.-", bold: "===" };

/** A flowchart. Beyond MAX_EDGES the problem edges come first, and a comment says how many edges are left out. */
export function mermaid(topology: TopologyResponse): string {
  const lines = ["flowchart LR"];
  const drawn =
    topology.edges.length <= MAX_EDGES
      ? topology.edges
      : topology.edges
          .toSorted((x, y) => Number(PROBLEM_STATES.includes(y.state)) - Number(PROBLEM_STATES.includes(x.state)))
          .slice(0, MAX_EDGES);
  if (drawn.length < topology.edges.length) {
    lines.push(
      `  %% ${topology.edges.length - drawn.length} of ${topology.edges.length} edges are left out, broken ones last: ` +
        `Mermaid draws at most ${MAX_EDGES}`,
    );
  }
  const names = new Map<string, string>();
  for (const [i, node] of topology.nodes.entries()) {
    names.set(node.id, `n${i}`);
    const [open, close] = SHAPE[node.kind];
    lines.push(`  n${i}${open}"${escape(node.label)}"${close}`);
    lines.push(`  style n${i} stroke:${STATUS_COLOUR[node.status]}`);
  }
  const byColour = new Map<string, number[]>();
  let link = 0;
  for (const edge of drawn) {
    const a = names.get(edge.a.node);
    const b = names.get(edge.b.node);
    if (a === undefined || b === undefined) continue; // its node is filtered out of this picture
    const { line, colour } = EDGE_LOOK[edge.state];
    const words = edgeWords(edge);
    lines.push(`  ${a} ${LINK[line]}${words === "" ? "" : `|"${escape(words)}"|`} ${b}`);
    byColour.set(colour, [...(byColour.get(colour) ?? []), link++]);
  }
  for (const [colour, links] of byColour) lines.push(`  linkStyle ${links.join(",")} stroke:${colour}`);
  lines.push("");
  return lines.join("\n");
}

/**
 * Text inside a quoted label. Mermaid reads quotes, `#entities;`, HTML, and Markdown (a leading "1." or "-" is a list);
 * a character as `#<code point>;` is none of them.
 */
function escape(text: string): string {
  if (text === "") return "#32;"; // Mermaid refuses an empty label
  return [...shownText(text)]
    .map((character, i) => {
      const harmless = i === 0 ? /[\p{L}\ufffd]/u : /[\p{L}\p{N}\ufffd .:/-]/u;
      return harmless.test(character) ? character : `#${character.codePointAt(0)};`;
    })
    .join("");
}
