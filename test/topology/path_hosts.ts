// Owns the parts of a host's report that path looks at, written by hand: interfaces, peers, routes, rules.
import type { Interface, InterfaceKind, Peer, Route, Rule, Wireguard } from "../../shared/report.ts";
import { keyOf, NOW, type Sections } from "./path_reader.ts";
import { item } from "./scene.ts";

/** A host whose sections a test may change before it reports. */
export type PathHost = Required<Pick<Sections, "interfaces" | "routes" | "rules" | "wireguard">> & Sections;

export function card(name: string, kind: InterfaceKind, addresses: string[], mtu: number): Interface {
  return item(name, kind, addresses, { mtu, rp_filter: 0 });
}

/** A peer entry for the key of `of`, in use. */
export function peer(of: string, allowedIps: string[], endpoint: string | null): Peer {
  return {
    public_key: keyOf(of),
    endpoint,
    allowed_ips: allowedIps,
    latest_handshake_at: NOW - 20_000,
    rx_bytes: 1000,
    tx_bytes: 1000,
    persistent_keepalive_s: 25,
  };
}

export const route = (destination: string, more: Partial<Route> = {}): Route => ({
  destination,
  gateway: null,
  interface: "wg0",
  metric: 0,
  table: "main",
  type: "unicast",
  ...more,
});

export const rule = (priority: number, table: string | null, more: Partial<Rule> = {}): Rule => ({
  family: 4,
  priority,
  not: false,
  src: null,
  dst: null,
  fwmark: null,
  iif: null,
  table,
  action: "lookup",
  suppress_prefixlen: null,
  other: false,
  ...more,
});

/** The rules of a kernel that nobody has given any, for one family. */
export const plainRules = (family: 4 | 6 = 4): Rule[] => [
  rule(0, "local", { family }),
  rule(32766, "main", { family }),
  ...(family === 4 ? [rule(32767, "default")] : []),
];

export function wireguard(name: string, of: string, peers: Peer[], port = 51820): Wireguard {
  return { interface: name, public_key: keyOf(of), listen_port: port, fwmark: null, peers, status: "ok" } as Wireguard;
}

/** A host with plain rules and nothing else. */
export function host(parts: Partial<PathHost>): PathHost {
  return {
    interfaces: [],
    routes: [],
    rules: [...plainRules(4), ...plainRules(6)],
    wireguard: [],
    firewall: [],
    forwarding: { v4: false, v6: false },
    ...parts,
  };
}
