import { expect, test } from "bun:test";
import { ReplayWindow } from "../../manager/replay_window.ts";
import { AuthFailures, MAX_SOURCES, OTHER_SOURCES } from "../../manager/auth_failures.ts";

const empty = { highest_tick: null, ticks: [], nonces: [] };

test("ticks: the highest − 119 unseen is fresh, − 120 stale, a used one seen, before its nonce is looked at", () => {
  const window = new ReplayWindow(empty);
  expect(window.check(500, "n")).toBe("fresh");
  window.accept(500, "n");
  expect(window.check(500, "n")).toBe("tick_seen");
  expect(window.check(381, "x")).toBe("fresh");
  expect(window.check(380, "x")).toBe("tick_stale");
  expect(window.check(501, "n")).toBe("nonce_used");
  expect(window.check(501, "m")).toBe("fresh");
  window.accept(381, "late");
  expect(window.highest).toBe(500);
  expect(window.check(381, "y")).toBe("tick_seen");
});

test("the last 120 nonces are remembered, and old ticks forgotten only below the window", () => {
  const window = new ReplayWindow(empty);
  for (let tick = 1; tick <= 1000; tick++) window.accept(tick, `n${tick}`);
  expect(window.check(1001, "n881")).toBe("nonce_used");
  expect(window.check(1001, "n880")).toBe("fresh");
  for (let tick = 881; tick <= 1000; tick++) expect(window.check(tick, "x")).toBe("tick_seen");
  expect(window.check(880, "x")).toBe("tick_stale");
});

test("bad MACs are counted by source, 64 at most, then one for all; a quiet source makes room", () => {
  const failures = new AuthFailures(1000);
  for (let i = 0; i < 100; i++) failures.note(`10.0.0.${i}`, 0);
  let drained = new Map(failures.drain().map(({ source, count }) => [source, count]));
  expect(drained.size).toBe(MAX_SOURCES + 1);
  expect(drained.get(OTHER_SOURCES)).toBe(100 - MAX_SOURCES);
  expect(failures.drain()).toEqual([]);
  failures.note("10.1.1.1", 2000);
  drained = new Map(failures.drain().map(({ source, count }) => [source, count]));
  expect([...drained.keys()]).toEqual(["10.1.1.1"]);
  expect(failures.total).toBe(101);
});

test("one who has a /64 of the Internet is one source, under the address that came first; a mesh's own addresses are apart", () => {
  const failures = new AuthFailures(1000);
  for (let i = 1; i <= 300; i++) failures.note(`2001:db8:1:2::${i.toString(16)}`, 0);
  for (const address of ["2001:db8:1:3::1", "fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"]) failures.note(address, 0);
  expect(failures.drain()).toEqual([
    { source: "2001:db8:1:2::1", count: 300 },
    { source: "2001:db8:1:3::1", count: 1 },
    { source: "fd00::1", count: 1 },
    { source: "fd00::2", count: 1 },
    { source: "10.0.0.1", count: 1 },
    { source: "10.0.0.2", count: 1 },
  ]);
});
