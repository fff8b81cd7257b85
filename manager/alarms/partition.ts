// Owns the question whether a WireGuard network still holds together: parts that have an agent which reports, and the
// broken edges between them. Pure.
import { PROBLEM_STATES, type TopologyEdge } from "../../shared/api.ts";
import type { TopologyReader } from "../model.ts";

export type Parts = {
  /** Agents that report, by part, largest part first. */
  parts: string[][];
  /** Broken edges whose ends are in two of the parts. */
  crossing: TopologyEdge[];
};

/** lossy passes packets, badly; the other problem states pass none. */
function passes(edge: TopologyEdge): boolean {
  return edge.state === "lossy" || !PROBLEM_STATES.includes(edge.state);
}

/**
 * The parts of a network; null when all agents that report are in one. Nodes that do not report (foreign ones, agents that
 * are silent) join parts but make none: their being cut off is their own alarm.
 */
export function partsOf(networkId: string, topology: TopologyReader, reports: (node: string) => boolean): Parts | null {
  const edges: TopologyEdge[] = [];
  for (const edge of topology.edges()) if (edge.layer === "wireguard" && edge.network === networkId) edges.push(edge);
  const parent = new Map<string, string>();
  const find = (node: string): string => {
    let root = node;
    for (let up = parent.get(root); up !== undefined && up !== root; up = parent.get(root)) root = up;
    parent.set(node, root);
    return root;
  };
  for (const edge of edges) {
    const [a, b] = [find(edge.a.node), find(edge.b.node)];
    if (passes(edge) && a !== b) parent.set(a, b);
  }
  const members = new Map<string, string[]>();
  for (const node of [...parent.keys()].sort()) {
    if (!reports(node)) continue;
    const root = find(node);
    members.set(root, [...(members.get(root) ?? []), node]);
  }
  if (members.size < 2) return null;
  return {
    parts: [...members.values()].sort((a, b) => b.length - a.length || (a[0]! < b[0]! ? -1 : 1)),
    crossing: edges.filter((edge) => {
      const [a, b] = [find(edge.a.node), find(edge.b.node)];
      return a !== b && members.has(a) && members.has(b);
    }),
  };
}
