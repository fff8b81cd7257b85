// What makes a row of an edge's history, and what does not.
import { expect, test } from "bun:test";
import { edgeHash } from "../../manager/topology/versions.ts";
import { Topology } from "../../manager/topology/topology.ts";
import type { EdgeState, TopologyEdge } from "../../shared/api.ts";
import { agentIdOf, loadRecordings, reportsOf } from "../recordings/recordings.ts";
import { observed, record } from "./build.ts";

/** States that the edge went through, and those of the rows that history got, over a recording. */
function played(name: string): { states: Set<EdgeState>; rows: EdgeState[] } {
  const recording = loadRecordings().find((candidate) => candidate.name === name)!;
  const ids = recording.ends.map((end) => agentIdOf(recording, end));
  const start = recording.started_at;
  const topology = new Topology(
    ids.map((id, i) => record(id, recording.ends[i]!.host, start)),
    { nodes: [], edges: [], networks: [] },
    start,
  );
  const states = new Set<EdgeState>();
  const rows: EdgeState[] = [];
  for (const { report, t_s } of reportsOf(recording, 0)) {
    const at = start + t_s * 1000;
    for (const version of topology.observe(observed(report, at), at).versions)
      if (version.kind === "edge" && version.body !== null) rows.push(version.body.state);
    for (const edge of topology.edges()) if (edge.layer === "wireguard") states.add(edge.state);
  }
  return { states, rows };
}

test("a tunnel that falls idle and wakes again is no history; one that fails is", () => {
  const idle = played("idle-then-wakes");
  expect([...idle.states].sort()).toEqual(["idle", "up"]);
  expect(new Set(idle.rows)).toEqual(new Set(["up"]));
  expect(played("drop-both").rows).toContain("stale");
});

test("what is a fault makes a row in any state; what only an idle edge has does not", () => {
  const edge = { state: "up", cause: null, reason: null, changed_at: 1 } as unknown as TopologyEdge;
  const hash = edgeHash(edge);
  expect(edgeHash({ ...edge, state: "late" })).toBe(hash);
  expect(edgeHash({ ...edge, state: "idle", cause: "cannot_start_a", reason: "a cannot start" })).toBe(hash);
  expect(edgeHash({ ...edge, cause: "tunnel_loop", reason: "round" })).not.toBe(hash);
  expect(edgeHash({ ...edge, state: "stale" })).not.toBe(hash);
  expect(edgeHash({ ...edge, changed_at: 2 })).not.toBe(hash);
});
