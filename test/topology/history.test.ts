// History and the live stream over HTTP, on a manager in this process whose clock the test sets: any past moment, the
// difference of two, an edge's life, events page by page; what pruning leaves, and what a restart keeps.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type {
  EdgeHistory,
  Event,
  EventsResponse,
  StreamEvents,
  TopologyDiff,
  TopologyEdge,
  TopologyResponse,
} from "../../shared/api.ts";
import { openStore } from "../../manager/store/sqlite.ts";
import { createLog } from "../../shared/log.ts";
import { type Agent, type Data, type Ground, ground, listen, registered } from "../manager/support.ts";
import { item, key, peer } from "./scene.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const BEGIN = Date.UTC(2026, 0, 5, 12);
const DAY_MS = 86_400_000;
const STEP_MS = 30_000;

let place: Ground;
let agents: Agent[];
/** Byte counters and the handshake of the one tunnel, as both ends have them. */
const tunnel = { rx: 0, tx: 0, handshakeAt: BEGIN, listed: true };

beforeAll(async () => {
  place = await ground({ RETENTION_DAYS: "2", EVENT_RETENTION_DAYS: "30" });
  place.clock.at = BEGIN;
  agents = [await registered(place, "hel-1"), await registered(place, "hel-2")];
});
afterAll(() => place.remove());

async function ask<T>(path: string): Promise<T> {
  const response = await fetch(`${place.url}${path}`, { signal: AbortSignal.timeout(5000) });
  if (response.status !== 200) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}

/** What host `number` (1 or 2) says of its tunnel to the other one, without keepalive. */
function over(number: 1 | 2): Data {
  const far = 3 - number;
  const entry = peer(`h${far}`, {
    endpoint: `192.168.50.${far}:51820`,
    allowed_ips: [`10.99.0.${far}/32`],
    latest_handshake_at: tunnel.handshakeAt,
    rx_bytes: tunnel.rx,
    tx_bytes: tunnel.tx,
  });
  return {
    collected_at: place.clock.at!,
    age_ms: 0,
    system: null,
    interfaces: [
      item("eth0", "physical", [`192.168.50.${number}/24`], { mac: `02:00:00:00:00:0${number}` }),
      item("wg0", "wireguard", [`10.99.0.${number}/24`]),
    ],
    neighbors: [],
    wireguard: [
      {
        interface: "wg0",
        public_key: key(`h${number}`),
        listen_port: 51820,
        fwmark: null,
        peers: tunnel.listed || number === 1 ? [entry] : [],
      },
    ],
  };
}

/** Both agents report, an interval later. */
async function round(): Promise<void> {
  place.clock.at! += STEP_MS;
  for (const [i, agent] of agents.entries()) {
    const answer = await agent.send(over((i + 1) as 1 | 2));
    expect([answer.status, answer.body]).toEqual([200, answer.body]);
  }
  await place.advance();
}

const shake = () => (tunnel.handshakeAt = place.clock.at! + STEP_MS - 5000);
const wireguardEdges = ({ edges }: { edges: TopologyEdge[] }) => edges.filter(({ layer }) => layer === "wireguard");

/** Moments between the steps of the story, and the id of its edge. */
const moments = { before: 0, up: 0, oneSided: 0, healed: 0 };
let edgeId = "";

test("?at= any past moment: the picture as it was", async () => {
  moments.before = BEGIN + 1000;
  shake();
  tunnel.rx = tunnel.tx = 1000;
  await round();
  await round();
  moments.up = place.clock.at!;
  tunnel.listed = false;
  await round();
  moments.oneSided = place.clock.at!;
  tunnel.listed = true;
  shake();
  await round();
  moments.healed = place.clock.at!;

  const at = async (moment: number) => ask<TopologyResponse>(`/status/topology?at=${moment}`);
  const states = async (moment: number) => wireguardEdges(await at(moment)).map(({ state }) => state);
  expect(await states(moments.before)).toEqual([]);
  expect(await states(moments.up)).toEqual(["up"]);
  expect(await states(moments.oneSided)).toEqual(["one_sided"]);
  expect(await states(moments.oneSided - 1)).toEqual(["up"]);
  expect(await states(moments.healed)).toEqual(["up"]);
  expect(await states(BEGIN - DAY_MS)).toEqual([]);
  const past = await at(moments.up);
  expect(past.at).toBe(moments.up);
  expect(past.nodes.map(({ label }) => label).sort()).toEqual(["hel-1", "hel-2"]);
  expect(past.networks.map(({ name }) => name)).toEqual(["10.99.0.0/24"]);
  edgeId = wireguardEdges(past)[0]!.id;
  // One life: the same edge throughout, and now.
  const now = await ask<TopologyResponse>("/status/topology");
  expect(wireguardEdges(now).map(({ id }) => id)).toEqual([edgeId]);
});

