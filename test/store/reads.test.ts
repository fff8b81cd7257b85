// Reads: topology by moment, versions, events and alarms by page, small tables.
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import type { AlarmTransition, Version } from "../../manager/model.ts";
import { AGENT, agent, alarm, edge, event, node, OTHER, place, T0 } from "./support.ts";

const MINUTE = 60_000;

test("a past picture of many pages: what holds and what ended since, each once, also what ends while it is read", async () => {
  using at = place();
  const store = await at.open();
  const COUNT = 2500;
  const versions = (minute: number, from: number, to: number, state: "up" | "stale" | null): Version[] =>
    Array.from({ length: to - from }, (_, i) => ({
      kind: "edge",
      id: `e${from + i}`,
      at: T0 + minute * MINUTE,
      body: state === null ? null : edge(`e${from + i}`, { state }),
    }));
  await store.commit({ versions: versions(1, 0, 2 * COUNT, "up") });
  await store.commit({ versions: versions(5, 0, COUNT, null) }); // all of one moment: pages part them by their number
  await store.commit({ versions: versions(6, 2 * COUNT, 2 * COUNT + 10, "up") });
  const ids = async (minute: number) => (await store.topologyAt(T0 + minute * MINUTE)).edges.map(({ id }) => id);
  const reading = ids(3);
  await store.commit({ versions: versions(7, COUNT, 2 * COUNT, "stale") });
  const all = Array.from({ length: 2 * COUNT }, (_, i) => `e${i}`).sort();
  expect((await reading).sort()).toEqual(all);
  expect((await ids(3)).sort()).toEqual(all);
  expect((await store.topologyAt(T0 + 3 * MINUTE)).edges.every(({ state }) => state === "up")).toBe(true);
  expect(await ids(5.5)).toHaveLength(COUNT);
  expect(await ids(6)).toHaveLength(COUNT + 10);
});

test("the topology at any moment", async () => {
  using at = place();
  const store = await at.open();
  const version = (minute: number, state: "up" | "stale" | null): Version => ({
    kind: "edge",
    id: "e1",
    at: T0 + minute * MINUTE,
    body: state === null ? null : edge("e1", { state }),
  });
  await store.commit({ versions: [version(1, "up")] });
  await store.commit({
    versions: [version(5, "stale"), { kind: "node", id: "n", at: T0 + 5 * MINUTE, body: node("n") }],
  });
  await store.commit({ versions: [version(8, null)] });
  await store.commit({ versions: [version(9, "up")] });
  const states = async (minute: number | null) =>
    (await store.topologyAt(minute === null ? null : T0 + minute * MINUTE)).edges.map(({ state }) => state);
  expect(await states(0)).toEqual([]);
  expect(await states(1)).toEqual(["up"]);
  expect(await states(4.999)).toEqual(["up"]);
  expect(await states(5)).toEqual(["stale"]);
  expect(await states(8)).toEqual([]);
  expect(await states(9)).toEqual(["up"]);
  expect(await states(null)).toEqual(["up"]);
  expect((await store.topologyAt(T0 + 4 * MINUTE)).nodes).toEqual([]);
  expect((await store.topologyAt(null)).nodes).toEqual([node("n")]);
  expect(
    (await store.versionsOf("edge", "e1")).map(({ from_at, until_at, body }) => [
      (from_at - T0) / MINUTE,
      until_at === null ? null : (until_at - T0) / MINUTE,
      (body as { state: string }).state,
    ]),
  ).toEqual([
    [1, 5, "up"],
    [5, 8, "stale"],
    [9, null, "up"],
  ]);
  // The columns that others query by hand.
  const database = new Database(at.path, { readonly: true });
  expect(
    database.query("SELECT id, state, valid_from, valid_to FROM topology_edges WHERE valid_to IS NULL").all(),
  ).toEqual([{ id: "e1", state: "up", valid_from: T0 + 9 * MINUTE, valid_to: null }]);
  database.close();
  await store.close();
});

