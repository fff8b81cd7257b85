// Owns the words of alarm rules: what a rule is, what it finds, and what it may read. Types and small helpers, no logic of
// any single alarm.
import type { Severity, TopologyEdge } from "../../shared/api.ts";
import type { AlarmRow, Observation, TopologyReader } from "../model.ts";
import type { Facts } from "./facts.ts";
import { subjects } from "./names.ts";
import type { Parts } from "./partition.ts";

export const ALARM_CODES = [
  // Roots before what they cause: within one report the rules are evaluated in this order.
  "manager_isolated",
  "site_down",
  "agent_down",
  "auth_failure",
  "id_clone",
  "replay",
  "psk_fetch_failed",
  "psk_old",
  "clock_skew",
  "relay_loop",
  "hop_limit",
  "relay_in_use",
  "data_lost",
  "backlog",
  "collector_error",
  "iface_gone",
  "iface_down",
  "key_reuse",
  "config",
  "key_mismatch",
  "address_duplicate",
  "mtu_too_large",
  "allowed_ips_moved",
  "allowed_ips_overlap",
  "allowed_ips_unrouted",
  "peer_removed",
  "peer_unknown",
  "endpoint_changed",
  "keepalive_missing",
  "endpoint_outdated",
  "tunnel_loop",
  "cannot_send",
  "foreign_down",
  "partition",
  "peer_one_sided",
  "peer_stale",
  "peer_never",
  "lossy",
] as const;
export type AlarmCode = (typeof ALARM_CODES)[number];

/** `code|subject`: one alarm lives per key. */
export type Key = string;
export function keyOf(code: AlarmCode, subject: string): Key {
  return `${code}|${subject}`;
}

/** While two hosts report under one of these ids, what they show of it contradicts itself. */
export function clones(agentIds: Iterable<string>): Key[] {
  return [...agentIds].map((agentId) => keyOf("id_clone", subjects.agent(agentId)));
}

/** A rule's condition holds for a subject. Texts must not change from report to report: no ages, no counters. */
export type Finding = {
  severity: Severity;
  /** One sentence: what, where, and what it means. */
  message: string;
  /** What to do next, and the command to run first (null: none helps). */
  lookAt: string;
  command: string | null;
  /** The agent whose alarm it is; null: nobody's in particular. */
  agentId: string | null;
  /** Agents whose reports speak about this subject: each of theirs evaluates it again. */
  agents: string[];
  /** Who saw it; by name in the details. */
  seenBy: string[];
  /** Alarms that explain this one when they are open. */
  causes: Key[];
  /** When it began, if that is known better than "at the first report that shows it". */
  sinceAt?: number;
  details?: Record<string, unknown>;
  /** Kept in the row for the rule's next evaluation. */
  keep?: Record<string, unknown>;
  /** Reports in a row before it opens, where that is more than the rule's. */
  hold?: number;
  /** Not enough to open by itself: remembered as pending until `expiresAt`. */
  expiresAt?: number;
};

/** "stays": this report says nothing new about it; counts go on as they were. */
export type Verdict = Finding | "stays" | null;

export type Context = {
  topology: TopologyReader;
  now: number;
  /** The agent whose report is evaluated. */
  agentId: string;
  observation: Observation;
  /** What its configuration was at the report before, and is; previous null: its first. */
  previous: Facts | null;
  facts: Facts;
  /** The agent's WireGuard edges that are not simply up, late, idle or unused. */
  troubled: readonly TopologyEdge[];
  /** Heard under 3 of its intervals ago. */
  isFresh(agentId: string): boolean;
  intervalMs(agentId: string): number;
  /** When the fleet's first agent was first seen. */
  fleetSince: number;
  /** A WireGuard network in parts; null: it is whole. */
  parts(networkId: string): Parts | null;
  /** What is remembered of an agent; null: nothing yet. */
  factsOf(agentId: string): Facts | null;
  /** The live row (pending, open, acknowledged) of a key. */
  live(key: Key): AlarmRow | null;
};

export type Resolve =
  /** So many reports in a row of one agent that speaks about it, without the condition. */
  | { reports: number }
  /** So long since it was last seen. */
  | { quietMs: number }
  /** Whoever feeds it says so (time, arrival). */
  | { by: "signal" };

export type Rule = {
  code: AlarmCode;
  /** report: reports that are neither late nor superseded. arrival: whatever arrives. signal: fed by the manager. */
  listens: "report" | "arrival" | "signal";
  /** Reports in a row of one agent before it opens. */
  hold: number;
  resolve: Resolve;
  /** An acknowledgement ends it: what was seen happened once, or was meant. */
  endsOnAcknowledge: boolean;
  /** It is found by comparing with the report before: a late report then remembers it, and a fresh one decides. */
  compares: boolean;
  /** Its subjects follow from what configurationOf lists and nothing else: while that stays, there are no new ones. */
  ofConfiguration: boolean;
  /** Subjects that this report may newly speak about. Live ones are evaluated in any case. */
  subjects(context: Context): Iterable<string>;
  check(subject: string, context: Context, row: AlarmRow | null): Verdict;
  help: { means: string; todo: string; severity: string; opens: string; resolves: string };
};
