// Owns the routes and rules collectors: `ip -j route show table all` and `ip -j rule` where iproute2 is there; else
// /proc/net/route and /proc/net/ipv6_route, which hide types, further next hops and policy tables.
import { canonicalAddress, canonicalPrefix, formatAddress, formatPrefix, network } from "../../shared/net.ts";
import type { Route, Rule } from "../../shared/report.ts";
import { failure, type Host } from "../host.ts";
import { cut, parseJson, type Section, short } from "./section.ts";

/** A BGP host has 100,000 routes (2-topology.md). */
export const MAX_ROUTES = 2000;

// linux/route.h
const RTF_UP = 0x1;
const RTF_GATEWAY = 0x2;
const RTF_REJECT = 0x200;
// linux/ipv6_route.h
const RTF_ANYCAST = 0x00100000;
const RTF_LOCAL = 0x80000000;
/** Every table ends with the kernel's own reject, `ip6_null_entry`, which has this metric. */
const NULL_ENTRY_METRIC = "ffffffff";

/** Eight hex digits of an IPv4 address as the kernel has it in memory: little-endian on every machine that we build for. */
function littleEndian(hex: string): number | null {
  if (!/^[0-9A-Fa-f]{8}$/.test(hex)) return null;
  const value = parseInt(hex, 16);
  return (
    ((value & 0xff) * 0x1000000 +
      ((value >>> 8) & 0xff) * 0x10000 +
      ((value >>> 16) & 0xff) * 0x100 +
      (value >>> 24)) >>>
    0
  );
}

function maskLength(mask: number): number | null {
  const length = mask === 0 ? 0 : 32 - Math.round(Math.log2(2 ** 32 - mask));
  return length >= 0 && length <= 32 && (length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0) === mask
    ? length
    : null;
}

/** Parses /proc/net/route (net/ipv4/fib_trie.c, fib_route_seq_show). `problems` counts lines that do not fit. */
export function parseProcRoute(text: string): { routes: Route[]; problems: number } {
  const routes: Route[] = [];
  let problems = 0;
  for (const row of text.split("\n").slice(1)) {
    if (row.trim() === "") continue;
    const fields = row
      .trim()
      .split("\t")
      .map((field) => field.trim());
    const [name, destinationHex, gatewayHex, flagsHex, , , metric, maskHex] = fields;
    const destination = littleEndian(destinationHex ?? "");
    const gateway = littleEndian(gatewayHex ?? "");
    const mask = littleEndian(maskHex ?? "");
    const length = mask === null ? null : maskLength(mask);
    if (
      fields.length < 8 ||
      destination === null ||
      gateway === null ||
      length === null ||
      !/^[0-9]+$/.test(metric!) ||
      !/^[0-9A-Fa-f]{1,8}$/.test(flagsHex!)
    ) {
      problems++;
      continue;
    }
    const flags = parseInt(flagsHex!, 16);
    if ((flags & RTF_UP) === 0) continue;
    routes.push({
      destination: formatPrefix(network({ family: 4, value: BigInt(destination), length })),
      gateway:
        (flags & RTF_GATEWAY) !== 0 && gateway !== 0 ? formatAddress({ family: 4, value: BigInt(gateway) }) : null,
      interface: name === "*" ? null : short(name!),
      metric: Number(metric),
      ...((flags & RTF_REJECT) !== 0 || name === "*" ? { type: "unreachable" as const } : {}),
    });
  }
  return { routes, problems };
}

function ipv6(hex: string): bigint | null {
  return /^[0-9a-fA-F]{32}$/.test(hex) ? BigInt(`0x${hex}`) : null;
}

