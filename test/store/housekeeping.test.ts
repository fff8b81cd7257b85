// Housekeeping: packs when due, also for agents that fell silent; retention in small rounds; space comes back.
import { Database } from "bun:sqlite";
import { expect, setDefaultTimeout, test } from "bun:test";
import { Disk } from "../../manager/store/disk.ts";
import { openLogSnapshot } from "../../manager/store/sqlite.ts";
import type { Store } from "../../manager/store/store.ts";
import { AGENT, alarm, collect, DAY_MS, edge, event, KEEP, OTHER, place, report, settle, T0 } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const HOUR_MS = 3_600_000;

function packs(path: string): { agent_id: string; reports: number; received_to: number }[] {
  const database = new Database(path, { readonly: true });
  const rows = database.query("SELECT agent_id, reports, received_to FROM packs ORDER BY id").all();
  database.close();
  return rows as ReturnType<typeof packs>;
}

async function feed(store: Store, ticks: number, agentId = AGENT, from = 0): Promise<void> {
  const reports = Array.from({ length: ticks }, (_, i) => report(from + i, { agent_id: agentId }));
  await store.commit({ reports });
}

test("120 make a pack at once; fewer wait six hours, then are packed as well", async () => {
  using at = place();
  const store = await at.open();
  await feed(store, 250);
  await feed(store, 30, OTHER);
  const lastMs = T0 + 250 * 30_000;
  await settle(store, lastMs);
  expect(packs(at.path)).toMatchObject([
    { agent_id: AGENT, reports: 120 },
    { agent_id: AGENT, reports: 120 },
  ]);
  await settle(store, lastMs + 5 * HOUR_MS);
  expect(packs(at.path).length).toBe(3); // the 30 are from the beginning, over six hours ago
  await settle(store, lastMs + 7 * HOUR_MS);
  expect(packs(at.path).slice(2)).toMatchObject([
    { agent_id: OTHER, reports: 30 },
    { agent_id: AGENT, reports: 10 },
  ]);
  expect((await collect(store.allReports())).length).toBe(280);
  await store.close();
});

test("large reports make packs of fewer", async () => {
  using at = place();
  const store = await at.open();
  const filling = "x".repeat(900 * 1024);
  for (let tick = 0; tick < 5; tick++) {
    await store.commit({ reports: [report(tick, { data: JSON.stringify({ tick, filling }) })] });
  }
  await settle(store, T0 + DAY_MS);
  expect(packs(at.path).map(({ reports }) => reports)).toEqual([2, 2, 1]);
  expect((await collect(store.allReports())).map(({ tick }) => tick)).toEqual([0, 1, 2, 3, 4]);
  await store.close();
});

