// Owns the table of faults that the diagnosis suite injects in the lab, and what an operator must be told of each: the
// alarm that stands first, what may hang beneath it, how fast, and how it goes away. Written before the rules; the
// runner (diagnosis.test.ts) has one pair of actions per name, and a row that was not run is a failure.
import type { Severity } from "../../shared/api.ts";

/** REPORT_INTERVAL of every agent in the suite, in seconds. Holds that count reports or intervals count these. */
export const INTERVAL_S = 2;

/** What the subject of an alarm names: the text before its first colon. */
export type SubjectKind =
  | "agent"
  | "edge"
  | "node"
  | "network"
  | "interface"
  | "peer"
  | "key"
  | "address"
  | "collector"
  | "source"
  | "manager"
  | "site";

export type Fault = {
  name: string;
  /** The laboratory in which it runs; see `STATIONS`. */
  station: Station;
  /** How it is injected. */
  inject: string;
  /** How it is repaired. */
  repair: string;
  /** The alarm that must stand first (no open cause above it). Several codes: the tunnel's past decides which. */
  root: { code: string | [string, string]; severity: Severity; subject: SubjectKind };
  /** Codes that may open with it, each only beneath the root (its chain of depends_on ends there). */
  beneath: string[];
  /** Seconds from injection until the state table of 2-topology.md can say so: counters must have been unanswered in two
   * windows of 20 s, a keepalive must have failed to go out twice, and so on. */
  tellableSeconds: number;
  /** The rule's own hold after that, in reports (or intervals) or in seconds. */
  hold: { intervals: number } | { seconds: number };
  /** When it is told that the fault is gone, in words of the rule's table. */
  resolves: string;
  /** Codes that may open once more while everything finds its way back, and go with it. */
  afterwards?: string[];
  /** Seconds from the repair until it must be resolved: what the tunnel needs to shake hands again, and the rule's count. */
  resolveSeconds: number;
};

/** Each station is a laboratory of its own with its own manager; its faults run one after the other. */
export const STATIONS = {
  mesh: "a, b, c in a full WireGuard mesh with keepalive and steady pings; the manager on m, reached over the LAN",
  blocked: "as mesh; packets are dropped on the way",
  lonely: "a and b alone in a network, keepalive and steady pings",
  config: "a, b, c in an idle mesh with keepalive: what one host's own configuration says",
  keys: "a, b, c in a full mesh, and d with nothing: keys and addresses",
  underlay: "a and b with three tunnels over a link of their own (backbone), and the LAN for reports",
  hub: "hub h, spokes a and b, keepalive only at the spokes or nowhere; a roaming b; a foreign peer f without an agent",
  nat: "h on the LAN, n1 and n2 behind a router r, o1, o2, o3 elsewhere",
  identity: "a, b, d without WireGuard: fleet key, clock, identity, state; the clock of all is one file (libfaketime)",
} as const;
export type Station = keyof typeof STATIONS;

/** With traffic, WireGuard shakes hands anew 15 s after a packet went unanswered, and every 5 s from then on: the window
 * that begins with that packet may hold one attempt, 148 bytes, of which 32 may be a keepalive's. Two more windows of 20 s
 * tell, each ended by a report. */
const UNANSWERED_S = 3 * (20 + INTERVAL_S);
/** After the way is open again: attempts come every 5 s, a keepalive or ping starts new ones; then two reports `up`. */
const HEALED_S = 30 + 4 * INTERVAL_S;
/** One report shows it, and the next has it stored. */
const SHOWN_S = INTERVAL_S;
/** What a configuration change needs to be reported as gone, for rules that count three reports. */
const CLEARED_S = 5 * INTERVAL_S;

