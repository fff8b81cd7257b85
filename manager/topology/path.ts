// Owns the answer to "can A reach this address, and how?": forwarding over the collected state, there and back
// (2-topology.md, Path). Pure.
import type { PathResponse, PathTrace } from "../../shared/api.ts";
import { formatAddress, isLinkLocal, isLoopback, parseAddress } from "../../shared/net.ts";
import type { Report } from "../../shared/report.ts";
import type { TopologyReader } from "../model.ts";
import { cachedPrefix } from "./prefixes.ts";
import { walk } from "./path/walk.ts";

/** A report's addresses, WireGuard's before the others; `only` leaves out all but these interfaces. */
function addressesOf(report: Report, only?: ReadonlySet<string>): string[] {
  const tunnels = new Set((report.wireguard ?? []).map((item) => item.interface));
  const listed = (report.interfaces ?? []).filter(({ name }) => (only ?? tunnels).has(name));
  const rest = only === undefined ? (report.interfaces ?? []).filter(({ name }) => !tunnels.has(name)) : [];
  return [...listed, ...rest].flatMap(({ addresses }) =>
    addresses.flatMap((text) => {
      const own = cachedPrefix(text);
      return own === null || isLoopback(own) || isLinkLocal(own) ? [] : [formatAddress(own)];
    }),
  );
}

/** The addresses at which an agent is spoken to: those in networks that both are in, else all of WireGuard's, else all. */
function targetsOf(topology: TopologyReader, from: string, to: string): string[] {
  const report = topology.effective(to);
  if (report === null) return [];
  const networksOf = (agentId: string) =>
    topology.edgesOf(agentId).flatMap((edge) => {
      const own = edge.a.node === agentId ? edge.a : edge.b;
      return edge.network === null || own.interface === null ? [] : [{ network: edge.network, name: own.interface }];
    });
  const shared = new Set(networksOf(from).map(({ network }) => network));
  const overlay = new Set(
    networksOf(to)
      .filter(({ network }) => shared.has(network))
      .map(({ name }) => name),
  );
  for (const only of [overlay, new Set((report.wireguard ?? []).map((item) => item.interface))]) {
    const found = addressesOf(report, only);
    if (found.length > 0) return found;
  }
  return addressesOf(report);
}

function traceBothWays(topology: TopologyReader, from: string, to: string): { there: PathTrace; back: PathTrace } {
  const destination = parseAddress(to)!;
  const { reached, ...there } = walk(topology, from, null, destination);
  const report = topology.effective(from);
  // Without a route no source was chosen: the way back then leads to what others know the host by.
  const known =
    there.source ??
    (report === null ? [] : addressesOf(report)).find((text) => parseAddress(text)!.family === destination.family) ??
    null;
  const owners = [...new Set(topology.ownersOfAddress(to).map((owner) => owner.agent_id))];
  const answering = reached ?? (owners.length === 1 ? owners[0]! : null);
  const trace = { source: there.source, destination: to, ...pick(there) };
  if (answering === null || known === null) {
    const reason =
      known === null
        ? "the sender has no address to answer to"
        : owners.length === 0
          ? `no agent has ${to}: its way back is not seen`
          : `${owners.length} agents have ${to}, and none was reached`;
    const back: PathTrace = {
      source: to,
      destination: known ?? "",
      verdict: "foreign",
      reason,
      path_mtu: null,
      hops: [],
    };
    return { there: trace, back: answered(back, there.rewritten) };
  }
  const back = pick(walk(topology, answering, destination, parseAddress(known)!));
  return { there: trace, back: answered({ source: to, destination: known, ...back }, there.rewritten) };
}

/** Where addresses may be rewritten on the way there, the answer need not go from this one to that one. */
function answered(back: PathTrace, rewritten: string | null): PathTrace {
  if (rewritten === null || back.verdict === "unknown") return back;
  return { ...back, verdict: "unknown", reason: `${rewritten}; else ${back.verdict}` };
}

const pick = ({ verdict, reason, path_mtu, hops }: Omit<PathTrace, "source" | "destination">) => ({
  verdict,
  reason,
  path_mtu,
  hops,
});

/**
 * Traces a packet from an agent to an agent's overlay addresses, or to one address, and its answer back.
 * @param to An agent's id, or a canonical address.
 */
export function tracePath(topology: TopologyReader, from: string, to: string, now: number): PathResponse {
  const targets = parseAddress(to) !== null ? [to] : targetsOf(topology, from, to);
  const traces = targets.map((target) => traceBothWays(topology, from, target));
  const nowhere: PathTrace = {
    source: null,
    destination: to,
    verdict: "foreign",
    reason: "no address of it is known",
    path_mtu: null,
    hops: [],
  };
  const { there, back } = traces[0] ?? { there: nowhere, back: nowhere };
  return { from, to, at: now, ...there, back, traces };
}
