// Owns the types of what the manager serves under /status (1-protocol.md, Manager API; 2-topology.md). The dashboard
// imports these types only; the manager's views produce them. Times are `*_at` in Unix milliseconds of the manager's
// clock, rates are bits per second, unknown is null.
import type { Report, Wireguard } from "./report.ts";

export type AgentStatus = "online" | "late" | "down";
export type Via = "direct" | "relay";

export type AgentSummary = {
  agent_id: string;
  hostname: string;
  /** online: heard under 2 intervals ago; late: under 3; else down. */
  status: AgentStatus;
  first_seen_at: number;
  /** Received time of the newest message; null: registered, but no report yet. */
  last_seen_at: number | null;
  /** Highest tick; null before the first report. */
  tick: number | null;
  agent_version: string;
  via: Via | null;
  /** Ids of the relays that carried the newest report, first to last; [] when direct. */
  relay_path: string[];
  /** Interface addresses without prefix length, loopback and link-local left out. */
  addresses: string[];
  wireguard: { interface: string; public_key: string | null; listen_port: number | null; peers: number | null }[];
  load: number[] | null;
  interval_s: number | null;
  /** Agent clock minus manager clock; null before the first report. */
  skew_ms: number | null;
  outbox_reports: number | null;
  dropped: number | null;
  blocked: boolean;
};
export type AgentsResponse = { agents: AgentSummary[]; server_time_at: number };
export type AgentResponse = AgentSummary & { report: Report | null; report_received_at: number | null };

export type NodeStatus = AgentStatus | "unknown";
export type TopologyNode = {
  /** agent_id, `wg:<public key>` of a foreign peer, or `segment:<id>` of a large L2 segment. */
  id: string;
  kind: "agent" | "foreign" | "segment";
  /** Hostname; endpoint or first AllowedIP of a foreign peer. */
  label: string;
  /** Foreign peers are "unknown" unless a peer's word says otherwise. */
  status: NodeStatus;
  addresses: string[];
  /** Network ids. */
  networks: string[];
  /** Prefixes that it routes for others. */
  attached: string[];
  /** Seen behind NAT by some peer. */
  nat: boolean;
  /** It carries its peers' default route. */
  exit: boolean;
  /** Why the status is what it is ("agent stopped, host alive"), or null. */
  reason: string | null;
  wireguard_keys: string[];
  /** An operator expects this foreign peer to be there: its silence is a warning. */
  expected?: true;
};

export type Layer = "wireguard" | "physical" | "tunnel" | "relay";
export const LAYERS = ["wireguard", "physical", "tunnel", "relay"] as const satisfies readonly Layer[];

export const EDGE_STATES = [
  "up",
  "late",
  "idle",
  "unused",
  "stale",
  "never",
  "lossy",
  "down",
  "one_sided",
  "key_mismatch",
  "unknown",
] as const;
export type EdgeState = (typeof EDGE_STATES)[number];
/** Why an edge is in its state, for programs; `a`, `b` are the edge's ends. */
export type EdgeCause =
  | "undecided" // unanswered for less than 210 s: not yet clear which way is cut
  | "preshared_key"
  | "a_to_b_blocked"
  | "b_to_a_blocked"
  | "a_to_b_or_preshared" // a only answered, and its answers came to nothing: lost on the way, or refused
  | "b_to_a_or_preshared"
  | "nothing_returns"
  | "cannot_send_a"
  | "cannot_send_b"
  | "cannot_start_a"
  | "cannot_start_b"
  | "tunnel_loop"
  | "lossy"
  | "interface_down_a"
  | "interface_down_b"
  | "missing_at_a"
  | "missing_at_b"
  | "view_unavailable"
  | "wrong_key"
  | "no_report";
/** States that mean that packets do not pass as configured. */
export const PROBLEM_STATES: readonly EdgeState[] = ["stale", "never", "lossy", "down", "one_sided", "key_mismatch"];

/** One end of an edge, as far as its own host says it (null: that host has no agent, or said nothing). */
export type EdgeEnd = {
  node: string;
  interface: string | null;
  /** Where the *other* end dials this one: `address:port`; null: nobody knows one. */
  endpoint: string | null;
  nat: boolean;
  public_key: string | null;
  listen_port: number | null;
  /** AllowedIPs that this end's host lists for the other end's key; null: not listed or unknown. */
  allowed_ips: string[] | null;
  /** Age of the last handshake by this end's word at its last report, in seconds; null: never or unknown. */
  handshake_age_s: number | null;
  latest_handshake_at: number | null;
  persistent_keepalive_s: number | null;
  /** This end's own counters for the other end. */
  rx_bytes: number | null;
  tx_bytes: number | null;
  /** When this end's host last reported on it; null: never. */
  reported_at: number | null;
};

export type TopologyEdge = {
  /** Opaque; stays through roaming, rekeying and a foreign peer's becoming an agent. */
  id: string;
  layer: Layer;
  /** Network id, or null outside WireGuard. */
  network: string | null;
  a: EdgeEnd;
  b: EdgeEnd;
  state: EdgeState;
  /** In words; null where the state says it all. */
  reason: string | null;
  /** The reason as a word for programs; null where there is none. */
  cause: EdgeCause | null;
  observed_by: string[];
  /** Of the fresher end, on the manager's clock. */
  latest_handshake_at: number | null;
  a_to_b_bps: number | null;
  b_to_a_bps: number | null;
  /** Share of bytes lost, 0 to 1; null: not enough traffic to say (5 minutes and 100 kB). */
  a_to_b_loss: number | null;
  b_to_a_loss: number | null;
  /** What the packets of this edge leave by, per end: `{ node, interface, edge }`; edge null: not on a known edge. */
  rides_on: { node: string; interface: string; edge: string | null }[];
  first_seen_at: number;
  /** When the state last became what it is. */
  changed_at: number;
};

