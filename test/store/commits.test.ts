// Commits: grouped, atomic, one bad batch alone fails, a writer elsewhere is waited for a second at most.
import { Database } from "bun:sqlite";
import { expect, setDefaultTimeout, test } from "bun:test";
import { AGENT, agent, alarm, collect, edge, event, node, OTHER, place, report, T0 } from "./support.ts";
import { stopwatch } from "../support/stopwatch.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

test("batches of one turn share one transaction", async () => {
  using at = place();
  const store = await at.open();
  const before = (await store.figures()).commits;
  await Promise.all(Array.from({ length: 100 }, (_, i) => store.commit({ reports: [report(i)] })));
  expect((await store.figures()).commits - before).toBe(1);
  await store.commit({ reports: [report(100)] });
  await store.commit({ reports: [report(101)] });
  expect((await store.figures()).commits - before).toBe(3);
  expect((await collect(store.allReports())).length).toBe(102);
  await store.close();
});

test("a batch that cannot be stored leaves nothing, and takes no other down", async () => {
  using at = place();
  const store = await at.open();
  await store.commit({ reports: [report(5)] });
  const bad = store.commit({
    events: [event(T0)],
    reports: [report(6), report(5, { received_at: 2.5 })],
    meta: { half: 1 },
  });
  const good = store.commit({ events: [event(T0 + 1)], reports: [report(7)] });
  const wrong = store.commit({ reports: [report(8, { received_at: 1.5 })] });
  const [first, second, third] = await Promise.allSettled([bad, good, wrong]);
  expect(first).toMatchObject({ status: "rejected", reason: { fault: "failing" } });
  expect(second).toMatchObject({ status: "fulfilled", value: { events: [event(T0 + 1)] } });
  expect(third).toMatchObject({ status: "rejected", reason: { fault: "failing" } });
  expect((await collect(store.allReports())).map(({ tick }) => tick)).toEqual([5, 7]);
  expect((await store.events({ limit: 10 })).length).toBe(1);
  expect(await store.meta("half")).toBeNull();
  expect((await store.figures()).reports).toBe(2);
  expect(await store.health()).toBe("ok"); // the batch was at fault, not the database
  await store.close();
});

// By the clock: a busy machine may hold it up once.
test(
  "a writer elsewhere: waited for, then 'locked' within about a second, reads go on, nothing stays",
  { retry: 2 },
  async () => {
    using at = place();
    const store = await at.open();
    await store.commit({ reports: [report(1)] });
    const other = new Database(at.path);
    other.run("BEGIN IMMEDIATE");

    const soon = store.commit({ reports: [report(2)] });
    setTimeout(() => other.run("COMMIT"), 200);
    await soon;

    other.run("BEGIN IMMEDIATE");
    const watch = stopwatch();
    let turns = 0;
    const ticking = setInterval(() => turns++, 10);
    const failed = await store.commit({ reports: [report(3)] }).catch((error: unknown) => error);
    clearInterval(ticking);
    const waitedMs = watch.ms();
    expect(failed).toMatchObject({ fault: "locked" });
    expect(waitedMs).toBeGreaterThan(800);
    expect(waitedMs).toBeLessThan(1400);
    expect(turns).toBeGreaterThan(20); // the event loop was not blocked meanwhile
    expect((await collect(store.allReports())).map(({ tick }) => tick)).toEqual([1, 2]);
    expect(await store.health()).toBe("locked");

    other.run("COMMIT");
    other.close();
    expect(await store.health()).toBe("ok");
    await store.commit({ reports: [report(3)] });
    await store.close();
  },
);

test("close waits for what was handed in, and refuses what comes later", async () => {
  using at = place();
  let store = await at.open();
  const last = store.commit({ reports: [report(1)] });
  const closing = store.close();
  await expect(store.commit({ reports: [report(2)] })).rejects.toThrow("stopping");
  await last;
  await closing;
  expect((await Bun.file(`${at.path}-wal`).exists()) ? Bun.file(`${at.path}-wal`).size : 0).toBe(0);
  store = await at.open();
  expect((await collect(store.allReports())).length).toBe(1);
  await store.close();
});

test("one batch may clear and begin anew: ids that were retired stay so", async () => {
  using at = place();
  const store = await at.open();
  await store.commit({
    agents: [agent()],
    interfaces: [{ agent_id: AGENT, rows: [] }],
    reports: [report(1)],
    versions: [{ kind: "node", id: AGENT, at: T0, body: node(AGENT) }],
    events: [event(T0)],
    alarms: [alarm("a1", T0)],
    transitions: [
      { alarm_id: "a1", at: T0, from: null, to: "open", severity: "warning", report: null, note: null, notify: true },
    ],
    retire: [{ agent_id: OTHER, at: T0 }],
    meta: { cursor: { at: 1 } },
  });
  const [first] = await store.transitionsAfter(0, 10);
  await store.commit({
    wipe: true,
    agents: [agent({ agent_id: OTHER })],
    versions: [{ kind: "edge", id: "e", at: T0, body: edge("e") }],
    transitions: [
      { alarm_id: "a2", at: T0, from: null, to: "open", severity: "info", report: null, note: null, notify: true },
    ],
  });
  expect(await store.loadAgents()).toEqual([agent({ agent_id: OTHER })]);
  expect(await collect(store.allReports())).toEqual([]);
  expect((await store.figures()).reports).toBe(0);
  expect(await store.topologyAt(null)).toEqual({ nodes: [], edges: [edge("e")], networks: [] });
  expect(await store.events({ limit: 10 })).toEqual([]);
  expect(await store.alarms({ state: "all", limit: 10 })).toEqual([]);
  expect(await store.retiredAgents()).toEqual([OTHER]);
  expect(await store.meta("cursor")).toEqual({ at: 1 });
  // A cursor over transitions stays good: numbers are never given twice.
  expect((await store.transitionsAfter(first!.sequence, 10)).map(({ alarm_id }) => alarm_id)).toEqual(["a2"]);
  await store.commit({ reports: [report(1)] });
  expect((await store.figures()).reports).toBe(1);
  await store.close();
});
