// Owns how alarms name things: subjects, and agents, interfaces and edges in words. Pure.
import type { TopologyEdge } from "../../shared/api.ts";
import type { TopologyReader } from "../model.ts";

export { on } from "../../shared/command.ts";

export const subjects = {
  agent: (agentId: string) => `agent:${agentId}`,
  edge: (edgeId: string) => `edge:${edgeId}`,
  node: (nodeId: string) => `node:${nodeId}`,
  network: (networkId: string) => `network:${networkId}`,
  interface: (agentId: string, name: string) => `interface:${agentId}/${name}`,
  /** A peer on an agent's interface, by public key. */
  peer: (agentId: string, name: string, key: string) => `peer:${agentId}/${name}/${key}`,
  collector: (agentId: string, name: string) => `collector:${agentId}/${name}`,
  key: (publicKey: string) => `key:${publicKey}`,
  /** An overlay address within a network. */
  address: (networkId: string, address: string) => `address:${networkId}/${address}`,
  source: (address: string) => `source:${address}`,
  site: (key: string) => `site:${key}`,
  manager: "manager",
} as const;

/** The text after a subject's kind. */
export function subjectRest(subject: string): string {
  return subject.slice(subject.indexOf(":") + 1);
}

/** `agent/name` of interface and collector subjects, `agent/interface/key` of peers: keys hold slashes, the others none. */
export function subjectParts(subject: string): [first: string, second: string, third: string] {
  const rest = subjectRest(subject);
  const one = rest.indexOf("/");
  const two = rest.indexOf("/", one + 1);
  return two < 0
    ? [rest.slice(0, one), rest.slice(one + 1), ""]
    : [rest.slice(0, one), rest.slice(one + 1, two), rest.slice(two + 1)];
}

/** What a person calls a node. */
export function label(topology: TopologyReader, nodeId: string): string {
  return topology.agent(nodeId)?.hostname ?? topology.node(nodeId)?.label ?? shortKey(nodeId);
}

export function labels(topology: TopologyReader, nodeIds: Iterable<string>): string[] {
  return [...nodeIds].map((id) => label(topology, id)).sort();
}

/** At most `most` of them by name. */
export function some(items: readonly string[], most = 5): string {
  return items.length <= most ? items.join(", ") : `${items.slice(0, most).join(", ")} and ${items.length - most} more`;
}

/** The first characters of a public key or id, as `wg` users recognise them. */
export function shortKey(key: string): string {
  return key.length > 12 ? `${key.slice(0, 8)}…` : key;
}

export function endName(topology: TopologyReader, end: TopologyEdge["a"]): string {
  return end.interface === null ? label(topology, end.node) : `${label(topology, end.node)} ${end.interface}`;
}

export function edgeName(topology: TopologyReader, edge: TopologyEdge): string {
  return `${endName(topology, edge.a)} – ${endName(topology, edge.b)}`;
}

/** The ends of an edge that have an agent. */
export function agentEnds(topology: TopologyReader, edge: TopologyEdge): string[] {
  return [...new Set([edge.a.node, edge.b.node])].filter((node) => topology.agent(node) !== null);
}

export function instant(at: number): string {
  return new Date(at).toISOString().replace(/\.\d{3}Z$/, "Z");
}