test("versions never run backwards: a late one begins with the one it follows, of one moment the later counts", async () => {
  using at = place();
  const store = await at.open();
  const put = (minute: number, label: string | null) =>
    store.commit({
      versions: [
        { kind: "node", id: "n", at: T0 + minute * MINUTE, body: label === null ? null : node("n", { label }) },
      ],
    });
  await put(5, "first");
  await put(3, "late"); // replaces: it follows "first", and no moment lies between
  await put(5, "again");
  await put(7, "next");
  await put(6, null); // ends at 7: gone without a moment of its own
  expect(
    (await store.versionsOf("node", "n")).map(({ from_at, until_at, body }) => [
      (from_at - T0) / MINUTE,
      until_at,
      (body as { label: string }).label,
    ]),
  ).toEqual([[5, T0 + 7 * MINUTE, "again"]]);
  expect((await store.topologyAt(null)).nodes).toEqual([]);
  await store.close();
});

test("events by page, newest first, also those of one moment", async () => {
  using at = place();
  const store = await at.open();
  const { events } = await store.commit({
    events: Array.from({ length: 50 }, (_, i) =>
      event(T0 + Math.floor(i / 5) * MINUTE, {
        subject: i % 2 === 0 ? "edge:e1" : "edge:e2",
        agent_id: i % 3 === 0 ? null : AGENT,
      }),
    ),
  });
  expect(events.map(({ id }) => id)).toEqual(Array.from({ length: 50 }, (_, i) => events[0]!.id + i));
  const expected = events.toReversed();
  const pages = async (query: Omit<Parameters<typeof store.events>[0], "limit">) => {
    const all = [];
    for (let before: number | undefined; ;) {
      const page = await store.events({ ...query, limit: 7, ...(before === undefined ? {} : { before }) });
      if (page.length === 0) return all;
      all.push(...page);
      before = page.at(-1)!.id;
    }
  };
  expect(await pages({})).toEqual(expected);
  expect(await pages({ subject: "edge:e2" })).toEqual(expected.filter(({ subject }) => subject === "edge:e2"));
  expect(await pages({ agent_id: AGENT })).toEqual(expected.filter(({ agent_id }) => agent_id === AGENT));
  expect(await pages({ agent_id: AGENT, subject: "edge:e1" })).toEqual(
    expected.filter(({ agent_id, subject }) => agent_id === AGENT && subject === "edge:e1"),
  );
  expect(await pages({ from_at: T0 + 2 * MINUTE, to_at: T0 + 3 * MINUTE })).toEqual(expected.slice(30, 40));
  expect(await store.events({ limit: 5, before: 10_000 })).toEqual([]);
  await store.close();
});

test("alarms by page and state; live ones for evaluation; transitions to notify", async () => {
  using at = place();
  const store = await at.open();
  const open = alarm("a-open", T0 + 3, { agent_id: OTHER });
  const twin = alarm("b-open", T0 + 3, { state: "acknowledged", acknowledged_at: T0 + 4, flapping: true });
  const pending = alarm("pending", T0 + 5, { state: "pending" });
  const resolved = alarm("resolved", T0 + 1, { state: "resolved", resolved_at: T0 + 2 });
  const old = alarm("old", T0 - 5, { state: "resolved", resolved_at: T0 - 4, agent_id: null });
  const step = (alarm_id: string, over: Partial<AlarmTransition> = {}): AlarmTransition => ({
    alarm_id,
    at: T0,
    from: null,
    to: "open",
    severity: "critical",
    report: { agent_id: AGENT, tick: 9 },
    note: "n",
    notify: true,
    ...over,
  });
  await store.commit({
    alarms: [open, twin, pending, resolved, { ...old, message: "before" }],
    transitions: [
      step("a-open"),
      step("a-open", { from: "open", to: "acknowledged", notify: false }),
      step("b-open", { report: null, note: null }),
    ],
  });
  await store.commit({ alarms: [old] });
  expect(await store.alarms({ state: "open", limit: 10 })).toEqual([twin, open]);
  expect(await store.alarms({ state: "resolved", limit: 10 })).toEqual([resolved, old]);
  expect(await store.alarms({ state: "all", limit: 10 })).toEqual([twin, open, resolved, old]);
  expect(await store.alarms({ state: "all", limit: 2, before: twin.id })).toEqual([open, resolved]);
  expect(await store.alarms({ state: "all", limit: 10, agent_id: OTHER })).toEqual([open]);
  expect(await store.alarms({ state: "all", limit: 10, before: "gone" })).toEqual([]);
  expect((await store.liveAlarms(10, T0 + 10)).map(({ id }) => id).toSorted()).toEqual([
    "a-open",
    "b-open",
    "pending",
    "resolved",
  ]);
  expect(await store.alarm("a-open")).toEqual({
    alarm: open,
    transitions: [step("a-open"), step("a-open", { from: "open", to: "acknowledged", notify: false })],
  });
  expect(await store.alarm("gone")).toBeNull();
  expect((await store.transitionsAfter(0, 10)).map(({ sequence }) => sequence)).toEqual([1, 3]);
  expect((await store.transitionsAfter(1, 10)).map(({ sequence }) => sequence)).toEqual([3]);
  expect((await store.transitionsAfter(0, 1)).map(({ sequence }) => sequence)).toEqual([1]);
  await store.close();
});

