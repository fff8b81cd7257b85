// The picture as it is asked for over HTTP: one layer, one network, now or then, and in the forms that other tools read.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { NetworkGraph } from "../../manager/export/netjson.ts";
import { LAYERS, type TopologyResponse } from "../../shared/api.ts";
import { type Data, type Ground, ground, registered } from "../manager/support.ts";
import { item, key, peer } from "./scene.ts";

const BEGIN = Date.UTC(2026, 0, 5, 12);

let place: Ground;
let whole: TopologyResponse;

/**
 * What host `number` says: h1 and h2 share a wire, a mesh 10.1.0.0/24 and a GRE tunnel; h2 and h3 a mesh 10.2.0.0/24, and
 * h3 has a phone in it.
 */
function over(number: number): Data {
  const mac = (of: number) => `02:00:00:00:00:0${of}`;
  const interfaces = [item("eth0", "physical", [`192.168.50.${number}/24`], { mac: mac(number) })];
  const wireguard: Data[] = [];
  const mesh = (network: 1 | 2, far: number, more: ReturnType<typeof peer>[] = []) => {
    interfaces.push(item(`wg${network}`, "wireguard", [`10.${network}.0.${number}/24`]));
    const entry = peer(`h${far} ${network}`, {
      endpoint: `192.168.50.${far}:5182${network}`,
      allowed_ips: [`10.${network}.0.${far}/32`],
      latest_handshake_at: place.now() - 10_000,
    });
    wireguard.push({
      interface: `wg${network}`,
      public_key: key(`h${number} ${network}`),
      listen_port: 51820 + network,
      fwmark: null,
      peers: [entry, ...more],
    });
  };
  if (number <= 2) {
    mesh(1, 3 - number);
    const [local, remote] = [`192.168.50.${number}`, `192.168.50.${3 - number}`];
    interfaces.push(item("gre1", "gre", [], { tunnel: { local, remote, id: 5, port: null } }));
  }
  if (number === 2) mesh(2, 3);
  if (number === 3) mesh(2, 2, [peer("phone", { allowed_ips: ["10.2.0.9/32"] })]);
  const neighbors = number === 1 ? [{ address: "192.168.50.2", mac: mac(2), interface: "eth0" }] : [];
  return { system: null, age_ms: 0, collected_at: place.now(), interfaces, wireguard, neighbors };
}

beforeAll(async () => {
  place = await ground();
  place.clock.at = BEGIN;
  const agents = [await registered(place, "h1"), await registered(place, "h2"), await registered(place, "h3")];
  for (let round = 0; round < 2; round++) {
    place.clock.at += 30_000;
    for (const [i, agent] of agents.entries()) expect((await agent.send(over(i + 1))).status).toBe(200);
    await place.advance();
  }
  whole = await picture("");
});
afterAll(() => place.remove());

const get = (path: string) => fetch(`${place.url}${path}`, { signal: AbortSignal.timeout(5000) });
async function picture(query: string): Promise<TopologyResponse> {
  const response = await get(`/status/topology${query}`);
  expect(response.status).toBe(200);
  return (await response.json()) as TopologyResponse;
}
const labels = ({ nodes }: TopologyResponse) => nodes.map(({ label }) => label).sort();

test("without a filter: every layer, every node, every network", () => {
  expect(whole.edges.map(({ layer }) => layer).sort()).toEqual([
    "physical",
    "tunnel",
    "wireguard",
    "wireguard",
    "wireguard",
  ]);
  expect(labels(whole)).toEqual(["10.2.0.9", "h1", "h2", "h3"]);
  expect(whole.networks.map(({ name }) => name).sort()).toEqual(["10.1.0.0/24", "10.2.0.0/24"]);
});

test("?layer= keeps one layer's edges, and the nodes and networks that they touch", async () => {
  for (const layer of LAYERS) {
    const view = await picture(`?layer=${layer}`);
    expect(view.edges.map(({ id }) => id)).toEqual(
      whole.edges.filter((edge) => edge.layer === layer).map(({ id }) => id),
    );
    const touched = new Set(view.edges.flatMap(({ a, b }) => [a.node, b.node]));
    expect(view.nodes.map(({ id }) => id).sort()).toEqual([...touched].sort());
    expect(view.networks).toHaveLength(layer === "wireguard" ? 2 : 0);
  }
  expect(labels(await picture("?layer=physical"))).toEqual(["h1", "h2"]);
  expect(await picture("?layer=relay")).toMatchObject({ nodes: [], edges: [], networks: [] });
});

test("?network= keeps one network: its edges and members", async () => {
  for (const network of whole.networks) {
    const view = await picture(`?network=${network.id}`);
    expect(view.networks).toEqual([network]);
    expect(view.edges.every((edge) => edge.network === network.id)).toBe(true);
    expect(view.nodes).toHaveLength(network.nodes);
  }
  const second = whole.networks.find(({ name }) => name === "10.2.0.0/24")!;
  expect(labels(await picture(`?network=${second.id}`))).toEqual(["10.2.0.9", "h2", "h3"]);
  // Both filters: a network is WireGuard's alone.
  expect((await picture(`?network=${second.id}&layer=wireguard`)).edges).toHaveLength(2);
  expect((await picture(`?network=${second.id}&layer=physical`)).edges).toEqual([]);
});

test("filters hold for a past moment, too", async () => {
  const first = whole.networks.find(({ name }) => name === "10.1.0.0/24")!;
  const then = await picture(`?at=${whole.at - 1000}&network=${first.id}&layer=wireguard`);
  expect(then.at).toBe(whole.at - 1000);
  expect(labels(then)).toEqual(["h1", "h2"]);
  expect((await get(`/status/topology?at=${BEGIN - 1}&network=${first.id}`)).status).toBe(404);
});

test("a filter that names nothing is refused, with words", async () => {
  for (const [query, status] of [
    ["?layer=ether", 400],
    ["?network=nobody", 404],
    ["?at=yesterday", 400],
  ] as const) {
    const response = await get(`/status/topology${query}`);
    expect([query, response.status]).toEqual([query, status]);
    expect(((await response.json()) as { message: string }).message).not.toBe("");
  }
});

test("/status/topology.json is NetJSON, with the same filters", async () => {
  const response = await get("/status/topology.json");
  expect(response.headers.get("content-type")).toStartWith("application/json");
  const graph = (await response.json()) as NetworkGraph;
  expect(graph.type).toBe("NetworkGraph");
  expect(graph.nodes.map(({ id }) => id)).toEqual(whole.nodes.map(({ id }) => id));
  expect(graph.links.map(({ source, target }) => [source, target])).toEqual(
    whole.edges.map(({ a, b }) => [a.node, b.node]),
  );
  const one = (await (await get("/status/topology.json?layer=physical")).json()) as NetworkGraph;
  expect([one.nodes.length, one.links.length]).toEqual([2, 1]);
});

test("/status/topology.dot and .mmd: text that begins as it must and names every host, with the same filters", async () => {
  for (const [path, type, begin] of [
    ["/status/topology.dot", "text/vnd.graphviz", /^graph /],
    ["/status/topology.mmd", "text/vnd.mermaid", /^(graph|flowchart) /m],
  ] as const) {
    const response = await get(path);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toStartWith(type);
    const text = await response.text();
    expect(text).toMatch(begin);
    for (const host of ["h1", "h2", "h3"]) expect(text).toContain(host);
    const physical = await (await get(`${path}?layer=physical`)).text();
    expect(physical).toContain("h1");
    expect(physical).not.toContain("h3");
    expect((await get(`${path}?layer=ether`)).status).toBe(400);
  }
});
