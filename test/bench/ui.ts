// Owns the dashboard's figures: first picture, frames per second while panning and zooming, blocks of the main thread, growth of
// the heap over an hour's updates. In headless Chromium without GPU; the network is made up and served by a manager of straw.
import type { TopologyResponse } from "../../shared/api.ts";
import { uiSize } from "../../manager/ui/assets.ts";
import { type Browser, openBrowser } from "../ui/browser.ts";
import { fullMesh, sparse, startMock } from "../ui/mock.ts";

/** An hour of a fleet's updates: 200 agents at 30 s are 24,000 reports; the stream gathers 250 ms of them into one. */
const UPDATES = 400;
const EDGES_AN_UPDATE = 40;
const FRAMES = 90;

/** Runs in the page: watches for long tasks from now on. */
const WATCH = `window.longTasks = []; new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.longTasks.push(Math.round(entry.duration)); }).observe({ type: "longtask", buffered: true });`;

/** Runs in the page: pans, then zooms, one step a frame; resolves with the frames' times in milliseconds. */
const moving = (zoom: boolean) => `(async () => {
  const canvas = document.querySelector(".stage canvas");
  const box = canvas.getBoundingClientRect();
  const at = (x, y) => ({ clientX: box.x + box.width / 2 + x, clientY: box.y + box.height / 2 + y, pointerId: 1, pointerType: "touch", bubbles: true });
  canvas.setPointerCapture = () => {};
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  const times = [];
  if (!${zoom}) canvas.dispatchEvent(new PointerEvent("pointerdown", at(0, 0)));
  let before = await frame();
  for (let i = 1; i <= ${FRAMES}; i++) {
    if (${zoom}) canvas.dispatchEvent(new WheelEvent("wheel", { ...at(60, 40), deltaY: i % 30 < 15 ? -60 : 60, cancelable: true }));
    else canvas.dispatchEvent(new PointerEvent("pointermove", at(120 * Math.sin(i / 8), 80 * Math.cos(i / 11))));
    const now = await frame();
    times.push(now - before);
    before = now;
  }
  if (!${zoom}) canvas.dispatchEvent(new PointerEvent("pointerup", at(0, 0)));
  return times;
})()`;

function rate(times: readonly number[]): string {
  const sorted = [...times].sort((a, b) => a - b);
  const mean = times.reduce((sum, time) => sum + time, 0) / times.length;
  const p95 = sorted[Math.floor(sorted.length * 0.95)]!;
  return `${(1000 / mean).toFixed(0)} frames/s, 95 % of frames within ${p95.toFixed(0)} ms`;
}

async function heapMegabytes(browser: Browser): Promise<number> {
  await browser.view.cdp("HeapProfiler.collectGarbage");
  const { usedSize } = await browser.view.cdp<{ usedSize: number }>("Runtime.getHeapUsage");
  return usedSize / 1e6;
}

async function longTasks(browser: Browser): Promise<string> {
  const tasks = await browser.value<number[]>("window.longTasks.splice(0)");
  return tasks.length === 0 ? "none over 50 ms" : `${tasks.length} over 50 ms, the longest ${Math.max(...tasks)} ms`;
}

async function benchNetwork(name: string, make: (now: number) => TopologyResponse, hash: string): Promise<void> {
  const topology = make(Date.now());
  const mock = await startMock({ make: () => topology });
  const browser = await openBrowser(mock.url);
  try {
    await browser.view.cdp("Page.addScriptToEvaluateOnNewDocument", { source: WATCH });
    const shown = hash.includes("matrix") ? ".split aside td, .split aside th" : ".legend li";
    await browser.view.navigate(`${mock.url}/${hash}`);
    await browser.until(`document.querySelector(${JSON.stringify(shown)})`, "the picture", 60_000);
    // Two frames later it is on the screen.
    const [arrived, pictured] = await browser.value<
      [number, number]
    >(`new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => {
      const answer = performance.getEntriesByType("resource").find((entry) => entry.name.endsWith("/status/topology"));
      const paint = performance.getEntriesByName("kattila.picture")[0];
      resolve([answer.responseEnd, paint === undefined ? performance.now() : paint.startTime]);
    })))`);
    console.log(
      `  ${name}: ${topology.nodes.length} nodes, ${topology.edges.length} links (${(JSON.stringify(topology).length / 1e6).toFixed(1)} MB of JSON)`,
    );
    console.log(
      `    first picture ${Math.round(pictured - arrived)} ms after the data arrived; while loading, main thread blocks: ${await longTasks(browser)}`,
    );
    await Bun.sleep(3000); // the layout comes to rest
    await longTasks(browser);
    console.log(`    panning ${rate(await browser.value<number[]>(moving(false)))}`);
    console.log(`    zooming ${rate(await browser.value<number[]>(moving(true)))}`);
    console.log(`    main thread blocks while moving: ${await longTasks(browser)}`);
    const before = await heapMegabytes(browser);
    const none = { nodes: [], networks: [], removed: { nodes: [], edges: [], networks: [] }, stale: false };
    let middle = before;
    for (let i = 0; i < UPDATES; i++) {
      const edges = Array.from(
        { length: EDGES_AN_UPDATE },
        (_, k) => topology.edges[(i * EDGES_AN_UPDATE + k) % topology.edges.length]!,
      );
      mock.send("topology", {
        ...none,
        edges: edges.map((edge) => ({ ...edge, a_to_b_bps: i * 1000 })),
        at: Date.now(),
      });
      if (i === UPDATES / 2) {
        await Bun.sleep(500);
        middle = await heapMegabytes(browser);
      }
      await Bun.sleep(15);
    }
    await Bun.sleep(500);
    const after = await heapMegabytes(browser);
    console.log(
      `    heap ${before.toFixed(1)} MB; after ${UPDATES / 2} updates ${middle.toFixed(1)} MB, after ${UPDATES} ${after.toFixed(1)} MB; blocks: ${await longTasks(browser)}`,
    );
    if (browser.complaints.length > 0) console.log(`    complaints: ${browser.complaints.join("; ")}`);
  } finally {
    browser.close();
    await mock.stop();
  }
}

/** Prints the dashboard's figures. Needs chromium. */
export async function benchUi(): Promise<void> {
  const size = uiSize();
  console.log(`ui: ${(size.bytes / 1000).toFixed(1)} kB in all, ${(size.gzippedBytes / 1000).toFixed(1)} kB gzipped`);
  await benchNetwork("full mesh, map", (now) => fullMesh(200, now), "#/map?edges=auto");
  await benchNetwork("full mesh, every line drawn", (now) => fullMesh(200, now), "#/map?edges=all");
  await benchNetwork("full mesh, matrix", (now) => fullMesh(200, now), "#/matrix");
  await benchNetwork("wide, map", (now) => sparse(2000, 8000, now), "#/map");
}
