// Owns the words in which the manager's parts speak to each other: what ingest hands to topology and alarms, what they
// hand back, and what is committed. Types only: no I/O, no logic.
import type {
  Alarm,
  EdgeCause,
  EdgeState,
  Event,
  Severity,
  TopologyEdge,
  TopologyNetwork,
  TopologyNode,
} from "../shared/api.ts";
import type { Report } from "../shared/report.ts";

/** An agent as the manager knows it. Identity and configuration; what a report says lives in `report`. */
export type AgentRecord = {
  agent_id: string;
  /** Base64 raw 32 bytes, pinned at registration. */
  public_key: string;
  hostname: string;
  agent_version: string;
  first_seen_at: number;
  registered_at: number;
  blocked: boolean;
  /** 410 at its next reports makes it take a new identity. */
  regenerate: boolean;
};

/** One accepted report with what the manager adds to it. */
export type Observation = {
  report: Report;
  received_at: number;
  /** `received_at − age_ms`, on the manager's clock: the clock of history. */
  observed_at: number;
  /** Relays, first to last; [] when direct. */
  relay_path: string[];
  via: "direct" | "relay";
  /** Older than two of its intervals when it arrived. */
  late: boolean;
  /** A higher tick of this agent was there already: stored, but changes no current state. */
  superseded: boolean;
  /** collected_at + age_ms − received_at. */
  skew_ms: number;
};

export type EntityKind = "node" | "edge" | "network";
/** A new version of a node, edge or network, or its end (`body` null). Opened at `at`; the version before ends there.
 * `body` carries what history keeps: no counters, handshake ages or rates. `first`: it was so from `at` on, also where the
 * version before begins later; that one is dropped then. */
export type Version =
  | { kind: "node"; id: string; at: number; body: TopologyNode | null; first?: true }
  | { kind: "edge"; id: string; at: number; body: TopologyEdge | null }
  | { kind: "network"; id: string; at: number; body: TopologyNetwork | null };

export type NewEvent = {
  at: number;
  code: string;
  severity: Severity;
  subject: string;
  agent_id: string | null;
  message: string;
  details: Record<string, unknown>;
};

/** A WireGuard edge by its ends' nodes. */
export type NetworkLink = { id: string; a: string; b: string; state: EdgeState; cause: EdgeCause | null };

/** What alarms, path and views read of the inferred state. Every call answers from memory. */
export type TopologyReader = {
  /** Agent ids that inference knows. */
  agents(): Iterable<string>;
  agent(agentId: string): AgentRecord | null;
  /** The newest observation that counts as current; null before the first. Sections that failed (null) are filled from
   * the last report that had them in `effective`. */
  latest(agentId: string): Observation | null;
  effective(agentId: string): Report | null;
  edge(edgeId: string): TopologyEdge | null;
  /** Edges that end at a node (agent id or `wg:<key>`). */
  edgesOf(nodeId: string): TopologyEdge[];
  /** WireGuard edges that end at an agent and are not simply up, late, idle or unused. */
  troubledEdgesOf(agentId: string): TopologyEdge[];
  edges(): Iterable<TopologyEdge>;
  /** A network's nodes, and its links as far as its holding together goes; null: there is none. */
  network(networkId: string): { nodes: ReadonlySet<string>; links: Iterable<NetworkLink> } | null;
  /** Addresses at which an agent's peers see it behind NAT. */
  natAddressesOf(agentId: string): Set<string>;
  /** A node whose working tunnel to this agent shook hands after that moment; null: none. */
  handshakeSince(agentId: string, after: number): string | null;
  node(nodeId: string): TopologyNode | null;
  nodes(): Iterable<TopologyNode>;
  /** Public keys of the foreign peers that an operator expects to be there. */
  readonly expected: ReadonlySet<string>;
  networks(): Iterable<TopologyNetwork>;
  /** Agents whose newest report shows a WireGuard interface with this public key (two: the key is reused). */
  ownersOfKey(publicKey: string): { agent_id: string; interface: string }[];
  /** Agents that have this interface address (canonical text without length). */
  ownersOfAddress(address: string): { agent_id: string; interface: string }[];
  /** The edge between an agent's WireGuard interface and the peer with this key, and which end the agent is. */
  edgeOfPeer(agentId: string, interfaceName: string, peerKey: string): { edge: TopologyEdge; end: "a" | "b" } | null;
};

/** What one step of inference changed. Empty lists: nothing worth a row. */
export type TopologyChange = { versions: Version[]; events: NewEvent[] };

/** Alarm row: what is served, plus what evaluation needs to go on after a restart. */
export type AlarmRow = Omit<Alarm, "transitions" | "state" | "silenced"> & {
  /** pending: its condition holds, its hold time does not yet. */
  state: "pending" | Alarm["state"];
  /** Since when the condition holds. */
  since_at: number;
  /** Rule-private memory (counts, times), JSON. */
  memory: Record<string, unknown>;
};
export type AlarmTransition = {
  alarm_id: string;
  at: number;
  from: string | null;
  to: string;
  severity: Severity;
  /** The report that caused it; null: time or an operator did. */
  report: { agent_id: string; tick: number } | null;
  note: string | null;
  /** Whether notifications go out for it (not when silenced or under an open cause). */
  notify: boolean;
};
export type AlarmChange = {
  alarms: AlarmRow[];
  transitions: AlarmTransition[];
  events: NewEvent[];
  /** Pending alarms whose condition went before they opened: their rows are deleted. */
  withdrawn: string[];
};

/** A maintenance window: matching alarms open silently. Empty lists match everything. */
export type Silence = {
  id: string;
  agents: string[];
  codes: string[];
  until_at: number;
  created_at: number;
  reason: string;
};

/** A report on its way to the audit log, with the exact bytes. */
export type ReportRow = {
  agent_id: string;
  tick: number;
  boot_id: string;
  nonce: string;
  collected_at: number;
  received_at: number;
  observed_at: number;
  relay_path: string[];
  /** The envelope as received. */
  data: string;
  hmac: string;
  sig: string;
};

export type InterfaceRow = {
  agent_id: string;
  name: string;
  kind: string;
  public_key: string | null;
  listen_port: number | null;
  addresses: string[];
  mac: string | null;
  mtu: number | null;
  up: boolean | null;
};

/** Everything that becomes durable together. Order within a list is order of application. */
export type Batch = {
  reports?: ReportRow[];
  /** Inserted or replaced by agent_id. */
  agents?: AgentRecord[];
  /** Interfaces of these agents, replaced whole per agent. */
  interfaces?: { agent_id: string; rows: InterfaceRow[] }[];
  versions?: Version[];
  events?: NewEvent[];
  alarms?: AlarmRow[];
  transitions?: AlarmTransition[];
  /** Pending alarms to delete: their condition went before they opened. */
  withdrawn?: string[];
  silences?: Silence[];
  /** Agents to forget: their rows but not their audit log. */
  forget?: string[];
  /** Ids retired by `regenerate`: refused with 410 for good. */
  retire?: { agent_id: string; at: number }[];
  /** Clears agents, topology, alarms, events, silences and reports (after a backup); retired ids stay. */
  wipe?: boolean;
  /** Small named values (JSON) that outlive a restart: notification cursors and the like. */
  meta?: Record<string, unknown>;
};

export type StoredReport = ReportRow & { id: number };

export type { EdgeState, Event };
