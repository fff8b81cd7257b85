// NetJSON fits its published schema (test/fixtures, from netjson.org).
import { expect, test } from "bun:test";
import { netjson } from "../../manager/export/netjson.ts";
import published from "../fixtures/netjson-network-graph.schema.json";
import { type Schema, violations } from "./schema.ts";
import { picture } from "./support.ts";

const schema = published as unknown as Schema;
// The published schema names its node by place, so that it binds the first node alone; here it binds each.
const [nodeSchema] = schema.properties!["nodes"]!.items as Schema[];

test("every state, layer and hostile name fits the schema", () => {
  const graph = JSON.parse(JSON.stringify(netjson(picture())));
  expect(violations(schema, graph)).toEqual([]);
  for (const node of graph.nodes) expect(violations(nodeSchema!, node)).toEqual([]);
  expect(graph.nodes.length).toBe(picture().nodes.length);
  expect(graph.links.length).toBe(picture().edges.length);
});

test("names stay as they are, broken links cost more, addresses are unique", () => {
  const graph = netjson(picture());
  expect(graph.nodes[0]).toMatchObject({ id: "host-0", label: `<b>&"x`, local_addresses: ["10.0.0.1", "10.0.0.2"] });
  const cost = Object.fromEntries(graph.links.slice(0, 11).map((link) => [link.properties["state"], link.cost]));
  expect(cost).toMatchObject({ up: 1, late: 1, idle: 1, unknown: 1, stale: 1000, down: 1000, key_mismatch: 1000 });
});

test("the validator finds what does not fit", () => {
  const graph = netjson(picture());
  expect(violations(schema, { ...graph, type: "Network" })).toEqual(["$.type: is none of NetworkGraph"]);
  expect(violations(schema, { ...graph, version: null })).toEqual(["$.version: is no string"]);
  expect(violations(schema, { ...graph, links: [{ source: "a", cost: "1" }] })).toEqual([
    "$.links[0]: lacks target",
    "$.links[0].cost: is no number",
  ]);
  expect(violations(schema, { ...graph, nodes: [graph.nodes[0], graph.nodes[0]] })).toEqual([
    "$.nodes: repeats an item",
  ]);
  expect(violations({ maximum: 1 } as Schema, 2)).toEqual(["$: the validator does not know maximum"]);
});
