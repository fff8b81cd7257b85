// The dashboard's reasoning about the network: the picture kept up by changes, the first screen, scene, matrix, tables, path.
import { describe, expect, test } from "bun:test";
import {
  type AgentSummary,
  type Alarm,
  EDGE_STATES,
  type Event,
  type HealthResponse,
  type PathTrace,
  PROBLEM_STATES,
} from "../../shared/api.ts";
import { arrange } from "../../manager/ui/agents_view.tsx";
import { LAYERS_ALL } from "../../manager/ui/filter.ts";
import { createMatrix } from "../../manager/ui/matrix.ts";
import { cellWords } from "../../manager/ui/matrix_view.tsx";
import { endpointOf, failedHop, placesOf } from "../../manager/ui/path_view.tsx";
import { changeWords, marksOf, withBoth } from "../../manager/ui/difference.ts";
import { diff } from "../../manager/topology/diff.ts";
import { isProblem, Picture, search } from "../../manager/ui/picture.ts";
import { createScene, halves, isDense } from "../../manager/ui/scene.ts";
import { causesOf, changesBefore, sight, situation } from "../../manager/ui/situation.ts";
import { sparkPath } from "../../manager/ui/sparkline.tsx";
import { fullMesh, office, sparse } from "./mock.ts";

const NOW = Date.UTC(2026, 10, 23, 12);
const ALL = { layers: LAYERS_ALL, network: null, foreign: true, edges: "auto" as const };
const NOTHING = {
  nodes: [],
  edges: [],
  networks: [],
  removed: { nodes: [], edges: [], networks: [] },
  stale: false,
  at: NOW,
};

describe("picture", () => {
  test("changes are taken, and only a new shape is a new shape", () => {
    const picture = new Picture(office(NOW));
    const { shape } = picture;
    const edge = [...picture.edges.values()][0]!;
    picture.apply({ ...NOTHING, edges: [{ ...edge, state: "stale" }], at: NOW + 5 });
    expect(picture.edges.get(edge.id)!.state).toBe("stale");
    expect([picture.shape, picture.at]).toEqual([shape, NOW + 5]);
    picture.apply({ ...NOTHING, removed: { nodes: [], edges: [edge.id], networks: [] } });
    expect(picture.edges.has(edge.id)).toBe(false);
    expect(picture.edgesOf(edge.a.node).some(({ id }) => id === edge.id)).toBe(false);
    expect(picture.shape).toBe(shape + 1);
  });
  test("a whole answer removes what it does not name", () => {
    const picture = new Picture(office(NOW));
    const smaller = office(NOW);
    const gone = smaller.nodes.pop()!;
    smaller.edges = smaller.edges.filter(({ a, b }) => a.node !== gone.id && b.node !== gone.id);
    picture.replace(smaller);
    expect(picture.nodes.has(gone.id)).toBe(false);
    expect(picture.edges.size).toBe(smaller.edges.length);
  });
  test("the states that are problems are the contract's", () => {
    const edge = office(NOW).edges[0]!;
    expect(EDGE_STATES.filter((state) => isProblem({ ...edge, state }))).toEqual(
      [...PROBLEM_STATES].sort((a, b) => EDGE_STATES.indexOf(a) - EDGE_STATES.indexOf(b)),
    );
  });
  test("search finds names, addresses, keys, endpoints, whatever their case", () => {
    const picture = new Picture(office(NOW));
    expect(search(picture, "HUB-fra").nodes.map(({ label }) => label)).toEqual(["hub-fra"]);
    expect(search(picture, "10.80.0.2").nodes.map(({ label }) => label)).toContain("hub-hel");
    const key = [...picture.nodes.values()][7]!.wireguard_keys[0]!;
    expect(search(picture, key).nodes.map(({ id }) => id)).toEqual([[...picture.nodes.values()][7]!.id]);
    expect(search(picture, "192.0.2.1:51820").edges.length).toBeGreaterThan(0);
    expect(search(picture, "  ")).toEqual({ nodes: [], edges: [] });
    expect(search(picture, "1", 3).nodes.length).toBe(3);
  });
});

