// Owns the one door to the database: the interface that ingest, views and housekeeping call. SQLite stands behind it in
// this folder; another database can stand there without a change on this side.
import type {
  AlarmRow,
  AlarmTransition,
  AgentRecord,
  Batch,
  EntityKind,
  Event,
  InterfaceRow,
  Silence,
  StoredReport,
} from "../model.ts";
import type { TopologyEdge, TopologyNetwork, TopologyNode } from "../../shared/api.ts";

/** Why the database could not be used: each has its HTTP answer and its line for the operator. */
export type StoreFault = "full" | "locked" | "read_only" | "failing";
export class StoreError extends Error {
  constructor(
    readonly fault: StoreFault,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
    this.name = "StoreError";
  }
}

/** What was committed gets these ids, in the order of the batch. */
export type Committed = { events: Event[] };

export interface Store {
  /**
   * Makes the batch durable: one transaction, fsync before it resolves. Batches awaited in one event-loop turn share one.
   * @throws StoreError: nothing of the batch is stored.
   */
  commit(batch: Batch): Promise<Committed>;

  /** Everything that the manager holds in memory between reports. */
  loadAgents(): Promise<AgentRecord[]>;
  retiredAgents(): Promise<string[]>;
  /** Ticks (at most the last 120 below and at the highest) and nonces of the newest 120 reports of one agent, newest last. */
  replayWindow(agentId: string): Promise<{ highest_tick: number | null; ticks: number[]; nonces: string[] }>;
  /** Whether this very report is in the audit log. */
  hasReport(agentId: string, tick: number, bootId: string, collectedAt: number): Promise<boolean>;
  /** Newest report of an agent by tick; null: none is kept. */
  latestReport(agentId: string): Promise<StoredReport | null>;
  /** The audit log from `receivedFrom` on, in the order in which it was received. For the replay at start. */
  reportsSince(receivedFrom: number): AsyncIterable<StoredReport>;
  /** Reports of one agent observed in a span, oldest first, packed or not. */
  reportsOf(agentId: string, observedFrom: number, observedTo: number): AsyncIterable<StoredReport>;
  /** The whole audit log in order, for -verify-log. */
  allReports(): AsyncIterable<StoredReport>;

  /** Entities as they were at `at` (null: now's open versions). */
  topologyAt(at: number | null): Promise<{ nodes: TopologyNode[]; edges: TopologyEdge[]; networks: TopologyNetwork[] }>;
  /** Versions of one entity, oldest first; `until_at` null: still open. */
  versionsOf(
    kind: EntityKind,
    id: string,
  ): Promise<{ from_at: number; until_at: number | null; body: TopologyNode | TopologyEdge | TopologyNetwork }[]>;

  /** Newest first. `before` is the id of an event. */
  events(query: {
    agent_id?: string;
    subject?: string;
    from_at?: number;
    to_at?: number;
    limit: number;
    before?: number;
  }): Promise<Event[]>;
  /** Pending, open and acknowledged alarms, and those resolved less than `resolvedWithinMs` ago (flapping needs them). */
  liveAlarms(resolvedWithinMs: number, now: number): Promise<AlarmRow[]>;
  /** Newest first by opened_at, then id; never pending ones. `before` is the id of an alarm. */
  alarms(query: {
    state: "open" | "resolved" | "all";
    agent_id?: string;
    limit: number;
    before?: string;
  }): Promise<AlarmRow[]>;
  alarm(id: string): Promise<{ alarm: AlarmRow; transitions: AlarmTransition[] } | null>;
  /** Transitions that wait for notification, oldest first, with their sequence number. */
  transitionsAfter(sequence: number, limit: number): Promise<(AlarmTransition & { sequence: number })[]>;
  silences(now: number): Promise<Silence[]>;
  interfacesOf(agentId: string): Promise<InterfaceRow[]>;
  meta(name: string): Promise<unknown>;

  /** One small round of packing and pruning; returns whether there is more to do at once. */
  maintain(now: number, retention: { reportsMs: number; eventsMs: number }): Promise<boolean>;
  /** Consistent copy of the database into a new file (0600). */
  backup(path: string): Promise<void>;
  /** Figures for healthcheck and metrics. */
  figures(): Promise<{
    reports: number;
    bytes: number;
    wal_bytes: number;
    free_bytes: number;
    commits: number;
    commit_seconds: number;
  }>;
  /** "ok", or why writing fails now; tries a small write when the last one failed. */
  health(): Promise<"ok" | StoreFault>;
  /** Ends in-flight work, truncates the WAL, frees the lock. */
  close(): Promise<void>;
}
