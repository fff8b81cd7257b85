// Owns how path's tests get a topology: from reports, as agents send them, through the manager's own inference.
import type { Collected, Report } from "../../shared/report.ts";
import { Topology } from "../../manager/topology/topology.ts";

export const NOW = Date.UTC(2026, 10, 23, 12);

/** The id of the agent on the host of this name; made of its letters, so that it is the same in every run. */
export function idOf(name: string): string {
  const hex = new Bun.CryptoHasher("sha256").update(name).digest("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** A WireGuard public key for a name. */
export function keyOf(name: string): string {
  return new Bun.CryptoHasher("sha256").update(`key ${name}`).digest("base64");
}

export type Sections = Partial<
  Pick<
    Collected,
    | "interfaces"
    | "routes"
    | "rules"
    | "wireguard"
    | "neighbors"
    | "forwarding"
    | "firewall"
    | "routes_truncated"
    | "system"
  >
>;

/** A report of the host `name` with these sections; the others are empty, and forwarding is off. */
export function reportOf(name: string, sections: Sections, at = NOW): Report {
  return {
    v: 1,
    type: "report",
    agent_id: idOf(name),
    tick: 1,
    nonce: "0".repeat(32),
    sent_at: at,
    collected_at: at,
    boot_id: "boot",
    agent_version: "test",
    interval_s: 30,
    dropped: 0,
    collectors: {},
    system: null,
    interfaces: [],
    routes: [],
    rules: [],
    neighbors: [],
    wireguard: [],
    forwarding: { v4: false, v6: false },
    firewall: [],
    ...sections,
  };
}

/** What the manager makes of two reports of each host, name → sections, the first of them at `since`. */
export function topologyOf(hosts: Record<string, Sections>, at = NOW, since = at): Topology {
  const agents = Object.keys(hosts).map((name) => ({
    agent_id: idOf(name),
    public_key: "",
    hostname: name,
    agent_version: "test",
    first_seen_at: since,
    registered_at: since,
    blocked: false,
    regenerate: false,
  }));
  const topology = new Topology(agents, { nodes: [], edges: [], networks: [] }, since - 3_600_000);
  // Twice: a neighbour entry is evidence only once its owner has been heard.
  for (const [i, moment] of [since, at].entries()) {
    for (const [name, sections] of Object.entries(hosts)) {
      topology.observe(
        {
          report: { ...reportOf(name, sections, moment), tick: i + 1 },
          received_at: moment,
          observed_at: moment,
          relay_path: [],
          via: "direct",
          late: false,
          superseded: false,
          skew_ms: 0,
        },
        moment,
      );
    }
  }
  return topology;
}
