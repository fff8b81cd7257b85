// Owns what a host's kernel asks of a packet's source as it comes in: the reverse-path filter and "nobody but me has my
// address" (fib_validate_source in net/ipv4/fib_frontend.c). IPv6 has neither. Pure.
import { type Address, formatAddress } from "../../../shared/net.ts";
import type { Report } from "../../../shared/report.ts";
import { cachedPrefix } from "../prefixes.ts";
import { type Doubt, localInterface, lookup } from "./lookup.ts";

/** net.ipv4.conf.*.rp_filter */
const LOOSE = 2;

export type Arrival = { is: "ok" } | { is: "filtered"; reason: string } | { is: "doubt"; doubt: Doubt };

/** Whether the host takes a packet from `source` to `destination` that comes in by `iif`. */
export function arrival(report: Report, source: Address, destination: Address, iif: string): Arrival {
  if (source.family === 6) return { is: "ok" };
  const from = formatAddress(source);
  const own = localInterface(report, source);
  if (own !== null) return { is: "filtered", reason: `the source ${from} is its own address on ${own}` };
  const item = report.interfaces?.find(({ name }) => name === iif);
  const filter = item?.rp_filter ?? 0;
  if (filter === 0) return { is: "ok" };
  // The kernel asks as if it sent to the source itself.
  const back = lookup(report, { destination: source, source: destination, iif: "lo" });
  if (back.is === "doubt") return back;
  const mode = filter === LOOSE ? "loose" : "strict";
  if (back.is !== "route")
    return { is: "filtered", reason: `rp_filter is ${mode} on ${iif}, and it has no route to ${from}` };
  if (back.hops.some((hop) => hop.interface === iif)) return { is: "ok" };
  // Without an address on the interface, loose is as good as strict.
  const hasAddress = item?.addresses.some((text) => cachedPrefix(text)?.family === 4) === true;
  if (filter === LOOSE && hasAddress) return { is: "ok" };
  return {
    is: "filtered",
    reason: `rp_filter is ${mode} on ${iif}, and its route to ${from} leaves by ${back.hops[0]!.interface}`,
  };
}