/** Parses /proc/net/ipv6_route (net/ipv6/route.c, rt6_info_route): all tables merged, with local and multicast ones. */
export function parseProcIpv6Route(text: string): { routes: Route[]; problems: number } {
  const routes: Route[] = [];
  let problems = 0;
  for (const row of text.split("\n")) {
    if (row.trim() === "") continue;
    const [destinationHex, lengthHex, , , gatewayHex, metricHex, , , flagsHex, name] = row.trim().split(/\s+/);
    const value = ipv6(destinationHex ?? "");
    const gateway = ipv6(gatewayHex ?? "");
    const length = parseInt(lengthHex ?? "", 16);
    const metric = parseInt(metricHex ?? "", 16);
    const flags = parseInt(flagsHex ?? "", 16);
    if (
      value === null ||
      gateway === null ||
      !(length >= 0 && length <= 128) ||
      Number.isNaN(metric) ||
      Number.isNaN(flags) ||
      name === undefined
    ) {
      problems++;
      continue;
    }
    const rejects = (flags & RTF_REJECT) !== 0;
    // Local and anycast ones, what lo has (but rejects, which all lie there), link-local and multicast are of no interest.
    // Nor is ::ffff:0:0/96, which Red Hat's scripts reject here: no IPv4 packet meets it, and as a.b.c.d it would read so.
    if (
      (flags & (RTF_LOCAL | RTF_ANYCAST)) !== 0 ||
      (name === "lo" && (!rejects || metricHex === NULL_ENTRY_METRIC)) ||
      value >> 120n === 0xffn ||
      value >> 118n === 0x3fan ||
      value >> 32n === 0xffffn
    )
      continue;
    routes.push({
      destination: formatPrefix(network({ family: 6, value, length })),
      gateway: (flags & RTF_GATEWAY) !== 0 && gateway !== 0n ? formatAddress({ family: 6, value: gateway }) : null,
      interface: short(name),
      metric,
      ...(rejects ? { type: "unreachable" as const } : {}),
    });
  }
  return { routes, problems };
}

/** As iproute2 prints it (ip/iproute.c). */
type IpRoute = {
  type?: string;
  dst?: string;
  gateway?: string;
  via?: { family?: string; host?: string };
  dev?: string;
  table?: string;
  metric?: number;
  prefsrc?: string;
  nexthops?: { gateway?: string; via?: { host?: string }; dev?: string; weight?: number }[];
  metrics?: { mtu?: number }[];
};

const TYPES = new Set(["unicast", "blackhole", "unreachable", "prohibit", "throw"]);

/** Parses `ip -j -4|-6 route show table all`. Broadcast, multicast, local and link-local ones are dropped. */
export function parseIpRoute(text: string, family: 4 | 6): Route[] | null {
  const list = parseJson<IpRoute[]>(text);
  if (!Array.isArray(list)) return null;
  const routes: Route[] = [];
  for (const item of list) {
    const type = item.type ?? "unicast";
    if (!TYPES.has(type) || item.table === "local") continue;
    const destination =
      item.dst === "default" || item.dst === undefined
        ? family === 4
          ? "0.0.0.0/0"
          : "::/0"
        : canonicalPrefix(item.dst);
    if (destination === null || destination === "fe80::/64" || destination.startsWith("ff00:")) continue;
    if (family === 6 && !destination.includes(":")) continue; // ::ffff:0:0/96, as below
    const gateway = item.gateway ?? item.via?.host;
    const mtu = item.metrics?.find((metric) => metric.mtu !== undefined)?.mtu;
    routes.push({
      destination,
      gateway: gateway === undefined ? null : canonicalAddress(gateway),
      interface: item.dev === undefined ? null : short(item.dev),
      metric: item.metric ?? 0,
      ...(item.table === undefined ? {} : { table: short(item.table) }),
      ...(type === "unicast" ? {} : { type: type as "blackhole" }),
      ...(item.prefsrc === undefined ? {} : { source: canonicalAddress(item.prefsrc) }),
      ...(item.nexthops === undefined
        ? {}
        : {
            nexthops: item.nexthops.map((hop) => ({
              gateway: canonicalAddress(hop.gateway ?? hop.via?.host ?? ""),
              interface: hop.dev === undefined ? null : short(hop.dev),
              weight: hop.weight ?? 1,
            })),
          }),
      ...(mtu === undefined ? {} : { mtu }),
    });
  }
  return routes;
}

/** As iproute2 prints it (ip/iprule.c). */
type IpRule = {
  priority?: number;
  not?: null;
  src?: string;
  srclen?: number;
  dst?: string;
  dstlen?: number;
  fwmark?: string;
  fwmask?: string;
  iif?: string;
  table?: string;
  action?: string;
  goto?: number;
  nop?: null;
  suppress_prefixlen?: number;
};
const CARRIED = new Set([
  "priority",
  "not",
  "src",
  "srclen",
  "dst",
  "dstlen",
  "fwmark",
  "fwmask",
  "iif",
  "table",
  "action",
  "goto",
  "nop",
  "suppress_prefixlen",
  "protocol",
  "flags",
]);

