// GET /status/path over HTTP: what a good question gets, by agent and by address, and what each bad one is told.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { ErrorResponse, PathResponse } from "../../shared/api.ts";
import { card, host, type PathHost, peer, route, wireguard } from "../topology/path_hosts.ts";
import { keyOf, NOW } from "../topology/path_reader.ts";
import { type Agent, type Data, type Ground, ground, registered } from "./support.ts";

const NAMES = ["a", "h", "b"] as const;
type Name = (typeof NAMES)[number];

let place: Ground;
const agents = new Map<Name, Agent>();
/** What each host says; a test may change it and send again. */
const hosts = new Map<Name, PathHost>();

/** a and b reach each other through h, in two meshes that all three are in. */
function sectionsOf(name: Name): PathHost {
  const number = NAMES.indexOf(name) + 1;
  const made = host({
    interfaces: [card("eth0", "physical", [`198.51.100.${number}/24`], 1500)],
    routes: [route("198.51.100.0/24", { interface: "eth0" })],
    forwarding: { v4: name === "h", v6: name === "h" },
  });
  for (const net of [0, 1]) {
    const of = (far: Name) => `${far} ${net}`;
    const port = 51820 + net;
    const entry = (far: Name, allowed: string) =>
      peer(of(far), [allowed], `198.51.100.${NAMES.indexOf(far) + 1}:${port}`);
    made.interfaces!.push(card(`wg${net}`, "wireguard", [`10.${net}.0.${number}/24`], 1420 - 20 * net));
    made.routes!.push(route(`10.${net}.0.0/24`, { interface: `wg${net}`, source: `10.${net}.0.${number}` }));
    made.wireguard!.push(
      wireguard(
        `wg${net}`,
        of(name),
        name === "h"
          ? [entry("a", `10.${net}.0.1/32`), entry("b", `10.${net}.0.3/32`)]
          : [entry("h", `10.${net}.0.0/24`)],
        port,
      ),
    );
  }
  return made;
}

/** A round of reports of all three. */
async function round(): Promise<void> {
  place.clock.at = place.now() + 30_000;
  for (const [name, agent] of agents) {
    const over = structuredClone(hosts.get(name)!) as Data & PathHost;
    for (const item of over.wireguard!)
      for (const entry of item.peers!) entry.latest_handshake_at = place.now() - 20_000;
    expect((await agent.send({ system: null, neighbors: [], ...over })).status).toBe(200);
  }
  await place.advance();
}

beforeAll(async () => {
  place = await ground();
  place.clock.at = NOW;
  for (const name of NAMES) {
    agents.set(name, await registered(place, name));
    hosts.set(name, sectionsOf(name));
  }
  await round();
  await round();
});
afterAll(() => place.remove());

const idOf = (name: Name) => agents.get(name)!.id;
const ask = (query: string) => fetch(`${place.url}/status/path${query}`, { signal: AbortSignal.timeout(5000) });
const trace = async (from: string, to: string): Promise<PathResponse> => {
  const answer = await ask(`?from=${from}&to=${encodeURIComponent(to)}`);
  expect(answer.status).toBe(200);
  expect(answer.headers.get("content-type")).toStartWith("application/json");
  return (await answer.json()) as PathResponse;
};

test("to an address: each hop with its rule, route, peer, AllowedIPs entry and edge, there and back", async () => {
  const path = await trace(idOf("a"), "10.0.0.3");
  expect(path).toMatchObject({
    from: idOf("a"),
    to: "10.0.0.3",
    at: place.now(),
    verdict: "delivered",
    reason: null,
    source: "10.0.0.1",
    destination: "10.0.0.3",
    path_mtu: 1420,
  });
  expect(path.hops).toHaveLength(3);
  expect(path.hops[0]).toMatchObject({
    node: idOf("a"),
    interface: "wg0",
    rule: "32766: from all lookup main",
    route: "10.0.0.0/24 dev wg0 src 10.0.0.1",
    peer: keyOf("h 0"),
    allowed_ip: "10.0.0.0/24",
    state: "up",
  });
  const topology = (await (await fetch(`${place.url}/status/topology`)).json()) as { edges: { id: string }[] };
  expect(topology.edges.map(({ id }) => id)).toContain(path.hops[0]!.edge!);
  expect(path.hops[2]).toMatchObject({ node: idOf("b"), interface: "wg0", rule: null, route: null, peer: null });
  expect(path.back).toMatchObject({ verdict: "delivered", source: "10.0.0.3", destination: "10.0.0.1" });
  expect(path.back.hops.map(({ node }) => node)).toEqual([idOf("b"), idOf("h"), idOf("a")]);
});

