// What a bad network does to delivery, on real hosts with real packets dropped: loss, answers that never come back, a
// manager that is a black hole or refuses. Each report is stored once, in an unbroken row, and who is not on the bad way
// notices nothing.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { AgentsResponse } from "../../shared/api.ts";
import { compiled } from "../support/binary.ts";
import { describeWith, LAB_NEEDS } from "../support/needs.ts";
import type { Host } from "./host.ts";
import { createLab, type Lab } from "./lab.ts";
import { AGENT_PORT, eventually, MANAGER_PORT, RunningAgent, RunningManager } from "./programs.ts";
import { stopwatch } from "../support/stopwatch.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const PSK = "faulty-network-fleet-key-0123456789abcdef01";
/** How long a fault lasts: several deadlines of a direct try (min(interval, 5 s)) and its backoff. */
const FAULT_MS = 8000;
/** An hour's outage needs longer; after seconds of one the backoff is at most the interval, of 1 s. */
const DRAINED_MS = 15_000;

describeWith(LAB_NEEDS, "a faulty network", () => {
  let lab: Lab;
  let manager: RunningManager;
  let m: Host;
  let bad: Host;
  let good: Host;
  const ids = new Map<string, string>();

  const health = async (host: Host) => {
    const { stdout } = await host.run(["curl", "-s", "-m", "5", `http://127.0.0.1:${AGENT_PORT}/status/healthcheck`]);
    return JSON.parse(stdout) as { outbox: { reports: number; dropped: number } };
  };
  const summaries = async () =>
    new Map((await manager.get<AgentsResponse>("/status/agents")).agents.map((agent) => [agent.hostname, agent]));
  /** Ticks as stored, in the order of receipt. */
  const ticks = (name: string): number[] => {
    using database = new Database(manager.databasePath, { readonly: true });
    return (
      database.query("SELECT tick FROM reports WHERE agent_id = ?1 ORDER BY id").all(ids.get(name)!) as {
        tick: number;
      }[]
    ).map(({ tick }) => tick);
  };
  /** Longest time between two receipts of an agent's reports since `from`, in ms. */
  const longestGap = (name: string, from: number): number => {
    using database = new Database(manager.databasePath, { readonly: true });
    const rows = database
      .query("SELECT received_at FROM reports WHERE agent_id = ?1 AND received_at >= ?2 ORDER BY id")
      .all(ids.get(name)!, from) as { received_at: number }[];
    return Math.max(...rows.slice(1).map((row, i) => row.received_at - rows[i]!.received_at));
  };
  const row = (count: number) => Array.from({ length: count }, (_, i) => i + 1);

  /** The fault for a while, then away: nothing waits any more, every report is there once, and the other was not disturbed. */
  const bear = async (fault: () => Promise<{ lift(): Promise<void> }>, during: () => Promise<void>) => {
    const [began, watch] = [Date.now(), stopwatch()];
    const { lift } = await fault();
    try {
      await Bun.sleep(FAULT_MS);
      await during();
    } finally {
      await lift();
    }
    const before = (await summaries()).get("bad")!.tick!;
    await eventually(
      "what waited is delivered",
      async () => (await health(bad)).outbox.reports === 0 && (await summaries()).get("bad")!.tick! > before,
      DRAINED_MS,
    );
    expect((await health(bad)).outbox.dropped).toBe(0);
    for (const name of ["bad", "good"]) {
      const stored = ticks(name);
      expect([name, stored.toSorted((a, b) => a - b)]).toEqual([name, row(stored.length)]);
    }
    expect(longestGap("good", began) - watch.stalledMs()).toBeLessThan(3000);
  };

  beforeAll(async () => {
    compiled("agent");
    lab = await createLab("faulty-network");
    [m, bad, good] = (await Promise.all(["m", "bad", "good"].map((name) => lab.host(name)))) as [Host, Host, Host];
    manager = await RunningManager.start(m, { settings: { PSK } });
    for (const host of [bad, good]) {
      await RunningAgent.start(host, {
        managerUrl: `http://${m.address}:${MANAGER_PORT}`,
        settings: { PSK },
        intervalSeconds: 1,
      });
    }
    await eventually("both report", async () => {
      for (const [name, { agent_id: id, tick }] of await summaries()) if (tick !== null) ids.set(name, id);
      return ids.size === 2;
    });
  }, 60_000);
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
  });

  test("one packet in five is lost, both ways", async () => {
    const first = ticks("bad").length;
    await bear(
      async () => {
        const rules = await Promise.all([
          lab.filter(`ip saddr ${bad.address} ip daddr ${m.address} numgen random mod 100 < 20 drop`),
          lab.filter(`ip saddr ${m.address} ip daddr ${bad.address} numgen random mod 100 < 20 drop`),
        ]);
        return { lift: async () => void (await Promise.all(rules.map((rule) => rule.lift()))) };
      },
      async () => {
        // Some get through meanwhile; by chance it may take a while.
        await eventually("a report gets through", () => ticks("bad").length > first, 20_000);
        const { stdout } = await bad.run(["ping", "-q", "-c", "60", "-i", "0.02", "-W", "1", m.address]);
        expect(Number(/, ([0-9]+) received/.exec(stdout)![1])).toBeLessThan(55);
      },
    );
  }, 60_000);

  test("reports arrive, answers do not: each is stored once all the same, and told as delivered afterwards", async () => {
    const before = ticks("bad").length;
    await bear(
      // What carries data: the connection itself still comes about.
      () => lab.filter(`ip saddr ${m.address} ip daddr ${bad.address} tcp sport ${MANAGER_PORT} ip length > 100 drop`),
      async () => {
        expect(ticks("bad").length).toBeGreaterThan(before);
        expect((await health(bad)).outbox.reports).toBeGreaterThan(0);
      },
    );
  });

  test("only answers arrive: nothing of this agent does, until the way is free", async () => {
    const before = ticks("bad").length;
    await bear(
      () => lab.filter(`ip saddr ${bad.address} ip daddr ${m.address} tcp dport ${MANAGER_PORT} ip length > 100 drop`),
      async () => {
        // One may have been on its way.
        expect(ticks("bad").length).toBeLessThanOrEqual(before + 1);
        expect((await health(bad)).outbox.reports).toBeGreaterThan(3);
      },
    );
  });

  test("a black hole: the manager does not answer at all", async () => {
    await bear(
      () => lab.filter(`ip saddr ${bad.address} ip daddr ${m.address} drop`),
      async () => expect((await health(bad)).outbox.reports).toBeGreaterThan(3),
    );
  });

  test("a reset: the manager refuses the connection", async () => {
    await bear(
      async () => {
        await m.nft(
          `table ip refusal { chain input { type filter hook input priority 0; ip saddr ${bad.address} tcp dport ${MANAGER_PORT} reject with tcp reset; }; }`,
        );
        return { lift: async () => void (await m.run(["nft", "delete", "table", "ip", "refusal"])) };
      },
      async () => expect((await health(bad)).outbox.reports).toBeGreaterThan(3),
    );
  });
});
