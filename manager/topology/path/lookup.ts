// Owns what a host's kernel does with a destination: policy rules in order, then the table's longest prefix and lowest
// metric (net/core/fib_rules.c, net/ipv4/fib_trie.c, net/ipv6/ip6_fib.c). A packet has mark 0. Pure.
import { type Address, contains } from "../../../shared/net.ts";
import type { Report, Route, Rule } from "../../../shared/report.ts";
import { cachedPrefix } from "../prefixes.ts";

/** Why a verdict is not certain (2-topology.md, Path): the only reasons there are. */
export type DoubtKind = "firewall" | "rule_selector" | "routes_truncated" | "multipath" | "no_iproute2";
export type Doubt = { kind: DoubtKind; text: string };

export type Packet = {
  destination: Address;
  /** null: its own packet, whose source the route will choose. */
  source: Address | null;
  /** The interface that it came in by; `lo` for the host's own packets. */
  iif: string;
};

export type NextHop = { gateway: string | null; interface: string };

export type Lookup =
  | { is: "local"; rule: string; interface: string }
  | { is: "route"; rule: string; route: Route; hops: NextHop[] }
  | { is: "refused"; rule: string; route: string | null; type: "blackhole" | "unreachable" | "prohibit" }
  | { is: "none" }
  | { is: "doubt"; doubt: Doubt };

/** Names of the kernel's own tables (iproute2's rt_tables). */
const TABLE_NUMBERS: Readonly<Record<string, string>> = { default: "253", main: "254", local: "255" };
const tableOf = (name: string) => TABLE_NUMBERS[name] ?? name;
const LOCAL = "255";
const MAIN = "254";

const plainRule = (family: 4 | 6, priority: number, table: string): Rule => ({
  family,
  priority,
  not: false,
  src: null,
  dst: null,
  fwmark: null,
  iif: null,
  table,
  action: "lookup",
  suppress_prefixlen: null,
  other: false,
});

/** A rule as `ip rule` prints it. */
export function ruleText(rule: Rule): string {
  const words = [`${rule.priority}:${rule.not ? " not" : ""} from ${rule.src ?? "all"}`];
  if (rule.dst !== null) words.push(`to ${rule.dst}`);
  if (rule.fwmark !== null) words.push(`fwmark ${rule.fwmark}`);
  if (rule.iif !== null) words.push(`iif ${rule.iif}`);
  words.push(rule.table === null ? rule.action : `lookup ${rule.table}`);
  if (rule.suppress_prefixlen !== null) words.push(`suppress_prefixlength ${rule.suppress_prefixlen}`);
  return words.join(" ");
}

/** A route as `ip route` prints it. */
export function routeText(route: Route): string {
  const target = route.destination === "0.0.0.0/0" || route.destination === "::/0" ? "default" : route.destination;
  const words = [route.type === undefined || route.type === "unicast" ? target : `${route.type} ${target}`];
  if (route.gateway !== null) words.push(`via ${route.gateway}`);
  if (route.interface !== null) words.push(`dev ${route.interface}`);
  if (route.table !== undefined && tableOf(route.table) !== MAIN) words.push(`table ${route.table}`);
  if (route.source != null) words.push(`src ${route.source}`);
  if (route.metric !== null && route.metric !== 0) words.push(`metric ${route.metric}`);
  for (const hop of route.nexthops ?? []) {
    words.push("nexthop");
    if (hop.gateway !== null) words.push(`via ${hop.gateway}`);
    if (hop.interface !== null) words.push(`dev ${hop.interface}`);
  }
  return words.join(" ");
}

/** Whether a rule selects the packet; null: by a selector that reports do not carry. */
function selects(rule: Rule, { source, destination, iif }: Packet): boolean | null {
  const within = (text: string, address: Address | null) => {
    const prefix = cachedPrefix(text);
    // A source that is not chosen yet is all zeros to the kernel: in no prefix but /0.
    return prefix !== null && (address === null ? prefix.length === 0 : contains(prefix, address));
  };
  const known =
    (rule.src === null || within(rule.src, source)) &&
    (rule.dst === null || within(rule.dst, destination)) &&
    // Mark 0 fits where the value is 0, whatever the mask.
    (rule.fwmark === null || Number(rule.fwmark.split("/")[0]) === 0) &&
    (rule.iif === null || rule.iif === iif);
  if (known && rule.other) return null;
  return known !== rule.not;
}

/**
 * IPv4 takes a gateway that is an address of the route's own interface for "on the link": its next hop is the destination
 * itself. One of another interface is a gateway like any.
 */
