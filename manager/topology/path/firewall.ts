// Owns where a host's firewall may decide about a packet. Rules are not reported, only that a hook has a chain: so what
// passes one is not certain. Pure.
import type { Report } from "../../../shared/report.ts";
import type { Doubt } from "./lookup.ts";

/**
 * The doubt that a host's firewall casts on a packet; null: nothing of it can be in the way. Of all hooks only `forward`
 * leaves alone what a host sends or receives itself. Every other matters everywhere, and in every family: a router's
 * `output` sees the tunnel's outer packets and the answers to its neighbours' solicitations.
 */
export function firewallDoubt(report: Report, forwards: boolean): Doubt | null {
  if (report.firewall == null) return { kind: "firewall", text: "its firewall could not be read" };
  const chain = report.firewall.find(({ hook }) => forwards || hook !== "forward");
  if (chain === undefined) return null;
  const name = `${chain.family} ${chain.type ?? "filter"}`;
  return {
    kind: "firewall",
    text: chain.hook === null ? `it has iptables rules (${name})` : `it has a ${name} hook at ${chain.hook}`,
  };
}