test("/status/topology/diff: added, removed and changed between two moments", async () => {
  const between = (from: number, to: number) => ask<TopologyDiff>(`/status/topology/diff?from=${from}&to=${to}`);
  const fresh = await between(moments.before, moments.up);
  expect(fresh.edges.added.map(({ id }) => id)).toContain(edgeId);
  const broken = await between(moments.up, moments.oneSided);
  expect(broken.edges.changed.map(({ id, before, after }) => [id, before.state, after.state])).toEqual([
    [edgeId, "up", "one_sided"],
  ]);
  expect(broken.edges.changed[0]!.fields).toContain("state");
  expect([broken.edges.added, broken.edges.removed, broken.nodes.added]).toEqual([[], [], []]);
  const nothing = await between(moments.oneSided, moments.oneSided);
  expect([nothing.edges, nothing.nodes]).toEqual([
    { added: [], removed: [], changed: [] },
    { added: [], removed: [], changed: [] },
  ]);
  // Backwards is a question that cannot be answered.
  const refused = await fetch(`${place.url}/status/topology/diff?from=${moments.up}&to=${moments.before}`);
  expect(refused.status).toBe(400);
  expect((await fetch(`${place.url}/status/topology/diff`)).status).toBe(400);
});

test("/status/edges/:id/history: states with their spans, handshake ages and rates from the reports, events", async () => {
  const history = await ask<EdgeHistory>(`/status/edges/${edgeId}/history?from=${BEGIN}&to=${moments.healed}`);
  expect(history.states.map(({ state }) => state)).toEqual(["up", "one_sided", "up"]);
  for (const [i, span] of history.states.entries()) {
    expect(span.until_at).toBe(history.states[i + 1]?.from_at ?? null);
  }
  expect(history.states[1]).toMatchObject({ from_at: moments.oneSided, until_at: moments.healed });
  expect(history.states[1]!.reason).toBe("hel-1 lists hel-2, but hel-2 does not list hel-1");
  expect(history.samples.map(({ at }) => at)).toContain(moments.up);
  expect(history.samples.find(({ at }) => at === moments.up)).toMatchObject({
    handshake_age_s: 35,
    a_to_b_bps: 0,
    b_to_a_bps: 0,
    a_to_b_loss: null,
  });
  expect(history.events.map(({ code }) => code)).toContain("edge_state");
  expect((await fetch(`${place.url}/status/edges/nobody/history`)).status).toBe(404);
});

test("/status/events: newest first, page by page, each once", async () => {
  const whole = await ask<EventsResponse>("/status/events?limit=500");
  expect(whole.next_before).toBeNull();
  expect(whole.events.length).toBeGreaterThan(5);
  expect(whole.events.map(({ id }) => id)).toEqual(whole.events.map(({ id }) => id).toSorted((a, b) => b - a));
  const paged: Event[] = [];
  let before: string | null = null;
  do {
    const page: EventsResponse = await ask(`/status/events?limit=2${before === null ? "" : `&before=${before}`}`);
    expect(page.events.length).toBeLessThanOrEqual(2);
    paged.push(...page.events);
    before = page.next_before;
  } while (before !== null);
  expect(paged).toEqual(whole.events);
  const only = await ask<EventsResponse>(`/status/events?from=${moments.oneSided}&to=${moments.oneSided}`);
  expect(only.events.map(({ code }) => code)).toContain("peer_removed");
  expect(only.events.every(({ at }) => at === moments.oneSided)).toBe(true);
});

test("a tunnel that falls idle, and wakes: the stream tells it, history and events do not", async () => {
  const rows = async () => ({
    edges: place.stored()["topology_edges"],
    events: (await ask<EventsResponse>("/status/events?limit=500")).events.length,
  });
  // Without keepalive it is idle after 180 s.
  for (let i = 0; i < 5; i++) await round();
  const before = await rows();
  const stateOf = (heard: StreamEvents["topology"][]) =>
    heard.flatMap(({ edges }) => edges).findLast(({ id }) => id === edgeId)?.state;
  const idle = await listen(
    place,
    async () => {
      for (let i = 0; i < 3; i++) await round();
    },
    (heard) => stateOf(heard) === "idle",
  );
  expect(stateOf(idle.topology)).toBe("idle");
  const awake = await listen(
    place,
    async () => {
      shake();
      await round();
    },
    (heard) => stateOf(heard) === "up",
  );
  expect(stateOf(awake.topology)).toBe("up");
  expect([...idle.events, ...awake.events]).toEqual([]);
  expect(await rows()).toEqual(before);
});

