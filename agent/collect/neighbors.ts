// Owns the neighbours collector: who answered on the wire. `ip -s -j neigh` where iproute2 is there, else the complete
// entries of /proc/net/arp.
import { canonicalAddress, canonicalMac, isLinkLocal, parseAddress } from "../../shared/net.ts";
import type { Neighbor } from "../../shared/report.ts";
import { failure, type Host } from "../host.ts";
import { cut, parseJson, type Section, short } from "./section.ts";

/** Entries confirmed longer ago are no evidence of now (2-topology.md, physical edges). */
const CONFIRMED_S = 3600;
// Set by an administrator or never asked for: they prove nothing.
const NO_EVIDENCE = new Set(["FAILED", "INCOMPLETE", "NOARP", "PERMANENT", "NONE"]);
/** ATF_COM of linux/if_arp.h: the entry is complete. */
const ATF_COM = 0x2;

type IpNeighbor = { dst?: string; dev?: string; lladdr?: string; confirmed?: number; state?: string[] };

function entry(address: string | undefined, mac: string | undefined, name: string | undefined): Neighbor | null {
  const canonical = address === undefined ? null : canonicalAddress(address);
  const hardware = mac === undefined ? null : canonicalMac(mac);
  if (canonical === null || hardware === null || name === undefined || hardware === "00:00:00:00:00:00") return null;
  return { address: canonical, mac: hardware, interface: short(name) };
}

/** Parses `ip -s -j neigh`: REACHABLE entries and those confirmed within the hour. */
export function parseIpNeigh(text: string): Neighbor[] | null {
  const list = parseJson<IpNeighbor[]>(text);
  if (!Array.isArray(list)) return null;
  const neighbors: Neighbor[] = [];
  for (const item of list) {
    const states = item.state ?? [];
    if (states.some((state) => NO_EVIDENCE.has(state))) continue;
    if (!states.includes("REACHABLE") && !(item.confirmed !== undefined && item.confirmed <= CONFIRMED_S)) continue;
    const found = entry(item.dst, item.lladdr, item.dev);
    // A link-local address is the MAC said again.
    if (found !== null && !isLinkLocal(parseAddress(found.address)!)) neighbors.push(found);
  }
  return neighbors;
}

/** Parses /proc/net/arp (net/ipv4/arp.c). `problems` counts lines that do not fit. */
export function parseProcArp(text: string): { neighbors: Neighbor[]; problems: number } {
  const neighbors: Neighbor[] = [];
  let problems = 0;
  for (const row of text.split("\n").slice(1)) {
    if (row.trim() === "") continue;
    const [address, , flags, mac, , ...name] = row.trim().split(/\s+/);
    if (!/^0x[0-9a-f]+$/i.test(flags ?? "") || name.length === 0) {
      problems++;
      continue;
    }
    if ((Number(flags) & ATF_COM) === 0) continue;
    const found = entry(address, mac, name.join(" "));
    if (found !== null) neighbors.push(found);
    else problems++;
  }
  return { neighbors, problems };
}

export async function collectNeighbors(host: Host): Promise<Section<Neighbor[]>> {
  const result = await host.run(["ip", "-s", "-j", "neigh"]);
  const parsed = result.is === "ok" ? parseIpNeigh(result.stdout.trim() === "" ? "[]" : result.stdout) : null;
  if (parsed !== null) {
    const { items, truncated } = cut(parsed);
    return { data: items, status: "ok", ...(truncated ? { truncated } : {}) };
  }
  const arp = await host.proc("net/arp");
  if (!arp.ok) {
    const why =
      result.is === "ok" || result.is === "missing"
        ? `cannot read /proc/net/arp (${arp.reason})`
        : failure("ip", result);
    return { data: null, status: `error: ${why}` };
  }
  const { neighbors, problems } = parseProcArp(arp.text);
  const { items, truncated } = cut(neighbors);
  return {
    data: items,
    status: problems > 0 ? `partial: ${problems} lines of /proc/net/arp do not fit` : "ok",
    ...(truncated ? { truncated } : {}),
  };
}
