// The daemon's loop: a grid of ticks from its own start, that neither drifts nor overlaps, whatever collecting takes.
import { expect, test } from "bun:test";
import { nextOnGrid, runDaemon, startDelayMs } from "../../agent/daemon.ts";
import { agentSettings } from "../../agent/settings.ts";
import { createLog } from "../../shared/log.ts";
import { ownAgent } from "./support.ts";

test.each([
  ["at once after the first", 1000, 1010, 2000],
  ["just before the next", 1000, 1999.5, 2000],
  ["on it: the one after", 1000, 2000, 3000],
  ["work of two and a half intervals: those are passed over", 1000, 3500, 4000],
  ["before its begin", 1000, 900, 2000],
])("the next tick: %s", (_name, origin, now, next) => {
  expect(nextOnGrid(origin, 1000, now)).toBe(next);
});

test.each([
  [30_000, 2000],
  [5000, 500],
  [3_600_000, 2000],
])("an interval of %i ms: the first report waits up to %i ms", (intervalMs, most) => {
  expect([0, 0.5, 1].map((random) => startDelayMs(intervalMs, random))).toEqual([0, most / 2, most]);
});

// A busy machine may hold up a timer once; what adds up does so each time.
test(
  "a collection slower than the interval: never two at once, and each on the grid",
  { timeout: 60_000, retry: 2 },
  async () => {
    using own = await ownAgent({ REPORT_INTERVAL: "1", AGENT_LISTEN: "127.0.0.1", AGENT_PORT: "0" });
    const { agent } = own;
    const starts: number[] = [];
    let underWay = 0;
    let most = 0;
    const collect = agent.collect;
    agent.collect = async () => {
      starts.push(performance.now());
      most = Math.max(most, ++underWay);
      await Bun.sleep(starts.length === 1 ? 1300 : 200);
      underWay--;
      return collect();
    };
    const settings = agentSettings(
      { PSK: own.psk, STATE_DIR: own.directory, REPORT_INTERVAL: "1", AGENT_LISTEN: "127.0.0.1", AGENT_PORT: "0" },
      own.directory,
    );
    await runDaemon(
      agent,
      settings,
      createLog("error", () => {}),
      Bun.sleep(4700).then(() => "SIGTERM"),
    );
    expect(most).toBe(1);
    const [origin, ...later] = starts as [number, ...number[]];
    // The second tick was passed over; of the work of the others nothing adds up.
    const late = later.map((at, i) => at - origin - (i + 2) * 1000);
    expect(late.length).toBeGreaterThanOrEqual(2);
    for (const ms of late) {
      expect(ms).toBeGreaterThan(-5);
      expect(ms).toBeLessThan(150);
    }
  },
);
