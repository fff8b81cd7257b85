// Owns the comparison: what the manager says of every ordered pair of a network, and what a real ping says.
import type { PathResponse, Verdict } from "../../shared/api.ts";
import { canonicalAddress } from "../../shared/net.ts";
import { tracePath } from "../../manager/topology/path.ts";
import { DOUBT_TEXTS } from "../../manager/topology/path/walk.ts";
import { idOf, NOW, type Sections, topologyOf } from "../topology/path_reader.ts";
import { BuiltNetwork } from "./build.ts";
import type { Plan } from "./plan.ts";

export type Disagreement = { from: string; to: string; said: Verdict; answered: boolean; path: PathResponse };
export type Comparison = {
  plan: Plan;
  /** Ordered pairs of host and address. */
  pairs: number;
  /** By verdict; of what is unknown, by reason. */
  verdicts: Map<string, number>;
  disagreements: Disagreement[];
  sections: Record<string, Sections>;
};

/** The verdict on "there and back": the way there's, and if that delivers, the way back's. Whichever is certain of a
 * failure decides. */
export function overall(path: PathResponse): { verdict: Verdict; reason: string | null } {
  const ways = [path, path.back];
  return (
    ways.find(({ verdict }) => verdict !== "delivered" && verdict !== "unknown") ??
    ways.find(({ verdict }) => verdict === "unknown") ??
    path
  );
}

function nameOf({ verdict, reason }: { verdict: Verdict; reason: string | null }): string {
  if (verdict !== "unknown") return verdict;
  return `unknown: ${Object.values(DOUBT_TEXTS).find((text) => reason?.startsWith(text)) ?? `not a listed reason (${reason})`}`;
}

/** Two tunnels that call each other at the same moment try again after 5 s (REKEY_TIMEOUT); a chain of them on a loaded
 * machine may take a few rounds. */
const SECOND_CHANCE_SECONDS = 30;

/** So often a network is looked at anew whose tunnels came up between its reports and its pings. */
const LOOKS = 5;

/** Builds a plan, and compares. */
export async function compare(plan: Plan): Promise<Comparison> {
  await using network = await BuiltNetwork.build(plan);
  // Tunnels shake hands and neighbours are resolved on the first packets; what counts comes after.
  await pingAll(network);
  let result = await look(plan, network);
  const cameUp = () => result.disagreements.some(({ said, answered }) => said === "edge_down" && answered);
  for (let looks = 1; looks < LOOKS && cameUp(); looks++) result = await look(plan, network);
  return result;
}

const targetsOf = ({ addresses }: BuiltNetwork, i: number) => [...new Set(addresses.filter((_, j) => j !== i).flat())];

/** By host, the addresses that answered it. */
function pingAll(network: BuiltNetwork): Promise<Set<string>[]> {
  return Promise.all(network.hosts.map((host, i) => network.ping(host, targetsOf(network, i))));
}

/** Reports first, then pings. */
async function look(plan: Plan, network: BuiltNetwork): Promise<Comparison> {
  const { hosts } = network;
  const sections: Record<string, Sections> = {};
  await Promise.all(hosts.map(async (host) => (sections[host.name] = await network.report(host))));
  const answers = await pingAll(network);
  const topology = topologyOf(sections, Date.now());
  const result: Comparison = { plan, pairs: 0, verdicts: new Map(), disagreements: [], sections };
  const silent: (() => Promise<void>)[] = [];
  for (const [i, host] of hosts.entries()) {
    for (const target of targetsOf(network, i)) {
      const path = tracePath(topology, idOf(host.name), canonicalAddress(target)!, NOW);
      const said = overall(path);
      result.pairs++;
      const name = nameOf(said);
      result.verdicts.set(name, (result.verdicts.get(name) ?? 0) + 1);
      if (said.verdict === "unknown") continue;
      const answered = answers[i]!.has(target);
      if (answered === (said.verdict === "delivered")) continue;
      const disagree = () =>
        result.disagreements.push({ from: host.name, to: target, said: said.verdict, answered, path });
      if (answered) disagree();
      else
        silent.push(async () => {
          // A loaded machine loses a ping now and then, and a tunnel may be in the middle of a handshake.
          if (!(await host.pingUntil(target, SECOND_CHANCE_SECONDS))) disagree();
        });
    }
  }
  await Promise.all(silent.map((again) => again()));
  return result;
}
