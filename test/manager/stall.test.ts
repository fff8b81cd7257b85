// A manager whose machine stands still for some seconds: nobody counts as silent for that. What agents sent meanwhile is read
// first; who says nothing then either is silent all the same.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { connect } from "node:net";
import type { AlarmsResponse, EventsResponse, TopologyResponse } from "../../shared/api.ts";
import { type Agent, type Ground, ground, publicKeyOf, registered } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const INTERVAL_S = 1;
/** Over the three intervals after which all who are silent are silent together. */
const STALL_MS = 3500;

let place: Ground;
let agents: Agent[];
beforeAll(async () => {
  place = await ground();
  agents = await Promise.all(["a", "b", "c"].map((name) => registered(place, name)));
});
afterAll(async () => {
  await place.remove();
});

/** What they report: the first two are each other's peers. */
const over = (agent: Agent) => {
  const number = agents.indexOf(agent);
  const plain = { interval_s: INTERVAL_S, interfaces: null, routes: null, neighbors: null };
  if (number === 2) return { ...plain, wireguard: [] };
  const peer = {
    public_key: publicKeyOf(2 - number),
    endpoint: null,
    allowed_ips: [],
    latest_handshake_at: Date.now() - 10_000,
    rx_bytes: 1000,
    tx_bytes: 1000,
    persistent_keepalive_s: null,
  };
  const own = { interface: "wg0", public_key: publicKeyOf(1 + number), listen_port: null, fwmark: null, peers: [peer] };
  return { ...plain, wireguard: [own] };
};
const alarms = async () =>
  ((await (await fetch(`${place.url}/status/alarms?state=all`)).json()) as AlarmsResponse).alarms.map(
    ({ code }) => code,
  );
const states = async () =>
  ((await (await fetch(`${place.url}/status/topology?layer=wireguard`)).json()) as TopologyResponse).edges.map(
    ({ state }) => state,
  );
const events = async () =>
  ((await (await fetch(`${place.url}/status/events`)).json()) as EventsResponse).events.map(({ message }) => message);

test("what was sent while it stood still is read before anyone counts as silent", async () => {
  for (const agent of agents) expect((await agent.send(over(agent))).status).toBe(200);
  expect(await states()).toEqual(["up"]);
  const before = await events();
  // On their way into the sockets, which nobody reads.
  const bodies = await Promise.all(agents.map(async (agent) => JSON.stringify(await agent.report(over(agent)))));
  const sockets = await Promise.all(
    bodies.map((body) => {
      const socket = connect(place.port, "127.0.0.1");
      const head = `POST /status/updates HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`;
      return new Promise<typeof socket>((resolve) =>
        socket.on("connect", () => (socket.write(head + body), resolve(socket))),
      );
    }),
  );
  Bun.sleepSync(STALL_MS);
  for (const until = performance.now() + 2000; performance.now() < until; await Bun.sleep(200))
    for (const agent of agents) expect((await agent.send(over(agent))).status).toBe(200);
  for (const socket of sockets) socket.destroy();
  expect([await alarms(), await states()]).toEqual([[], ["up"]]);
  expect((await events()).filter((message) => !before.includes(message))).toEqual([]);
});

test("silent before and after: told at the next look", async () => {
  for (const agent of agents) expect((await agent.send(over(agent))).status).toBe(200);
  Bun.sleepSync(STALL_MS);
  for (const until = Date.now() + 20_000; !(await alarms()).includes("manager_isolated") && Date.now() < until;)
    await Bun.sleep(50);
  expect(await alarms()).toContain("manager_isolated");
});
