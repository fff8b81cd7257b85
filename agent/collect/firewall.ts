// Owns the firewall collector: which hooks have a chain, by `nft -j list chains` and the tables that old iptables left in
// /proc. Rules are not read: path says `unknown` where a filter might decide.
import type { Report } from "../../shared/report.ts";
import { failure, type Host } from "../host.ts";
import { cut, parseJson, type Section, short } from "./section.ts";

export type FirewallChain = NonNullable<NonNullable<Report["firewall"]>[number]>;

type Nft = { nftables?: { chain?: { family?: string; hook?: string; type?: string; policy?: string } }[] };

/** Parses `nft -j list chains`: base chains alone (those with a hook). @returns null: no such JSON. */
export function parseNftChains(text: string): FirewallChain[] | null {
  const parsed = parseJson<Nft>(text);
  if (!Array.isArray(parsed?.nftables)) return null;
  const chains: FirewallChain[] = [];
  for (const { chain } of parsed.nftables) {
    if (chain?.hook === undefined) continue;
    chains.push({
      family: short(chain.family ?? "ip"),
      hook: short(chain.hook),
      type: short(chain.type ?? "filter"),
      policy: chain.policy === undefined ? null : short(chain.policy),
    });
  }
  return chains;
}

/** Tables of the old iptables: each has hooks of its own that this file does not tell. */
export function parseTableNames(text: string, family: "ip" | "ip6"): FirewallChain[] {
  return text
    .split("\n")
    .filter((name) => name !== "")
    .map((name) => ({ family, hook: null, type: short(name), policy: null }));
}

export async function collectFirewall(host: Host): Promise<Section<FirewallChain[]>> {
  const [nft, old4, old6] = await Promise.all([
    host.run(["nft", "-j", "list", "chains"]),
    host.proc("net/ip_tables_names"),
    host.proc("net/ip6_tables_names"),
  ]);
  const old = [
    ...(old4.ok ? parseTableNames(old4.text, "ip") : []),
    ...(old6.ok ? parseTableNames(old6.text, "ip6") : []),
  ];
  if (nft.is === "ok") {
    const chains = parseNftChains(nft.stdout);
    if (chains === null) return { data: null, status: "error: nft printed no JSON" };
    const { items, truncated } = cut([...chains, ...old]);
    return { data: items, status: "ok", ...(truncated ? { truncated } : {}) };
  }
  // Without nft nobody can say what nftables hold.
  if (nft.is === "missing") return { data: null, status: "ok" };
  return { data: null, status: `error: ${failure("nft", nft)}` };
}
