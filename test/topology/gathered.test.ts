// What a report changes of others' nodes is looked at once a second, and has the moment of the report all the same.
import { expect, test } from "bun:test";
import type { Version } from "../../manager/model.ts";
import { peer, Scene } from "./scene.ts";

/** Two agents that list each other, known for a while; `toB` is what a lists of b. */
function pair() {
  const scene = new Scene();
  const [a, b] = [scene.host("a", "198.51.100.1/24"), scene.host("b", "198.51.100.2/24")];
  const toB = peer("kb", { allowed_ips: ["10.9.0.2/32"] });
  scene.wireguard(a, "wg0", "ka", ["10.9.0.1/24"], [toB]);
  scene.wireguard(b, "wg0", "kb", ["10.9.0.2/24"], [peer("ka", { allowed_ips: ["10.9.0.1/32"] })]);
  scene.rounds(2);
  return { scene, a, b, toB };
}

const ofNode = (versions: readonly Version[], id: string) =>
  versions.flatMap((version) => (version.kind === "node" && version.id === id ? [version] : []));

test("a peer's node waits for the second to end, and has the moment of the report", () => {
  const { scene, a, toB } = pair();
  scene.now += 10_000;
  toB.allowed_ips = ["10.9.0.2/32", "10.20.0.0/16"];
  const at = scene.now;
  expect(ofNode(scene.report(a).versions, "b")).toEqual([]);
  expect(scene.topology.node("b")?.attached).toEqual(["10.20.0.0/16"]);
  scene.now += 900;
  expect(ofNode(scene.keep(scene.topology.advance(scene.now)).versions, "b")).toMatchObject([
    { at, body: { attached: ["10.20.0.0/16"] } },
  ]);
  scene.now += 1000;
  expect(scene.topology.advance(scene.now).versions).toEqual([]);
});

test("two changes of different moments are two versions, also when no second passes between the reports", () => {
  const { scene, a, toB } = pair();
  scene.now += 10_000;
  const first = scene.now;
  toB.allowed_ips = ["10.9.0.2/32", "10.20.0.0/16"];
  scene.report(a);
  // As an outbox is drained: the next one was collected 30 s later, and arrives at once.
  scene.now += 30_000;
  const second = scene.now;
  toB.allowed_ips = ["10.9.0.2/32", "10.21.0.0/16"];
  const [early] = ofNode(scene.report(a).versions, "b");
  expect(early).toMatchObject({ at: first, body: { attached: ["10.20.0.0/16"] } });
  expect(ofNode(scene.topology.advance(second).versions, "b")).toMatchObject([
    { at: second, body: { attached: ["10.21.0.0/16"] } },
  ]);
});
