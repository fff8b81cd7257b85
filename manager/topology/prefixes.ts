// Owns what AllowedIPs and routes say of a peer: the prefixes that it routes for others, whether it is the way out, and
// whether a tunnel's packets go round in it. Pure.
import { covers, onlyAddress, parseEndpoint, parsePrefix, type Prefix } from "../../shared/net.ts";
import type { Peer, Report, Route } from "../../shared/report.ts";

// Parsing by BigInt is dear, and the same few thousand texts come every 30 s.
const MAX_CACHED = 50_000;
const cache = new Map<string, Prefix | null>();
export function cachedPrefix(text: string): Prefix | null {
  let prefix = cache.get(text);
  if (prefix === undefined) {
    if (cache.size >= MAX_CACHED) cache.clear();
    prefix = parsePrefix(text);
    cache.set(text, prefix);
  }
  return prefix;
}

const NONE: readonly string[] = [];

/**
 * Of `allowedIps`, what the far end routes for others: no default route, nothing of the mesh's own subnets, and no host
 * address of the far end itself (of a foreign peer, any host address is taken for its own).
 */
export function attachedPrefixes(
  ownAddresses: readonly string[],
  farAddresses: ReadonlyMap<string, string> | null,
  allowedIps: readonly string[],
): readonly string[] {
  let found: string[] | null = null;
  for (const text of allowedIps) {
    if (text === "0.0.0.0/0" || text === "::/0") continue;
    const host = onlyAddress(text);
    if (host !== null && (farAddresses === null || farAddresses.has(host))) continue;
    const prefix = cachedPrefix(text);
    if (prefix === null) continue;
    // Halves of the default route, as some configurations write them, are no LAN.
    if (prefix.length < 2) continue;
    const mesh = ownAddresses.some((own) => {
      const parsed = cachedPrefix(own);
      return parsed !== null && (covers(parsed, prefix) || covers(prefix, parsed));
    });
    if (!mesh) (found ??= []).push(text);
  }
  return found ?? NONE;
}

const MAIN = new Set(["main", "254"]);
/** Whether a route stands in the main table, as all do that /proc tells of. */
export function isMain(route: Route): boolean {
  return route.table === undefined || MAIN.has(route.table);
}

/** Whether a host's default route resolves to `name`: by the main table's best, by halves, or by a policy table. */
export function exitsBy(report: Report, name: string): boolean {
  let best: Route | null = null;
  let halves = 0;
  for (const route of report.routes ?? []) {
    if (route.destination === "0.0.0.0/0" && isMain(route)) {
      if (best === null || (route.metric ?? 0) < (best.metric ?? 0)) best = route;
    } else if (
      route.interface === name &&
      isMain(route) &&
      (route.destination === "0.0.0.0/1" || route.destination === "128.0.0.0/1")
    )
      halves++;
    else if (route.destination === "0.0.0.0/0" && route.interface === name) {
      // wg-quick: a table of its own that a rule leads to before main.
      const rule = report.rules?.find(({ family, table }) => family === 4 && table === route.table);
      if (rule !== undefined && rule.priority < 32766) return true;
    }
  }
  return halves === 2 || best?.interface === name;
}

/** The interface that a packet to `address` leaves by, by the main table alone; null: no route. */
export function routedBy(report: Report, address: string): string | null {
  const target = cachedPrefix(address);
  if (target === null) return null;
  let best: Route | null = null;
  let length = -1;
  for (const route of report.routes ?? []) {
    if (route.interface === null || !isMain(route)) continue;
    const prefix = cachedPrefix(route.destination);
    if (prefix === null || !covers(prefix, target)) continue;
    if (prefix.length > length || (prefix.length === length && (route.metric ?? 0) < (best?.metric ?? 0))) {
      best = route;
      length = prefix.length;
    }
  }
  return best?.interface ?? null;
}

/** The interface that a peer's packets leave by: what the host said, else its main table (without a mark); null: unknown. */
export function carrierOf(report: Report, peer: Peer): string | null {
  if (peer.via !== undefined) return peer.via?.interface ?? null;
  if (peer.endpoint === null) return null;
  const endpoint = parseEndpoint(peer.endpoint);
  return endpoint === null ? null : routedBy(report, endpoint.address);
}

/** The peer of a WireGuard interface that a packet to `address` goes to, by AllowedIPs; null: none. */
export function peerTowards(report: Report, interfaceName: string, address: string): Peer | null {
  const target = cachedPrefix(address);
  if (target === null) return null;
  let best: Peer | null = null;
  let length = -1;
  for (const peer of report.wireguard?.find((item) => item.interface === interfaceName)?.peers ?? []) {
    for (const text of peer.allowed_ips) {
      const prefix = cachedPrefix(text);
      if (prefix === null || prefix.length <= length || !covers(prefix, target)) continue;
      best = peer;
      length = prefix.length;
    }
  }
  return best;
}

/** The host's interfaces whose packets leave by another one of it: WireGuard's, and tunnels. */
export function layeredInterfaces(report: Report): ReadonlySet<string> {
  const names = new Set<string>();
  for (const item of report.wireguard ?? []) names.add(item.interface);
  for (const item of report.interfaces ?? []) if (item.tunnel !== null) names.add(item.name);
  return names;
}

const LOCAL_AND_DEFAULT = new Set(["local", "255", "default", "253"]);
/** Whether the main table alone decides where a WireGuard interface's packets go, as far as the report tells. */
function isByMain(report: Report, interfaceName: string): boolean {
  if ((report.routes_truncated ?? 0) > 0) return false;
  if ((report.wireguard?.find((item) => item.interface === interfaceName)?.fwmark ?? 0) !== 0) return false;
  return (report.rules ?? []).every(({ table }) => table !== null && (MAIN.has(table) || LOCAL_AND_DEFAULT.has(table)));
}

function dialled(peer: Peer): string | null {
  return peer.endpoint === null ? null : (parseEndpoint(peer.endpoint)?.address ?? null);
}

/**
 * Whether what a peer's tunnel sends by `carrier` goes into that tunnel again, straight or through the host's others
 * (layeredInterfaces). Without the host's own word (`via`), only where the main table decides.
 */
export function isOwnTunnel(report: Report, interfaceName: string, peer: Peer, carrier: string): boolean {
  if (peer.via === undefined && !isByMain(report, interfaceName)) return false;
  return leadsTo(report, carrier, dialled(peer), interfaceName, new Set());
}

function leadsTo(
  report: Report,
  carrier: string | null,
  address: string | null,
  home: string,
  passed: ReadonlySet<string>,
): boolean {
  if (carrier === home) return true;
  if (carrier === null || passed.has(carrier)) return false; // a circle of others
  const onward = new Set(passed).add(carrier);
  if (report.wireguard?.some((item) => item.interface === carrier) === true) {
    const next = address === null ? null : peerTowards(report, carrier, address);
    if (next === null || (next.via === undefined && !isByMain(report, carrier))) return false;
    return leadsTo(report, carrierOf(report, next), dialled(next), home, onward);
  }
  const below = report.interfaces?.find((item) => item.name === carrier);
  if (below?.tunnel == null) return false;
  // Which of a VXLAN's several remotes has the address is not known: all must lead there.
  const remotes = below.tunnel.remote === null ? (below.remotes ?? []) : [below.tunnel.remote];
  const outer = (remote: string) => routedBy(report, remote) ?? below.parent;
  return remotes.length > 0 && remotes.every((remote) => leadsTo(report, outer(remote), remote, home, onward));
}