test("to an agent: each overlay address of the networks that both are in", async () => {
  const path = await trace(idOf("a"), idOf("b"));
  expect(path.to).toBe(idOf("b"));
  expect(path.traces.map(({ there }) => there.destination).sort()).toEqual(["10.0.0.3", "10.1.0.3"]);
  expect(path.traces.map(({ there, back }) => [there.verdict, back.verdict])).toEqual([
    ["delivered", "delivered"],
    ["delivered", "delivered"],
  ]);
  expect(path).toMatchObject(path.traces[0]!.there);
});

test("to itself: delivered, without a hop between", async () => {
  const path = await trace(idOf("a"), "10.0.0.1");
  expect(path).toMatchObject({ verdict: "delivered", back: { verdict: "delivered" } });
  expect(path.hops.map(({ node }) => node)).toEqual([idOf("a")]);
});

test("to an address that nobody has: where it leaves what agents see", async () => {
  expect(await trace(idOf("a"), "203.0.113.9")).toMatchObject({ verdict: "no_route", back: { verdict: "foreign" } });
  expect(await trace(idOf("a"), "198.51.100.77")).toMatchObject({ verdict: "foreign" });
});

test.each(["10.0.0.3", "::ffff:10.0.0.3"])("an address is canonical in the answer: %s", async (to) => {
  expect(await trace(idOf("a"), to)).toMatchObject({ to: "10.0.0.3", verdict: "delivered" });
});

test("IPv6 in any notation", async () => {
  expect(await trace(idOf("a"), "FD00:0:0::3")).toMatchObject({ to: "fd00::3", verdict: "no_route" });
});

test("the picture of now: what a report changed is in the next answer, and after the repair it is not", async () => {
  const hub = hosts.get("h")!;
  hub.forwarding = { v4: false, v6: false };
  await round();
  const path = await trace(idOf("a"), "10.0.0.3");
  expect(path).toMatchObject({ verdict: "not_forwarding", reason: "h: IPv4 forwarding is off" });
  expect(path.hops.at(-1)).toMatchObject({ node: idOf("h"), note: "IPv4 forwarding is off" });
  hub.forwarding = { v4: true, v6: true };
  await round();
  expect(await trace(idOf("a"), "10.0.0.3")).toMatchObject({ verdict: "delivered" });
});

test.each([
  ["neither end", "", 400, "malformed", "from=<agent id> and to=<agent id or address>"],
  ["no from", "?to=10.0.0.3", 400, "malformed", "from=<agent id>"],
  ["no to", "?from=A", 400, "malformed", "to=<agent id or address>"],
  ["an empty to", "?from=A&to=", 400, "malformed", "to"],
  ["an agent that is none", "?from=0f9b5e9e-3a3c-4d0b-9b53-9b7e0e3f1a55&to=10.0.0.3", 404, "unknown_agent", "from"],
  ["from an address", "?from=10.0.0.1&to=10.0.0.3", 404, "unknown_agent", "from"],
  ["a prototype's name", "?from=__proto__&to=10.0.0.3", 404, "unknown_agent", "from"],
  ["to an agent that is none", "?from=A&to=0f9b5e9e-3a3c-4d0b-9b53-9b7e0e3f1a55", 404, "unknown_agent", "to: no agent"],
  ["to a name", "?from=A&to=example.com", 400, "malformed", "to: is neither an agent's id nor an IP address"],
  ["to a prefix", "?from=A&to=10.0.0.0/24", 400, "malformed", "to"],
  ["to an address with a port", "?from=A&to=10.0.0.3:80", 400, "malformed", "to"],
  ["to a script", "?from=A&to=%3Cscript%3E", 400, "malformed", "to"],
  ["a name misspelt", "?from=A&dest=10.0.0.3", 400, "malformed", "to"],
  ["twice the same", "?from=A&from=A&to=10.0.0.3", 400, "malformed", "from"],
])("%s is refused, and told what to give", async (_name, query, status, code, says) => {
  const answer = await ask(query.replace("from=A", `from=${idOf("a")}`).replace("from=A", `from=${idOf("a")}`));
  expect(answer.status).toBe(status);
  const body = (await answer.json()) as ErrorResponse;
  expect(body.error).toBe(code);
  expect(body.message).toContain(says);
  expect(body.message).not.toContain("<script>");
});
