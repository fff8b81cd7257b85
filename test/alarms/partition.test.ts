import { expect, test } from "bun:test";
import { partsOf } from "../../manager/alarms/partition.ts";
import type { NetworkLink, TopologyReader } from "../../manager/model.ts";

const COUNT = 300;
const nodes = Array.from({ length: COUNT }, (_, i) => `n${i}`);

/** A full mesh as a reader of one network that counts the links it was asked for; `down`: what does not pass. */
function mesh(
  down: (a: number, b: number) => boolean,
  broken: Pick<NetworkLink, "state" | "cause"> = { state: "stale", cause: null },
): { reader: TopologyReader; asked: () => number } {
  let asked = 0;
  function* links(): Iterable<NetworkLink> {
    for (let a = 0; a < COUNT; a++) {
      for (let b = a + 1; b < COUNT; b++) {
        asked++;
        yield { id: `${a}-${b}`, a: `n${a}`, b: `n${b}`, ...(down(a, b) ? broken : { state: "up", cause: null }) };
      }
    }
  }
  const reader = {
    network: (id: string) => (id === "mesh" ? { nodes: new Set(nodes), links: links() } : null),
    networks: () => [{ id: "mesh", name: "10.9.0.0/16", prefixes: [], nodes: COUNT, parts: 1 }],
    edge: (id: string) => ({ id }),
    agent: (id: string) => ({ hostname: id.toUpperCase() }),
  } as unknown as TopologyReader;
  return { reader, asked: () => asked };
}

test("a mesh with one silent host is whole, and that shows by a few of its 44,850 links", () => {
  const { reader, asked } = mesh((a) => a === 0);
  expect(partsOf("mesh", reader, (node) => node !== "n0")).toBeNull();
  expect(asked()).toBeLessThan(2 * COUNT);
});

test("a mesh in two halves: both parts, by name, and every broken link between them", () => {
  const { reader } = mesh((a, b) => a < 100 !== b < 100);
  const parts = partsOf("mesh", reader, () => true)!;
  expect(parts.name).toBe("10.9.0.0/16");
  expect(parts.parts.map((part) => part.length)).toEqual([200, 100]);
  expect(parts.names[1]).toEqual(parts.parts[1]!.map((id) => id.toUpperCase()).sort());
  expect(parts.crossing).toHaveLength(100 * 200);
  // Who does not report makes no part of its own.
  expect(partsOf("mesh", reader, (node) => Number(node.slice(1)) < 100)).toBeNull();
  expect(partsOf("another", reader, () => true)).toBeNull();
});

test("an interface out of its agent's sight is in no part of its own", () => {
  const cut = (a: number) => a === 0;
  expect(partsOf("mesh", mesh(cut, { state: "one_sided", cause: "missing_at_b" }).reader, () => true)).not.toBeNull();
  expect(partsOf("mesh", mesh(cut, { state: "one_sided", cause: "view_unavailable" }).reader, () => true)).toBeNull();
});