export const FAULTS: readonly Fault[] = [
  {
    name: "host-killed",
    station: "mesh",
    inject: "c loses power: every process of it ends, its cards are gone",
    repair: "c is switched on again: same address, same keys, same state directory",
    root: { code: "agent_down", severity: "warning", subject: "agent" },
    beneath: ["peer_stale", "partition"],
    tellableSeconds: 0,
    hold: { intervals: 10 },
    resolves: "any report",
    resolveSeconds: 20 + HEALED_S,
  },
  {
    name: "agent-stopped",
    station: "mesh",
    inject: "SIGTERM to b's agent; b's tunnels go on",
    repair: "the agent is started again",
    root: { code: "agent_down", severity: "warning", subject: "agent" },
    beneath: [],
    tellableSeconds: 0,
    hold: { intervals: 10 },
    resolves: "any report",
    resolveSeconds: 10,
  },
  {
    name: "agent-killed",
    station: "mesh",
    inject: "SIGKILL to a's agent; a's tunnels go on",
    repair: "the agent is started again",
    root: { code: "agent_down", severity: "warning", subject: "agent" },
    beneath: [],
    tellableSeconds: 0,
    hold: { intervals: 10 },
    resolves: "any report",
    resolveSeconds: 10,
  },
  {
    name: "all-silent",
    station: "mesh",
    inject: "the manager's own cable is pulled",
    repair: "the cable is put back",
    root: { code: "manager_isolated", severity: "critical", subject: "manager" },
    beneath: ["agent_down"],
    tellableSeconds: 0,
    hold: { intervals: 3 },
    resolves: "half of the agents are back",
    // what waited may go by relays at first: three reports by one are told of, three direct ones end it
    afterwards: ["relay_in_use"],
    resolveSeconds: 60,
  },
  {
    name: "manager-unreachable-for-one",
    station: "mesh",
    inject: "the switch drops what a sends to the manager; a's tunnels go on, so b or c relays",
    repair: "the rule is lifted",
    root: { code: "relay_in_use", severity: "info", subject: "agent" },
    beneath: [],
    tellableSeconds: 20,
    hold: { intervals: 3 },
    resolves: "3 reports directly",
    // what waited may go by relays at first: three reports by one are told of, three direct ones end it
    afterwards: ["relay_in_use"],
    resolveSeconds: 40,
  },
  {
    name: "interface-removed",
    station: "mesh",
    inject: "b's wg0 is removed (wireguard-go ends)",
    repair: "wg0 is made again with its key and peers",
    root: { code: "iface_gone", severity: "critical", subject: "interface" },
    beneath: ["peer_one_sided", "peer_stale", "peer_never", "partition"],
    tellableSeconds: SHOWN_S,
    hold: { seconds: 0 },
    resolves: "back",
    resolveSeconds: HEALED_S + CLEARED_S,
  },
  {
    name: "interface-down",
    station: "mesh",
    inject: "ip link set wg0 down on c",
    repair: "ip link set wg0 up",
    root: { code: "iface_down", severity: "critical", subject: "interface" },
    beneath: ["partition", "peer_stale"],
    tellableSeconds: SHOWN_S,
    hold: { seconds: 0 },
    resolves: "up again",
    resolveSeconds: HEALED_S + CLEARED_S,
  },
  {
    name: "firewall-one-way",
    station: "blocked",
    inject: "the switch drops the UDP packets that a sends to b's WireGuard port",
    repair: "the rule is lifted",
    root: { code: "peer_stale", severity: "warning", subject: "edge" },
    beneath: [],
    tellableSeconds: UNANSWERED_S,
    hold: { intervals: 2 },
    resolves: "up twice",
    resolveSeconds: HEALED_S,
  },
  {
    name: "firewall-both-ways",
    station: "blocked",
    inject: "the switch drops WireGuard between b and c, both ways",
    repair: "the rules are lifted",
    root: { code: "peer_stale", severity: "warning", subject: "edge" },
    beneath: [],
    tellableSeconds: UNANSWERED_S,
    hold: { intervals: 2 },
    resolves: "up twice",
    resolveSeconds: HEALED_S,
  },
  {
    name: "firewall-at-the-host",
    station: "blocked",
    inject: "a's own nftables drops what arrives for WireGuard from c",
    repair: "the table is deleted",
    root: { code: "peer_stale", severity: "warning", subject: "edge" },
    beneath: [],
    tellableSeconds: UNANSWERED_S,
    hold: { intervals: 2 },
    resolves: "up twice",
    resolveSeconds: HEALED_S,
  },
  {
    name: "partition",
    station: "blocked",
    inject: "the switch drops WireGuard between c and both others; all three still report",
    repair: "the rules are lifted",
    root: { code: "partition", severity: "critical", subject: "network" },
    beneath: ["peer_stale"],
    tellableSeconds: UNANSWERED_S,
    hold: { intervals: 2 },
    resolves: "one part",
    resolveSeconds: HEALED_S,
  },
  {
    name: "mtu-black-hole",
    station: "lonely",
    inject: "the switch drops UDP packets over 700 bytes; a pings b with 1,200 bytes a second",
    repair: "the rule is lifted",
    root: { code: "lossy", severity: "warning", subject: "edge" },
    beneath: [],
    // a new handshake every 15 s, three advances in a row, and the first to compare with
    tellableSeconds: 4 * 16 + INTERVAL_S,
    hold: { intervals: 3 },
    resolves: "3 reports without",
    // the last short-lived handshake must be over 60 s old
    resolveSeconds: 75 + CLEARED_S,
  },
  {
    name: "last-path-cut",
    station: "lonely",
    inject: "the switch drops WireGuard between a and b, which have no other way",
    repair: "the rule is lifted",
    root: { code: "peer_stale", severity: "critical", subject: "edge" },
    beneath: ["partition"],
    tellableSeconds: UNANSWERED_S,
    hold: { intervals: 2 },
    resolves: "up twice",
    resolveSeconds: HEALED_S,
  },
  {
    name: "preshared-key-mismatch",
    station: "lonely",
    inject: "b's interface is made again with a preshared key for a that a does not have",
    repair: "the preshared key is taken away",
    root: { code: ["peer_stale", "peer_never"], severity: "critical", subject: "edge" },
    beneath: ["partition"],
    tellableSeconds: UNANSWERED_S,
    hold: { intervals: 2 },
    resolves: "up twice",
    resolveSeconds: HEALED_S,
  },
  {
    name: "peer-removed",
    station: "config",
    inject: "wg set wg0 peer <a> remove on b",
    repair: "the peer is added again",
    root: { code: "peer_removed", severity: "warning", subject: "peer" },
    beneath: ["peer_one_sided", "peer_stale"],
    tellableSeconds: SHOWN_S,
    hold: { seconds: 0 },
    resolves: "back",
    resolveSeconds: HEALED_S + CLEARED_S,
  },
  {
    name: "one-sided-peer",
    station: "config",
    inject: "a gets a second interface that lists c's key; c does not list it",
    repair: "c lists it too (removing a known interface or peer would be an alarm of its own)",
    root: { code: "peer_one_sided", severity: "warning", subject: "edge" },
    beneath: [],
    tellableSeconds: SHOWN_S,
    hold: { intervals: 3 },
    resolves: "mutual, or gone",
    resolveSeconds: CLEARED_S,
  },
  {
    name: "allowed-ips-moved",
    station: "config",
    inject: "on a, c's AllowedIPs get b's /32 as well: WireGuard takes it from b without a word",
    repair: "both AllowedIPs are set as they were",
    root: { code: "allowed_ips_moved", severity: "warning", subject: "peer" },
    beneath: [],
    tellableSeconds: SHOWN_S,
    hold: { seconds: 0 },
    resolves: "back",
    resolveSeconds: CLEARED_S,
  },
  {
    name: "allowed-ips-overlap",
    station: "config",
    inject: "b gets a second interface whose peer (a key of nobody) has c's /32 as AllowedIPs",
    repair: "that peer gets another prefix",
    root: { code: "allowed_ips_overlap", severity: "warning", subject: "agent" },
    beneath: [],
    tellableSeconds: SHOWN_S,
    hold: { seconds: 0 },
    resolves: "gone",
    resolveSeconds: CLEARED_S,
  },
  {
    name: "route-lost",
    station: "config",
    inject: "c lists 10.20.0.0/24 behind a, and loses its route into wg0",
    repair: "the route is added again",
    root: { code: "allowed_ips_unrouted", severity: "warning", subject: "interface" },
    beneath: [],
    tellableSeconds: SHOWN_S,
    hold: { seconds: 0 },
    resolves: "routed",
    resolveSeconds: CLEARED_S,
  },
  {
    name: "mtu-too-large",
    station: "config",
    inject: "ip link set wg0 mtu 1500 on b, over a card with 1,500",
    repair: "ip link set wg0 mtu 1420",
    root: { code: "mtu_too_large", severity: "warning", subject: "interface" },
    beneath: [],
    tellableSeconds: SHOWN_S,
    hold: { seconds: 0 },
    resolves: "fits",
    resolveSeconds: CLEARED_S,
  },
  {
    name: "cannot-send",
    station: "config",
    inject: "a's own firewall forbids it to send to b's WireGuard port, while b pings it; keepalive 25 s",
    repair: "the rule is deleted",
    root: { code: "cannot_send", severity: "warning", subject: "edge" },
    beneath: ["peer_stale"],
    // b's packets must have gone unanswered, and a's counter must have stood still for two keepalives
    tellableSeconds: Math.max(UNANSWERED_S, 2 * 25 + INTERVAL_S),
    hold: { intervals: 3 },
    resolves: "3 reports without",
    resolveSeconds: 25 + HEALED_S + CLEARED_S,
  },
  {
    name: "collector-fails",
    station: "config",
    inject: "wg on c is replaced by a program that exits 1",
    repair: "the true wg is put back",
    root: { code: "collector_error", severity: "warning", subject: "collector" },
    beneath: [],
    tellableSeconds: SHOWN_S,
    hold: { intervals: 3 },
    resolves: "ok",
    resolveSeconds: CLEARED_S,
  },
  {
    name: "key-changed",
    station: "keys",
    inject: "b's wg0 gets another private key; a and c still list the old one",
    repair: "the old private key is put back",
    root: { code: "key_mismatch", severity: "warning", subject: "interface" },
    beneath: ["peer_stale", "peer_never", "peer_one_sided", "partition"],
    tellableSeconds: SHOWN_S,
    hold: { seconds: 0 },
    resolves: "fits",
    resolveSeconds: HEALED_S + CLEARED_S,
  },
  {
    name: "key-reused",
    station: "keys",
    inject: "d brings up wg0 with a's private key (an image was copied)",
    repair: "d's interface gets a key of its own",
    root: { code: "key_reuse", severity: "critical", subject: "key" },
    beneath: [],
    tellableSeconds: SHOWN_S,
    hold: { seconds: 0 },
    resolves: "unique",
    resolveSeconds: CLEARED_S,
  },
  {
    name: "address-duplicate",
    station: "keys",
    inject: "c's wg0 gets a's overlay address as a second one",
    repair: "the address is deleted",
    root: { code: "address_duplicate", severity: "critical", subject: "address" },
    beneath: [],
    tellableSeconds: SHOWN_S,
    hold: { seconds: 0 },
    resolves: "unique",
    resolveSeconds: CLEARED_S,
  },
  {
    name: "cable-out-under-tunnels",
    station: "underlay",
    inject: "a's cable to the backbone is pulled; three tunnels ride on it",
    repair: "the cable is put back",
    root: { code: "iface_down", severity: "critical", subject: "interface" },
    beneath: ["peer_stale", "cannot_send", "partition"],
    tellableSeconds: SHOWN_S,
    hold: { seconds: 0 },
    resolves: "up again",
    resolveSeconds: HEALED_S + CLEARED_S,
  },
  {
    name: "tunnel-loop",
    station: "underlay",
    inject: "a routes b's backbone address into the tunnel to b (AllowedIPs cover it); the tunnel's rate is limited",
    repair: "AllowedIPs and route as before, and the tunnel started anew at both ends",
    root: { code: "tunnel_loop", severity: "critical", subject: "edge" },
    beneath: ["peer_stale", "cannot_send", "lossy", "partition", "mtu_too_large"],
    tellableSeconds: 30,
    hold: { intervals: 3 },
    resolves: "3 reports without",
    resolveSeconds: HEALED_S + CLEARED_S,
  },
  {
    name: "foreign-peer-killed",
    station: "hub",
    inject: "f, a host without an agent that h, a and b list, loses power",
    repair: "f is switched on again with its key",
    root: { code: "foreign_down", severity: "info", subject: "node" },
    beneath: [],
    tellableSeconds: UNANSWERED_S,
    hold: { intervals: 2 },
    resolves: "one sees it",
    resolveSeconds: HEALED_S,
  },
  {
    name: "keepalive-missing",
    station: "hub",
    inject: "h's interface is made again and knows no endpoint of b, which has no keepalive: the hub cannot start",
    repair: "keepalive 25 s at b",
    root: { code: "keepalive_missing", severity: "info", subject: "edge" },
    beneath: ["peer_never", "peer_stale"],
    // until the last handshake is older than a session's life, the tunnel counts as up
    tellableSeconds: 180 + SHOWN_S,
    hold: { seconds: 0 },
    resolves: "set",
    resolveSeconds: 25 + CLEARED_S,
  },
  {
    name: "endpoint-outdated",
    station: "hub",
    inject: "b starts anew with another address; h learns it, a goes on dialling the old one",
    repair: "a is told the new endpoint",
    root: { code: "endpoint_outdated", severity: "warning", subject: "edge" },
    beneath: ["peer_stale", "partition"],
    tellableSeconds: UNANSWERED_S,
    hold: { intervals: 2 },
    resolves: "fits",
    resolveSeconds: HEALED_S + CLEARED_S,
  },
  {
    name: "nat-rebinding",
    station: "nat",
    inject: "the router's outer address changes four times, a few seconds apart",
    repair: "it stays; an hour of one endpoint is not waited for: acknowledged, and looked at that it stays so",
    root: { code: "endpoint_changed", severity: "warning", subject: "edge" },
    beneath: [],
    tellableSeconds: 4 * 30,
    hold: { seconds: 0 },
    resolves: "an hour of one endpoint (run in test/alarms with the clock of the table)",
    resolveSeconds: 5,
  },
  {
    name: "site-cut-off",
    station: "nat",
    inject: "the router's outer cable is pulled: n1 and n2 are behind it, four others are not",
    repair: "the cable is put back",
    root: { code: "site_down", severity: "critical", subject: "site" },
    beneath: ["agent_down", "peer_stale", "partition"],
    tellableSeconds: 0,
    hold: { intervals: 3 },
    resolves: "one is back",
    // what waited may go by relays at first: three reports by one are told of, three direct ones end it
    afterwards: ["relay_in_use"],
    resolveSeconds: 60,
  },
  {
    name: "default-route-moved",
    station: "nat",
    inject: "n1's default route moves to a gateway that leads nowhere; n2, in n1's LAN by WireGuard, relays",
    repair: "the default route is put back",
    root: { code: "relay_in_use", severity: "info", subject: "agent" },
    beneath: [],
    tellableSeconds: 20,
    hold: { intervals: 3 },
    resolves: "3 reports directly",
    // what waited may go by relays at first: three reports by one are told of, three direct ones end it
    afterwards: ["relay_in_use"],
    resolveSeconds: 40,
  },
  {
    name: "clock-ahead",
    station: "identity",
    inject: "b's agent runs with its clock 2 minutes ahead",
    repair: "it runs with the right clock",
    root: { code: "clock_skew", severity: "warning", subject: "agent" },
    beneath: [],
    tellableSeconds: SHOWN_S + 3,
    hold: { seconds: 0 },
    resolves: "3 reports under 30 s",
    resolveSeconds: CLEARED_S + 5,
  },
  {
    name: "clock-an-hour-behind",
    station: "identity",
    inject: "b's agent runs with its clock an hour behind",
    repair: "it runs with the right clock",
    root: { code: "clock_skew", severity: "critical", subject: "agent" },
    beneath: [],
    tellableSeconds: SHOWN_S + 5,
    hold: { seconds: 0 },
    resolves: "3 reports under 30 s",
    resolveSeconds: CLEARED_S + 10,
  },
  {
    name: "dns-ambiguous",
    station: "identity",
    inject: "the TXT record gets a second candidate; a stranger's bad MAC makes the manager ask again",
    repair: "one candidate again",
    root: { code: "psk_fetch_failed", severity: "warning", subject: "manager" },
    beneath: [],
    // bad MACs make it ask at most once a minute
    tellableSeconds: 65,
    hold: { seconds: 0 },
    resolves: "success",
    resolveSeconds: 65,
  },
  {
    name: "dns-wrong-for-two-hours",
    station: "identity",
    inject: "the TXT record is gone; two hours pass",
    repair: "the record is back",
    root: { code: "psk_fetch_failed", severity: "warning", subject: "manager" },
    beneath: [],
    tellableSeconds: 65,
    hold: { seconds: 0 },
    resolves: "success",
    resolveSeconds: 65,
  },
  {
    name: "dns-changed-but-not-for-one",
    station: "identity",
    inject: "the fleet key changes; b's resolver still says the old one; two hours pass",
    repair: "b's resolver says the new one, and its agent is restarted",
    root: { code: "psk_old", severity: "warning", subject: "agent" },
    beneath: [],
    tellableSeconds: 65,
    hold: { seconds: 0 },
    resolves: "current key",
    resolveSeconds: 20,
  },
  {
    name: "wrong-fleet-key",
    station: "identity",
    inject: "b's agent is restarted with a fleet key that the manager never had",
    repair: "the right key again",
    root: { code: "auth_failure", severity: "warning", subject: "source" },
    beneath: ["agent_down"],
    // five refusals: the agent waits longer after each, up to its interval
    tellableSeconds: 6 * INTERVAL_S + 5,
    hold: { seconds: 0 },
    resolves: "15 quiet minutes (the clock is moved)",
    resolveSeconds: 30,
  },
  {
    name: "state-cloned",
    station: "identity",
    inject: "a's state directory is copied to d (same machine-id), and both agents run",
    repair: "d's agent is stopped",
    root: { code: "id_clone", severity: "critical", subject: "agent" },
    // d has none of a's interfaces, and yet none seems gone.
    beneath: ["replay", "agent_down", "auth_failure"],
    tellableSeconds: 4 * INTERVAL_S,
    hold: { seconds: 0 },
    resolves: "10 minutes of one (the clock is moved)",
    resolveSeconds: 30,
  },
  {
    name: "state-rolled-back",
    station: "identity",
    inject: "b is restored from a snapshot: its tick begins again at one that was used",
    repair: "an operator acknowledges",
    root: { code: "replay", severity: "critical", subject: "agent" },
    beneath: [],
    tellableSeconds: SHOWN_S + 5,
    hold: { seconds: 0 },
    resolves: "acknowledged",
    resolveSeconds: 5,
  },
  {
    name: "stranger-peer",
    station: "identity",
    inject: "a day after the fleet's first report, a's idle WireGuard interface gets a peer whose key no agent has",
    repair: "an operator acknowledges",
    root: { code: "peer_unknown", severity: "info", subject: "node" },
    beneath: [],
    tellableSeconds: SHOWN_S,
    hold: { seconds: 0 },
    resolves: "acknowledged",
    resolveSeconds: 5,
  },
];

/** Seconds from injection by which the root alarm must be open: tellable, then the hold, then two intervals. */
export function openWithinSeconds(fault: Fault): number {
  const hold = "intervals" in fault.hold ? fault.hold.intervals * INTERVAL_S : fault.hold.seconds;
  return fault.tellableSeconds + hold + 2 * INTERVAL_S;
}
