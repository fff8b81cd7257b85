// Reports find their way when the manager is out of reach: six real hosts in a chain of WireGuard tunnels, a firewall on
// the way to the manager of all but one. Over one, two and three relays; a fourth is refused; a cycle of agents that are
// all cut off neither loops nor storms; and when the way opens, everything goes direct again, and nothing was lost.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { AgentSummary, AgentsResponse, AlarmsResponse, TopologyResponse } from "../../shared/api.ts";
import { compiled } from "../support/binary.ts";
import { describeWith, LAB_NEEDS } from "../support/needs.ts";
import type { Host, WireguardInterface } from "./host.ts";
import { createLab, type Lab } from "./lab.ts";
import { AGENT_PORT, eventually, MANAGER_PORT, RunningAgent, RunningManager } from "./programs.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const INTERVAL_S = 2;
/** What the contract promises, in seconds: two intervals, or 45 s where that is longer. */
const PROMISED_S = Math.max(2 * INTERVAL_S, 45);
const PSK = "relay-test-fleet-key-0123456789abcdef012345";
/** g alone will reach the manager; then a, b, c, d, each a peer of the one before. */
const CHAIN = ["g", "a", "b", "c", "d"] as const;
type Name = (typeof CHAIN)[number];

describeWith(LAB_NEEDS, "relay", () => {
  let lab: Lab;
  let manager: RunningManager;
  let closed: { lift(): Promise<void> }[] = [];
  const hosts = new Map<string, Host>();
  const agents = new Map<string, RunningAgent>();
  const wireguards = new Map<string, WireguardInterface>();
  const ids = new Map<string, string>();

  const host = (name: string) => hosts.get(name)!;
  const summaries = async () =>
    new Map(
      (await manager.get<AgentsResponse>("/status/agents")).agents.map((agent) => [agent.hostname as Name, agent]),
    );
  const close = async (...names: Name[]) => {
    for (const name of names) {
      closed.push(
        await lab.filter(`ip saddr ${host(name).address} ip daddr ${host("m").address} tcp dport ${MANAGER_PORT} drop`),
      );
    }
  };
  const open = async () => {
    for (const rule of closed) await rule.lift();
    closed = [];
  };
  /** Waits until these deliver by this way, and reports of after now have come by it. */
  const deliver = async (names: readonly Name[], way: "direct" | "relay") => {
    const before = await summaries();
    return eventually(
      `${names.join(", ")} deliver: ${way}`,
      async () => {
        const now = await summaries();
        const all = names.every((name) => now.get(name)!.via === way && now.get(name)!.tick! > before.get(name)!.tick!);
        return all ? now : null;
      },
      PROMISED_S * 1000,
    );
  };
  const path = (summary: AgentSummary) =>
    summary.relay_path.map((id) => [...ids].find(([, value]) => value === id)?.[0]);
  /** What an agent says of itself. */
  const health = async (name: Name) => {
    const { stdout } = await host(name).run([
      "curl",
      "-s",
      "-m",
      "5",
      `http://127.0.0.1:${AGENT_PORT}/status/healthcheck`,
    ]);
    return JSON.parse(stdout) as {
      manager: { reachable: boolean; via: string | null };
      outbox: { reports: number; dropped: number };
    };
  };

  beforeAll(async () => {
    compiled("agent");
    lab = await createLab("relay");
    const made = await Promise.all(["m", ...CHAIN].map((name) => lab.host(name)));
    for (const one of made) hosts.set(one.name, one);
    const chain = await lab.mesh(made.slice(1), {
      keepalive: 25,
      pairs: [
        [0, 1],
        [1, 2],
        [2, 3],
        [3, 4],
      ],
    });
    for (const [place, name] of CHAIN.entries()) wireguards.set(name, chain[place]!);
    manager = await RunningManager.start(host("m"), { settings: { PSK } });
    for (const name of CHAIN) {
      agents.set(
        name,
        await RunningAgent.start(host(name), {
          managerUrl: `http://${host("m").address}:${MANAGER_PORT}`,
          settings: { PSK },
          intervalSeconds: INTERVAL_S,
        }),
      );
    }
    await eventually("all report", async () => {
      const now = await summaries();
      for (const [name, { agent_id: id, tick }] of now) if (tick !== null) ids.set(name, id);
      return ids.size === CHAIN.length;
    });
  }, 60_000);
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
  });

  test("-discover shows who can relay, and how far from the manager they are", async () => {
    // Where both ends began at once, WireGuard tries again after 5 s: longer than a probe waits.
    for (const name of ["a", "c"]) expect(await host("b").pingUntil(wireguards.get(name)!.address)).toBe(true);
    const { stdout } = await agents.get("b")!.cli("-discover", "-json");
    const found = JSON.parse(stdout) as { hostname: string; manager: { reachable: boolean; hops: number | null } }[];
    // Its own peers; what these name lies in nobody's AllowedIPs here.
    expect(found.map((item) => item.hostname).sort()).toEqual(["a", "c"]);
    for (const { manager: reached } of found) expect(reached).toEqual({ reachable: true, hops: 0 });
    const table = (await agents.get("b")!.cli("-discover")).stdout;
    expect(table).toContain("10.9.0.2");
  });

  test("cut off from the manager, reports arrive over one, two and three relays; a fourth is refused", async () => {
    await close("a", "b", "c", "d");
    const now = await deliver(["a", "b", "c"], "relay");
    expect(path(now.get("a")!)).toEqual(["g"]);
    expect(path(now.get("b")!)).toEqual(["a", "g"]);
    expect(path(now.get("c")!)).toEqual(["b", "a", "g"]);
    expect(now.get("g")!.via).toBe("direct");
    // It says so of the last two intervals.
    await eventually("c itself knows that it reaches the manager by a relay", async () => {
      const { reachable, via } = (await health("c")).manager;
      return reachable && via === "relay";
    });

    // d lies four relays away: it keeps what it has, says so, and the relays say that they refused.
    await eventually("d's reports wait", async () => (await health("d")).outbox.reports > 0, PROMISED_S * 1000);
    await eventually(
      "the refusal is told",
      async () =>
        (await manager.get<AlarmsResponse>("/status/alarms")).alarms.some((alarm) => alarm.code === "hop_limit"),
      PROMISED_S * 1000,
    );
    expect((await summaries()).get("d")!.via).toBe("direct");

    const { edges } = await manager.get<TopologyResponse>("/status/topology?layer=relay");
    const ends = edges.map((edge) => [edge.a.node, edge.b.node].sort().join());
    const pair = (one: Name, other: Name) => [ids.get(one)!, ids.get(other)!].sort().join();
    for (const [one, other] of [
      ["g", "a"],
      ["a", "b"],
      ["b", "c"],
    ] as const)
      expect(ends).toContain(pair(one, other));
  }, 150_000);

  test("a relay is killed: who went through it waits or finds another, and loses nothing", async () => {
    await agents.get("a")!.kill();
    await eventually("c's reports wait", async () => (await health("c")).outbox.reports > 0, PROMISED_S * 1000);
    agents.set(
      "a",
      await RunningAgent.start(host("a"), {
        managerUrl: `http://${host("m").address}:${MANAGER_PORT}`,
        settings: { PSK },
        intervalSeconds: INTERVAL_S,
      }),
    );
    await deliver(["a", "b", "c"], "relay");
  }, 150_000);

  test("the way opens: all deliver directly again, also what waited", async () => {
    await open();
    await deliver(CHAIN, "direct");
    await eventually(
      "nothing waits",
      async () => {
        for (const name of CHAIN) if ((await health(name)).outbox.reports > 1) return false;
        return true;
      },
      30_000,
    );
  }, 120_000);

  test("agents in a cycle, all cut off: nothing loops, and their traffic stays bounded", async () => {
    // d and g become peers: the chain is a ring.
    const [d, g] = [wireguards.get("d")!, wireguards.get("g")!];
    await d.setPeers({
      publicKey: g.publicKey,
      endpoint: g.endpoint(),
      allowedIps: [`${g.address}/32`],
      keepalive: 25,
    });
    await g.setPeers({
      publicKey: d.publicKey,
      endpoint: d.endpoint(),
      allowedIps: [`${d.address}/32`],
      keepalive: 25,
    });
    expect(await host("d").pingUntil(g.address)).toBe(true);
    for (const name of CHAIN) {
      await host(name).nft(
        `table inet count { chain out { type filter hook output priority 0; oifname wg0 tcp dport ${AGENT_PORT} tcp flags syn counter; }; }`,
      );
    }
    await close(...CHAIN);
    const began = performance.now();
    // Until nobody believes any more that it reaches the manager, and a good while on.
    await eventually(
      "all are cut off",
      async () => {
        for (const name of CHAIN) if ((await health(name)).manager.reachable) return false;
        return true;
      },
      60_000,
    );
    await Bun.sleep(15_000);
    const seconds = (performance.now() - began) / 1000;
    let connections = 0;
    for (const name of CHAIN) {
      const { stdout } = await host(name).run(["nft", "list", "table", "inet", "count"]);
      connections += Number(/packets (\d+)/.exec(stdout)![1]);
    }
    const each = connections / CHAIN.length / (seconds / INTERVAL_S);
    console.log(`cycle of ${CHAIN.length} cut-off agents: ${each.toFixed(1)} connections an agent and interval`);
    // Three tries an interval by the originator, each over at most three relays, and the probes of a round.
    expect(each).toBeLessThan(3 * 3 + 4);

    await open();
    await deliver(CHAIN, "direct");
  }, 180_000);

  test("after all this every report is stored once, in an unbroken row", async () => {
    await eventually(
      "nothing waits",
      async () => {
        for (const name of CHAIN) if ((await health(name)).outbox.reports > 1) return false;
        return true;
      },
      60_000,
    );
    for (const name of CHAIN) {
      expect((await health(name)).outbox.dropped).toBe(0);
      expect(await agents.get(name)!.stop()).toBe(0);
    }
    expect(await manager.stop()).toBe(0);
    const database = new Database(manager.databasePath, { readonly: true });
    const rows = database
      .query<{ agent_id: string; count: number; least: number; most: number }, []>(
        "SELECT agent_id, count(*) AS count, min(tick) AS least, max(tick) AS most FROM reports GROUP BY agent_id",
      )
      .all();
    database.close();
    expect(rows).toHaveLength(CHAIN.length);
    for (const row of rows) {
      const name = [...ids].find(([, id]) => id === row.agent_id)![0];
      // The killed one may have lost the tick it had taken and not yet written with its report.
      const lost = row.most - row.least + 1 - row.count;
      expect(lost).toBeLessThanOrEqual(name === "a" ? 1 : 0);
    }
  }, 90_000);
});
