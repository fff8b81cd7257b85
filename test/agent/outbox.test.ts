// The outbox: what was put in is there after a restart, oldest first; the limits take the oldest and count them; what
// cannot be read or is refused is set aside, not lost.
import { beforeEach, afterEach, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Entry, Outbox, OUTBOX_LIMIT_MS } from "../../agent/outbox.ts";
import { createLog } from "../../shared/log.ts";
import { keptLog, ownDirectory } from "./support.ts";

let own: ReturnType<typeof ownDirectory>;
let path: string;
beforeEach(() => {
  own = ownDirectory();
  path = join(own.path, "agent_outbox");
});
afterEach(() => own[Symbol.dispose]());

const silent = createLog("error", () => {});
const open = (limitBytes?: number) => new Outbox(path, silent, limitBytes);
const T0 = 1_795_442_044_000;

/** Hand-written: as much of a report as the outbox looks at. */
function entry(tick: number, more: Record<string, unknown> = {}, collectedAt = T0 + tick * 30_000): Entry {
  return {
    report: { v: 1, type: "report", tick, collected_at: collectedAt, ...more } as Entry["report"],
    uptime_ms: tick,
  };
}
const files = () =>
  readdirSync(path)
    .filter((name) => name.endsWith(".json"))
    .sort();
/** Takes all that is in it, in its order. */
function ticks(outbox: Outbox): number[] {
  const taken: number[] = [];
  for (let next = outbox.peek(); next !== null; next = outbox.peek()) {
    taken.push(next.report.tick);
    outbox.shift();
  }
  return taken;
}

test("oldest first, across restarts, whole", () => {
  const first = open();
  expect([first.length, first.bytes, first.oldestAt, first.peek()]).toEqual([0, 0, null, null]);
  for (let tick = 1; tick <= 12; tick++) first.push(entry(tick, { boot_id: "b" }));
  const again = open();
  expect([again.length, again.bytes, again.oldestAt, again.dropped]).toEqual([12, first.bytes, T0 + 30_000, 0]);
  expect(again.peek()).toEqual(entry(1, { boot_id: "b" }));
  again.shift();
  again.push(entry(13));
  expect(ticks(open())).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
  expect(files()).toEqual([]);
});

test("files are private, and their bytes are what is counted", () => {
  const outbox = open();
  outbox.push(entry(1, { name: "å" }));
  outbox.push(entry(2));
  expect(statSync(path).mode & 0o777).toBe(0o700);
  const sizes = files().map((name) => {
    const stat = statSync(join(path, name));
    expect(stat.mode & 0o777).toBe(0o600);
    return stat.size;
  });
  expect(outbox.bytes).toBe(sizes.reduce((a, b) => a + b));
});

describe("limits", () => {
  const SIZE = Buffer.byteLength(JSON.stringify(entry(1)));

  test("beyond its bytes the oldest go, counted, also after a restart", () => {
    const outbox = open(SIZE * 3);
    for (let tick = 1; tick <= 5; tick++) outbox.push(entry(tick));
    expect([outbox.length, outbox.dropped, outbox.limit]).toEqual([3, 2, SIZE * 3]);
    expect(outbox.bytes).toBeLessThanOrEqual(SIZE * 3);
    const again = open(SIZE * 3);
    expect(again.dropped).toBe(2);
    expect(ticks(again)).toEqual([3, 4, 5]);
  });

  test("one report larger than all of it is kept: the newest always is", () => {
    const outbox = open(10);
    outbox.push(entry(1));
    outbox.push(entry(2));
    expect([outbox.length, outbox.dropped, outbox.peek()!.report.tick]).toEqual([1, 1, 2]);
  });

  test("beyond 24 h the oldest go; at 24 h none does", () => {
    const outbox = open();
    outbox.push(entry(1, {}, T0));
    outbox.push(entry(2, {}, T0 + OUTBOX_LIMIT_MS));
    expect(outbox.length).toBe(2);
    outbox.push(entry(3, {}, T0 + OUTBOX_LIMIT_MS + 1));
    expect(ticks(outbox)).toEqual([2, 3]);
    expect(outbox.dropped).toBe(1);
  });

  test("a clock that was set back drops nothing", () => {
    const outbox = open();
    outbox.push(entry(1, {}, T0 + 10 * OUTBOX_LIMIT_MS));
    outbox.push(entry(2, {}, T0));
    expect([outbox.length, outbox.dropped]).toEqual([2, 0]);
  });
});

