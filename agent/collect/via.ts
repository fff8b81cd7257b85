// Owns what each peer's packets leave by: one `ip -force -j -batch` of `route get <endpoint> mark <fwmark>` for each mark
// in use, mostly one.
import { canonicalAddress, parseEndpoint } from "../../shared/net.ts";
import type { Peer, Wireguard } from "../../shared/report.ts";
import type { Host } from "../host.ts";
import { parseJson, short } from "./section.ts";

type Via = NonNullable<Peer["via"]>;
type RouteGet = { dst?: string; dev?: string; prefsrc?: string };

/**
 * Parses the batch's output: a line of JSON for each answer, an unreachable one leaves none. By address: of the mark that
 * was asked for, IPv4 answers tell, IPv6 ones do not (iproute2 6.1, Linux 6.18).
 */
export function parseRouteGets(text: string): Map<string, Via> {
  const found = new Map<string, Via>();
  for (const line of text.split("\n")) {
    const items = parseJson<RouteGet[]>(line);
    if (!Array.isArray(items)) continue;
    for (const item of items) {
      const address = typeof item?.dst === "string" ? canonicalAddress(item.dst) : null;
      if (address === null || typeof item.dev !== "string") continue;
      found.set(address, {
        interface: short(item.dev),
        source: typeof item.prefsrc === "string" ? canonicalAddress(item.prefsrc) : null,
      });
    }
  }
  return found;
}

/** The answers for one mark; null: `ip` gave none at all (missing, or it knows no -j). */
async function ask(host: Host, mark: number, addresses: ReadonlySet<string>): Promise<Map<string, Via> | null> {
  const stdin = [...addresses].map((address) => `route get ${address} mark ${mark}\n`).join("");
  const result = await host.run(["ip", "-force", "-j", "-batch", "-"], { stdin });
  if (result.is === "ok") return parseRouteGets(result.stdout);
  // -force goes on after an unreachable one, and ends with 1.
  if (result.is !== "failed" || result.code !== 1 || /usage|unrecognized|unknown/i.test(result.stderr)) return null;
  return parseRouteGets(result.stdout);
}

/** Fills `via` of every peer with an endpoint. Without iproute2 it stays absent. */
export async function addVia(host: Host, wireguard: readonly Wireguard[]): Promise<void> {
  const byMark = new Map<number, { addresses: Set<string>; peers: { peer: Peer; address: string }[] }>();
  for (const item of wireguard) {
    for (const peer of item.peers ?? []) {
      const endpoint = peer.endpoint === null ? null : parseEndpoint(peer.endpoint);
      if (endpoint === null) continue;
      const mark = item.fwmark ?? 0;
      const group = byMark.get(mark) ?? { addresses: new Set(), peers: [] };
      byMark.set(mark, group);
      group.addresses.add(endpoint.address);
      group.peers.push({ peer, address: endpoint.address });
    }
  }
  await Promise.all(
    [...byMark].map(async ([mark, { addresses, peers }]) => {
      const answers = await ask(host, mark, addresses);
      if (answers === null) return;
      for (const { peer, address } of peers) peer.via = answers.get(address) ?? null;
    }),
  );
}
