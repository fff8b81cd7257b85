// Owns a collection: all collectors at once, each on its own, and what they bring home as the sections of a report.
import { MAX_REPORT_BYTES } from "../shared/limits.ts";
import type { Report } from "../shared/report.ts";
import { reason } from "../shared/log.ts";
import { collectFirewall } from "./collect/firewall.ts";
import { collectInterfaces } from "./collect/interfaces.ts";
import { collectNeighbors } from "./collect/neighbors.ts";
import { collectRoutes, collectRules } from "./collect/routes.ts";
import { type Section, short } from "./collect/section.ts";
import { collectSystem } from "./collect/system.ts";
import { addVia } from "./collect/via.ts";
import { collectWireguard } from "./collect/wireguard.ts";
import type { Host } from "./host.ts";

export type Sections = Pick<
  Report,
  | "collectors"
  | "system"
  | "interfaces"
  | "routes"
  | "neighbors"
  | "wireguard"
  | "rules"
  | "forwarding"
  | "firewall"
  | "routes_truncated"
  | "veths"
  | "truncated"
>;

/** Room for what is stamped at send, and for the envelope's own fields. */
const STAMP_BYTES = 4096;

/** One collector: its failure is its own affair. */
async function isolated<T, S extends Section<T>>(collector: Promise<S>): Promise<S | { data: null; status: string }> {
  try {
    return await collector;
  } catch (error) {
    return { data: null, status: short(`error: ${reason(error)}`) };
  }
}

/** Collects everything, at most about 10 s: each program has its own deadline of 5 s. Never rejects. */
export async function collect(host: Host): Promise<Sections> {
  const [wireguard, interfaces, routes, rules, neighbors, system, firewall] = await Promise.all([
    isolated(
      collectWireguard(host).then(async (section) => {
        if (section.data !== null) await addVia(host, section.data);
        return section;
      }),
    ),
    isolated(collectInterfaces(host)),
    isolated(collectRoutes(host)),
    isolated(collectRules(host)),
    isolated(collectNeighbors(host)),
    isolated(collectSystem(host)),
    isolated(collectFirewall(host)),
  ]);
  // A userspace WireGuard is a tun to the kernel: whatever wg lists is one.
  const tunnels = new Set((wireguard.data ?? []).map((item) => item.interface));
  for (const item of interfaces.data ?? []) if (tunnels.has(item.name)) item.kind = "wireguard";
  const routesTruncated = "routesTruncated" in routes ? routes.routesTruncated : 0;
  const sections: Sections = {
    collectors: {
      wireguard: short(wireguard.status),
      interfaces: short(interfaces.status),
      routes: short(routes.status),
      neighbors: short(neighbors.status),
      system: short(system.status),
      rules: short(rules.status),
      firewall: short(firewall.status),
    },
    system: system.data,
    interfaces: interfaces.data,
    routes: routes.data,
    neighbors: neighbors.data,
    wireguard: wireguard.data,
    rules: rules.data,
    forwarding: "forwarding" in system ? system.forwarding : null,
    firewall: firewall.data,
    ...(routesTruncated > 0 ? { routes_truncated: routesTruncated } : {}),
    ...("veths" in interfaces && interfaces.veths > 0 ? { veths: interfaces.veths } : {}),
    ...([wireguard, interfaces, rules, neighbors, firewall].some(
      (section) => "truncated" in section && section.truncated === true,
    )
      ? { truncated: true }
      : {}),
  };
  return fitted(sections);
}

/** The sections within a report's megabyte: what matters least for the picture goes first. */
export function fitted(sections: Sections, limit = MAX_REPORT_BYTES - STAMP_BYTES): Sections {
  let result = sections;
  const size = () => Buffer.byteLength(JSON.stringify(result));
  const shorten = <K extends "routes" | "neighbors" | "interfaces">(key: K) => {
    while ((result[key]?.length ?? 0) > 0 && size() > limit) {
      const list = result[key]!;
      const kept = list.slice(0, Math.floor(list.length / 2)) as Sections[K];
      result = { ...result, [key]: kept, truncated: true };
      if (key === "routes") result.routes_truncated = (result.routes_truncated ?? 0) + list.length - kept!.length;
    }
  };
  if (size() <= limit) return result;
  shorten("neighbors");
  shorten("routes");
  shorten("interfaces");
  while (size() > limit) {
    const wireguard = (result.wireguard ?? []).map((item) => ({
      ...item,
      peers: item.peers?.slice(0, Math.floor(item.peers.length / 2)) ?? null,
    }));
    result = { ...result, wireguard, truncated: true };
    if (wireguard.every((item) => (item.peers?.length ?? 0) === 0)) break;
  }
  return result;
}

/** What the runtime adds to the sections before it is stamped and signed. */
export type ReportHead = Pick<
  Report,
  "tick" | "collected_at" | "boot_id" | "agent_version" | "interval_s" | "dropped"
> & { delivery: Report["delivery"] };

export type Unstamped = Omit<Report, "agent_id" | "nonce" | "sent_at" | "age_ms">;

export function assemble(head: ReportHead, sections: Sections): Unstamped {
  return { v: 1, type: "report", ...head, ...sections };
}
