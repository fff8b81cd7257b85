// Owns the choice of a packet's source address: IPv4's first primary address of the way out (inet_select_addr in
// net/ipv4/devinet.c), IPv6's RFC 6724 (net/ipv6/addrconf.c). Pure.
import { type Address, contains, formatAddress, isLinkLocal, isLoopback, type Prefix } from "../../../shared/net.ts";
import type { Interface, Report, Route } from "../../../shared/report.ts";
import { cachedPrefix } from "../prefixes.ts";
import type { NextHop } from "./lookup.ts";

/** An interface's addresses of a family, secondary ones (a further one of the same subnet) left out. */
function primaryAddresses(item: Interface, family: 4 | 6): Prefix[] {
  const found: Prefix[] = [];
  for (const text of item.addresses) {
    const own = cachedPrefix(text);
    if (own === null || own.family !== family) continue;
    if (family === 4 && found.some((earlier) => earlier.length === own.length && contains(earlier, own))) continue;
    found.push(own);
  }
  return found;
}

function sourceV4(report: Report, hop: NextHop): Address | null {
  const interfaces = report.interfaces ?? [];
  const out = interfaces.find((item) => item.name === hop.interface);
  const own = out === undefined ? [] : primaryAddresses(out, 4);
  if (own.length > 0) {
    const gateway = hop.gateway === null ? null : cachedPrefix(hop.gateway);
    return (gateway === null ? undefined : own.find((prefix) => contains(prefix, gateway))) ?? own[0]!;
  }
  // An interface without address borrows the first of the others, in their order.
  for (const item of interfaces) {
    if (item.up === false) continue;
    const borrowed = primaryAddresses(item, 4).find((prefix) => !isLoopback(prefix) && !isLinkLocal(prefix));
    if (borrowed !== undefined) return borrowed;
  }
  return null;
}

/** The policy table of RFC 6724, section 2.1: prefix and label. Longest first. */
const LABELS: readonly (readonly [string, number])[] = [
  ["::1/128", 0],
  ["2001::/32", 5],
  ["2001:10::/28", 7],
  ["2002::/16", 2],
  ["fc00::/7", 6],
  ["::/0", 1],
];
const labelOf = (address: Address) => LABELS.find(([text]) => contains(cachedPrefix(text)!, address))?.[1] ?? 1;

/** Leading bits that two IPv6 addresses share. */
function commonBits(a: Address, b: Address): number {
  const difference = a.value ^ b.value;
  return difference === 0n ? 128 : 128 - difference.toString(2).length;
}

/** `outInterface` null: no route told of one. */
function sourceV6(report: Report, destination: Address, outInterface: string | null): Address | null {
  // What is compared, most weighty first: rules 2 (scope), 5 (interface), 6 (label), 8 (prefix).
  let best: { address: Prefix; score: number[] } | null = null;
  for (const item of report.interfaces ?? []) {
    if (item.up === false) continue;
    for (const address of primaryAddresses(item, 6)) {
      if (isLoopback(address)) continue;
      if (isLinkLocal(address) && item.name !== outInterface) continue;
      const score = [
        isLinkLocal(address) === isLinkLocal(destination) ? 1 : 0,
        item.name === outInterface ? 1 : 0,
        labelOf(address) === labelOf(destination) ? 1 : 0,
        Math.min(commonBits(address, destination), address.length),
      ];
      const place = best === null ? 0 : score.findIndex((value, index) => value !== best!.score[index]);
      if (best === null || (place >= 0 && score[place]! > best.score[place]!)) best = { address, score };
    }
  }
  return best?.address ?? null;
}

/** The source of a host's own packet by this route and next hop, canonical text; null: the host has no address. */
export function chooseSource(report: Report, destination: Address, route: Route, hop: NextHop): string | null {
  if (route.source != null) return route.source;
  const chosen = destination.family === 4 ? sourceV4(report, hop) : sourceV6(report, destination, hop.interface);
  return chosen === null ? null : formatAddress(chosen);
}

/** The IPv6 source of a host's own packet that found no route, canonical text; null: the host has no address. */
export function sourceOf(report: Report, destination: Address): string | null {
  const chosen = sourceV6(report, destination, null);
  return chosen === null ? null : formatAddress(chosen);
}
