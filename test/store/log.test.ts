// The audit log: what was committed comes back byte for byte, hot or packed, by every way in.
import { expect, test } from "bun:test";
import { AGENT, collect, DAY_MS, OTHER, place, report, settle, T0 } from "./support.ts";

test("reports come back as they were committed, hot and packed, over a restart", async () => {
  using at = place();
  let store = await at.open();
  const rows = Array.from({ length: 310 }, (_, i) =>
    report(i + 1, { agent_id: i % 3 === 0 ? OTHER : AGENT, relay_path: i % 7 === 0 ? [OTHER] : [] }),
  );
  for (const row of rows) await store.commit({ reports: [row] });
  const expected = rows.map((row, i) => ({ ...row, id: i + 1 }));
  expect(await collect(store.allReports())).toEqual(expected);
  await settle(store, rows.at(-1)!.received_at);
  expect(await collect(store.allReports())).toEqual(expected); // one pack of 120, the rest hot
  await settle(store, rows.at(-1)!.received_at + 7 * 3600_000);
  await store.close();
  store = await at.open();
  expect(await collect(store.allReports())).toEqual(expected);
  expect(await collect(store.reportsSince(rows[200]!.received_at))).toEqual(expected.slice(200));
  const mine = expected.filter(({ agent_id }) => agent_id === AGENT);
  expect(await collect(store.reportsOf(AGENT, 0, Number.MAX_SAFE_INTEGER))).toEqual(mine);
  expect(await collect(store.reportsOf(AGENT, mine[50]!.observed_at, mine[60]!.observed_at))).toEqual(
    mine.slice(50, 61),
  );
  expect(await store.latestReport(OTHER)).toEqual(expected.findLast(({ agent_id }) => agent_id === OTHER)!);
  expect(await store.latestReport("nobody")).toBeNull();
  expect((await store.figures()).reports).toBe(310);
  await store.close();
});

test("the replay window is the same hot, packed and after a restart, with ticks out of order over several packs", async () => {
  using at = place();
  let store = await at.open();
  // What waited in the outbox comes in between, under ticks that are up to 100 older.
  const ticks = Array.from({ length: 420 }, (_, i) => (i % 3 === 0 ? i + 100 : i));
  const rows = [...new Set(ticks)].map((tick, i) => report(tick, { received_at: T0 + i * 1000 }));
  const top = Math.max(...rows.map(({ tick }) => tick));
  const expected = {
    highest_tick: top,
    ticks: rows
      .map(({ tick }) => tick)
      .filter((tick) => tick > top - 120)
      .sort((a, b) => a - b),
    nonces: rows.slice(-120).map(({ nonce }) => nonce),
  };
  for (const row of rows) await store.commit({ reports: [row] });
  expect(await store.replayWindow(AGENT)).toEqual(expected);
  await settle(store, T0 + 3_600_000);
  expect(await store.replayWindow(AGENT)).toEqual(expected);
  await store.close();
  store = await at.open();
  expect(await store.replayWindow(AGENT)).toEqual(expected);
  for (const row of [rows[0]!, rows[150]!, rows.at(-1)!]) {
    expect(await store.hasReport(AGENT, row.tick, row.boot_id, row.collected_at)).toBe(true);
  }
  expect((await store.latestReport(AGENT))!.tick).toBe(top);
  await store.close();
});

test("the replay window reaches into packs, newest last", async () => {
  using at = place();
  const store = await at.open();
  expect(await store.replayWindow(AGENT)).toEqual({ highest_tick: null, ticks: [], nonces: [] });
  const rows = Array.from({ length: 150 }, (_, i) => report(i * 2));
  for (const row of rows) await store.commit({ reports: [row] });
  const check = async () => {
    const window = await store.replayWindow(AGENT);
    expect(window.highest_tick).toBe(298);
    expect(window.ticks).toEqual(rows.map(({ tick }) => tick).filter((tick) => tick > 298 - 120));
    expect(window.nonces).toEqual(rows.slice(-120).map(({ nonce }) => nonce));
  };
  await check();
  await settle(store, T0 + DAY_MS);
  await check();
  const row = rows[10]!;
  expect(await store.hasReport(AGENT, row.tick, row.boot_id, row.collected_at)).toBe(true);
  expect(await store.hasReport(AGENT, row.tick, "another boot", row.collected_at)).toBe(false);
  expect(await store.hasReport(AGENT, row.tick, row.boot_id, row.collected_at + 1)).toBe(false);
  expect(await store.hasReport(AGENT, row.tick + 1, row.boot_id, row.collected_at)).toBe(false);
  await store.close();
});