describe("difference", () => {
  const after = office(NOW);
  const before = office(NOW);
  const gone = { ...before.edges[0]!, id: "gone" };
  before.edges.push(gone);
  const came = after.nodes.at(-1)!;
  before.nodes = before.nodes.filter(({ id }) => id !== came.id);
  const moved = after.edges[1]!;
  moved.b = { ...moved.b, endpoint: "198.51.100.9:4242" };
  const found = diff(before, after);

  test("what is new, gone and changed is marked, nodes as well as edges", () => {
    const marks = marksOf(found);
    expect([marks.get("gone"), marks.get(came.id), marks.get(moved.id)]).toEqual(["removed", "added", "changed"]);
    expect(marks.get(after.edges[2]!.id)).toBeUndefined();
  });
  test("whichever moment is shown, what the other had has its place", () => {
    const [then, now] = [withBoth(new Picture(before), found), withBoth(new Picture(after), found)];
    for (const picture of [then, now]) {
      expect(picture.edges.has("gone")).toBe(true);
      expect(picture.nodes.has(came.id)).toBe(true);
    }
    expect(then.edges.get(moved.id)!.b.endpoint).not.toBe("198.51.100.9:4242");
    expect(now.edges.get(moved.id)!.b.endpoint).toBe("198.51.100.9:4242");
  });
  test("what is no change of state has its words", () => {
    const change = found.edges.changed.find(({ id }) => id === moved.id)!;
    const host = after.nodes.find(({ id }) => id === moved.b.node)!.label;
    const label = (id: string) => after.nodes.find((node) => node.id === id)?.label ?? id;
    expect(changeWords(change, label)).toEqual([`endpoint of ${host} ${change.before.b.endpoint} → 198.51.100.9:4242`]);
    const same = { id: "e", before: moved, after: { ...moved, changed_at: NOW }, fields: ["changed_at"] };
    expect(changeWords(same, label)).toEqual(["broke and came back in between"]);
  });
});

const alarm = (id: string, change: Partial<Alarm> = {}): Alarm => ({
  id,
  code: "peer_stale",
  severity: "warning",
  subject: `edge:${id}`,
  agent_id: null,
  state: "open",
  message: id,
  opened_at: NOW - 60_000,
  acknowledged_at: null,
  resolved_at: null,
  depends_on: [],
  details: {},
  flapping: false,
  silenced: false,
  ...change,
});
const agent = (hostname: string, change: Partial<AgentSummary> = {}): AgentSummary => ({
  agent_id: hostname,
  hostname,
  status: "online",
  first_seen_at: 0,
  last_seen_at: NOW - 1000,
  tick: 1,
  agent_version: "0.1.0",
  via: "direct",
  relay_path: [],
  addresses: [],
  wireguard: [],
  load: [0.5, 0, 0],
  interval_s: 30,
  skew_ms: 0,
  outbox_reports: 0,
  dropped: 0,
  blocked: false,
  ...change,
});

