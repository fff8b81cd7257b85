// Clocks that jump by an hour under a running agent and under a running manager, each way: reports go on arriving, each is
// stored once, nobody is called down, and an agent's wrong clock is told while it is wrong.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AgentsResponse, AlarmsResponse } from "../../shared/api.ts";
import { compiled } from "../support/binary.ts";
import { describeWith, LAB_NEEDS } from "../support/needs.ts";
import { createLab, type Lab } from "./lab.ts";
import { eventually, MANAGER_PORT, RunningAgent, RunningManager } from "./programs.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const PSK = "clock-test-fleet-key-0123456789abcdef0123456";
const HOUR_S = 3600;
const FAKETIME = `/usr/lib/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu/faketime/libfaketime.so.1`;

describeWith([...LAB_NEEDS, "faketime"], "clocks that jump by an hour", () => {
  let lab: Lab;
  let manager: RunningManager;
  const clock = (name: string) => join(lab.dir, `clock-${name}`);
  /** Sets a program's clock off by so many seconds; it reads the file at every look. Timers stay true. */
  const off = (name: string, seconds: number) => writeFileSync(clock(name), `${seconds < 0 ? "" : "+"}${seconds}\n`);
  const fake = (name: string) => [
    "env",
    `LD_PRELOAD=${FAKETIME}`,
    `FAKETIME_TIMESTAMP_FILE=${clock(name)}`,
    "FAKETIME_NO_CACHE=1",
    "FAKETIME_DONT_FAKE_MONOTONIC=1",
  ];
  const ticks = async () =>
    new Map((await manager.get<AgentsResponse>("/status/agents")).agents.map((agent) => [agent.hostname, agent.tick]));
  const open = async () =>
    (await manager.get<AlarmsResponse>("/status/alarms?state=open")).alarms.map(({ code }) => code).sort();
  /** Three more reports of both. */
  const goOn = async () => {
    const before = await ticks();
    await eventually("both go on", async () => {
      const now = await ticks();
      return ["a", "b"].every((name) => now.get(name)! >= before.get(name)! + 3);
    });
  };

  beforeAll(async () => {
    compiled("agent");
    lab = await createLab("clocks");
    const [m, a, b] = await Promise.all(["m", "a", "b"].map((name) => lab.host(name)));
    for (const name of ["m", "a"]) off(name, 0);
    manager = await RunningManager.start(m!, { settings: { PSK }, prefix: fake("m") });
    const options = { managerUrl: `http://${m!.address}:${MANAGER_PORT}`, settings: { PSK } };
    await RunningAgent.start(a!, { ...options, prefix: fake("a") });
    await RunningAgent.start(b!, options);
    await eventually("both report", async () => {
      const now = await ticks();
      return (now.get("a") ?? 0) > 0 && (now.get("b") ?? 0) > 0;
    });
  }, 60_000);
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
  });

  test.each([HOUR_S, -HOUR_S])(
    "an agent's, by %d s",
    async (seconds) => {
      off("a", seconds);
      await goOn();
      await eventually("the skew is told", async () => (await open()).includes("clock_skew"));
      expect(await open()).toEqual(["clock_skew"]);
      off("a", 0);
      await goOn();
      await eventually("the skew is over", async () => (await open()).length === 0);
    },
    60_000,
  );

  test.each([HOUR_S, -HOUR_S])(
    "the manager's, by %d s: its agents are an hour off then, and none is down",
    async (seconds) => {
      off("m", seconds);
      await goOn();
      await eventually(
        "the skew is told",
        async () => (await open()).filter((code) => code === "clock_skew").length === 2,
      );
      expect(await open()).toEqual(["clock_skew", "clock_skew"]);
      off("m", 0);
      await goOn();
      await eventually("the skew is over", async () => (await open()).length === 0);
    },
    60_000,
  );

  test("all of it is stored once, in an unbroken row", async () => {
    expect(await manager.stop()).toBe(0);
    using database = new Database(manager.databasePath, { readonly: true });
    const rows = database
      .query("SELECT count(*) AS count, min(tick) AS least, max(tick) AS most FROM reports GROUP BY agent_id")
      .all() as { count: number; least: number; most: number }[];
    expect(rows).toHaveLength(2);
    for (const { count, least, most } of rows) expect([least, most]).toEqual([1, count]);
    expect(database.query("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  });
});
