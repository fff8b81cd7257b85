// Owns where a host's firewall may decide about a packet. Rules are not reported, only that a hook has a chain: so what
// passes one is not certain. Pure.
import type { Report } from "../../../shared/report.ts";
import type { Doubt } from "./lookup.ts";

/** What a host is to a packet. */
export type Role = "sender" | "router" | "receiver";

/** Netfilter's hooks by the order in which a packet meets them. */
const HOOKS: Readonly<Record<Role, readonly string[]>> = {
  sender: ["output", "postrouting", "egress"],
  router: ["ingress", "prerouting", "forward", "postrouting", "egress"],
  receiver: ["ingress", "prerouting", "input"],
};

/** The doubt that the host's firewall casts on a packet; null: no hook is in its way. */
export function firewallDoubt(report: Report, family: 4 | 6, role: Role): Doubt | null {
  if (report.firewall == null) return { kind: "firewall", text: "its firewall could not be read" };
  for (const chain of report.firewall) {
    // arp and bridge chains see the frames that carry the packet, netdev ones everything.
    if (chain.family === (family === 4 ? "ip6" : "ip") || (chain.family === "arp" && family === 6)) continue;
    if (chain.hook !== null && !HOOKS[role].includes(chain.hook)) continue;
    const name = `${chain.family} ${chain.type ?? "filter"}`;
    return {
      kind: "firewall",
      text: chain.hook === null ? `it has iptables rules (${name})` : `it has a ${name} hook at ${chain.hook}`,
    };
  }
  return null;
}
