// How a large L2 segment is shown: one node, a line for each member, and nothing that points at a line that is not there.
import { expect, test } from "bun:test";
import { MAX_PAIRED_MEMBERS, withSegments } from "../../manager/topology/segments.ts";
import type { EdgeEnd, Layer, TopologyEdge, TopologyResponse } from "../../shared/api.ts";

const end = (node: string, name: string) => ({ node, interface: name }) as EdgeEnd;

function edge(id: string, layer: Layer, a: EdgeEnd, b: EdgeEnd, more: Partial<TopologyEdge> = {}): TopologyEdge {
  const rest = { state: "up", observed_by: [a.node], rides_on: [], first_seen_at: 1, changed_at: 2 };
  return { id, layer, a, b, ...rest, ...more } as unknown as TopologyEdge;
}

/** Everyone on one wire with everyone, and a tunnel between the first two that rides on it. */
function wire(members: number): TopologyResponse {
  const hosts = Array.from({ length: members }, (_, i) => `h${i}`);
  const edges = hosts.flatMap((one, i) =>
    hosts.slice(i + 1).map((other) => edge(`${one}-${other}`, "physical", end(one, "eth0"), end(other, "eth0"))),
  );
  const rides_on = ["h0", "h1"].map((node) => ({ node, interface: "eth0", edge: "h0-h1" }));
  edges.push(edge("tunnel", "wireguard", end("h0", "wg0"), end("h1", "wg0"), { rides_on }));
  return { nodes: [], edges, networks: [], at: 3 };
}

test("up to eight members keep their pairs", () => {
  const picture = wire(MAX_PAIRED_MEMBERS);
  expect(withSegments(picture)).toBe(picture);
});

test("more are one node; what rides on a pair rides on the line to it", () => {
  const members = MAX_PAIRED_MEMBERS + 1;
  const { nodes, edges } = withSegments(wire(members));
  expect(nodes.map(({ kind, label }) => [kind, label])).toEqual([["segment", `segment of ${members} hosts`]]);
  const physical = edges.filter(({ layer }) => layer === "physical");
  expect(physical.length).toBe(members);
  expect(physical.every(({ b }) => b.node === nodes[0]!.id)).toBe(true);
  const tunnel = edges.find(({ id }) => id === "tunnel")!;
  const rides = tunnel.rides_on.map((ride) => physical.find(({ id }) => id === ride.edge));
  expect(rides.map((line) => line?.a.node)).toEqual(["h0", "h1"]);
});
