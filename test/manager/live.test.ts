// The live stream beside the picture: what is sent as it happens is what a whole answer would say.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { MAX_PAIRED_MEMBERS } from "../../manager/topology/segments.ts";
import type { HealthResponse, StreamEvents, TopologyDiff, TopologyResponse } from "../../shared/api.ts";
import { item } from "../topology/scene.ts";
import { type Agent, type Data, type Ground, ground, listen, registered } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const INTERVAL_MS = 30_000;

let place: Ground;
const agents: Agent[] = [];

beforeAll(async () => {
  place = await ground();
  place.clock.at = Date.UTC(2026, 0, 5, 12);
  for (let i = 0; i <= MAX_PAIRED_MEMBERS; i++) agents.push(await registered(place, `h${i}`));
});
afterAll(() => place.remove());

const address = (number: number) => `192.168.50.${number + 1}`;
const mac = (number: number) => `02:00:00:00:00:${(number + 1).toString(16).padStart(2, "0")}`;

/** What host `number` says on a wire with `members` hosts: it sees the one after it. */
function over(number: number, members: number): Data {
  const next = (number + 1) % members;
  return {
    collected_at: place.now(),
    age_ms: 0,
    system: null,
    interfaces: [item("eth0", "physical", [`${address(number)}/24`], { mac: mac(number) })],
    neighbors: number < members ? [{ address: address(next), mac: mac(next), interface: "eth0" }] : [],
    wireguard: [],
  };
}

/** Everyone but those in `silent` reports, on a wire with this many. */
async function round(members: number, silent: readonly number[] = []): Promise<void> {
  place.clock.at! += INTERVAL_MS;
  for (const [i, agent] of agents.entries()) {
    if (silent.includes(i)) continue;
    expect((await agent.send(over(i, members))).status).toBe(200);
  }
  await place.advance();
}

const nodeOf = (heard: StreamEvents["topology"][], id: string) =>
  heard.flatMap(({ nodes }) => nodes).findLast((node) => node.id === id);

test("an agent that is late, and heard again: online → late → online", async () => {
  for (let i = 0; i < 3; i++) await round(2);
  const { id } = agents[3]!;
  const late = await listen(
    place,
    async () => {
      for (let i = 0; i < 2; i++) await round(2, [3]);
    },
    (heard) => nodeOf(heard, id)?.status === "late",
  );
  expect(nodeOf(late.topology, id)).toMatchObject({ label: "h3", status: "late" });
  const back = await listen(
    place,
    () => round(2),
    (heard) => nodeOf(heard, id)?.status === "online",
  );
  expect(nodeOf(back.topology, id)).toMatchObject({ status: "online" });
  expect([...late.events, ...back.events]).toEqual([]);
});

test("a small segment is sent pair by pair", async () => {
  const { topology } = await listen(
    place,
    async () => {
      for (let i = 0; i < 2; i++) await round(4);
    },
    (heard) => new Set(heard.flatMap(({ edges }) => edges.map(({ id }) => id))).size >= 3,
  );
  expect(topology.every(({ stale }) => !stale)).toBe(true);
});

test("a large segment is one node in the picture: its pairs are not sent, and the picture is to be asked for anew", async () => {
  const members = MAX_PAIRED_MEMBERS + 1;
  const { topology } = await listen(
    place,
    async () => {
      for (let i = 0; i < 2; i++) await round(members);
    },
    (heard) => heard.some(({ stale }) => stale),
  );
  const message = topology.find(({ stale }) => stale)!;
  expect(message.edges.filter(({ layer }) => layer === "physical")).toEqual([]);
  const whole = (await (await fetch(`${place.url}/status/topology`)).json()) as TopologyResponse;
  expect(whole.nodes.filter(({ kind }) => kind === "segment")).toHaveLength(1);
  expect(whole.edges).toHaveLength(members);
  // The difference of two moments speaks of what `?at=` shows at them.
  const long = place.now() - 86_400_000;
  const asked = await fetch(`${place.url}/status/topology/diff?from=${long}&to=${place.now()}`);
  const { edges } = (await asked.json()) as TopologyDiff;
  expect(edges.added.map(({ id }) => id).sort()).toEqual(whole.edges.map(({ id }) => id).sort());
});

test("the healthcheck says when the newest report came, and how long storing it took", async () => {
  const { last_report_at, ingest_lag_ms } = (await (
    await fetch(`${place.url}/status/healthcheck`)
  ).json()) as HealthResponse;
  expect(last_report_at).toBe(place.now());
  expect(Number.isInteger(ingest_lag_ms) && ingest_lag_ms! >= 0 && ingest_lag_ms! < 60_000).toBe(true);
  const untouched = await ground();
  try {
    expect(await (await fetch(`${untouched.url}/status/healthcheck`)).json()).toMatchObject({
      last_report_at: null,
      ingest_lag_ms: null,
    });
  } finally {
    await untouched.remove();
  }
});
