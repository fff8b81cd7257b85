// Owns the walk of one packet from host to host, until it is delivered or something stops it. Pure.
import type { EdgeState, PathHop, TopologyEdge, Verdict } from "../../../shared/api.ts";
import { type Address, formatAddress, parseAddress } from "../../../shared/net.ts";
import type { Report, Route } from "../../../shared/report.ts";
import type { TopologyReader } from "../../model.ts";
import { arrival } from "./arrival.ts";
import { peerOf } from "./cryptokey.ts";
import { earlyDoubt, firewallDoubt, natDoubt } from "./firewall.ts";
import { type Doubt, type DoubtKind, type Lookup, lookup, type NextHop, routeText } from "./lookup.ts";
import { neighborAt, type Place } from "./segment.ts";
import { chooseSource, sourceOf } from "./source.ts";

/** Linux's net.ipv4.ip_default_ttl and net.ipv6.conf.*.hop_limit. */
const TTL = 64;
/** Multipath behind multipath multiplies: beyond this many hosts in all, the branches count as different. */
const MAX_VISITS = 512;

/** How a doubt begins its reason; programs may count by it. */
export const DOUBT_TEXTS: Readonly<Record<DoubtKind, string>> = {
  firewall: "a firewall may decide",
  rule_selector: "a policy rule cannot be evaluated",
  routes_truncated: "its routes are truncated",
  multipath: "multipath branches differ",
  no_iproute2: "no iproute2 on the host",
};

/** States in which an edge passes nothing. */
const CLOSED: readonly EdgeState[] = ["stale", "never", "down", "one_sided", "key_mismatch"];
/** States of an edge whose ends have spoken lately: whoever has no endpoint in its report has learned one since. */
const SPEAKING: readonly EdgeState[] = ["up", "late", "lossy"];

export type Walk = {
  verdict: Verdict;
  reason: string | null;
  source: string | null;
  /** Least of what the way takes, in bytes; null: unknown. */
  path_mtu: number | null;
  hops: PathHop[];
  /** The node that the packet was delivered to. */
  reached: string | null;
  /** Why its addresses may have been rewritten on the way, so that the answer takes another; null: they were not. */
  rewritten: string | null;
};

type Step = Omit<Walk, "path_mtu"> & { mtu: number; doubt: string | null };
type At = { node: string; iif: string; source: Address | null; ttl: number; seen: ReadonlySet<string> };

class Walker {
  visits = 0;
  constructor(
    readonly topology: TopologyReader,
    readonly destination: Address,
  ) {}

  name(node: string): string {
    return this.topology.agent(node)?.hostname ?? this.topology.node(node)?.label ?? node;
  }