function selector(text: string | undefined, length: number | undefined): string | null {
  return text === undefined || text === "all"
    ? null
    : canonicalPrefix(length === undefined ? text : `${text}/${length}`);
}

/** Parses `ip -j -4|-6 rule`. */
export function parseIpRule(text: string, family: 4 | 6): Rule[] | null {
  const list = parseJson<IpRule[]>(text);
  if (!Array.isArray(list)) return null;
  return list.map((item) => ({
    family,
    priority: item.priority ?? 0,
    not: "not" in item,
    src: selector(item.src, item.srclen),
    dst: selector(item.dst, item.dstlen),
    fwmark:
      item.fwmark === undefined
        ? null
        : short(item.fwmask === undefined ? item.fwmark : `${item.fwmark}/${item.fwmask}`),
    iif: item.iif === undefined ? null : short(item.iif),
    table: item.table === undefined ? null : short(item.table),
    // A key of their own instead of `action` (ip/iprule.c, print_rule).
    action: short(item.action ?? ("nop" in item ? "nop" : item.goto === undefined ? "lookup" : "goto")),
    suppress_prefixlen: item.suppress_prefixlen ?? null,
    other: Object.keys(item).some((key) => !CARRIED.has(key)),
  }));
}

export type RoutesSection = Section<Route[]> & { routesTruncated: number };

export async function collectRoutes(host: Host): Promise<RoutesSection> {
  const [v4, v6, procRoute] = await Promise.all([
    host.run(["ip", "-j", "-4", "route", "show", "table", "all"]),
    host.run(["ip", "-j", "-6", "route", "show", "table", "all"]),
    host.proc("net/route"),
  ]);
  const problems: string[] = [];
  let routes = v4.is === "ok" ? parseIpRoute(v4.stdout.trim() === "" ? "[]" : v4.stdout, 4) : null;
  if (routes === null) {
    if (!procRoute.ok)
      return { data: null, status: `error: cannot read /proc/net/route (${procRoute.reason})`, routesTruncated: 0 };
    const parsed = parseProcRoute(procRoute.text);
    if (v4.is !== "missing" && v4.is !== "ok") problems.push(failure("ip", v4));
    if (parsed.problems > 0) problems.push(`${parsed.problems} lines of /proc/net/route do not fit`);
    routes = parsed.routes;
  }
  let six = v6.is === "ok" ? parseIpRoute(v6.stdout.trim() === "" ? "[]" : v6.stdout, 6) : null;
  if (six === null) {
    // A kernel without IPv6 has no such file: no routes.
    const text = await host.proc("net/ipv6_route");
    if (text.ok) {
      const parsed = parseProcIpv6Route(text.text);
      if (v6.is !== "missing" && v6.is !== "ok") problems.push(failure("ip", v6));
      if (parsed.problems > 0) problems.push(`${parsed.problems} lines of /proc/net/ipv6_route do not fit`);
      six = parsed.routes;
    } else if (!text.missing) problems.push(`cannot read /proc/net/ipv6_route (${text.reason})`);
  }
  const all = [...routes, ...(six ?? [])];
  return {
    data: all.slice(0, MAX_ROUTES),
    status: problems.length === 0 ? "ok" : `partial: ${[...new Set(problems)].join("; ").slice(0, 200)}`,
    routesTruncated: Math.max(0, all.length - MAX_ROUTES),
  };
}

/** null without iproute2: policy routing is not known then. */
export async function collectRules(host: Host): Promise<Section<Rule[]>> {
  const [v4, v6] = await Promise.all([host.run(["ip", "-j", "-4", "rule"]), host.run(["ip", "-j", "-6", "rule"])]);
  if (v4.is === "missing") return { data: null, status: "ok" };
  if (v4.is !== "ok") return { data: null, status: `error: ${failure("ip", v4)}` };
  const four = parseIpRule(v4.stdout, 4);
  if (four === null) return { data: null, status: "error: ip rule printed no JSON" };
  const six = v6.is === "ok" ? (parseIpRule(v6.stdout, 6) ?? []) : [];
  const { items, truncated } = cut([...four, ...six]);
  return { data: items, status: "ok", ...(truncated ? { truncated } : {}) };
}
