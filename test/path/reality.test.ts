// Path against reality: fifty random networks of real namespaces and WireGuard; the verdict on every ordered pair is what
// a real ping says, and where no firewall is, hardly anything is unknown. Any number: `bun run test:path --networks N`.
import { expect, setDefaultTimeout, test } from "bun:test";
import { tracePath } from "../../manager/topology/path.ts";
import { DOUBT_TEXTS } from "../../manager/topology/path/walk.ts";
import type { PathResponse } from "../../shared/api.ts";
import type { Host } from "../lab/host.ts";
import { describeWith, LAB_NEEDS } from "../support/needs.ts";
import { idOf, NOW, type Sections, topologyOf } from "../topology/path_reader.ts";
import { BuiltNetwork } from "./build.ts";
import { compare } from "./compare.ts";
import { MASQUERADE, planOf, REDIRECT } from "./faults.ts";
import { host, type Plan, star, UNDERLAY } from "./plan.ts";
import { runNetworks, summaryOf } from "./run.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const NETWORKS = 50;
const FIRST_SEED = 1;
/** Most of a network's time is spent waiting for pings that nobody answers. */
const AT_ONCE = 4;
/** What the contract allows to be unknown where no firewall is. */
const UNKNOWN_LIMIT = 0.05;

/** A spoke, a hub with a LAN behind it, and a host there that knows no way back to the spoke. */
function lanBehindHub(): Plan {
  const hosts = [host("hub", [0, 1]), host("spoke"), host("lan", [1])];
  star(hosts, 0, [1], 1);
  hosts[1]!.tunnels[0]!.peers[0]!.allowedIps.push("192.168.60.0/24");
  return { seed: 0, shape: "a LAN behind a hub", faults: [], segments: [UNDERLAY, "192.168.60"], hosts };
}

/** What path says of the way from the spoke to the LAN's host, and whether a ping is answered. */
async function toLan(plan: Plan): Promise<{ path: PathResponse; answered: boolean }> {
  await using network = await BuiltNetwork.build(plan);
  const [, spoke, lan] = network.hosts as [Host, Host, Host];
  const target = lan.address;
  const [hub] = plan.hosts[0]!.tunnels[0]!.addresses as [string];
  expect(await spoke.pingUntil(hub.slice(0, hub.indexOf("/")))).toBe(true);
  const answered = await spoke.pingUntil(target, 3);
  const sections: Record<string, Sections> = {};
  for (const one of network.hosts) sections[one.name] = await network.report(one);
  return { path: tracePath(topologyOf(sections, Date.now()), idOf("spoke"), target, NOW), answered };
}

describeWith(LAB_NEEDS, "path against reality", () => {
  test("masquerading on the way: unknown both ways, for what answers does not answer to the source", async () => {
    const bare = await toLan(lanBehindHub());
    expect([bare.path.verdict, bare.path.back.verdict, bare.answered]).toEqual(["delivered", "no_route", false]);
    const plan = lanBehindHub();
    plan.hosts[0]!.nft.push(MASQUERADE);
    const { path, answered } = await toLan(plan);
    expect(answered).toBe(true);
    for (const way of [path, path.back]) {
      expect(way.verdict).toBe("unknown");
      expect(way.reason).toStartWith(`${DOUBT_TEXTS.firewall}: hub: it has a inet nat hook at postrouting`);
    }
  }, 60_000);

  test("a redirection on the way: unknown, though the host that has it does not forward", async () => {
    const closed = lanBehindHub();
    closed.hosts[0]!.forward = false;
    const bare = await toLan(closed);
    expect([bare.path.verdict, bare.answered]).toEqual(["not_forwarding", false]);
    closed.hosts[0]!.nft.push(REDIRECT);
    const { path, answered } = await toLan(closed);
    expect(answered).toBe(true);
    for (const way of [path, path.back]) {
      expect(way.verdict).toBe("unknown");
      expect(way.reason).toStartWith(`${DOUBT_TEXTS.firewall}: hub: it has a inet nat hook at prerouting`);
    }
  }, 60_000);

  test(`${NETWORKS} random networks: no verdict that a ping contradicts`, async () => {
    const plans = Array.from({ length: NETWORKS }, (_, i) => planOf(FIRST_SEED + i));
    const results = await runNetworks(plans, AT_ONCE, compare);
    const summary = summaryOf(results);
    console.log(summary.text);
    const wrong = results.flatMap(({ plan, disagreements }) =>
      disagreements.map(
        ({ from, to, said, answered }) =>
          `seed ${plan.seed} (${plan.shape}): ${from} → ${to}: said ${said}, ping ${answered ? "answered" : "did not answer"}`,
      ),
    );
    expect(wrong).toEqual([]);
    expect(summary.unknownShare).toBeLessThan(UNKNOWN_LIMIT);
  }, 600_000);
});
