// Owns the first screen's reasoning: what is broken, what it took down with it, since when, what changed before, and whether
// the manager can see at all. Pure.
import type { AgentSummary, Alarm, Event, HealthResponse } from "../../shared/api.ts";
import { clock, count, duration } from "./words.ts";
import type { Tone } from "./look.ts";

/** What changed in the hour before the oldest cause: longer ago is seldom the reason. */
export const BEFORE_MS = 3_600_000;

export type Cause = { alarm: Alarm; effects: Alarm[] };
export type Situation = {
  tone: Tone;
  /** One sentence; the first thing read. */
  verdict: string;
  agents: number;
  up: number;
  causes: Cause[];
  /** Open, but only to be known: infos, and what somebody silenced. */
  notes: Alarm[];
  /** Since when the oldest cause is there; null: nothing is wrong. */
  since: number | null;
};

export function sinceOf(alarm: Alarm): number {
  const since = alarm.details["since_at"];
  return typeof since === "number" ? since : alarm.opened_at;
}

const RANK = { critical: 0, warning: 1, info: 2 };
export function bySeverity(a: Alarm, b: Alarm): number {
  return RANK[a.severity] - RANK[b.severity] || sinceOf(b) - sinceOf(a) || (a.id < b.id ? -1 : 1);
}

/** Open alarms as causes with what depends on them; an alarm of several causes stands under the first. */
export function causesOf(alarms: Iterable<Alarm>): Cause[] {
  const open = new Map<string, Alarm>();
  for (const alarm of alarms) if (alarm.state !== "resolved") open.set(alarm.id, alarm);
  const root = (alarm: Alarm): Alarm => {
    const chain: Alarm[] = [alarm];
    for (;;) {
      const above = chain.at(-1)!.depends_on.flatMap((id) => open.get(id) ?? [])[0];
      if (above === undefined) return chain.at(-1)!;
      const met = chain.indexOf(above);
      // Two that explain each other: the first by id stands for both.
      if (met >= 0) return chain.slice(met).reduce((least, item) => (item.id < least.id ? item : least));
      chain.push(above);
    }
  };
  const causes = new Map<string, Cause>();
  const of = (alarm: Alarm) => {
    const found = causes.get(alarm.id) ?? { alarm, effects: [] };
    causes.set(alarm.id, found);
    return found;
  };
  for (const alarm of open.values()) {
    const cause = root(alarm);
    if (cause === alarm) of(alarm);
    else of(cause).effects.push(alarm);
  }
  const list = [...causes.values()].sort((a, b) => bySeverity(a.alarm, b.alarm));
  for (const cause of list) cause.effects.sort(bySeverity);
  return list;
}

export function situation(agents: readonly AgentSummary[], alarms: Iterable<Alarm>, now: number): Situation {
  const all = causesOf(alarms);
  const weighs = ({ alarm }: Cause) => alarm.severity !== "info" && !alarm.silenced;
  const causes = all.filter(weighs);
  const notes = all.filter((cause) => !weighs(cause)).flatMap(({ alarm, effects }) => [alarm, ...effects]);
  const up = agents.filter(({ status }) => status !== "down").length;
  const since = causes.length === 0 ? null : Math.min(...causes.map(({ alarm }) => sinceOf(alarm)));
  const critical = causes.some(({ alarm }) => alarm.severity === "critical");
  const tone: Tone = causes.length === 0 && up === agents.length ? "good" : critical ? "bad" : "warn";
  const parts = [`${up.toLocaleString("en")} of ${agents.length.toLocaleString("en")} up`];
  if (causes.length > 0) parts.push(count(causes.length, "cause"));
  if (since !== null) parts.push(`since ${clock(since, now)}`);
  else if (up === agents.length) parts.push("nothing is wrong");
  return { tone, verdict: parts.join(", "), agents: agents.length, up, causes, notes, since };
}

/** What links did by themselves: the effects, not what somebody or something changed. */
const EFFECTS: ReadonlySet<string> = new Set(["edge_state", "edge_cause"]);
/** More of one code than this are said as one. */
const MANY = 4;

export type Change = { event: Event; /** How many of its code there were, itself included. */ of: number };

/** What was changed (key, peer, route, endpoint, reboot) since an hour before the oldest cause, newest first. */
export function changesBefore(events: readonly Event[], since: number | null, now: number): Change[] {
  const from = (since ?? now) - BEFORE_MS;
  const changes = events.filter(({ at, code }) => at >= from && !EFFECTS.has(code)).sort((a, b) => b.at - a.at);
  const numbers = new Map<string, number>();
  for (const { code } of changes) numbers.set(code, (numbers.get(code) ?? 0) + 1);
  const said = new Set<string>();
  return changes.flatMap((event) => {
    const number = numbers.get(event.code)!;
    if (number <= MANY) return [{ event, of: 1 }];
    if (said.has(event.code)) return [];
    said.add(event.code);
    return [{ event, of: number }];
  });
}

export type Sight = {
  blind: boolean;
  /** Why it is blind; null: it is not. */
  why: string | null;
  words: string[];
};

/** An agent gives a direct try 5 s: what is stored later was not delivered, as far as it knows. */
const MAX_LAG_MS = 5000;

/** Whether the manager sees: when it last heard anybody, how long storing takes, how many are on time, whether it can write. */
export function sight(agents: readonly AgentSummary[], health: HealthResponse | null, now: number, live = true): Sight {
  if (health === null) {
    const why = "the manager does not say how it is";
    return { blind: true, why, words: [why] };
  }
  const words: string[] = [];
  const interval = Math.min(...agents.map(({ interval_s: own }) => own ?? 30), 300) * 1000;
  const age = health.last_report_at === null ? null : now - health.last_report_at;
  // One agent late is that agent; nobody heard for three intervals, and more than a scheduling hiccup, is the manager.
  // Just started, it has not had the time to hear anybody; and what it heard since this page is not live, nobody told.
  const silentFor = age ?? health.uptime_s * 1000;
  const silent = live && agents.length > 0 && silentFor > Math.max(3 * interval, 20_000);
  if (age === null) words.push(`no report since the manager started ${duration(health.uptime_s * 1000)} ago`);
  else words.push(`last report ${duration(age)} ago`);
  const lag = health.ingest_lag_ms;
  if (lag !== null) words.push(`ingest lag ${lag < 1000 ? `${lag} ms` : duration(lag)}`);
  const online = agents.filter(({ status }) => status === "online").length;
  words.push(`${online} of ${agents.length} on time`);
  const waiting = agents.filter(({ outbox_reports: reports }) => (reports ?? 0) > 0);
  const reports = waiting.reduce((sum, { outbox_reports: own }) => sum + (own ?? 0), 0);
  words.push(
    waiting.length === 0
      ? "nothing waits to be sent"
      : `${count(reports, "report")} ${reports === 1 ? "waits" : "wait"} at ${count(waiting.length, "agent")}`,
  );
  const database = `database ${health.database.replace("_", " ")}`;
  words.push(database);
  const why =
    health.database !== "ok"
      ? `${database}, nothing is stored`
      : silent
        ? words[0]!
        : lag !== null && lag > MAX_LAG_MS
          ? `a report waits ${duration(lag)} to be stored`
          : null;
  return { blind: why !== null, why, words };
}