describe("first screen", () => {
  test("effects stand under their cause, also over two steps and in a circle", () => {
    const list = [
      alarm("effect", { depends_on: ["middle"] }),
      alarm("middle", { depends_on: ["cause"] }),
      alarm("cause", { severity: "critical" }),
      alarm("alone", { depends_on: ["gone"] }),
    ];
    expect(causesOf(list).map(({ alarm: { id }, effects }) => [id, effects.map((item) => item.id)])).toEqual([
      ["cause", ["effect", "middle"]],
      ["alone", []],
    ]);
    const circle = causesOf([alarm("x", { depends_on: ["y"] }), alarm("y", { depends_on: ["x"] })]);
    expect(circle.flatMap(({ alarm: own, effects }) => [own.id, ...effects.map(({ id }) => id)]).sort()).toEqual([
      "x",
      "y",
    ]);
  });
  test("the verdict counts agents and causes, and says since when", () => {
    const agents = [agent("a"), agent("b"), agent("c", { status: "down" })];
    const since = NOW - 3_600_000;
    const found = situation(
      agents,
      [
        alarm("x", { details: { since_at: since } }),
        alarm("y", { depends_on: ["x"] }),
        alarm("i", { severity: "info" }),
        alarm("s", { silenced: true }),
      ],
      NOW,
    );
    expect(found.verdict).toStartWith("2 of 3 up, 1 cause, since ");
    expect([found.since, found.tone, found.notes.map(({ id }) => id).sort()]).toEqual([since, "warn", ["i", "s"]]);
    expect(situation([agent("a")], [], NOW)).toMatchObject({ tone: "good", verdict: "1 of 1 up, nothing is wrong" });
    expect(situation([agent("a")], [alarm("z", { severity: "critical" })], NOW).tone).toBe("bad");
    expect(situation([agent("a", { status: "down" })], [], NOW)).toMatchObject({ tone: "warn", verdict: "0 of 1 up" });
  });
  test("what links did by themselves is no change; many of a kind are one line", () => {
    const event = (id: number, code: string, at: number): Event => ({
      id,
      at,
      code,
      severity: "info",
      subject: "manager",
      agent_id: null,
      message: "",
      details: {},
    });
    const since = NOW - 600_000;
    const found = changesBefore(
      [
        event(1, "edge_state", since),
        event(2, "rekeyed", since - 5),
        event(3, "roamed", since - 3_600_001),
        ...[4, 5, 6, 7, 8].map((id) => event(id, "agent_registered", since + id)),
      ],
      since,
      NOW,
    );
    expect(found.map(({ event: { id }, of }) => [id, of])).toEqual([
      [8, 5],
      [2, 1],
    ]);
  });
  test("the manager is blind when nobody is heard, or when it cannot write", () => {
    const health: HealthResponse = {
      status: "ok",
      version: "0",
      uptime_s: 600,
      database: "ok",
      psk_age_s: null,
      last_report_at: NOW - 5000,
      ingest_lag_ms: 12,
    };
    expect(sight([agent("a")], health, NOW)).toEqual({
      blind: false,
      why: null,
      words: ["last report 5 s ago", "ingest lag 12 ms", "1 of 1 on time", "nothing waits to be sent", "database ok"],
    });
    expect(sight([agent("a")], { ...health, last_report_at: NOW - 91_000 }, NOW).blind).toBe(true);
    expect(sight([agent("a")], { ...health, last_report_at: null }, NOW).blind).toBe(true);
    // A page that is cut off hears of no report: that says nothing about the manager.
    const cutOff = sight([agent("a")], { ...health, last_report_at: NOW - 91_000 }, NOW, false);
    expect([cutOff.blind, cutOff.words[0]]).toEqual([false, "last report 91 s ago"]);
    expect(sight([agent("a")], { ...health, database: "full" }, NOW, false).blind).toBe(true);
    expect(sight([agent("a")], { ...health, uptime_s: 30, last_report_at: null }, NOW).blind).toBe(false);
    expect(sight([], { ...health, last_report_at: null }, NOW).blind).toBe(false);
    expect(sight([agent("a")], { ...health, database: "full" }, NOW).blind).toBe(true);
    expect(sight([agent("a")], null, NOW).blind).toBe(true);
    expect(sight([agent("a")], { ...health, ingest_lag_ms: 8000 }, NOW).blind).toBe(true);
    expect(sight([], { ...health, last_report_at: null, ingest_lag_ms: null }, NOW).words.join()).not.toContain("lag");
    // The reason, not whatever stands first: it heard somebody five seconds ago, and could not write it down.
    expect(sight([agent("a")], { ...health, database: "full" }, NOW).why).toBe("database full, nothing is stored");
    expect(sight([agent("a")], { ...health, last_report_at: NOW - 91_000 }, NOW).why).toBe("last report 91 s ago");
    expect(sight([agent("a", { outbox_reports: 3 })], health, NOW).words).toContain("3 reports wait at 1 agent");
  });
});

