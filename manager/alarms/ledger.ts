// Owns the life of an alarm: pending → open → acknowledged → resolved, what hangs under what, who is told, and flapping.
// All of it is in the rows, so a ledger built from stored rows goes on where the former one stopped. Pure.
import { shownText } from "../../shared/text.ts";
import type { Severity } from "../../shared/api.ts";
import type { AlarmChange, AlarmRow, AlarmTransition, Silence } from "../model.ts";
import { Deadlines } from "./deadlines.ts";
import type { AlarmCode, Finding, Key, Rule } from "./rule.ts";
import { keyOf } from "./rule.ts";

const MINUTE_MS = 60_000;
/** Four transitions in this time are flapping; as long a quiet ends it (2-topology.md, Alarms). */
const FLAPPING_MS = 30 * MINUTE_MS;
const FLAPPING_TRANSITIONS = 4;
/** A resolved alarm that comes again within this time is the same one: its transitions stay together. */
const SAME_ALARM_MS = 30 * MINUTE_MS;
/** After its cause is gone an effect has this long to go by itself before it opens or anyone is told of it: a tunnel shakes
 * hands again within 180 s of its peer's return, and two reports say so. */
const EFFECT_GRACE_MS = 4 * MINUTE_MS;

/** What goes on for long is not written more often than this. */
const LAST_AT_STEP_MS = 10_000;

const RANK: Record<Severity, number> = { info: 0, warning: 1, critical: 2 };

export type ReportRef = { agent_id: string; tick: number };

/** What the ledger keeps in `memory` beside the rule's own `keep`. Absent: none. */
export type Memory = {
  /** Agents whose reports speak about the subject. */
  agents?: string[];
  causes?: Key[];
  /** Reports in a row that showed it, by agent, before it opened. */
  seen?: Record<string, number>;
  /** Reports in a row that did not, by agent, since it opened. */
  clear?: Record<string, number>;
  /** Since when it holds again, on a row that is resolved. */
  again_at?: number;
  /** Moments of opening and resolving within FLAPPING_MS. */
  recent?: number[];
  /** Receivers were told that it is open, and not yet that it is resolved. */
  said?: boolean;
  /** Nobody is told before this: its cause has just gone. */
  quiet_until?: number;
  /** When it was last seen (rules that resolve by quiet). */
  last_at?: number;
  /** Pending only until then. */
  expires_at?: number;
  /** When it ended without having opened: kept for a while, since what it caused may take longer to mend. */
  ended_at?: number;
  keep?: Record<string, unknown>;
};

export function memoryOf(row: AlarmRow): Memory {
  return row.memory as Memory;
}

export function isOpen(row: AlarmRow): boolean {
  return row.state === "open" || row.state === "acknowledged";
}

/** Its condition holds, and it has not opened (again) yet. */
export function isPending(row: AlarmRow): boolean {
  return row.state === "pending" || (row.state === "resolved" && memoryOf(row).seen !== undefined);
}

/** Since when its condition holds: of one that was resolved before, this time. */
export function sinceOf(row: AlarmRow): number {
  return memoryOf(row).again_at ?? row.since_at;
}

/** An alarm of these codes stands instead of what it causes: effects do not even open beneath it. */
const REPLACES: ReadonlySet<string> = new Set<AlarmCode>(["manager_isolated"]);

type Draft = {
  rows: Map<string, AlarmRow>;
  created: Set<string>;
  transitions: AlarmTransition[];
  withdrawn: string[];
};
function emptyDraft(): Draft {
  return { rows: new Map(), created: new Set(), transitions: [], withdrawn: [] };
}

export class Ledger {
  #rows = new Map<Key, AlarmRow>();
  #keys = new Map<string, Key>();
  /** Keys of rows that an agent's reports speak about. */
  #byAgent = new Map<string, Set<Key>>();
  /** A cause's key, or the id of a row that others stand beneath → the rows that name it. */
  #effects = new Map<string, Set<Key>>();
  #silences: Silence[];
  #draft = emptyDraft();
  #now = 0;
  readonly deadlines = new Deadlines();