test("retention takes whole packs, the oldest first, rows and bytes, and gives the space back", async () => {
  using at = place();
  const store = await at.open();
  for (let day = 0; day < 4; day++) await feed(store, 2880, AGENT, day * 2880);
  const now = T0 + 4 * DAY_MS;
  await settle(store, now);
  const before = await store.figures();
  expect(before.reports).toBe(4 * 2880);
  await settle(store, now, { ...KEEP, reportsMs: DAY_MS });
  const left = await collect(store.allReports());
  expect(left[0]!.received_at).toBeLessThan(now - DAY_MS + 120 * 30_000);
  expect(left[0]!.received_at).toBeGreaterThan(now - DAY_MS - 120 * 30_000);
  expect(left.at(-1)!.tick).toBe(4 * 2880 - 1);
  const after = await store.figures();
  expect(after.reports).toBe(left.length);
  await store.close();
  const database = new Database(at.path, { readonly: true });
  expect(database.query("SELECT count(*) AS n FROM reports").get()).toEqual({ n: left.length });
  expect(database.query("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  database.close();
  expect(Bun.file(at.path).size).toBeLessThan(before.bytes * 0.6);
});

test("rows go with the time that retention took, though some of it is still in a pack that goes later", async () => {
  using at = place();
  let store = await at.open();
  // Half a pack apart: when one agent's oldest pack goes, the other's goes on.
  for (let i = 0; i < 780; i++) {
    const isFirst = i < 60 || i % 2 === 0;
    await store.commit({
      reports: [report(i, { agent_id: isFirst ? OTHER : AGENT, received_at: T0 + i * 1000 })],
    });
  }
  const now = T0 + DAY_MS / 2;
  await settle(store, now);
  const ends = packs(at.path).map(({ received_to }) => received_to);
  expect(ends.length).toBeGreaterThan(5);
  await settle(store, now, { ...KEEP, reportsMs: now - Math.min(...ends) - 1 });
  const left = await collect(store.allReports());
  expect(left.length).toBeLessThan(780);
  expect(left.length).toBe((await store.figures()).reports);
  await store.close();
  const rows = () => {
    using database = new Database(at.path, { readonly: true });
    return (database.query("SELECT count(*) AS n FROM reports").get() as { n: number }).n;
  };
  expect(rows()).toBeLessThanOrEqual(left.length);
  expect(rows()).toBeGreaterThan(left.length - 120);
  const log = openLogSnapshot(at.path);
  expect(log.prunedTo).toBe((Math.min(...ends) - T0) / 1000 + 1);
  expect(left.filter(({ id }) => id > log.prunedTo)).toHaveLength(log.rows);
  log.close();
  // And a restart goes on from there.
  store = await at.open();
  await settle(store, now, { ...KEEP, reportsMs: 0 });
  expect(await collect(store.allReports())).toEqual([]);
  await store.close();
  expect(rows()).toBe(0);
});

test("an id is never given twice, though bytes went before their rows", async () => {
  using at = place();
  let store = await at.open();
  await feed(store, 30);
  await store.close();
  // As a full disk leaves it: the bytes made room, the rows go with the next round.
  const database = new Database(at.path);
  database.run("DELETE FROM reports_hot");
  database.close();
  store = await at.open();
  await store.commit({ reports: [report(30)] });
  expect((await collect(store.allReports())).map(({ id, tick }) => [id, tick])).toEqual([[31, 30]]);
  await store.close();
});

test("a report of a clock that stood a year ahead keeps no rows but its own agent's bytes", async () => {
  using at = place();
  const store = await at.open();
  await store.commit({ reports: [report(0, { agent_id: OTHER, received_at: T0 + 365 * DAY_MS })] });
  for (let i = 1; i <= 360; i++) await store.commit({ reports: [report(i, { received_at: T0 + i * 30_000 })] });
  await settle(store, T0 + DAY_MS);
  await settle(store, T0 + 3 * DAY_MS, { ...KEEP, reportsMs: DAY_MS });
  expect((await collect(store.allReports())).map(({ agent_id }) => agent_id)).toEqual([OTHER]);
  await store.close();
  using database = new Database(at.path, { readonly: true });
  expect(database.query("SELECT count(*) AS n FROM reports").get()).toEqual({ n: 0 });
});

test("a low disk without a pack takes the oldest reports, several of an agent at once, and everything goes on", async () => {
  using at = place();
  let store = await at.open();
  for (let i = 0; i < 60; i++) await store.commit({ reports: [report(i, { agent_id: i % 3 === 0 ? OTHER : AGENT })] });
  const real = Disk.prototype.freeBytes;
  try {
    Disk.prototype.freeBytes = () => 1024;
    // One round takes as many as its time allows; none of them may fail.
    for (let i = 0; i < 3; i++) await store.maintain(T0, KEEP);
    const left = await collect(store.allReports());
    expect(left.length).toBeLessThan(60);
    expect((await store.figures()).reports).toBe(left.length);
    for (let tick = 60; tick < 100; tick++) await store.commit({ reports: [report(tick)] });
    const window = await store.replayWindow(AGENT);
    expect(window.highest_tick).toBe(99);
    expect(window.nonces.every((nonce) => typeof nonce === "string")).toBe(true);
  } finally {
    Disk.prototype.freeBytes = real;
  }
  await store.close();
  store = await at.open();
  await settle(store, T0 + DAY_MS);
  expect((await store.replayWindow(AGENT)).highest_tick).toBe(99);
  await store.close();
});

test("a tick of the same number in another agent's pack stays", async () => {
  using at = place();
  const store = await at.open();
  await feed(store, 120);
  await store.commit({
    reports: Array.from({ length: 120 }, (_, i) => report(i, { agent_id: OTHER, received_at: T0 + 9 * DAY_MS })),
  });
  await settle(store, T0 + DAY_MS);
  await settle(store, T0 + 9 * DAY_MS);
  const left = await collect(store.allReports());
  expect(new Set(left.map(({ agent_id }) => agent_id))).toEqual(new Set([OTHER]));
  expect(left.length).toBe(120);
  await store.close();
});

test("events, ended versions, resolved alarms and lapsed silences go after their own time; what holds stays", async () => {
  using at = place();
  const store = await at.open();
  const transition = (alarm_id: string) => ({
    alarm_id,
    at: T0,
    from: null,
    to: "open",
    severity: "info" as const,
    report: null,
    note: null,
    notify: false,
  });
  await store.commit({
    events: [...Array.from({ length: 450 }, (_, i) => event(T0 + i)), event(T0 + DAY_MS)],
    versions: [
      { kind: "edge", id: "stays", at: T0, body: edge("stays") },
      { kind: "edge", id: "ended", at: T0, body: edge("ended") },
      { kind: "edge", id: "ended", at: T0 + 5, body: null },
    ],
    alarms: [alarm("open", T0), alarm("resolved", T0, { state: "resolved", resolved_at: T0 + 1 })],
    transitions: [transition("open"), transition("resolved")],
    silences: [{ id: "s", agents: [], codes: [], until_at: T0 + 1, created_at: T0, reason: "" }],
  });
  await settle(store, T0 + DAY_MS, { ...KEEP, eventsMs: DAY_MS - 600 });
  expect((await store.events({ limit: 10 })).map(({ at }) => at)).toEqual([T0 + DAY_MS]);
  expect((await store.topologyAt(T0)).edges.map(({ id }) => id)).toEqual(["stays"]);
  expect((await store.alarms({ state: "all", limit: 10 })).map(({ id }) => id)).toEqual(["open"]);
  expect((await store.alarm("open"))!.transitions.length).toBe(1);
  expect(await store.silences(T0)).toEqual([]);
  await store.close();
});

// By the clock: a busy machine may hold it up once.
test("ingest hardly notices packing, retention and a backup beside it", { retry: 2 }, async () => {
  using at = place();
  const store = await at.open();
  for (let i = 0; i < 20; i++) await feed(store, 500, AGENT, i * 500);
  let done = false;
  const now = T0 + 10_000 * 30_000;
  const beside = (async () => {
    for (let more = true; more;) {
      more = await store.maintain(now, { ...KEEP, reportsMs: DAY_MS });
      await Bun.sleep(1);
    }
    await store.backup(`${at.path}.backup`);
    done = true;
  })();
  const took: number[] = [];
  for (let tick = 0; !done; tick++) {
    const started = performance.now();
    await store.commit({ reports: [report(tick, { agent_id: OTHER })] });
    took.push(performance.now() - started);
  }
  await beside;
  took.sort((a, b) => a - b);
  expect(took.length).toBeGreaterThan(50);
  await store.close();
  expect(took[Math.floor(took.length * 0.99)]!).toBeLessThan(200); // 5-hardening.md, Faults
});
