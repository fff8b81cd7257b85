// Owns the question whether a WireGuard network still holds together: parts that have an agent which reports, and the
// broken edges between them. Pure.
import type { TopologyEdge } from "../../shared/api.ts";
import type { NetworkLink, TopologyReader } from "../model.ts";
import { passes } from "../topology/state.ts";
import { labels } from "./names.ts";

export type Parts = {
  /** The network's name. */
  name: string;
  /** Agents that report, by part, largest part first. */
  parts: string[][];
  /** The same by their names, each part's sorted. */
  names: string[][];
  /** Broken edges whose ends are in two of the parts. */
  crossing: TopologyEdge[];
};

/**
 * The parts of a network; null when all agents that report are in one. Nodes that do not report (foreign ones, agents that
 * are silent) join parts but make none: their being cut off is their own alarm.
 */
export function partsOf(networkId: string, topology: TopologyReader, reports: (node: string) => boolean): Parts | null {
  const network = topology.network(networkId);
  if (network === null) return null;
  const parent = new Map<string, string>();
  /** Nodes that report, by the root of what holds together. */
  const reporting = new Map<string, number>();
  let all = 0;
  for (const node of network.nodes) {
    parent.set(node, node);
    if (!reports(node)) continue;
    reporting.set(node, 1);
    all++;
  }
  if (all < 2) return null;
  const find = (node: string): string => {
    let root = node;
    for (let up = parent.get(root)!; up !== root; up = parent.get(root)!) root = up;
    parent.set(node, root);
    return root;
  };
  const broken: NetworkLink[] = [];
  for (const link of network.links) {
    if (!passes(link)) {
      broken.push(link);
      continue;
    }
    const [a, b] = [find(link.a), find(link.b)];
    if (a === b) continue;
    parent.set(a, b);
    const together = (reporting.get(a) ?? 0) + (reporting.get(b) ?? 0);
    // So it is with nearly every network, and in a mesh after a few of its links.
    if (together === all) return null;
    reporting.set(b, together);
  }
  const members = new Map<string, string[]>();
  for (const node of [...network.nodes].sort()) {
    if (!reports(node)) continue;
    const root = find(node);
    const part = members.get(root);
    if (part === undefined) members.set(root, [node]);
    else part.push(node);
  }
  const crossing = broken.filter((link) => {
    const [a, b] = [find(link.a), find(link.b)];
    return a !== b && members.has(a) && members.has(b);
  });
  const parts = [...members.values()].sort((a, b) => b.length - a.length || (a[0]! < b[0]! ? -1 : 1));
  return {
    name: [...topology.networks()].find(({ id }) => id === networkId)?.name ?? networkId,
    parts,
    names: parts.map((part) => labels(topology, part)),
    crossing: crossing.map(({ id }) => topology.edge(id)).filter((edge) => edge !== null),
  };
}
