// The recordings hold together: one for each situation and expectation, both ends sampled to the end, valid as
// reports, and no key in them but the public ones that they name.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { reportSchema } from "../../shared/report.ts";
import { SITUATIONS } from "../lab/situations.ts";
import { EXPECTATIONS } from "./expectations.ts";
import { loadRecordings, reportsOf } from "./recordings.ts";

const recordings = loadRecordings();

describe("recordings", () => {
  test("one for each situation, with what is expected of it", () => {
    const names = SITUATIONS.map((situation) => situation.name).sort();
    expect(recordings.map((recording) => recording.name)).toEqual(names);
    expect(Object.keys(EXPECTATIONS).sort()).toEqual(names);
    expect(names.length).toBeGreaterThanOrEqual(30);
  });

  test.each(recordings.map((recording) => [recording.name, recording] as const))("%s", (name, recording) => {
    expect(recording.duration_s).toBeGreaterThanOrEqual(420);
    const planned = SITUATIONS.find((situation) => situation.name === name)!;
    expect(recording.description).toBe(planned.description);
    expect(recording.ends.slice(0, 2).map((end) => end.host)).toEqual(["a", "b"]);
    // a is never the one that loses power
    expect(recording.ends[0]!.samples.length).toBeGreaterThanOrEqual(Math.floor(recording.duration_s / 10) - 1);
    for (const phase of [0, 1, 2]) {
      const reports = reportsOf(recording, phase);
      expect(reports.length).toBeGreaterThanOrEqual(Math.floor(recording.duration_s / 30) - 1);
      for (const { report } of reports) reportSchema.parse(report);
    }
    const spans = EXPECTATIONS[name]!;
    expect(spans[0]!.from_s).toBe(0);
    for (const [place, span] of spans.entries()) {
      if (place > 0) expect(span.from_s).toBeGreaterThan(spans[place - 1]!.from_s);
      expect(span.from_s).toBeLessThan(recording.duration_s);
      expect(span.states.length).toBeGreaterThan(0);
    }
    const text = readFileSync(join(import.meta.dir, `${name}.jsonl`), "utf8");
    const keys: string[] = [...(text.match(/[A-Za-z0-9+/]{43}=/g) ?? [])];
    expect(keys.sort()).toEqual(Object.values(recording.keys).sort());
  });
});