export type TopologyNetwork = {
  id: string;
  /** The prefix that its members share. */
  name: string;
  prefixes: string[];
  /** Number of member nodes. */
  nodes: number;
  /** Number of parts that working edges leave it in; 1 is whole. */
  parts: number;
};

export type TopologyResponse = {
  nodes: TopologyNode[];
  edges: TopologyEdge[];
  networks: TopologyNetwork[];
  at: number;
};
export type Delta<T> = { added: T[]; removed: T[]; changed: { id: string; before: T; after: T; fields: string[] }[] };
export type TopologyDiff = { from: number; to: number; nodes: Delta<TopologyNode>; edges: Delta<TopologyEdge> };

export type EdgeHistory = {
  edge_id: string;
  /** Spans of one state, oldest first; `until_at` null: still. */
  states: { state: EdgeState; reason: string | null; from_at: number; until_at: number | null }[];
  /** From the stored reports, oldest first, thinned to at most 1,000 points. */
  samples: {
    at: number;
    handshake_age_s: number | null;
    a_to_b_bps: number | null;
    b_to_a_bps: number | null;
    a_to_b_loss: number | null;
    b_to_a_loss: number | null;
  }[];
  events: Event[];
};

export type Verdict =
  | "delivered"
  | "blocked"
  | "not_forwarding"
  | "no_route"
  | "no_peer"
  | "source_filtered"
  | "rp_filtered"
  | "edge_down"
  | "foreign"
  | "loop"
  | "ttl"
  | "unknown";
export type PathHop = {
  node: string;
  interface: string | null;
  /** The rule and route that decided, as `ip` prints them; null on the last hop. */
  rule: string | null;
  route: string | null;
  /** Public key of the WireGuard peer picked, and the AllowedIPs entry that picked it. */
  peer: string | null;
  allowed_ip: string | null;
  edge: string | null;
  state: EdgeState | null;
  /** What happened here, in words. */
  note: string | null;
};
export type PathTrace = {
  source: string | null;
  destination: string;
  verdict: Verdict;
  reason: string | null;
  path_mtu: number | null;
  hops: PathHop[];
};
export type PathResponse = {
  from: string;
  to: string;
  at: number;
  verdict: Verdict;
  reason: string | null;
  source: string | null;
  destination: string;
  path_mtu: number | null;
  hops: PathHop[];
  back: PathTrace;
  /** With `to=<agent>`: each shared overlay address traced, the first of them as above. */
  traces: { there: PathTrace; back: PathTrace }[];
};

export type Severity = "info" | "warning" | "critical";
export type AlarmState = "open" | "acknowledged" | "resolved";
export type Alarm = {
  id: string;
  code: string;
  severity: Severity;
  /** What it is about: `agent:<id>`, `edge:<id>`, `network:<id>`, `source:<address>`, `manager`, … */
  subject: string;
  agent_id: string | null;
  state: AlarmState;
  message: string;
  opened_at: number;
  acknowledged_at: number | null;
  resolved_at: number | null;
  /** Ids of the open alarms that cause this one. */
  depends_on: string[];
  /** What was seen, by whom, since when, what to look at. */
  details: Record<string, unknown>;
  flapping: boolean;
  silenced: boolean;
  /** Oldest first. Served by `GET /status/alarms/:id`. */
  transitions?: { state: string; at: number; report: { agent_id: string; tick: number } | null; note: string | null }[];
};
export type AlarmsResponse = { alarms: Alarm[]; next_before: string | null };

export type Event = {
  id: number;
  at: number;
  code: string;
  severity: Severity;
  subject: string;
  agent_id: string | null;
  message: string;
  details: Record<string, unknown>;
};
export type EventsResponse = { events: Event[]; next_before: string | null };

export type HealthResponse = {
  status: "ok" | "failing";
  version: string;
  uptime_s: number;
  database: "ok" | "read_only" | "full" | "locked" | "failing";
  /** Seconds since the PSK was last confirmed at its source; null: there is none. */
  psk_age_s: number | null;
  /** When the newest report arrived; null: none since the start. */
  last_report_at: number | null;
  /** From the arrival of the newest report until it was stored; null: none since the start. */
  ingest_lag_ms: number | null;
};

export type ErrorResponse = { error: string; message: string };

/** Event names of `GET /status/stream` (server-sent events); each `data` is this JSON. */
export type StreamEvents = {
  /** `session`: a login opened this stream, not a token in a header and not the rule that lets this host read. */
  hello: { version: string; server_time_at: number; session: boolean };
  topology: {
    nodes: TopologyNode[];
    edges: TopologyEdge[];
    networks: TopologyNetwork[];
    removed: { nodes: string[]; edges: string[]; networks: string[] };
    /** A large segment is another one now: ask for the whole picture. */
    stale: boolean;
    at: number;
  };
  alarm: Alarm;
  event: Event;
};
