// Owns where a host's firewall may decide about a packet. Rules are not reported, only that a hook has a chain: so what
// passes one is not certain. Pure.
import type { Report } from "../../../shared/report.ts";
import type { Doubt } from "./lookup.ts";

type Chain = NonNullable<NonNullable<Report["firewall"]>[number]>;

function doubtOf(report: Report, matters: (chain: Chain) => boolean): Doubt | null {
  if (report.firewall == null) return { kind: "firewall", text: "its firewall could not be read" };
  const chain = report.firewall.find(matters);
  if (chain === undefined) return null;
  const name = `${chain.family} ${chain.type ?? "filter"}`;
  return {
    kind: "firewall",
    text: chain.hook === null ? `it has iptables rules (${name})` : `it has a ${name} hook at ${chain.hook}`,
  };
}

/**
 * The doubt that a host's firewall casts on a packet; null: nothing of it can be in the way. Of all hooks only `forward`
 * leaves alone what a host sends or receives itself. Every other matters everywhere, and in every family: a router's
 * `output` sees the tunnel's outer packets and the answers to its neighbours' solicitations.
 */
export function firewallDoubt(report: Report, forwards: boolean): Doubt | null {
  return doubtOf(report, ({ hook }) => forwards || hook !== "forward");
}

/** Hooks before a packet from outside is routed. */
const EARLY: readonly (string | null)[] = ["prerouting", "ingress"];
/** Tables of the old iptables that have one of them and can change where a packet goes. */
const EARLY_TABLES: readonly (string | null)[] = ["nat", "mangle", "raw"];

/** The doubt about where a packet from outside goes at all: it may have another destination, or a mark, by then. */
export function earlyDoubt(report: Report): Doubt | null {
  return doubtOf(report, ({ hook, type }) => (hook === null ? EARLY_TABLES.includes(type) : EARLY.includes(hook)));
}

/** The doubt about a packet's addresses beyond this host; who answers it may be another, and answer to another. */
export function natDoubt(report: Report): Doubt | null {
  return doubtOf(report, ({ type }) => type === "nat");
}
