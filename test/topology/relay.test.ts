// Relay edges: the way that an agent's reports take is there while they take it, and three intervals more.
import { expect, test } from "bun:test";
import type { TopologyChange } from "../../manager/model.ts";
import { observed } from "./build.ts";
import { type Host, INTERVAL_S, Scene } from "./scene.ts";

/** Evidence that is too old is looked for so often. */
const LOOKS_EVERY_S = 5;

/** A host reports by way of relays. */
function relayed(scene: Scene, host: Host, ...path: string[]): TopologyChange {
  const seen = observed(scene.reportOf(host), scene.now, { relay_path: path, via: "relay" });
  return scene.keep(scene.topology.observe(seen, scene.now));
}

function hosts(...names: string[]): { scene: Scene; all: Host[] } {
  const scene = new Scene();
  return { scene, all: names.map((name) => scene.host(name)) };
}

const ways = (scene: Scene) => scene.edges("relay").map(({ a, b }) => `${a.node} → ${b.node}`);

test("an edge for each step of the way, from the agent on", () => {
  const { scene, all } = hosts("a", "b", "c");
  relayed(scene, all[0]!, "b", "c");
  expect(ways(scene)).toEqual(["a → b", "b → c"]);
  expect(scene.edges("relay")).toMatchObject([
    { state: "up", observed_by: ["a"] },
    { state: "up", observed_by: ["a"] },
  ]);
});

test("without further relayed reports it ends after three intervals, whoever else reports, with a row that says so", () => {
  const { scene, all } = hosts("a", "b");
  const [a, b] = all as [Host, Host];
  a.speaks = false;
  relayed(scene, a, "b");
  const { id } = scene.edge("relay");
  scene.rounds(2);
  expect(ways(scene)).toEqual(["a → b"]);
  scene.wait(INTERVAL_S - 1);
  scene.report(b);
  expect(ways(scene)).toEqual(["a → b"]);
  scene.forgetHistory();
  scene.wait(1 + LOOKS_EVERY_S);
  expect(ways(scene)).toEqual([]);
  expect(scene.versions.filter((row) => row.id === id)).toMatchObject([{ kind: "edge", at: scene.now, body: null }]);
});

test("the interval is the agent's own", () => {
  const { scene, all } = hosts("a", "b");
  all[0]!.over = { interval_s: 10 };
  relayed(scene, all[0]!, "b");
  scene.wait(29);
  expect(ways(scene)).toEqual(["a → b"]);
  scene.wait(1 + LOOKS_EVERY_S);
  expect(ways(scene)).toEqual([]);
});

test("each relayed report keeps it for three intervals more: one edge, one row", () => {
  const { scene, all } = hosts("a", "b");
  relayed(scene, all[0]!, "b");
  const { id } = scene.edge("relay");
  for (let i = 0; i < 5; i++) {
    scene.wait(2 * INTERVAL_S);
    relayed(scene, all[0]!, "b");
  }
  expect(scene.edges("relay").map((edge) => edge.id)).toEqual([id]);
  expect(scene.versions.filter((row) => row.id === id)).toHaveLength(1);
});

test("a report by another way, or directly, ends it at once", () => {
  const { scene, all } = hosts("a", "b", "c");
  const [a] = all as [Host];
  relayed(scene, a, "b");
  scene.wait(INTERVAL_S);
  relayed(scene, a, "c");
  expect(ways(scene)).toEqual(["a → c"]);
  scene.wait(INTERVAL_S);
  scene.report(a);
  expect(ways(scene)).toEqual([]);
});

test("a step that two agents' reports take stays while either takes it", () => {
  const { scene, all } = hosts("a", "b", "c");
  const [a, b] = all as [Host, Host];
  relayed(scene, a, "b", "c");
  relayed(scene, b, "c");
  expect(ways(scene)).toEqual(["a → b", "b → c"]);
  scene.report(a);
  expect(ways(scene)).toEqual(["b → c"]);
  scene.wait(INTERVAL_S);
  expect(ways(scene)).toEqual(["b → c"]);
  scene.wait(2 * INTERVAL_S + LOOKS_EVERY_S);
  expect(ways(scene)).toEqual([]);
});
