// The page's heap does not grow with the number of updates: read after a forced collection, so that what is left is held.
import { expect, setDefaultTimeout, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { openBrowser } from "./browser.ts";
import { fullMesh, startMock } from "./mock.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

/** 1,770 links: a second copy of them all, held by the view, shows as well (1.3 MB). */
const AGENTS = 60;
/** Until caches and compiled code are there; few, so that most links are still those of the first answer. */
const WARM_UP_UPDATES = 5;
const UPDATES = 200;
const EDGES_AN_UPDATE = 40;
/** A page that holds its updates grows by 200 × 40 links of about 0.7 kB: 6 MB. One that does not, by caches and code. */
const MOST_GROWTH_MB = 0.8;

describeWith(["chromium"], "heap after collection", () => {
  // A full mesh of this size opens as a matrix unless the address says which links to draw.
  for (const view of ["map?edges=auto", "matrix"])
    test(`${view}: stays with the number of updates`, async () => {
      const topology = fullMesh(AGENTS, Date.now());
      const mock = await startMock({ make: () => topology });
      const browser = await openBrowser(mock.url);
      let sent = 0;
      const send = async (updates: number) => {
        for (let i = 0; i < updates; i++, sent++) {
          const edges = Array.from(
            { length: EDGES_AN_UPDATE },
            (_, k) => topology.edges[(sent * EDGES_AN_UPDATE + k) % topology.edges.length]!,
          );
          mock.send("topology", {
            nodes: [],
            networks: [],
            edges: edges.map((edge) => ({ ...edge, a_to_b_bps: sent * 1000 })),
            removed: { nodes: [], edges: [], networks: [] },
            stale: false,
            at: Date.now(),
          });
          await Bun.sleep(15); // about a frame each: every update is drawn
        }
        await Bun.sleep(500); // the last frame and the effects after it
      };
      const heapMegabytes = async () => {
        await browser.view.cdp("HeapProfiler.collectGarbage");
        const { usedSize } = await browser.view.cdp<{ usedSize: number }>("Runtime.getHeapUsage");
        return usedSize / 1e6;
      };
      try {
        await browser.open(`#/${view}`);
        await browser.until(`document.querySelector(".live [role=status]")?.innerText === "● live"`, "the stream");
        await browser.until(`document.querySelector(".stage canvas")`, "the canvas");
        await send(WARM_UP_UPDATES);
        const before = await heapMegabytes();
        await send(UPDATES);
        const after = await heapMegabytes();
        expect(after - before).toBeLessThan(MOST_GROWTH_MB);
      } finally {
        browser.close();
        await mock.stop();
      }
    }, 60_000);
});