test("another cause in one state: an event of its own, and a row; the state is as old as it was", async () => {
  const from = place.clock.at! + 1;
  // Attempts that nobody answers, at both ends: undecided for 210 s.
  const broken: TopologyEdge[] = [];
  for (let i = 0; i < 11; i++) {
    tunnel.tx += 888;
    await round();
    broken.push(...wireguardEdges(await ask<TopologyResponse>("/status/topology")));
  }
  expect([...new Set(broken.map(({ state, cause }) => `${state} ${cause}`))]).toEqual([
    "up null",
    "stale undecided",
    "stale nothing_returns",
  ]);
  const [undecided, decided] = (["undecided", "nothing_returns"] as const).map((wanted) =>
    broken.find(({ cause }) => cause === wanted),
  ) as [TopologyEdge, TopologyEdge];
  expect(decided).toMatchObject({ id: edgeId, changed_at: undecided.changed_at });
  const { events } = await ask<EventsResponse>(`/status/events?from=${from}&to=${place.clock.at}`);
  expect(events.map(({ code, subject, severity }) => ({ code, subject, severity })).reverse()).toEqual([
    { code: "edge_state", subject: `edge:${edgeId}`, severity: "info" },
    { code: "edge_cause", subject: `edge:${edgeId}`, severity: "info" },
  ]);
  expect(events[0]!.message).toBe(`hel-1 – hel-2: stale: ${decided.reason}`);
  // Told at the report with which it was decided.
  const asOf = async (moment: number) => wireguardEdges(await ask<TopologyResponse>(`/status/topology?at=${moment}`));
  expect(await asOf(events[0]!.at)).toMatchObject([{ state: "stale", cause: "nothing_returns" }]);
  expect(await asOf(events[0]!.at - 1)).toMatchObject([{ state: "stale", cause: "undecided" }]);
  expect(decided.observed_by).toHaveLength(2);
  shake();
  tunnel.rx += 92;
  await round();
  expect(wireguardEdges(await ask<TopologyResponse>("/status/topology"))).toMatchObject([{ state: "up" }]);
});

test("a restart keeps edge ids, first sight and history, and writes nothing new", async () => {
  const before = await ask<TopologyResponse>("/status/topology");
  const rows = place.stored();
  await place.stop();
  place.clock.at! += 10_000;
  await place.start();
  await place.advance();
  await round();
  const after = await ask<TopologyResponse>("/status/topology");
  const shape = (view: TopologyResponse) =>
    wireguardEdges(view).map(({ id, network, first_seen_at, changed_at, state }) => ({
      id,
      network,
      first_seen_at,
      changed_at,
      state,
    }));
  expect(shape(after)).toEqual(shape(before));
  expect(place.stored()["topology_edges"]).toBe(rows["topology_edges"]!);
  expect(wireguardEdges(await ask<TopologyResponse>(`/status/topology?at=${moments.oneSided}`))).toMatchObject([
    { id: edgeId, state: "one_sided" },
  ]);
});

test("events and states outlive the raw reports; rates beyond them are none", async () => {
  const { events: before } = await ask<EventsResponse>("/status/events?limit=500");
  expect(place.stored()["reports"]).toBeGreaterThan(0);
  await place.stop();
  place.clock.at = BEGIN + 4 * DAY_MS;
  // The manager's own small rounds, without the half minute between them: first they pack, then they prune.
  const store = await openStore(place.databasePath, { log: createLog("error", () => {}) });
  for (let i = 0; i < 10 && place.stored()["reports"]! > 0; i++) {
    await store.maintain(place.now(), { reportsMs: 2 * DAY_MS, eventsMs: 30 * DAY_MS });
  }
  await store.close();
  expect(place.stored()["reports"]).toBe(0);
  await place.start();
  const { events } = await ask<EventsResponse>("/status/events?limit=500");
  const ids = new Set(events.map(({ id }) => id));
  expect(before.filter(({ id }) => !ids.has(id))).toEqual([]);
  expect(wireguardEdges(await ask<TopologyResponse>(`/status/topology?at=${moments.oneSided}`))).toMatchObject([
    { id: edgeId, state: "one_sided" },
  ]);
  const history = await ask<EdgeHistory>(`/status/edges/${edgeId}/history?from=${BEGIN}&to=${moments.healed}`);
  expect(history.states.map(({ state }) => state)).toEqual(["up", "one_sided", "up"]);
  expect(history.samples).toEqual([]);
});

test("reports that waited for the manager: their agent is in the picture of their moments, before it registered", async () => {
  const at = place.clock.at!;
  const late = await registered(place, "late-1");
  for (const age of [600, 570, 540]) {
    place.clock.at! += 10;
    const moment = { collected_at: place.clock.at! - age * 1000, age_ms: age * 1000 };
    expect((await late.send({ ...over(1), ...moment, wireguard: [] })).status).toBe(200);
  }
  const seen = async (moment: number) => {
    const { nodes } = await ask<TopologyResponse>(`/status/topology?at=${moment}`);
    return nodes.filter(({ id }) => id === late.id).map(({ status, addresses }) => ({ status, addresses }));
  };
  const there = { status: "online", addresses: ["192.168.50.1", "10.99.0.1"] };
  expect(await seen(at - 601_000)).toEqual([]);
  for (const ago of [599, 300, 0]) expect(await seen(at - ago * 1000)).toMatchObject([there]);
});