  constructor(
    rows: readonly AlarmRow[],
    silences: readonly Silence[],
    private readonly rules: ReadonlyMap<string, Rule>,
  ) {
    this.#silences = [...silences];
    // The newest row of a key is the one that lives.
    for (const row of [...rows].sort((a, b) => a.since_at - b.since_at)) this.#index(row);
    for (const row of this.#rows.values()) this.#schedule(row);
  }

  /** Pending, open and acknowledged rows. */
  *live(): Iterable<AlarmRow> {
    for (const row of this.#rows.values()) if (isOpen(row) || isPending(row)) yield row;
  }

  get(key: Key): AlarmRow | null {
    const row = this.#rows.get(key);
    return row !== undefined && (isOpen(row) || isPending(row)) ? row : null;
  }

  /** Also a resolved one, for half an hour. */
  recent(key: Key): AlarmRow | null {
    return this.#rows.get(key) ?? null;
  }

  /** Live rows that an agent's reports speak about. */
  ofAgent(agentId: string): AlarmRow[] {
    return [...(this.#byAgent.get(agentId) ?? [])].map((key) => this.get(key)).filter((row) => row !== null);
  }

  /** What has changed since the last call. */
  take(): AlarmChange {
    const { rows, transitions, withdrawn } = this.#draft;
    this.#draft = emptyDraft();
    return { alarms: [...rows.values()], transitions, events: [], withdrawn };
  }

  isSilenced(row: AlarmRow, now: number): boolean {
    return this.#silencedUntil(row, now) !== null;
  }

  /** Those that lapsed go at the same time. */
  silence(silence: Silence, now: number): void {
    this.#silences = [...this.#silences.filter(({ until_at: until }) => until > now), silence];
  }

  /** The window as it ended now; what it kept quiet is told. Null: there is none by this id. */
  endSilence(id: string, now: number): Silence | null {
    const found = this.#silences.find((silence) => silence.id === id && silence.until_at > now);
    if (found === undefined) return null;
    this.#silences = this.#silences.filter((silence) => silence !== found);
    for (const [key, row] of [...this.#rows])
      if (row.state === "open" && memoryOf(row).said !== true) this.tick(key, now);
    return { ...found, until_at: now };
  }

  /**
   * The condition holds. `by` is the agent whose report says so (rules that count), or null for what counts by itself.
   * `decides` false: a late report, which is remembered and decides nothing.
   */
  present(
    rule: Rule,
    subject: string,
    finding: Finding,
    by: string | null,
    report: ReportRef | null,
    now: number,
    { sinceAt = now, decides = true }: { sinceAt?: number; decides?: boolean } = {},
  ): void {
    this.#now = now;
    const key = keyOf(rule.code, subject);
    const before = this.#rows.get(key);
    const reuse = before !== undefined && (before.state !== "resolved" || now - before.resolved_at! < SAME_ALARM_MS);
    // One that came again in time and did not open is another by now, and has held for as long.
    const again = !reuse && before !== undefined && isPending(before) ? memoryOf(before) : null;
    const row: AlarmRow = reuse
      ? { ...before, memory: { ...before.memory } }
      : {
          id: crypto.randomUUID(),
          code: rule.code,
          severity: finding.severity,
          subject,
          agent_id: finding.agentId,
          state: "pending",
          message: shownText(finding.message),
          since_at: again?.again_at ?? finding.sinceAt ?? sinceAt,
          opened_at: now,
          acknowledged_at: null,
          resolved_at: null,
          depends_on: [],
          details: {},
          flapping: false,
          memory: again === null ? {} : { seen: again.seen, ended_at: again.ended_at },
        };
    const memory = memoryOf(row);
    memory.agents = finding.agents;
    memory.causes = finding.causes;
    if (finding.keep !== undefined) memory.keep = finding.keep;
    if (!isOpen(row)) {
      const who = by ?? "";
      const hold = finding.hold ?? rule.hold;
      const counted = Math.min(hold, (memory.seen?.[who] ?? 0) + (decides ? 1 : 0));
      memory.seen = { ...memory.seen, [who]: counted };
      if (row.state === "resolved") memory.again_at ??= finding.sinceAt ?? sinceAt;
      if (memory.ended_at !== undefined) {
        // It had ended, and begins anew.
        if (row.state === "resolved") memory.again_at = finding.sinceAt ?? sinceAt;
        else row.since_at = finding.sinceAt ?? sinceAt;
        memory.seen = { [who]: decides ? 1 : 0 };
        delete memory.ended_at;
      }
      if (finding.expiresAt === undefined) delete memory.expires_at;
      else memory.expires_at = finding.expiresAt;
      const held = Math.max(...Object.values(memory.seen)) >= hold;
      if (row.state === "pending") this.#describe(row, finding);
      if (held && decides && finding.expiresAt === undefined) this.#open(row, rule, finding, report, now);
      else this.#put(row);
      return;
    }
    if (!decides) return;
    delete memory.clear;
    if ("quietMs" in rule.resolve && now - (memory.last_at ?? 0) >= LAST_AT_STEP_MS) memory.last_at = now;
    const rose = RANK[finding.severity] > RANK[row.severity];
    const was = row.severity;
    this.#describe(row, finding);
    this.#link(row);
    if (rose) {
      const from = row.state;
      row.state = "open";
      row.acknowledged_at = null;
      const notify = this.#tellable(row, now);
      if (notify) memory.said = true;
      this.#put(row);
      this.#transition(row, from, "open", now, report, `${was} → ${row.severity}`, notify);
    } else this.#put(row);
  }

  /**
   * The condition does not hold, by a report of agent `by`, or (null) for good. `lingers`: one that had not opened is
   * remembered for as long as its effects may take to mend.
   */
  absent(
    rule: Rule,
    subject: string,
    by: string | null,
    report: ReportRef | null,
    now: number,
    { lingers = false }: { lingers?: boolean } = {},
  ): void {
    this.#now = now;
    const before = this.#rows.get(keyOf(rule.code, subject));
    if (before === undefined) return;
    if (isPending(before)) {
      if (memoryOf(before).ended_at !== undefined) return;
      if (!lingers) return this.#withdraw(before);
      const memory: Memory = { ...memoryOf(before), ended_at: now, expires_at: now + EFFECT_GRACE_MS };
      this.#put({ ...before, memory });
      return;
    }
    if (!isOpen(before)) return;
    if ("quietMs" in rule.resolve && by !== null) return;
    const row = { ...before, memory: { ...before.memory } };
    const needed = "reports" in rule.resolve && by !== null ? rule.resolve.reports : 1;
    const count = (memoryOf(row).clear?.[by ?? ""] ?? 0) + 1;
    if (count >= needed) return this.#resolve(row, report, now, null);
    memoryOf(row).clear = { ...memoryOf(row).clear, [by ?? ""]: count };
    this.#put(row);
  }

  /** What time alone does to a row: pending ones expire, quiet ones resolve, flapping ends, silences and grace run out. */
  tick(key: Key, now: number): void {
    this.#now = now;
    const before = this.#rows.get(key);
    if (before === undefined) return;
    const rule = this.rules.get(before.code);
    const row = { ...before, memory: { ...before.memory } };
    const memory = memoryOf(row);
    if (row.flapping && now >= memory.recent!.at(-1)! + FLAPPING_MS) {
      row.flapping = false;
      delete memory.recent;
      const open = isOpen(row);
      const notify = open ? memory.said !== true && this.#tellable(row, now) : memory.said === true;
      if (notify) memory.said = open;
      this.#put(row);
      this.#transition(row, row.state, row.state, now, null, "no longer flapping: quiet for 30 minutes", notify);
    }
    if (isPending(row) && memory.expires_at !== undefined && now >= memory.expires_at) return this.#withdraw(row);
    if (isOpen(row) && rule !== undefined && "quietMs" in rule.resolve) {
      if (now >= (memory.last_at ?? row.opened_at) + rule.resolve.quietMs) {
        return this.#resolve(row, null, now, "not seen any more");
      }
    }
    if (memory.quiet_until !== undefined && now >= memory.quiet_until) delete memory.quiet_until;
    if (row.state === "open" && memory.said !== true && this.#tellable(row, now)) {
      memory.said = true;
      this.#put(row);
      this.#transition(row, "open", "open", now, null, "it stays, and nothing else explains it", true);
    }
    if (row.state === "resolved" && !isPending(row) && !row.flapping && now >= row.resolved_at! + SAME_ALARM_MS) {
      this.#forget(row);
      return;
    }
    this.#put(row);
    this.#schedule(row);
  }

  /** What it is then; null: no open alarm has this id. */
  acknowledge(id: string, now: number): AlarmRow | null {
    this.#now = now;
    const before = this.#rows.get(this.#keys.get(id) ?? "");
    if (before === undefined || before.id !== id || !isOpen(before)) return null;
    if (before.state === "acknowledged") return before;
    const row: AlarmRow = { ...before, state: "acknowledged", acknowledged_at: now, memory: { ...before.memory } };
    this.#put(row);
    this.#transition(row, "open", "acknowledged", now, null, null, false);
    if (this.rules.get(row.code)?.endsOnAcknowledge === true) {
      const ended: AlarmRow = { ...row, memory: { ...row.memory } };
      this.#resolve(ended, null, now, "acknowledged");
      return ended;
    }
    return row;
  }

  /** Ends what is about this agent; what others report on too is theirs from now on. */
  forgetAgent(agentId: string, now: number): void {
    this.#now = now;
    for (const before of this.ofAgent(agentId)) {
      const others = (memoryOf(before).agents ?? []).filter((agent) => agent !== agentId);
      if (before.agent_id === agentId || others.length === 0) {
        if (isPending(before)) this.#withdraw(before);
        else this.#resolve({ ...before, memory: { ...before.memory } }, null, now, "the agent was forgotten");
      } else this.#put({ ...before, memory: { ...before.memory, agents: others } });
    }
  }

  #describe(row: AlarmRow, finding: Finding): void {
    row.severity = finding.severity;
    row.message = shownText(finding.message);
    row.agent_id = finding.agentId;
    row.details = {
      ...finding.details,
      seen_by: finding.seenBy,
      since_at: row.since_at,
      look_at: shownText(finding.lookAt),
      command: finding.command,
    };
  }

  #open(row: AlarmRow, rule: Rule, finding: Finding, report: ReportRef | null, now: number): void {
    const memory = memoryOf(row);
    const causes = this.#causesOf(row);
    const waits = causes.some(
      (cause) =>
        (isPending(cause) && memoryOf(cause).expires_at === undefined) || (isOpen(cause) && REPLACES.has(cause.code)),
    );
    if (waits || this.#mends(row, finding.sinceAt ?? sinceOf(row), now)) {
      this.#put(row);
      return;
    }
    const from = row.state;
    if (memory.again_at !== undefined) row.since_at = memory.again_at;
    this.#describe(row, finding);
    row.state = "open";
    row.opened_at = now;
    row.acknowledged_at = null;
    row.resolved_at = null;
    row.depends_on = causes.filter(isOpen).map((cause) => cause.id);
    delete memory.seen;
    delete memory.clear;
    delete memory.again_at;
    delete memory.ended_at;
    delete memory.quiet_until;
    if ("quietMs" in rule.resolve) memory.last_at = now;
    this.#move(row, from, now, report, null);
    // What stands open on its own account and names this as its cause goes beneath it.
    const key = keyOf(rule.code, row.subject);
    for (const other of this.#effectsOf(key)) {
      if (other.id === row.id || !isOpen(other) || !(memoryOf(other).causes ?? []).includes(key)) continue;
      const linked = { ...other, memory: { ...other.memory } };
      this.#link(linked);
      this.#put(linked);
    }
  }

  /** Whether what began before one of its causes ended may still mend by itself. */
  #mends(row: AlarmRow, sinceAt: number, now: number): boolean {
    return (memoryOf(row).causes ?? []).some((key) => {
      const cause = this.#rows.get(key);
      // What an alarm stood in place of has its own patience.
      if (cause === undefined || cause.id === row.id || isOpen(cause) || REPLACES.has(cause.code)) return false;
      const endedAt = memoryOf(cause).ended_at ?? cause.resolved_at;
      return endedAt !== null && sinceAt <= endedAt && now < endedAt + EFFECT_GRACE_MS;
    });
  }

  #resolve(row: AlarmRow, report: ReportRef | null, now: number, note: string | null): void {
    const from = row.state;
    row.state = "resolved";
    row.resolved_at = now;
    row.depends_on = [];
    const memory = memoryOf(row);
    delete memory.clear;
    delete memory.quiet_until;
    this.#move(row, from, now, report, note);
    for (const other of this.#effectsOf(row.id)) {
      if (!other.depends_on.includes(row.id)) continue;
      const freed = {
        ...other,
        depends_on: other.depends_on.filter((id) => id !== row.id),
        memory: { ...other.memory },
      };
      if (freed.depends_on.length === 0) memoryOf(freed).quiet_until = now + EFFECT_GRACE_MS;
      this.#put(freed);
    }
  }

  /** Opening and resolving, with the count that makes flapping. */
  #move(row: AlarmRow, from: string, now: number, report: ReportRef | null, note: string | null): void {
    const memory = memoryOf(row);
    const recent = [...(memory.recent ?? []).filter((at) => now - at < FLAPPING_MS), now];
    memory.recent = recent;
    const opens = row.state === "open";
    const notify = opens ? this.#tellable(row, now) : memory.said === true && !row.flapping;
    const begins = !row.flapping && recent.length >= FLAPPING_TRANSITIONS;
    if (begins) row.flapping = true;
    if (notify) memory.said = opens;
    this.#put(row);
    const flapping = begins ? "flapping: further changes are not told until it is quiet for 30 minutes" : null;
    this.#transition(
      row,
      from,
      row.state,
      now,
      report,
      [note, flapping].filter((text) => text !== null).join("; ") || null,
      notify,
    );
  }

