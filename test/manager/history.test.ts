// The history of a link over a long time is read beside everything else: it does not hold up the manager.
import { expect, test } from "bun:test";
import { edgeHistory } from "../../manager/history.ts";
import type { StoredReport } from "../../manager/model.ts";
import { edge } from "../store/support.ts";
import { reportData } from "./support.ts";

const AGENT = "0b0f3f6e-56c1-4f6a-9f43-1a2b3c4d5e6f";

// By the clock: a busy machine may hold it up once.
test("a week of reports leaves the event loop free", { retry: 2 }, async () => {
  const body = edge("e", { layer: "wireguard" });
  body.a.node = AGENT;
  body.b.node = "wg:foreign";
  const data = reportData(AGENT, 1, 0, { neighbors: Array.from({ length: 200 }, () => ({ address: "10.0.0.1" })) });
  const text = JSON.stringify(data);
  const reports = 20_000;
  const store = {
    versionsOf: async () => [{ from_at: 0, until_at: null, body }],
    events: async () => [],
    async *reportsOf(): AsyncGenerator<StoredReport> {
      for (let i = 0; i < reports; i++) yield { data: text, observed_at: i * 30_000 } as StoredReport;
    },
  };
  let turns = 0;
  const others = setInterval(() => turns++, 1);
  const began = performance.now();
  const history = await edgeHistory(store as unknown as Parameters<typeof edgeHistory>[0], "e", 0, reports * 30_000);
  const tookMs = performance.now() - began;
  clearInterval(others);
  expect(history?.edge_id).toBe("e");
  // Others had their turn at least every 25 ms, on average.
  expect(tookMs).toBeGreaterThan(50);
  expect(turns).toBeGreaterThan(tookMs / 25);
});