  /** What becomes of the packet from here on. */
  at({ node, iif, source, ttl, seen }: At): Step {
    const own = iif === "lo";
    const report = this.topology.effective(node);
    const doubtful = ({ kind, text }: Doubt) => `${DOUBT_TEXTS[kind]}: ${this.name(node)}: ${text}`;
    const doubtText = (doubt: Doubt | null) => (doubt === null ? null : doubtful(doubt));
    const early = own || report === null ? null : doubtText(earlyDoubt(report));
    const nat = report === null ? null : doubtText(natDoubt(report));
    const hop: PathHop = {
      node,
      interface: null,
      rule: null,
      route: null,
      peer: null,
      allowed_ip: null,
      edge: null,
      state: null,
      note: null,
    };
    const end = (verdict: Verdict, reason: string | null, more: Partial<Step> = {}): Step => {
      hop.note ??= reason;
      return {
        verdict,
        reason: reason === null ? null : `${this.name(node)}: ${reason}`,
        source: source === null ? null : formatAddress(source),
        hops: [hop],
        reached: null,
        mtu: Number.POSITIVE_INFINITY,
        doubt: early,
        rewritten: early === null ? null : nat,
        ...more,
      };
    };
    const unknown = (doubt: Doubt) => end("unknown", doubt.text, { doubt: doubtful(doubt) });

    if (report === null) return end("foreign", "it has not reported yet");
    const place = `${node} ${iif}`;
    if (seen.has(place)) return end("loop", "the packet was here before");
    if (++this.visits > MAX_VISITS) return unknown({ kind: "multipath", text: "too many branches to follow" });

    const { answer, bound } = this.#route(report, source, iif);
    if (answer.is === "local") {
      hop.interface = answer.interface;
      if (!own) {
        const taken = arrival(report, source!, this.destination, iif);
        if (taken.is === "filtered") return end("rp_filtered", taken.reason);
        if (taken.is === "doubt") return unknown(taken.doubt);
      }
      return end("delivered", null, {
        reached: node,
        doubt: doubtText(firewallDoubt(report, false)),
        rewritten: own ? null : nat,
        ...(source === null ? { source: formatAddress(this.destination) } : {}),
      });
    }
    if (!own) {
      const { v4, v6 } = report.forwarding ?? { v4: report.system?.ip_forward, v6: report.system?.ipv6_forward };
      if ((this.destination.family === 4 ? v4 : v6) !== true)
        return end("not_forwarding", `IPv${this.destination.family} forwarding is off`);
    }
    if (answer.is === "doubt") return unknown(answer.doubt);
    if (answer.is === "none") return end("no_route", `no route to ${formatAddress(this.destination)}`);
    hop.rule = answer.rule;
    if (answer.is === "refused") {
      hop.route = answer.route;
      return end(
        "blocked",
        `${answer.type} by ${answer.route === null ? "rule" : "route"} "${answer.route ?? answer.rule}"`,
      );
    }
    hop.route = routeText(answer.route);
    if (!own) {
      const taken = arrival(report, source!, this.destination, iif);
      if (taken.is === "filtered") return end("rp_filtered", taken.reason);
      if (taken.is === "doubt") return unknown(taken.doubt);
      if (ttl <= 1) return end("ttl", "the packet's time to live ends here");
    }
    const leave = (way: PathHop, route: Route, next: NextHop, from: Address): Step => {
      const step = this.#send(report, { ...way, interface: next.interface }, next, {
        node,
        iif,
        source: from,
        ttl: own ? ttl : ttl - 1,
        seen: new Set([...seen, place]),
      });
      return { ...step, source: formatAddress(from), mtu: Math.min(step.mtu, route.mtu ?? step.mtu) };
    };
    /** A connection of IPv4 asks again once its source is chosen (ip_route_connect): a rule may know better then. */
    const others: Step[] = [];
    const branches = answer.hops.map((next): Step => {
      const chosen = bound ?? parseAddress(chooseSource(report, this.destination, answer.route, next) ?? "");
      if (chosen === null) {
        const reason = "it has no address to send from";
        return end("no_route", reason, { hops: [{ ...hop, interface: next.interface, note: reason }] });
      }
      const step = leave(hop, answer.route, next, chosen);
      if (bound !== null || chosen.family === 6) return step;
      const again = lookup(report, { destination: this.destination, source: chosen, iif });
      if (again.is === "route" && again.route !== answer.route) {
        const way = { ...hop, rule: again.rule, route: routeText(again.route) };
        others.push(...again.hops.map((hopAgain) => leave(way, again.route, hopAgain, chosen)));
      } else if (again.is === "refused") {
        const because = again.route === null ? `rule "${again.rule}"` : `route "${again.route}"`;
        return { ...end("blocked", `${again.type} by ${because}`), source: formatAddress(chosen) };
      } else if (again.is === "none") {
        return { ...end("no_route", `no route to ${formatAddress(this.destination)} from ${formatAddress(chosen)}`) };
      } else if (again.is === "doubt") return unknown(again.doubt);
      return step;
    });
    const first = others[0] ?? branches[0]!;
    const firewall = firewallDoubt(report, !own);
    const differs = (step: Step) =>
      step.verdict !== first.verdict || step.reached !== first.reached || step.source !== first.source;
    let doubt = [...others, ...branches].find((step) => step.doubt !== null)?.doubt ?? null;
    // What goes the same way as `first` may be split over next hops; what asks again may go another way.
    const together = others.length > 0 ? others : branches;
    const split = together.find(differs);
    const unbound = branches.find(differs);
    if (split !== undefined)
      doubt = doubtful({
        kind: "multipath",
        text: `${together.length} next hops, one ${first.verdict}, one ${split.verdict}`,
      });
    else if (unbound !== undefined)
      doubt = doubtful({
        kind: "rule_selector",
        text: `by its rules for sources, what binds one first is ${first.verdict}, what does not is ${unbound.verdict}`,
      });
    if (firewall !== null) doubt = doubtful(firewall);
    if (together.length > 1) first.hops[0]!.note ??= `${together.length} next hops: the first is shown`;
    const rewritten = nat ?? [...others, ...branches].find((step) => step.rewritten !== null)?.rewritten ?? null;
    return { ...first, doubt, rewritten };
  }

  /**
   * What the host does with the packet, and the source that it has by then. One of its own in IPv6 that finds no way asks
   * again with a source (ip6_dst_lookup_tail).
   */
  #route(report: Report, source: Address | null, iif: string): { answer: Lookup; bound: Address | null } {
    const { destination } = this;
    const answer = lookup(report, { destination, source, iif });
    const isLost = answer.is === "none" || answer.is === "refused";
    if (source !== null || destination.family === 4 || !isLost) return { answer, bound: source };
    const bound = parseAddress(sourceOf(report, destination) ?? "");
    return bound === null ? { answer, bound } : { answer: lookup(report, { destination, source: bound, iif }), bound };
  }

  /** Out by an interface, and on at the next host. */
  #send(report: Report, hop: PathHop, next: NextHop, from: At & { source: Address }): Step {
    const out = report.interfaces?.find((item) => item.name === next.interface);
    const mtu = out?.mtu ?? Number.POSITIVE_INFINITY;
    const end = (verdict: Verdict, reason: string): Step => ({
      verdict,
      reason: `${this.name(hop.node)}: ${reason}`,
      source: formatAddress(from.source),
      hops: [{ ...hop, note: reason }],
      reached: null,
      mtu,
      doubt: null,
      rewritten: null,
    });
    const on = (place: Place): Step => {
      const rest = this.at({ ...from, node: place.node, iif: place.interface });
      return { ...rest, hops: [hop, ...rest.hops], mtu: Math.min(mtu, rest.mtu) };
    };
    if (out?.carrier === false) return end("edge_down", `${next.interface} has no carrier`);
    const wireguard = report.wireguard?.find((item) => item.interface === next.interface);
    if (wireguard === undefined) {
      const target = next.gateway ?? formatAddress(this.destination);
      const found = neighborAt(
        this.topology,
        { node: hop.node, interface: next.interface },
        out?.kind ?? "physical",
        target,
      );
      if (found === null) return end("foreign", `no agent is known to have ${target} beyond ${next.interface}`);
      const edge = this.topology
        .edgesOf(hop.node)
        .find(
          (item) =>
            item.layer !== "relay" && item.layer !== "wireguard" && joins(item, hop.node, next.interface, found),
        );
      hop.edge = edge?.id ?? null;
      hop.state = edge?.state ?? null;
      return on(found);
    }

    if (wireguard.peers === null) return end("foreign", `the peers of ${next.interface} could not be read`);
    const picked = peerOf(wireguard.peers, this.destination);
    if (picked === null)
      return end("no_peer", `no peer of ${next.interface} has ${formatAddress(this.destination)} in its AllowedIPs`);
    hop.peer = picked.peer.public_key;
    hop.allowed_ip = picked.allowedIp;
    const link = this.topology.edgeOfPeer(hop.node, next.interface, picked.peer.public_key);
    if (link === null) return end("edge_down", `the peer ${picked.peer.public_key} is no other host`);
    const { edge } = link;
    hop.edge = edge.id;
    hop.state = edge.state;
    const far = link.end === "a" ? edge.b : edge.a;
    if (CLOSED.includes(edge.state) && edge.cause !== "view_unavailable")
      return end(
        "edge_down",
        `the link to ${this.name(far.node)} is ${edge.state}${edge.reason === null ? "" : `: ${edge.reason}`}`,
      );
    if (picked.peer.endpoint === null && !SPEAKING.includes(edge.state))
      return end("edge_down", `it knows no endpoint of ${this.name(far.node)}, which has not spoken yet`);
    const there = this.topology.effective(far.node)?.wireguard?.find((item) => item.interface === far.interface);
    if (there == null || there.peers === null || edge.state === "unknown")
      return end("foreign", `no agent says what ${this.name(far.node)} does with it`);
    const sender = peerOf(there.peers, from.source);
    if (sender === null || sender.peer.public_key !== wireguard.public_key) {
      const text = formatAddress(from.source);
      const instead = sender === null ? "to nobody" : "to another peer";
      return end("source_filtered", `${this.name(far.node)} grants the source ${text} ${instead} in its AllowedIPs`);
    }
    return on({ node: far.node, interface: there.interface });
  }
}

/** Whether an edge joins an interface of a node with a place. */
function joins({ a, b }: TopologyEdge, node: string, interfaceName: string, far: Place): boolean {
  return [
    [a, b],
    [b, a],
  ].some(
    ([near, other]) =>
      near!.node === node &&
      near!.interface === interfaceName &&
      other!.node === far.node &&
      other!.interface === far.interface,
  );
}

/** Walks a packet from `node` to `destination`; without `source`, the one that the host would choose. */
export function walk(topology: TopologyReader, node: string, source: Address | null, destination: Address): Walk {
  const { doubt, mtu, ...step } = new Walker(topology, destination).at({
    node,
    iif: "lo",
    source,
    ttl: TTL,
    seen: new Set(),
  });
  const path_mtu = Number.isFinite(mtu) ? mtu : null;
  if (doubt === null) return { ...step, path_mtu };
  const otherwise = step.verdict === "unknown" ? "" : `; else ${step.verdict}`;
  return { ...step, path_mtu, verdict: "unknown", reason: doubt + otherwise };
}
