// Owns the NetJSON NetworkGraph form of a topology (netjson.org; schema in test/fixtures). Pure.
import { PROBLEM_STATES, type TopologyResponse } from "../../shared/api.ts";

export type NetworkGraph = {
  type: "NetworkGraph";
  protocol: string;
  version: string;
  metric: string;
  label: string;
  nodes: { id: string; label: string; local_addresses: string[]; properties: Record<string, unknown> }[];
  links: { source: string; target: string; cost: number; cost_text: string; properties: Record<string, unknown> }[];
};

/** Whoever looks for a path goes around a link that does not carry packets, unless there is no other way. */
const COST = { works: 1, broken: 1000 };

/** Nodes and edges as NetJSON; what it has no field for goes into `properties` under our names. */
export function netjson(topology: TopologyResponse): NetworkGraph {
  return {
    type: "NetworkGraph",
    protocol: "kattila.status",
    version: "1",
    metric: "state",
    label: `kattila.status at ${new Date(topology.at).toISOString()}`,
    nodes: topology.nodes.map(({ id, label, addresses, ...properties }) => ({
      id,
      label,
      local_addresses: [...new Set(addresses)], // the schema wants them unique
      properties,
    })),
    links: topology.edges.map(({ a, b, ...properties }) => ({
      source: a.node,
      target: b.node,
      cost: PROBLEM_STATES.includes(properties.state) ? COST.broken : COST.works,
      cost_text: properties.reason === null ? properties.state : `${properties.state}: ${properties.reason}`,
      properties: { ...properties, a, b },
    })),
  };
}