test("agents, interfaces, silences and small values over a restart", async () => {
  using at = place();
  let store = await at.open();
  const wg0 = {
    agent_id: AGENT,
    name: "wg0",
    kind: "wireguard",
    public_key: "k",
    listen_port: 51820,
    addresses: ["10.0.0.1/24"],
    mac: null,
    mtu: 1420,
    up: true,
  };
  const silence = { id: "s", agents: [AGENT], codes: [], until_at: T0 + 10, created_at: T0, reason: "work" };
  await store.commit({
    agents: [agent({ regenerate: true })],
    interfaces: [{ agent_id: AGENT, rows: [wg0, { ...wg0, name: "eth0", up: null }] }],
    silences: [silence],
    meta: { cursor: 1 },
  });
  await store.commit({
    agents: [agent({ blocked: true })],
    interfaces: [{ agent_id: AGENT, rows: [{ ...wg0, mtu: 1380, up: false }] }],
    meta: { cursor: 2 },
  });
  await store.close();
  store = await at.open();
  expect(await store.loadAgents()).toEqual([agent({ blocked: true })]);
  expect(await store.interfacesOf(AGENT)).toEqual([{ ...wg0, mtu: 1380, up: false }]);
  expect(await store.silences(T0 + 9)).toEqual([silence]);
  expect(await store.silences(T0 + 10)).toEqual([]);
  expect(await store.meta("cursor")).toBe(2);
  expect(await store.meta("none")).toBeNull();
  await store.commit({ forget: [AGENT] });
  expect(await store.loadAgents()).toEqual([]);
  expect(await store.interfacesOf(AGENT)).toEqual([]);
  await store.close();
});

test("what is asked often uses an index", async () => {
  using at = place();
  await (await at.open()).close();
  const database = new Database(at.path, { readonly: true });
  const plan = (sql: string) =>
    (database.query(`EXPLAIN QUERY PLAN ${sql}`).all() as { detail: string }[]).map(({ detail }) => detail).join("; ");
  for (const sql of [
    "SELECT body FROM topology_edges WHERE valid_to IS NULL",
    "SELECT body FROM topology_edges WHERE valid_to > 5 AND valid_from <= 5",
    "SELECT body FROM topology_edges WHERE id = 'e' ORDER BY valid_from",
    "SELECT id FROM events WHERE at BETWEEN 1 AND 2 AND (at < 3 OR (at = 3 AND id < 4)) ORDER BY at DESC, id DESC LIMIT 5",
    "SELECT id FROM events WHERE subject = 's' AND at BETWEEN 1 AND 2 ORDER BY at DESC, id DESC LIMIT 5",
    "SELECT id FROM alarms WHERE state <> 'pending' AND (opened_at, id) < (1, 'a') ORDER BY opened_at DESC, id DESC",
    "SELECT id FROM alarms WHERE state <> 'pending' AND agent_id = 'a' AND (opened_at, id) < (1, 'a') ORDER BY opened_at DESC, id DESC",
    "SELECT id FROM alarms WHERE state = 'resolved' AND resolved_at > 5",
    "SELECT max(tick_to) AS tick FROM packs WHERE agent_id = 'a'",
    "SELECT id FROM packs WHERE agent_id = 'a' AND tick_to >= 5 AND tick_from <= 5 ORDER BY id_to",
    "SELECT id FROM packs WHERE received_to < 5 ORDER BY received_to LIMIT 1",
    "SELECT sequence FROM alarm_transitions WHERE notify = 1 AND sequence > 5 ORDER BY sequence LIMIT 5",
  ]) {
    expect(plan(sql), sql).toContain("USING");
    expect(plan(sql), sql).not.toContain("TEMP B-TREE");
  }
  database.close();
});
