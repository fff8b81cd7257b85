// The diagnosis suite: every fault of the table, injected into real hosts. The expected alarm must open in time, stand
// first with its effects beneath, and go after the repair; and nothing else may open.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Alarm, Severity } from "../../shared/api.ts";
import { describeWith, LAB_NEEDS } from "../support/needs.ts";
import { stopwatch } from "../support/stopwatch.ts";
import { type Fault, FAULTS, INTERVAL_S, openWithinSeconds, type Station, STATIONS } from "./faults.ts";
import type { Ground } from "./ground.ts";
import { type Scene, SCENES } from "./stations.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

/** Laboratories at a time: two cores carry so many managers, agents and tunnels without slowing their clocks. */
const AT_ONCE = Number(process.env["DIAGNOSIS_AT_ONCE"] ?? 5);
/** Only these faults (names, comma-separated), while working on one; the others are failures, as they were not run. */
const ONLY = process.env["DIAGNOSIS_ONLY"]?.split(",") ?? null;
/** From a laboratory's start to a settled one: handshakes, and the manager's view of them. */
const SETTLE_S = 4 * INTERVAL_S;
/** After the root opened: what else comes with it. Effects on tunnels take as long as two windows. */
const WATCH_S = Number(process.env["DIAGNOSIS_WATCH_S"] ?? 3 * INTERVAL_S);
const WATCH_EDGES_S = 60;
const POLL_MS = 300;
/** More where the machine stood still meanwhile: what both ends of a tunnel try then falls together, and a window of 20 s
 * begins anew. */
const STALLED_S = 20 + INTERVAL_S;

type Row = {
  fault: string;
  expected: string;
  first: string;
  also: string;
  openSeconds: number;
  resolveSeconds: number;
  problems: string[];
};

const describeAlarm = (alarm: Alarm) => `${alarm.code} (${alarm.severity}, ${alarm.subject}): ${alarm.message}`;

async function until(probe: () => Promise<boolean>, seconds: number): Promise<boolean> {
  const watch = stopwatch();
  for (;;) {
    if (await probe()) return true;
    if (watch.ms() > seconds * 1000) return false;
    await Bun.sleep(POLL_MS);
  }
}

function isRoot(fault: Fault, alarm: Alarm): boolean {
  const codes = [fault.root.code].flat();
  return codes.includes(alarm.code) && alarm.subject.split(":")[0] === fault.root.subject;
}

/** Whether the chain of causes of an open alarm ends at the root. */
function hangsUnder(alarm: Alarm, root: Alarm, open: readonly Alarm[]): boolean {
  return alarm.depends_on.some(
    (id) => id === root.id || open.some((cause) => cause.id === id && hangsUnder(cause, root, open)),
  );
}

async function run(fault: Fault, { ground, faults }: Scene): Promise<Row> {
  const actions = faults[fault.name]!;
  const problems: string[] = [];
  const row: Row = {
    fault: fault.name,
    expected: [fault.root.code].flat().join(" or "),
    first: "",
    also: "",
    openSeconds: Number.NaN,
    resolveSeconds: Number.NaN,
    problems,
  };
  const before = new Set((await ground.alarms("all")).map((alarm) => alarm.id));
  const disturbed = (await ground.alarms()).filter((alarm) => alarm.state === "open");
  for (const alarm of disturbed) problems.push(`open before: ${describeAlarm(alarm)}`);

  // --- it opens
  await actions.inject();
  const sinceInjected = stopwatch();
  /** Each alarm since, as last seen open: what it hung under then. */
  const seen = new Map<string, { alarm: Alarm; under: boolean }>();
  let root: Alarm | null = null;
  let severity: Severity | null = null;
  const look = async () => {
    const open = await ground.alarms();
    // An alarm that comes again within half an hour is the same row: what counts is when it opened.
    const news = open.filter((alarm) => !before.has(alarm.id) || alarm.state === "open");
    root = news.find((alarm) => isRoot(fault, alarm) && alarm.depends_on.length === 0) ?? root;
    // As it opened: an agent that stays away becomes critical later.
    severity ??= (root as Alarm | null)?.severity ?? null;
    for (const alarm of news) {
      if (!seen.has(alarm.id)) order.push(alarm.code);
      seen.set(alarm.id, { alarm, under: root !== null && (alarm.id === root.id || hangsUnder(alarm, root, open)) });
    }
    return root !== null;
  };
  const order: string[] = [];
  const limit = openWithinSeconds(fault);
  const opened = await until(look, limit + 20 + STALLED_S);
  row.openSeconds = sinceInjected.ms() / 1000;
  const allowed = limit + (sinceInjected.stalledMs() > 0 ? STALLED_S : 0);
  if (!opened || root === null) {
    problems.push(
      `${row.expected} did not open; open were: ${[...seen.values()].map(({ alarm }) => describeAlarm(alarm)).join("; ") || "none"}`,
    );
    problems.push(...(await ground.edges()));
  } else if (row.openSeconds > allowed)
    problems.push(`opened after ${row.openSeconds.toFixed(1)} s, expected within ${allowed} s`);
  // --- what comes with it
  if (opened) {
    const edges = fault.beneath.some((code) => code.startsWith("peer_"));
    const watch = edges ? Math.max(WATCH_S, WATCH_EDGES_S - row.openSeconds) : WATCH_S;
    await until(async () => {
      await look();
      return false;
    }, watch);
    const found = root as unknown as Alarm;
    if (severity !== fault.root.severity) problems.push(`severity ${severity}, expected ${fault.root.severity}`);
    for (const { alarm, under } of seen.values()) {
      if (alarm.id === found.id) continue;
      if (!fault.beneath.includes(alarm.code)) problems.push(`also opened: ${describeAlarm(alarm)}`);
      else if (!under) problems.push(`not beneath the root: ${describeAlarm(alarm)}`);
    }
  }
  row.first = order[0] ?? "none";
  const others = [...seen.values()]
    .filter(({ alarm }) => alarm.id !== (root as Alarm | null)?.id)
    .map(({ alarm }) => alarm.code);
  row.also = [...new Set(others)]
    .map((code) => `${others.filter((other) => other === code).length} ${code}`)
    .join(", ");

  // --- it goes
  await actions.repair();
  const sinceRepaired = stopwatch();
  const quiet = async () => {
    const open = (await ground.alarms()).filter((alarm) => alarm.state === "open");
    for (const alarm of open) {
      if (seen.has(alarm.id)) continue;
      seen.set(alarm.id, { alarm, under: false });
      if (fault.afterwards?.includes(alarm.code) === true) continue;
      problems.push(`opened by the repair: ${describeAlarm(alarm)}`);
    }
    return open.length === 0;
  };
  const acknowledged = fault.name === "nat-rebinding";
  if (acknowledged) await ground.acknowledge("endpoint_changed");
  const gone = await until(quiet, fault.resolveSeconds);
  row.resolveSeconds = sinceRepaired.ms() / 1000;
  if (!gone) {
    const open = (await ground.alarms()).filter((alarm) => alarm.state === "open");
    problems.push(`not resolved ${fault.resolveSeconds} s after the repair: ${open.map(describeAlarm).join("; ")}`);
    problems.push(...(await ground.edges()));
  }
  // What opens late after the repair would be said of the next fault otherwise.
  await until(async () => {
    await quiet();
    return false;
  }, 2 * INTERVAL_S);
  return row;
}