function isOwnV4(report: Report, gateway: string | null, name: string): boolean {
  const address = gateway === null ? null : cachedPrefix(gateway);
  return address !== null && address.family === 4 && localInterface(report, address) === name;
}

function hopsOf(report: Report, route: Route): NextHop[] {
  const listed =
    route.nexthops != null && route.nexthops.length > 0
      ? route.nexthops
      : [{ gateway: route.gateway, interface: route.interface }];
  return listed.flatMap(({ gateway, interface: name }) => {
    // The kernel marks next hops dead when their device goes down.
    if (name === null || report.interfaces?.find((item) => item.name === name)?.up === false) return [];
    return [{ gateway: isOwnV4(report, gateway, name) ? null : gateway, interface: name }];
  });
}

type Match = { route: Route; hops: NextHop[]; length: number };

/** The best route of a table: longest prefix, then lowest metric, then first. Equal IPv6 ones are one multipath. */
function bestRoute(report: Report, table: string, target: Address): Match | null {
  const matches: Match[] = [];
  for (const route of report.routes ?? []) {
    if (tableOf(route.table ?? "main") !== table) continue;
    const prefix = cachedPrefix(route.destination);
    if (prefix === null || !contains(prefix, target)) continue;
    const isUnicast = route.type === undefined || route.type === "unicast";
    const hops = isUnicast ? hopsOf(report, route) : [];
    if (!isUnicast || hops.length > 0) matches.push({ route, hops, length: prefix.length });
  }
  const metricOf = (match: Match) => match.route.metric ?? 0;
  matches.sort((a, b) => b.length - a.length || metricOf(a) - metricOf(b));
  const best = matches[0];
  if (best === undefined || target.family === 4) return best ?? null;
  const equal = matches.filter((match) => match.length === best.length && metricOf(match) === metricOf(best));
  return { ...best, hops: equal.flatMap(({ hops }) => hops) };
}

/** The interface that has the address for its own; null: none. IPv4 addresses stay local while their interface is down. */
export function localInterface(report: Report, address: Address): string | null {
  for (const item of report.interfaces ?? []) {
    for (const text of item.addresses) {
      const own = cachedPrefix(text);
      if (own === null || own.family !== address.family) continue;
      if (own.value === address.value) return item.name;
      if (item.kind === "loopback" && own.family === 4 && contains(own, address)) return item.name;
    }
  }
  return null;
}

/** What the host does with a packet. */
export function lookup(report: Report, packet: Packet): Lookup {
  const { family } = packet.destination;
  const local = localInterface(report, packet.destination);
  if (report.rules == null) {
    if (local !== null) return { is: "local", rule: ruleText(plainRule(family, 0, "local")), interface: local };
    return { is: "doubt", doubt: { kind: "no_iproute2", text: "without iproute2 its rules and tables are not known" } };
  }
  let rules = report.rules.filter((rule) => rule.family === family).sort((a, b) => a.priority - b.priority);
  // A kernel without policy routing for this family has these two tables.
  if (rules.length === 0) rules = [plainRule(family, 0, "local"), plainRule(family, 32766, "main")];
  for (const rule of rules) {
    const selected = selects(rule, packet);
    if (selected === false || rule.action === "nop") continue;
    const text = ruleText(rule);
    if (selected === null || rule.action === "goto" || (rule.action === "lookup" && rule.table === null))
      return {
        is: "doubt",
        doubt: { kind: "rule_selector", text: `rule "${text}" has a part that reports do not carry` },
      };
    if (rule.action === "blackhole" || rule.action === "unreachable" || rule.action === "prohibit")
      return { is: "refused", rule: text, route: null, type: rule.action };
    if (rule.table === null) continue;
    const table = tableOf(rule.table);
    if (table === LOCAL) {
      if (local !== null) return { is: "local", rule: text, interface: local };
      continue;
    }
    if ((report.routes_truncated ?? 0) > 0)
      return {
        is: "doubt",
        doubt: {
          kind: "routes_truncated",
          text: `${report.routes_truncated} of its routes were left out of its report`,
        },
      };
    const best = bestRoute(report, table, packet.destination);
    if (best === null) continue;
    const type = best.route.type ?? "unicast";
    if (type === "throw") continue;
    if (type === "blackhole" || type === "unreachable" || type === "prohibit")
      return { is: "refused", rule: text, route: routeText(best.route), type };
    if (rule.suppress_prefixlen !== null && rule.suppress_prefixlen >= 0 && best.length <= rule.suppress_prefixlen)
      continue;
    return { is: "route", rule: text, route: best.route, hops: best.hops };
  }
  return { is: "none" };
}
