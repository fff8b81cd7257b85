import { expect, test } from "bun:test";
import { jsonList } from "../../manager/http.ts";

for (const count of [0, 1, 1000, 2500]) {
  test(`a list of ${count}, written piece by piece, is the JSON of the whole`, async () => {
    const items = Array.from({ length: count }, (_, i) => ({ id: i, name: `ä${i}"[` }));
    const response = jsonList({ at: 5, nodes: ["["] }, "edges", items);
    expect(response.headers.get("Content-Type")).toBe("application/json; charset=utf-8");
    expect(await response.json()).toEqual({ at: 5, nodes: ["["], edges: items });
  });
}

test("items are made as the reader takes them, and the loop turns between the pieces", async () => {
  let made = 0;
  let turns = 0;
  const counting = setInterval(() => turns++, 0);
  const items = (function* () {
    for (; made < 100_000; made++) yield { made };
  })();
  const reader = jsonList({}, "items", items).body!.getReader();
  expect(made).toBe(0);
  await reader.read();
  const first = made;
  expect(first).toBeLessThan(5000);
  await Bun.sleep(5);
  expect(made).toBe(first);
  while (!(await reader.read()).done);
  clearInterval(counting);
  expect(made).toBe(100_000);
  expect(turns).toBeGreaterThan(5);
});