describe("scene", () => {
  const edge = office(NOW).edges[0]!;
  test("a link that fails one way shows which", () => {
    expect(halves({ ...edge, state: "stale", cause: "a_to_b_blocked" })).toEqual(["stale", "up"]);
    expect(halves({ ...edge, state: "stale", cause: "b_to_a_blocked" })).toEqual(["up", "stale"]);
    expect(halves({ ...edge, state: "one_sided", cause: "missing_at_b" })).toEqual(["up", "one_sided"]);
    expect(halves({ ...edge, state: "stale", cause: "preshared_key" })).toEqual(["stale", "stale"]);
    expect(halves({ ...edge, state: "lossy", cause: "lossy", a_to_b_loss: 0.3, b_to_a_loss: 0 })).toEqual([
      "lossy",
      "up",
    ]);
    expect(halves({ ...edge, state: "lossy", cause: "lossy", a_to_b_loss: null, b_to_a_loss: null })).toEqual([
      "lossy",
      "lossy",
    ]);
  });
  test("edges decide whether it is dense, not nodes", () => {
    expect(isDense(200, 19_900)).toBe(true);
    expect(isDense(2000, 8000)).toBe(false);
    expect(isDense(30, 435)).toBe(false);
  });
  test("a dense network draws its problems; the rest on demand", () => {
    const scene = createScene(new Picture(fullMesh(60, NOW)), ALL);
    expect(scene.dense).toBe(true);
    for (const item of scene.edges) expect(item.onDemand).toBe(!isProblem(item.edge));
    expect(
      createScene(new Picture(fullMesh(60, NOW)), { ...ALL, edges: "all" }).edges.some(({ onDemand }) => onDemand),
    ).toBe(false);
    expect(createScene(new Picture(sparse(500, 2000, NOW)), ALL).dense).toBe(false);
  });
  test("filters leave out what they say", () => {
    const picture = new Picture(office(NOW));
    const count = (filter: Partial<typeof ALL>) => createScene(picture, { ...ALL, ...filter });
    expect(count({ layers: new Set(["physical" as const]) }).edges.map((item) => item.edge.id)).toEqual(["p-1"]);
    expect(count({ foreign: false }).nodes.some(({ kind }) => kind === "foreign")).toBe(false);
    const problems = createScene(picture, { ...ALL, edges: "problems" });
    expect(problems.edges.every((item) => isProblem(item.edge))).toBe(true);
    expect(problems.nodes.length).toBeLessThan(12);
  });
  test("edges of one pair lie side by side, whichever end is first", () => {
    const topology = office(NOW);
    const [one] = topology.edges;
    topology.edges = [one!, { ...one!, id: "second", a: one!.b, b: one!.a }];
    const [first, second] = createScene(new Picture(topology), ALL).edges;
    // The same sign in each one's own direction is opposite sides on the screen.
    expect(first!.offset).toBe(second!.offset);
    expect(first!.offset).not.toBe(0);
  });
});

describe("matrix", () => {
  test("a cell for each direction, the worse of two links, foreign peers on demand", () => {
    const picture = new Picture(office(NOW));
    const matrix = createMatrix(picture, ALL);
    const at = (from: string, to: string) => ({
      row: matrix.nodes.findIndex(({ label }) => label === from),
      column: matrix.nodes.findIndex(({ label }) => label === to),
    });
    const blocked = [...picture.edges.values()].find(({ cause }) => cause === "b_to_a_blocked")!;
    const [a, b] = [picture.label(blocked.a.node), picture.label(blocked.b.node)];
    expect(cellWords(matrix, at(a, b))).toBe(`${a} to ${b}: up`);
    expect(cellWords(matrix, at(b, a))).toBe(`${b} to ${a}: stale, ${blocked.reason}`);
    expect(cellWords(matrix, at("db-fra-1", "hub-fra"))).toBe("db-fra-1 to hub-fra: no link");
    expect(createMatrix(picture, { ...ALL, foreign: false }).nodes.length).toBe(matrix.nodes.length - 1);
    expect(
      matrix.nodes
        .filter(({ label }) => label.startsWith("db-"))
        .map(({ label }) => label)
        .slice(0, 2),
    ).toEqual(["db-ams-1", "db-ams-2"]);
  });
});

