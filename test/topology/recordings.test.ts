// Recorded truth: inference over the recordings of real tunnels, at three report phases, says what it must when it can be
// known, and nothing wrong before.
import { describe, expect, test } from "bun:test";
import { Topology } from "../../manager/topology/topology.ts";
import { EXPECTATIONS, type Span } from "../recordings/expectations.ts";
import { agentIdOf, loadRecordings, type Recording, reportsOf } from "../recordings/recordings.ts";
import { observed, record } from "./build.ts";

function spanAt(spans: readonly Span[], seconds: number): Span {
  return spans.findLast((span) => span.from_s <= seconds)!;
}

/** What is wrong with what inference says over time; [] is right. */
function complaints(recording: Recording, phase: number, spans: readonly Span[]): string[] {
  const ids = recording.ends.map((end) => agentIdOf(recording, end));
  const start = recording.started_at;
  const topology = new Topology(
    ids.map((id, i) => record(id, recording.ends[i]!.host, start)),
    { nodes: [], edges: [], networks: [] },
    start,
  );
  const reports = reportsOf(recording, phase);
  const heard = new Set<string>();
  const wrong: string[] = [];
  let next = 0;
  const until = reports.at(-1)!.t_s + 1;
  for (let t = 0; t <= until; t += 5) {
    while (next < reports.length && reports[next]!.t_s <= t) {
      const { report, t_s } = reports[next++]!;
      heard.add(report.agent_id);
      topology.observe(observed(report, start + t_s * 1000), start + t_s * 1000);
    }
    topology.advance(start + t * 1000);
    if (!heard.has(ids[0]!) || !heard.has(ids[1]!)) continue;
    const edge = topology
      .edgesOf(ids[0]!)
      .find((candidate) => candidate.layer === "wireguard" && [candidate.a.node, candidate.b.node].includes(ids[1]!));
    const state = edge?.state ?? "absent";
    // Causes are written for the recording's a and b.
    const flipped = edge !== undefined && edge.a.node !== ids[0]!;
    const cause = edge?.cause == null ? null : flipped ? flip(edge.cause) : edge.cause;
    const span = spanAt(spans, t);
    if (
      !(span.states as string[]).includes(state) ||
      (span.causes !== undefined && !(span.causes as (string | null)[]).includes(cause))
    ) {
      wrong.push(`${t} s: ${state} (${cause}), expected ${span.states.join("|")} (${span.causes?.join("|") ?? "any"})`);
    }
  }
  return wrong;
}

function flip(cause: string): string {
  if (cause === "a_to_b_blocked") return "b_to_a_blocked";
  if (cause === "b_to_a_blocked") return "a_to_b_blocked";
  return cause.replace(/_(a|b)$/, (_, end: string) => (end === "a" ? "_b" : "_a"));
}

const recordings = loadRecordings();

test("every recording has its expectation, and there are 30 or more", () => {
  expect(recordings.map(({ name }) => name)).toEqual(Object.keys(EXPECTATIONS).sort());
  expect(recordings.length).toBeGreaterThanOrEqual(30);
});

for (const phase of [0, 1, 2]) {
  describe(`reports at phase ${phase * 10} s`, () => {
    for (const recording of recordings) {
      test(recording.name, () => expect(complaints(recording, phase, EXPECTATIONS[recording.name]!)).toEqual([]));
    }
  });
}
