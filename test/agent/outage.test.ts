// The manager is away for a long time: real daemons at the shortest interval, of which one is restarted and one killed
// meanwhile, and over a hundred reports each; everything arrives afterwards, in order, once, and opens no alarm about the
// past. And a hundred agents that wait at the same moment do not come back at the same moment.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openAgent } from "../../agent/agent.ts";
import { createHost } from "../../agent/host.ts";
import { agentSettings } from "../../agent/settings.ts";
import type { AlarmsResponse } from "../../shared/api.ts";
import { createLog } from "../../shared/log.ts";
import { managerEnvironment, type Spawned, spawnManager } from "../manager/support.ts";
import { stopwatch } from "../support/stopwatch.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const PSK = "outage-test-fleet-key-0123456789abcdef01234";
const ROOT = join(import.meta.dir, "../..");
/** Reports that an hour at the default interval would make. */
const REPORTS = 120;
const DAEMONS = ["stays", "restarted", "killed"] as const;
let directory: string;
const running = new Map<string, Bun.Subprocess>();

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "kattila-outage-"));
});
afterAll(() => {
  for (const child of running.values()) child.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

function startDaemon(name: string, url: string): void {
  const state = join(directory, name);
  mkdirSync(state, { recursive: true, mode: 0o700 });
  const child = Bun.spawn([process.execPath, "--no-env-file", join(ROOT, "agent/main.ts")], {
    cwd: state,
    env: {
      PATH: process.env["PATH"] ?? "",
      PSK,
      STATE_DIR: state,
      MANAGER_URL: url,
      REPORT_INTERVAL: "1",
      AGENT_LISTEN: "127.0.0.1",
      AGENT_PORT: "0",
      LOG_LEVEL: "error",
    },
    stdin: "ignore",
    stdout: "ignore",
    stderr: "inherit",
  });
  running.set(name, child);
}

const waiting = (name: string) =>
  readdirSync(join(directory, name, "agent_outbox")).filter((file) => file.endsWith(".json")).length;

async function until(what: string, holds: () => boolean | Promise<boolean>, seconds: number): Promise<void> {
  const deadline = performance.now() + seconds * 1000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`did not happen in ${seconds} s: ${what}`);
    await Bun.sleep(200);
  }
}

test("120 reports and more wait while the manager is away; all arrive, in order, once, and alarm nobody", async () => {
  const managerState = join(directory, "manager");
  mkdirSync(managerState, { mode: 0o700 });
  const settings = { PSK, STATE_DIR: managerState };
  let manager: Spawned = await spawnManager(managerState, settings);
  const { port, url } = manager;
  for (const name of DAEMONS) startDaemon(name, url);
  const database = () => new Database(join(managerState, "kattila_manager.db"), { readonly: true });
  const stored = () => {
    using db = database();
    return db
      .query<{ agent_id: string; n: number }, []>("SELECT agent_id, count(*) AS n FROM reports GROUP BY agent_id")
      .all();
  };
  await until("all report", () => stored().length === DAEMONS.length, 20);

  await manager.kill("SIGKILL");
  await until("a third of the time passes", () => waiting("stays") > REPORTS / 3, REPORTS);
  running.get("restarted")!.kill("SIGTERM");
  expect(await running.get("restarted")!.exited).toBe(0);
  startDaemon("restarted", url);
  running.get("killed")!.kill("SIGKILL");
  await running.get("killed")!.exited;
  startDaemon("killed", url);
  await until("enough reports wait", () => DAEMONS.every((name) => waiting(name) >= REPORTS), 3 * REPORTS);

  manager = await spawnManager(managerState, { ...settings, MANAGER_PORT: String(port) });
  await until("all is delivered", () => DAEMONS.every((name) => waiting(name) <= 1), 60);
  // While they report: who is ended below falls silent, and that is an alarm in time.
  const { alarms } = (await (await fetch(`${manager.url}/status/alarms?state=all`)).json()) as AlarmsResponse;
  expect(alarms.map((alarm) => `${alarm.code} ${alarm.message}`)).toEqual([]);
  for (const name of DAEMONS) {
    running.get(name)!.kill("SIGTERM");
    expect(await running.get(name)!.exited).toBe(0);
  }
  expect(await manager.kill("SIGTERM")).toBe(0);

  using db = database();
  const rows = db
    .query<{ agent_id: string; tick: number; id: number }, []>("SELECT agent_id, tick, id FROM reports ORDER BY id")
    .all();
  const ticks = Map.groupBy(rows, (row) => row.agent_id);
  expect(ticks.size).toBe(DAEMONS.length);
  let broken = 0;
  for (const own of ticks.values()) {
    expect(own.length).toBeGreaterThan(REPORTS);
    // In the order of receipt, each tick once and above the one before.
    for (let i = 1; i < own.length; i++) {
      expect(own[i]!.tick).toBeGreaterThan(own[i - 1]!.tick);
      broken += own[i]!.tick - own[i - 1]!.tick - 1;
    }
  }
  // A kill may take the one report that had its tick and was not yet kept.
  expect(broken).toBeLessThanOrEqual(1);
  expect(db.query("PRAGMA integrity_check").values()).toEqual([["ok"]]);
}, 600_000);

test("a hundred agents that wait do not come back at the same moment", async () => {
  const AGENTS = 100;
  const INTERVAL_S = 10;
  let open = false;
  /** Second since the manager is back → first tries of agents in it. */
  const returns = new Map<number, number>();
  let openedAt = 0;
  const seen = new Set<string>();
  // Away: a manager that cannot be had. Back: whatever it says, the moment of each agent's first try counts.
  using server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    development: false,
    async fetch(request) {
      const body = (await request.json()) as { data: string };
      const { agent_id: id } = JSON.parse(body.data) as { agent_id: string };
      if (open && !seen.has(id)) {
        seen.add(id);
        const second = Math.floor((performance.now() - openedAt) / 1000);
        returns.set(second, (returns.get(second) ?? 0) + 1);
      }
      return new Response(null, { status: 502 });
    },
  });
  const log = createLog("error", () => {});
  const agents = await Promise.all(
    Array.from({ length: AGENTS }, async (_, i) => {
      const state = join(directory, `storm-${i}`);
      const settings = agentSettings(
        {
          PSK,
          STATE_DIR: state,
          MANAGER_URL: `http://127.0.0.1:${server.port}`,
          REPORT_INTERVAL: String(INTERVAL_S),
        },
        state,
      );
      return openAgent(settings, createHost(), log);
    }),
  );
  const entry = await agents[0]!.collect();
  for (const agent of agents) {
    await agent.psk.once();
    await agent.delivery.offer(structuredClone(entry));
  }
  // Whose time comes while the machine stands still come all when it goes on: then it is looked at once more.
  for (let watch = stopwatch(), looks = 0; looks < 3; looks++, watch = stopwatch()) {
    open = false;
    seen.clear();
    returns.clear();
    // All failed at the same time; four failures on, each waits for up to an interval.
    await Bun.sleep(15_000);
    open = true;
    openedAt = performance.now();
    await until("all came back", () => seen.size === AGENTS, 3 * INTERVAL_S);
    if (watch.stalledMs() === 0) break;
  }
  for (const agent of agents) await agent.delivery.stop(0);
  const most = Math.max(...returns.values());
  console.log(
    `100 agents came back within ${Math.max(...returns.keys()) + 1} s, ${most} of them in the busiest second`,
  );
  // Of waits of up to an interval each, about a fifth end within the first second, give or take four.
  expect(most).toBeLessThan(0.4 * AGENTS);
}, 300_000);
