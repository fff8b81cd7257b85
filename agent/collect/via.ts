// Owns what each peer's packets leave by: one `ip -force -j -batch` of `route get <endpoint> mark <fwmark>` for all.
import { canonicalAddress, parseEndpoint } from "../../shared/net.ts";
import type { Peer, Wireguard } from "../../shared/report.ts";
import type { Host } from "../host.ts";
import { parseJson, short } from "./section.ts";

type RouteGet = { dst?: string; dev?: string; prefsrc?: string; mark?: number };

const nameOf = (address: string, mark: number) => `${address} ${mark}`;

/** Parses the batch's output: a line of JSON for each answer; an unreachable one leaves none. By `address mark`. */
export function parseRouteGets(text: string): Map<string, NonNullable<Peer["via"]>> {
  const found = new Map<string, NonNullable<Peer["via"]>>();
  // iproute2 wraps long arrays: an answer ends where its bracket does.
  for (const chunk of text.split(/\]\s*(?=\[)/)) {
    const trimmed = chunk.trim();
    if (trimmed === "") continue;
    for (const item of parseJson<RouteGet[]>(
      trimmed.endsWith("]") && (trimmed.match(/\[/g)?.length ?? 0) === (trimmed.match(/\]/g)?.length ?? 0)
        ? trimmed
        : `${trimmed}]`,
    ) ?? []) {
      const address = item.dst === undefined ? null : canonicalAddress(item.dst);
      if (address === null || item.dev === undefined) continue;
      found.set(nameOf(address, item.mark ?? 0), {
        interface: short(item.dev),
        source: item.prefsrc === undefined ? null : canonicalAddress(item.prefsrc),
      });
    }
  }
  return found;
}

/** Fills `via` of every peer with an endpoint. Without iproute2 it stays absent. */
export async function addVia(host: Host, wireguard: readonly Wireguard[]): Promise<void> {
  const asked = new Set<string>();
  for (const item of wireguard) {
    for (const peer of item.peers ?? []) {
      const endpoint = peer.endpoint === null ? null : parseEndpoint(peer.endpoint);
      if (endpoint !== null) asked.add(nameOf(endpoint.address, item.fwmark ?? 0));
    }
  }
  if (asked.size === 0) return;
  const stdin = [...asked].map((name) => {
    const [address, mark] = name.split(" ");
    return `route get ${address} mark ${mark}\n`;
  });
  const result = await host.run(["ip", "-force", "-j", "-batch", "-"], { stdin: stdin.join("") });
  // -force goes on after an unreachable one, and ends with 1.
  if (result.is !== "ok" && !(result.is === "failed" && result.code === 1)) return;
  const answers = parseRouteGets(result.stdout);
  if (result.is === "failed" && answers.size === 0 && /unknown|usage/i.test(result.stderr)) return;
  for (const item of wireguard) {
    for (const peer of item.peers ?? []) {
      const endpoint = peer.endpoint === null ? null : parseEndpoint(peer.endpoint);
      if (endpoint !== null) peer.via = answers.get(nameOf(endpoint.address, item.fwmark ?? 0)) ?? null;
    }
  }
}
