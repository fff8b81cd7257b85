// Property: a report that is read beside the one before is read as the schema alone reads it, right or wrong.
import { expect, setDefaultTimeout, test } from "bun:test";
import { parseReport } from "../../manager/parse_report.ts";
import type { JsonObject } from "../../shared/json.ts";
import { firstIssue } from "../../shared/json.ts";
import { type Report, reportSchema } from "../../shared/report.ts";
import { seeded } from "../fleet/random.ts";
import { RandomFleet } from "../topology/random_fleet.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const T0 = 1_790_000_000_000;

/** What a stranger or a broken agent may put in a field. */
const JUNK: readonly unknown[] = [
  null,
  -1,
  1.5,
  2 ** 53,
  0,
  7,
  "",
  "10.0.0.1/33",
  "010.0.0.1",
  "10.0.0.9/24",
  "FE80::1",
  "x".repeat(300),
  "a\0b",
  true,
  [],
  {},
  [null],
  ["10.0.0.7/24", "::FFFF:10.0.0.1/128"],
];

/** Names that every object answers to. */
const INHERITED: readonly string[] = ["constructor", "toString", "valueOf", "hasOwnProperty"];

/**
 * Changes one place of a tree: another value, a field less, a field more, an inherited name for its own, an item twice. One
 * time in three it is one of the report's own fields or its system's.
 */
function spoil(tree: JsonObject, random: () => number): void {
  const outside = random() < 1 / 3;
  const places: { at: JsonObject; field: string }[] = [];
  const walk = (at: JsonObject) => {
    for (const field of Object.keys(at)) {
      places.push({ at, field });
      const value = at[field];
      if (outside && at === tree && field !== "system") continue;
      if (typeof value === "object" && value !== null) walk(value as JsonObject);
    }
  };
  walk(tree);
  const { at, field } = places[Math.floor(random() * places.length)]!;
  const kind = random();
  if (kind < 0.7) at[field] = structuredClone(JUNK[Math.floor(random() * JUNK.length)]);
  else if (Array.isArray(at)) at.push(structuredClone(at[Number(field)]));
  else if (kind < 0.8) delete at[field];
  else if (kind < 0.9) {
    at[INHERITED[Math.floor(random() * INHERITED.length)]!] = at[field];
    delete at[field];
  } else at[`${field}_more`] = 1;
}

function outcome(parsed: ReturnType<typeof reportSchema.safeParse>) {
  return parsed.success ? JSON.stringify(parsed.data) : firstIssue(parsed.error);
}

test("a report beside the one before is read as by the schema alone", () => {
  const random = seeded(7);
  const latest = new Map<string, Report>();
  const kept = new Map<string, string>();
  const counts = { right: 0, wrong: 0, shared: 0 };
  for (let seed = 1; seed <= 3; seed++) {
    const fleet = new RandomFleet(seed, 4, T0);
    for (let round = 0; round < 40; round++) {
      for (const step of fleet.round()) {
        if (step.is !== "report") continue;
        const { report } = step.observation;
        const former = latest.get(report.agent_id) ?? null;
        for (let i = 0; i < 12; i++) {
          const data = structuredClone(report) as unknown as JsonObject;
          for (let changes = i === 0 ? 0 : 1 + Math.floor(random() * 2); changes > 0; changes--) spoil(data, random);
          const text = JSON.stringify(data);
          const alone = reportSchema.safeParse(JSON.parse(text));
          const beside = parseReport(JSON.parse(text) as JsonObject, former);
          expect(outcome(beside)).toEqual(outcome(alone));
          counts[alone.success ? "right" : "wrong"]++;
          if (beside.success && former !== null && beside.data.routes === former.routes) counts.shared++;
        }
        // What was taken over is not changed by whoever takes it.
        if (former !== null) expect(JSON.stringify(former)).toBe(kept.get(report.agent_id)!);
        const parsed = parseReport(JSON.parse(JSON.stringify(report)) as JsonObject, former);
        if (!parsed.success) throw new Error("the fleet's reports fit the schema");
        latest.set(report.agent_id, parsed.data);
        kept.set(report.agent_id, JSON.stringify(parsed.data));
      }
    }
  }
  // It took both ways, often.
  for (const count of Object.values(counts)) expect(count).toBeGreaterThan(500);
});