  /** Whether receivers hear of it: nothing explains it, nobody asked for quiet, and it does not flap. */
  #tellable(row: AlarmRow, now: number): boolean {
    return (
      row.depends_on.length === 0 &&
      !row.flapping &&
      (memoryOf(row).quiet_until ?? 0) <= now &&
      this.#silencedUntil(row, now) === null
    );
  }

  #transition(
    row: AlarmRow,
    from: string,
    to: string,
    now: number,
    report: ReportRef | null,
    note: string | null,
    notify: boolean,
  ): void {
    this.#draft.transitions.push({
      alarm_id: row.id,
      at: now,
      from,
      to,
      severity: row.severity,
      report,
      note,
      notify,
    });
  }

  /** Live causes, without those that hang under this row, or under another of them: an effect hangs under the root. */
  #causesOf(row: AlarmRow): AlarmRow[] {
    const causes = [...new Set(memoryOf(row).causes ?? [])]
      .map((key) => this.get(key))
      .filter((cause) => cause !== null)
      .filter((cause) => cause.id !== row.id && !this.#hangsUnder(cause, row.id));
    return causes.filter(
      (cause) => !causes.some((other) => other.id !== cause.id && this.#hangsUnder(cause, other.id)),
    );
  }

  #hangsUnder(row: AlarmRow, id: string, depth = 0): boolean {
    if (row.depends_on.includes(id)) return true;
    if (depth > 8) return true; // deeper than any chain of causes: a ring
    return row.depends_on.some((up) => {
      const cause = this.#rows.get(this.#keys.get(up) ?? "");
      return cause !== undefined && this.#hangsUnder(cause, id, depth + 1);
    });
  }

  #link(row: AlarmRow): void {
    const open = this.#causesOf(row).filter(isOpen);
    row.depends_on = open.map((cause) => cause.id);
  }

  #withdraw(row: AlarmRow): void {
    if (row.state === "resolved") {
      const memory = { ...memoryOf(row) };
      delete memory.seen;
      delete memory.again_at;
      delete memory.expires_at;
      delete memory.ended_at;
      this.#put({ ...row, memory });
      return;
    }
    this.#forget(row);
    this.#draft.rows.delete(row.id);
    if (this.#draft.created.has(row.id)) this.#draft.created.delete(row.id);
    else this.#draft.withdrawn.push(row.id);
  }

  /** Stores a row if it differs from the one before. */
  #put(row: AlarmRow): void {
    const key = keyOf(row.code as AlarmCode, row.subject);
    const before = this.#rows.get(key);
    if (before !== undefined && before.id === row.id && JSON.stringify(before) === JSON.stringify(row)) return;
    if (before === undefined || before.id !== row.id) {
      if (before !== undefined) this.#forget(before);
      this.#draft.created.add(row.id);
    }
    this.#index(row);
    this.#draft.rows.set(row.id, row);
    this.#schedule(row);
  }

  #index(row: AlarmRow): void {
    const key = keyOf(row.code as AlarmCode, row.subject);
    const before = this.#rows.get(key);
    if (before !== undefined) this.#unindex(before, key);
    this.#rows.set(key, row);
    this.#keys.set(row.id, key);
    for (const agent of memoryOf(row).agents ?? []) enter(this.#byAgent, agent, key);
    for (const cause of causesNamed(row)) enter(this.#effects, cause, key);
  }

  #unindex(row: AlarmRow, key: Key): void {
    this.#keys.delete(row.id);
    for (const agent of memoryOf(row).agents ?? []) leave(this.#byAgent, agent, key);
    for (const cause of causesNamed(row)) leave(this.#effects, cause, key);
  }

  /** Rows that name this cause, or stand beneath the row with this id. */
  #effectsOf(cause: string): AlarmRow[] {
    return [...(this.#effects.get(cause) ?? [])].flatMap((key) => this.#rows.get(key) ?? []);
  }

  #forget(row: AlarmRow): void {
    const key = keyOf(row.code as AlarmCode, row.subject);
    this.#unindex(row, key);
    this.#rows.delete(key);
    this.deadlines.set(`row ${key}`, null);
  }

  #silencedUntil(row: AlarmRow, now: number): number | null {
    const agents = this.#rows.get(this.#keys.get(row.id) ?? "") ?? row;
    const concerned = new Set([...(memoryOf(agents).agents ?? []), ...(row.agent_id === null ? [] : [row.agent_id])]);
    let until: number | null = null;
    for (const silence of this.#silences) {
      if (silence.until_at <= now) continue;
      if (silence.codes.length > 0 && !silence.codes.includes(row.code)) continue;
      if (silence.agents.length > 0 && !silence.agents.some((agent) => concerned.has(agent))) continue;
      until = Math.max(until ?? 0, silence.until_at);
    }
    return until;
  }

  /** The next moment at which time alone changes this row. */
  #schedule(row: AlarmRow): void {
    const memory = memoryOf(row);
    const moments: number[] = [];
    if (row.flapping) moments.push((memory.recent?.at(-1) ?? 0) + FLAPPING_MS);
    if (isPending(row) && memory.expires_at !== undefined) moments.push(memory.expires_at);
    if (isOpen(row)) {
      const rule = this.rules.get(row.code);
      if (rule !== undefined && "quietMs" in rule.resolve) {
        moments.push((memory.last_at ?? row.opened_at) + rule.resolve.quietMs);
      }
      if (memory.quiet_until !== undefined) moments.push(memory.quiet_until);
      if (row.state === "open" && memory.said !== true && row.depends_on.length === 0) {
        const until = this.#silencedUntil(row, this.#now);
        if (until !== null) moments.push(until);
      }
    } else if (row.state === "resolved") moments.push(row.resolved_at! + SAME_ALARM_MS);
    const key = keyOf(row.code as AlarmCode, row.subject);
    this.deadlines.set(`row ${key}`, moments.length === 0 ? null : Math.max(this.#now + 1, Math.min(...moments)));
  }
}

function enter(index: Map<string, Set<Key>>, name: string, key: Key): void {
  const keys = index.get(name);
  if (keys === undefined) index.set(name, new Set([key]));
  else keys.add(key);
}

function leave(index: Map<string, Set<Key>>, name: string, key: Key): void {
  const keys = index.get(name);
  keys?.delete(key);
  if (keys?.size === 0) index.delete(name);
}

function causesNamed(row: AlarmRow): string[] {
  return [...(memoryOf(row).causes ?? []), ...row.depends_on];
}