const results = new Map<string, { promise: Promise<Row>; resolve(row: Row): void; reject(error: unknown): void }>();
for (const fault of FAULTS) results.set(fault.name, Promise.withResolvers<Row>());
// A row is awaited by its own test; until then its failure is nobody's.
for (const { promise } of results.values()) promise.catch(() => {});

async function runStation(station: Station): Promise<void> {
  const faults = FAULTS.filter((fault) => fault.station === station && (ONLY === null || ONLY.includes(fault.name)));
  if (faults.length === 0) return;
  let ground: Ground | null = null;
  try {
    const scene = await SCENES[station]();
    ground = scene.ground;
    await Bun.sleep(SETTLE_S * 1000);
    for (const fault of faults) {
      try {
        const row = await run(fault, scene);
        // Rows are told in the table's order; who works on one wants to see it at once.
        if (ONLY !== null) console.log(row);
        results.get(fault.name)!.resolve(row);
      } catch (error) {
        results.get(fault.name)!.reject(error);
      }
    }
  } catch (error) {
    for (const fault of faults) results.get(fault.name)!.reject(error);
  } finally {
    await ground?.[Symbol.asyncDispose]();
  }
}

let started = false;
function start(): void {
  if (started) return;
  started = true;
  // Longest first, so that none is left alone at the end.
  const waiting = (Object.keys(STATIONS) as Station[]).sort((a, b) => cost(b) - cost(a));
  const next = async (): Promise<void> => {
    for (let station = waiting.shift(); station !== undefined; station = waiting.shift()) await runStation(station);
  };
  void Promise.all(Array.from({ length: AT_ONCE }, next)).then(() => {
    for (const { reject } of results.values()) reject(new Error("this row was not run"));
  });
}

function cost(station: Station): number {
  return FAULTS.filter((fault) => fault.station === station).reduce(
    (sum, fault) => sum + openWithinSeconds(fault) + fault.resolveSeconds,
    0,
  );
}

test("the table: 30 faults at least, each in a station, with a name of its own", () => {
  expect(FAULTS.length).toBeGreaterThanOrEqual(30);
  expect(new Set(FAULTS.map((fault) => fault.name)).size).toBe(FAULTS.length);
});

describeWith([...LAB_NEEDS, "dnsmasq", "faketime"], "diagnosis", () => {
  const rows: Row[] = [];
  for (const fault of FAULTS) {
    test(
      fault.name,
      async () => {
        start();
        const row = await results.get(fault.name)!.promise;
        rows.push(row);
        expect(row.problems).toEqual([]);
      },
      15 * 60_000,
    );
  }
  afterAll(() => {
    const cells = [
      ["fault", "expected", "opened first", "also opened", "s to open", "s to resolve", ""],
      ...rows.map((row) => [
        row.fault,
        row.expected,
        row.first,
        row.also,
        row.openSeconds.toFixed(1),
        row.resolveSeconds.toFixed(1),
        row.problems.length === 0 ? "ok" : "FAILED",
      ]),
    ];
    const widths = cells[0]!.map((_, column) => Math.max(...cells.map((line) => line[column]!.length)));
    console.log(
      cells
        .map((line) =>
          line
            .map((cell, column) => cell.padEnd(widths[column]!))
            .join("  ")
            .trimEnd(),
        )
        .join("\n"),
    );
  });
});