describe("tables and path", () => {
  test("agents are sorted, unknown last both ways, and filtered by any word", () => {
    const agents = [
      agent("web-10", { load: [2, 0, 0] }),
      agent("web-9", { load: null }),
      agent("db-1", { load: [0.1, 0, 0], status: "down", addresses: ["10.9.8.7"] }),
    ];
    const names = (...rest: [string, string, boolean]) => arrange(agents, ...rest).map(({ hostname }) => hostname);
    expect(names("", "name", false)).toEqual(["db-1", "web-9", "web-10"]);
    expect(names("", "load", false)).toEqual(["db-1", "web-10", "web-9"]);
    expect(names("", "load", true)).toEqual(["web-10", "db-1", "web-9"]);
    expect(names("", "status", false)[0]).toBe("db-1");
    expect(names("10.9", "name", false)).toEqual(["db-1"]);
    expect(names("WEB", "nonsense", false)).toEqual(["web-9", "web-10"]);
  });
  test("the hop that fails is the broken link's, else the last", () => {
    const hop = (state: PathTrace["hops"][number]["state"]) => ({
      node: "n",
      interface: null,
      rule: null,
      route: null,
      peer: null,
      allowed_ip: null,
      edge: null,
      state,
      note: null,
    });
    const trace = (verdict: PathTrace["verdict"]): PathTrace => ({
      source: null,
      destination: "",
      verdict,
      reason: null,
      path_mtu: null,
      hops: [hop("up"), hop("stale"), hop(null)],
    });
    expect([failedHop(trace("delivered")), failedHop(trace("edge_down")), failedHop(trace("no_route"))]).toEqual([
      null,
      1,
      2,
    ]);
  });
  test("the map of a path shows both its ends, also where it stops at the first", () => {
    const picture = new Picture(office(NOW));
    const edge = [...picture.edges.values()][0]!;
    const elsewhere = [...picture.nodes.keys()].find((id) => id !== edge.a.node && id !== edge.b.node)!;
    const trace = { hops: [{ node: edge.a.node, edge: edge.id }] } as unknown as PathTrace;
    expect(placesOf(trace, [edge.a.node, elsewhere], picture)).toEqual([edge.a.node, elsewhere, edge.b.node]);
    expect(placesOf({ ...trace, hops: [] }, [edge.a.node, "192.0.2.1"], picture)).toEqual([edge.a.node]);
  });
  test("a host's name is its agent, anything else an address", () => {
    const picture = new Picture(office(NOW));
    expect(picture.label(endpointOf(picture, " HUB-ams "))).toBe("hub-ams");
    expect(endpointOf(picture, " 10.0.0.1 ")).toBe("10.0.0.1");
  });
  test("a gap in the samples is a gap in the line", () => {
    const sample = (at: number, bps: number | null) => ({
      at,
      handshake_age_s: null,
      a_to_b_bps: bps,
      b_to_a_bps: null,
      a_to_b_loss: null,
      b_to_a_loss: null,
    });
    const path = sparkPath(
      [sample(0, 0), sample(1, 10), sample(2, null), sample(3, 5), sample(4, 5)],
      (item) => item.a_to_b_bps,
      10,
    );
    expect(path.match(/M/g)!.length).toBe(2);
    expect(path.match(/L/g)!.length).toBe(2);
  });
});