test("a fresh tick replaces the oldest in its place", () => {
  const outbox = open();
  for (let tick = 1; tick <= 3; tick++) outbox.push(entry(tick));
  outbox.replace({ ...entry(1), report: { ...entry(1).report, tick: 1_000_000 } });
  expect(outbox.bytes).toBe(open().bytes);
  expect(ticks(open())).toEqual([1_000_000, 2, 3]);
});

test.each([
  ["cut off", (file: string) => truncateSync(file, 20)],
  ["empty", (file: string) => truncateSync(file, 0)],
  ["not an entry", (file: string) => writeFileSync(file, "[]")],
  ["null", (file: string) => writeFileSync(file, "null")],
  ["without a tick", (file: string) => writeFileSync(file, '{"report":{}}')],
])("an entry that is %s is set aside and said; the others go on", (_name, harm) => {
  const before = open();
  for (let tick = 1; tick <= 3; tick++) before.push(entry(tick));
  const [, second] = files();
  harm(join(path, second!));
  const { log, lines } = keptLog();
  const outbox = new Outbox(path, log);
  expect(ticks(outbox)).toEqual([1, 3]);
  expect([outbox.dropped, outbox.bytes, outbox.length]).toEqual([1, 0, 0]);
  expect(readdirSync(join(path, "rejected"))).toEqual([second!]);
  expect(lines.filter((line) => line.includes("outbox_entry_broken"))).toHaveLength(1);
});

test("what a manager's schema refused is set aside: the newest 20 stay for a look", () => {
  const outbox = open();
  for (let tick = 1; tick <= 25; tick++) outbox.push(entry(tick));
  const names = files();
  for (let i = 0; i < 24; i++) outbox.setAside();
  expect([outbox.length, outbox.dropped]).toEqual([1, 24]);
  expect(readdirSync(join(path, "rejected")).sort()).toEqual(names.slice(4, 24));
  expect(ticks(open())).toEqual([25]);
});

test("of those set aside the newest stay, also after a restart that counts files anew", () => {
  const before = open();
  for (let tick = 1; tick <= 20; tick++) before.push(entry(tick));
  for (let i = 0; i < 20; i++) before.setAside();
  const after = open();
  for (const tick of [21, 22]) {
    after.push(entry(tick));
    after.setAside();
  }
  const kept = readdirSync(join(path, "rejected")).map((name) => Number(name.split("-")[1]!.replace(".json", "")));
  expect(kept.sort()).toEqual(Array.from({ length: 20 }, (_, i) => T0 + (i + 3) * 30_000));
});

test("a new identity empties it", () => {
  const outbox = open();
  for (let tick = 1; tick <= 3; tick++) outbox.push(entry(tick));
  outbox.clear();
  expect([outbox.length, outbox.bytes, outbox.peek(), files()]).toEqual([0, 0, null, []]);
  expect(open().length).toBe(0);
});

test("other files in it, and what a kill left half-written, are no reports", () => {
  const outbox = open();
  outbox.push(entry(1));
  const [name] = files();
  writeFileSync(join(path, `${name}.99.abcdef01.tmp`), "{");
  writeFileSync(join(path, "README"), "mine");
  writeFileSync(join(path, "dropped"), "not a number\n", { mode: 0o600 });
  const again = open();
  expect([again.length, again.dropped]).toEqual([1, 0]);
  expect(ticks(again)).toEqual([1]);
  expect(readFileSync(join(path, "README"), "utf8")).toBe("mine");
});

test("an entry that is gone between listing and look, as beside a daemon that delivers, is none", () => {
  const outbox = open();
  outbox.push(entry(1));
  // It is listed, and is not there.
  symlinkSync(join(path, "nowhere"), join(path, `000000000000-${T0}.json`));
  const beside = open();
  expect([beside.length, beside.bytes, beside.oldestAt]).toEqual([1, outbox.bytes, T0 + 30_000]);
});

test("a directory that is gone: one line with the remedy, and what was in it is not said to be", () => {
  const outbox = open();
  own[Symbol.dispose]();
  expect(() => outbox.push(entry(1))).toThrow(
    /^cannot write .* \(ENOENT\): check the directory's owner, mode and free space$/,
  );
  expect(outbox.length).toBe(0);
});
