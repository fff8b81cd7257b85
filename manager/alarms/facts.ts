// Owns what alarms remember of an agent's last report: its configuration as far as a change of it is an alarm. Pure.
import type { Interface, Peer, Report } from "../../shared/report.ts";

export type PeerFacts = { key: string; endpoint: string | null; allowedIps: string[] };
export type WireguardFacts = { interface: string; key: string | null; peers: PeerFacts[] };
export type Facts = {
  bootId: string;
  dropped: number;
  relayLoops: number;
  hopLimits: number;
  /** null: never read. */
  wireguard: WireguardFacts[] | null;
  /** Interfaces that the default route or a tunnel's packets leave by, tunnels themselves left out. */
  underlays: Underlay[];
  /** Interfaces that are down or without carrier. */
  down: string[];
  /** Of `underlays`, those that are not there. */
  gone: string[];
};
export type Underlay = { interface: string; carries: "default route" | "tunnels" };

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item, index) => item === b[index]);
}

function samePeer(a: PeerFacts, b: Peer): boolean {
  return a.key === b.public_key && a.endpoint === b.endpoint && sameList(a.allowedIps, b.allowed_ips);
}

/** The facts of a report (sections that failed filled in). What did not change is shared with `before`. */
export function factsOf(report: Report, before: Facts | null): Facts {
  const carriers = underlays(report, before?.underlays ?? []);
  return {
    bootId: report.boot_id,
    dropped: report.dropped,
    relayLoops: report.delivery?.relay_refused.loop ?? 0,
    hopLimits: report.delivery?.relay_refused.hop_limit ?? 0,
    wireguard: wireguardFacts(report, before?.wireguard ?? null),
    underlays: carriers,
    down: report.interfaces?.filter(isDown).map(({ name }) => name) ?? before?.down ?? [],
    gone: goneOf(report, carriers) ?? before?.gone ?? [],
  };
}

/** null: the interfaces could not be read. */
function goneOf(report: Report, carriers: readonly Underlay[]): string[] | null {
  const { interfaces } = report;
  if (interfaces === null || interfaces.length === 0) return null;
  return carriers
    .map((underlay) => underlay.interface)
    .filter((name) => !interfaces.some((item) => item.name === name));
}

export function isDown(item: Pick<Interface, "up" | "carrier">): boolean {
  return item.up === false || item.carrier === false;
}

/**
 * What of a report says how WireGuard, its interfaces and its routes are configured, part by part: parts that did not
 * change are the same values as before.
 */
export function configurationOf(facts: Facts, report: Report): unknown[] {
  const parts: unknown[] = [facts.wireguard, report.routes, report.routes_truncated, report.rules];
  for (const wg of report.wireguard ?? []) parts.push(wg.listen_port);
  for (const item of report.interfaces ?? []) parts.push(item.name, item.addresses, item.up, item.carrier);
  return parts;
}

function wireguardFacts(report: Report, before: WireguardFacts[] | null): WireguardFacts[] | null {
  if (report.wireguard === null) return before;
  let changed = before === null || before.length !== report.wireguard.length;
  const now = report.wireguard.map((wg, index): WireguardFacts => {
    const at = before?.[index];
    const was = at?.interface === wg.interface ? at : before?.find((item) => item.interface === wg.interface);
    // One that could not be read keeps its last view: it is never "lists nobody".
    if (wg.peers === null) {
      if (was !== at || was === undefined) changed = true;
      return was ?? { interface: wg.interface, key: wg.public_key, peers: [] };
    }
    const peers = wg.peers;
    if (
      was !== undefined &&
      was === at &&
      was.key === wg.public_key &&
      was.peers.length === peers.length &&
      was.peers.every((peer, place) => samePeer(peer, peers[place]!))
    ) {
      return was;
    }
    changed = true;
    return {
      interface: wg.interface,
      key: wg.public_key,
      peers: peers.map((peer) => ({
        key: peer.public_key,
        endpoint: peer.endpoint,
        allowedIps: peer.allowed_ips,
      })),
    };
  });
  return changed ? now : before;
}

/** What carried the default route or tunnels stays known while it carries nothing: when it goes down, its routes go with it. */
function underlays(report: Report, before: readonly Underlay[]): Underlay[] {
  const tunnels = new Set((report.wireguard ?? []).map((wg) => wg.interface));
  const present = new Set<string>();
  for (const item of report.interfaces ?? []) {
    present.add(item.name);
    if (item.tunnel !== null) tunnels.add(item.name);
  }
  const found = new Map<string, Underlay["carries"]>();
  for (const wg of report.wireguard ?? []) {
    for (const peer of wg.peers ?? []) {
      const name = peer.via?.interface;
      if (name !== undefined && !tunnels.has(name)) found.set(name, "tunnels");
    }
  }
  for (const route of report.routes ?? []) {
    if (route.destination !== "0.0.0.0/0" && route.destination !== "::/0") continue;
    if (route.table !== undefined && route.table !== "main" && route.table !== "254") continue;
    if (route.interface !== null && !tunnels.has(route.interface) && route.interface !== "lo") {
      found.set(route.interface, "default route");
    }
  }
  // Only one that is gone or down keeps its place: routes that merely moved to another interface are no fault.
  for (const { interface: name, carries } of before) {
    if (found.has(name)) continue;
    const item = report.interfaces?.find((candidate) => candidate.name === name);
    if (report.interfaces === null || !present.has(name) || item?.up === false || item?.carrier === false) {
      found.set(name, carries);
    }
  }
  return [...found].map(([name, carries]) => ({ interface: name, carries }));
}
