// Owns the alarms of the fleet: it takes what happens (a report, a second, a refused message, an operator's word), asks the
// rules, and hands back what is to be stored. All that it knows is in the rows and in the topology, so that a manager
// built anew from its database goes on where the former stopped. Pure: the clock is a parameter.
import type { TopologyEdge } from "../../shared/api.ts";
import type { AlarmChange, AlarmRow, Observation, Silence, TopologyChange, TopologyReader } from "../model.ts";
import { carriedBy, cloned, isSettling, PSK_MEMORY_MS, PSK_PATIENCE_MS } from "./agent_rules.ts";
import { configurationOf, type Facts, factsOf, type Underlay } from "./facts.ts";
import { isOpen, isPending, Ledger, memoryOf, type ReportRef, sinceOf } from "./ledger.ts";
import { instant, label, labels, on, some, subjectParts, subjectRest, subjects } from "./names.ts";
import { type Parts, partsOf } from "./partition.ts";
import { type Context, type Finding, type Key, keyOf, type Rule } from "./rule.ts";
import { RULE_OF, RULES } from "./rules.ts";
import { type Contact, isolated, OVERDUE_INTERVALS, SILENT_INTERVALS, siteKeys, sitesDown } from "./silence.ts";

const MINUTE_MS = 60_000;
/** An agent that registered and never reported: its interval is not known yet (REPORT_INTERVAL's default). */
const DEFAULT_INTERVAL_MS = 30_000;
const DOWN_INTERVALS = 10;
const CRITICAL_INTERVALS = 30;
/** Not heard since the manager's start counts as silent after this, at least (2-topology.md). */
const START_GRACE_MS = 90_000;
/** A clock that leaps further than this between two looks was set, or the process was stopped: silence counts anew. */
const CLOCK_LEAP_MS = MINUTE_MS;
/** How often agents that registered but never reported are looked for. */
const SCAN_MS = 30_000;
/** auth_failure: so many from one source in so long; so many sources at most. */
const AUTH_FAILURES = 5;
const AUTH_WINDOW_MS = 5 * MINUTE_MS;
const AUTH_SOURCES = 64;
const OTHER_SOURCES = "other";
/** Peers' handshakes with a silent host that are this much later than its last word prove that it lives: clocks jitter. */
const ALIVE_SLACK_MS = 5000;

/** A network of more nodes than this is asked for its parts once in so long. */
const LARGE_NETWORK = 200;
const PARTS_MS = 1000;
/** Networks whose parts are remembered. */
const MANY_NETWORKS = 1000;

type Heard = {
  at: number;
  intervalMs: number;
  /** By this process. */
  here: boolean;
};

/** What the manager knows of its fleet key: the part of PskStatus that alarms read. */
export type PskFacts = {
  changed_at: number | null;
  error: { reason: string; message: string } | null;
  error_since_at: number | null;
};

/** Whether a rule goes by what a report shows of its host. How it comes is the manager's to see; what resolves by quiet counts changes itself. */
function isOfHost(rule: Rule): boolean {
  return rule.listens === "report" && !("quietMs" in rule.resolve);
}

export class Alarms {
  #ledger: Ledger;
  #facts = new Map<string, Facts>();
  #heard = new Map<string, Heard>();
  #topology: TopologyReader | null = null;
  #startedAt: number;
  #lookedAt: number | null = null;
  #scannedAt = Number.NEGATIVE_INFINITY;
  #configurations = new Map<string, unknown[]>();
  #authTimes = new Map<string, { at: number; count: number }[]>();
  #fleetSince = Number.POSITIVE_INFINITY;
  #parts = new Map<string, { observation: Observation; at: number; isLarge: boolean; parts: Parts | null }>();

  /** `live`: what `Store.liveAlarms` gave. `begin` follows once the topology is there. */
  constructor(live: readonly AlarmRow[], silences: readonly Silence[], startedAt: number) {
    this.#ledger = new Ledger(live, silences, RULE_OF);
    this.#startedAt = startedAt;
  }

  /** After the replay at start: what the last reports said, and when they came. */
  begin(topology: TopologyReader): void {
    this.#topology = topology;
    for (const agentId of topology.agents()) {
      this.#know(agentId, topology);
      const report = topology.effective(agentId);
      if (report !== null) this.#facts.set(agentId, factsOf(report, this.#factsInRows(agentId)));
    }
  }

  /** A card that is down or gone carries nothing: what it was stands in its alarm. */
  #factsInRows(agentId: string): Facts | null {
    const underlays: Underlay[] = [];
    for (const row of this.#ledger.ofAgent(agentId)) {
      if (row.code !== "iface_down" && row.code !== "iface_gone") continue;
      const carries = carriedBy(memoryOf(row).keep?.["was"]);
      const [agent, name] = subjectParts(row.subject);
      if (carries !== null && agent === agentId) underlays.push({ interface: name, carries });
    }
    if (underlays.length === 0) return null;
    return { bootId: "", dropped: 0, relayLoops: 0, hopLimits: 0, wireguard: null, underlays, down: [], gone: [] };
  }

  /** One accepted report, after inference took it. */
  onObservation(observation: Observation, topology: TopologyReader, _change: TopologyChange, now: number): AlarmChange {
    this.#topology = topology;
    const { report } = observation;
    const agentId = report.agent_id;
    const ref: ReportRef = { agent_id: agentId, tick: report.tick };
    this.#hear(agentId, observation, ref, now);
    const previous = this.#facts.get(agentId) ?? null;
    const facts = observation.superseded
      ? (previous ?? factsOf(report, null))
      : factsOf(topology.effective(agentId) ?? report, previous);
    this.#facts.set(agentId, facts);
    const context = this.#context(agentId, observation, previous, facts, topology, now);
    const steady = !observation.late && !observation.superseded && this.#isSteady(agentId, facts, topology);
    const live = new Map<string, AlarmRow[]>();
    for (const row of this.#ledger.ofAgent(agentId)) {
      const rows = live.get(row.code);
      if (rows === undefined) live.set(row.code, [row]);
      else rows.push(row);
    }
    for (const rule of RULES) {
      if (rule.listens === "signal") continue;
      const decides = rule.listens === "arrival" || (!observation.late && !observation.superseded);
      // A late report may show a change for the first time: it is remembered, and the next fresh one decides.
      if (!decides && (observation.superseded || !rule.compares)) continue;
      const rows = live.get(rule.code);
      if (steady && rule.ofConfiguration && rows === undefined) continue;
      this.#evaluate(rule, context, rows ?? [], ref, observation.observed_at, decides);
    }
    return this.#ledger.take();
  }

  /** Whether an agent is configured as it was when its configuration was last evaluated, which it is now. */
  #isSteady(agentId: string, facts: Facts, topology: TopologyReader): boolean {
    const report = topology.effective(agentId);
    const before = this.#configurations.get(agentId);
    const now = report === null ? [] : configurationOf(facts, report);
    this.#configurations.set(agentId, now);
    return before !== undefined && before.length === now.length && before.every((part, index) => part === now[index]);
  }

  #evaluate(
    rule: Rule,
    context: Context,
    live: readonly AlarmRow[],
    ref: ReportRef,
    sinceAt: number,
    decides: boolean,
  ): void {
    const isTurn = this.#isTurn(context);
    // Of most rules there is none at all.
    let wanted: Set<string> | null = null;
    if (!isTurn || !rule.compares) for (const subject of rule.subjects(context)) (wanted ??= new Set()).add(subject);
    for (const row of live) (wanted ??= new Set()).add(row.subject);
    for (const subject of wanted ?? []) {
      const row = this.#ledger.get(keyOf(rule.code, subject));
      const verdict = rule.check(subject, context, row);
      if (verdict === "stays" || (verdict === null && row === null)) continue;
      const agents = [context.agentId, ...(verdict?.agents ?? memoryOf(row!).agents ?? [])];
      const counts = decides && !(isOfHost(rule) && (isTurn || this.#isSettling(agents, context.now)));
      if (verdict !== null) {
        this.#ledger.present(rule, subject, verdict, context.agentId, ref, context.now, { sinceAt, decides: counts });
      } else if (counts || (decides && !isOpen(row!))) {
        this.#ledger.absent(rule, subject, context.agentId, ref, context.now);
      }
    }
  }

  /** Whether one of these agents has just changed its boot: what it shows is remembered, and decided when it settled. */
  #isSettling(agents: readonly string[], now: number): boolean {
    return agents.some((agentId) => {
      const heard = this.#heard.get(agentId);
      const clone = this.#ledger.get(keyOf("id_clone", subjects.agent(agentId)));
      return heard !== undefined && isSettling(clone, heard.intervalMs, now);
    });
  }

  /** Whether the report before was another host's, of two with one id: the difference is no change of either. */
  #isTurn({ agentId, previous, facts }: Context): boolean {
    if (previous === null || previous.bootId === facts.bootId) return false;
    const clone = this.#ledger.get(keyOf("id_clone", subjects.agent(agentId)));
    return clone !== null && isOpen(clone);
  }

  /** About once a second: silence, and whatever time alone changes. */
  onTime(topology: TopologyReader, now: number): AlarmChange {
    this.#topology = topology;
    if (this.#lookedAt !== null && Math.abs(now - this.#lookedAt) > CLOCK_LEAP_MS) this.#beginAnew(now);
    this.#lookedAt = now;
    if (Math.abs(now - this.#scannedAt) >= SCAN_MS) {
      this.#scannedAt = now;
      for (const agentId of topology.agents()) if (!this.#heard.has(agentId)) this.#know(agentId, topology);
    }
    const { deadlines } = this.#ledger;
    const agents: string[] = [];
    for (let key = deadlines.take(now); key !== null; key = deadlines.take(now)) {
      if (key.startsWith("row ")) this.#ledger.tick(key.slice("row ".length), now);
      else agents.push(key.slice("agent ".length));
    }
    agents.sort();
    // All that is due first remembers its silence; then what they mean together; then what each means alone.
    let silent = false;
    for (const agentId of agents) silent = this.#remember(agentId, now) || silent;
    if (silent) this.#judgeTogether(topology, now);
    for (const agentId of agents) this.#judge(agentId, topology, now);
    return this.#ledger.take();
  }

  /** Messages whose MAC or signature did not hold, by source, since the last call. */
  onSecurity(failures: readonly { source: string; count: number }[], now: number): AlarmChange {
    const rule = RULE_OF.get("auth_failure")!;
    for (const { source: given, count } of failures) {
      let source = given;
      const known = this.#ledger.get(keyOf("auth_failure", subjects.source(source))) !== null;
      if (!known && !this.#authTimes.has(source) && this.#authSources(now) >= AUTH_SOURCES) source = OTHER_SOURCES;
      const times = (this.#authTimes.get(source) ?? []).filter(({ at }) => now - at < AUTH_WINDOW_MS);
      // Five are enough to know: of a flood only so much is kept.
      times.push({ at: now, count: Math.min(count, AUTH_FAILURES) });
      if (times.length > AUTH_FAILURES) times.shift();
      this.#authTimes.set(source, times);
      const subject = subjects.source(source);
      const open = this.#ledger.get(keyOf("auth_failure", subject)) !== null;
      if (!open && times.reduce((sum, time) => sum + time.count, 0) < AUTH_FAILURES) continue;
      const owner = this.#topology?.ownersOfAddress(source)[0]?.agent_id ?? null;
      const name = owner === null ? source : `${label(this.#topology!, owner)} (${source})`;
      this.#ledger.present(
        rule,
        subject,
        {
          severity: "warning",
          message: `${source === OTHER_SOURCES ? "many sources send" : `${name} sends`} messages whose MAC or signature does not hold`,
          lookAt: "an agent there with an old or wrong fleet key, or a stranger who tries",
          command:
            owner === null ? null : on(label(this.#topology!, owner))`curl -s http://127.0.0.1:5087/status/healthcheck`,
          agentId: owner,
          agents: owner === null ? [] : [owner],
          seenBy: ["the manager"],
          causes: owner === null ? [] : [keyOf("id_clone", subjects.agent(owner))],
        },
        null,
        null,
        now,
      );
    }
    return this.#ledger.take();
  }

  /** A 409 with `duplicate: false`. */
  onReplay(agentId: string, what: { tick: number; verdict: string }, now: number): AlarmChange {
    const name = this.#name(agentId);
    this.#ledger.present(
      RULE_OF.get("replay")!,
      subjects.agent(agentId),
      {
        severity: "critical",
        message: `a report of ${name} came under a tick or nonce that was used by another`,
        lookAt: "whether that host was restored from a snapshot or cloned; if not, who can read the fleet's traffic",
        command: on(name)`cat agent_tick`,
        agentId,
        agents: [agentId],
        seenBy: ["the manager"],
        causes: [keyOf("id_clone", subjects.agent(agentId))],
        details: { ...what },
      },
      null,
      null,
      now,
    );
    return this.#ledger.take();
  }

  /** A known id registered with another key. */
  onIdConflict(agentId: string, by: { hostname: string }, now: number): AlarmChange {
    const name = this.#name(agentId);
    this.#ledger.present(
      RULE_OF.get("id_clone")!,
      subjects.agent(agentId),
      {
        ...cloned(name, `${JSON.stringify(by.hostname)} registered it with another key`),
        agentId,
        agents: [agentId],
        seenBy: ["the manager"],
        causes: [],
        details: { hostname: by.hostname },
      },
      null,
      null,
      now,
    );
    return this.#ledger.take();
  }

  /** The state of the fleet key's source, and when each agent last used a previous key. */
  onPsk(status: PskFacts, oldPskUsers: ReadonlyMap<string, number>, now: number): AlarmChange {
    this.#pskSource(status, now);
    const rule = RULE_OF.get("psk_old")!;
    const changed = status.changed_at;
    for (const [agentId, usedAt] of oldPskUsers) {
      const subject = subjects.agent(agentId);
      const heard = this.#heard.get(agentId);
      // A report that came after the last use of an old key was MACed with the current one.
      if (heard !== undefined && heard.at > usedAt + 1000) this.#ledger.absent(rule, subject, null, null, now);
      else if (changed !== null && usedAt >= changed + PSK_PATIENCE_MS) {
        const name = this.#name(agentId);
        this.#ledger.present(
          rule,
          subject,
          {
            severity: "warning",
            message: `${name} still uses a previous fleet key`,
            lookAt: "that agent's key source: its resolver, its PSK file; after two more changes it is locked out",
            command: on(name)`curl -s http://127.0.0.1:5087/status/healthcheck`,
            agentId,
            agents: [agentId],
            seenBy: ["the manager"],
            causes: [],
            details: { changed_at: changed },
          },
          null,
          null,
          now,
        );
      }
    }
    // After a restart the map begins anew: whoever was heard since and is not in it uses the current key.
    for (const row of [...this.#ledger.live()]) {
      const agentId = subjectRest(row.subject);
      if (row.code !== "psk_old" || oldPskUsers.has(agentId) || this.#heard.get(agentId)?.here !== true) continue;
      this.#ledger.absent(rule, row.subject, null, null, now);
    }
    return this.#ledger.take();
  }

  #pskSource({ error, error_since_at: errorSinceAt }: PskFacts, now: number): void {
    const rule = RULE_OF.get("psk_fetch_failed")!;
    if (error === null) return this.#ledger.absent(rule, subjects.manager, null, null, now);
    const key = keyOf("psk_fetch_failed", subjects.manager);
    // A restart forgets when the source failed first; the row does not.
    const row = this.#ledger.get(key);
    const since = Math.min(row === null ? now : sinceOf(row), errorSinceAt ?? now);
    const atOnce = error.reason === "ambiguous";
    this.#ledger.present(
      rule,
      subjects.manager,
      {
        severity: "warning",
        message: `the fleet key's source is unusable: ${error.message}`,
        lookAt: atOnce
          ? "several strings could be the key: leave one, or tag it kattila-psk="
          : "the record or file; the keys known so far serve on",
        command: null,
        agentId: null,
        agents: [],
        seenBy: ["the manager"],
        causes: [],
        sinceAt: since,
        details: { error: error.reason },
        ...(atOnce || now - since >= PSK_PATIENCE_MS ? {} : { expiresAt: since + PSK_MEMORY_MS }),
      },
      null,
      null,
      now,
    );
  }

  /** What it is from now on, acknowledged or, if that ends it, resolved; null: no open alarm has this id. */
  acknowledge(id: string, now: number): { row: AlarmRow; change: AlarmChange } | null {
    const row = this.#ledger.acknowledge(id, now);
    const change = this.#ledger.take();
    return row === null ? null : { row, change };
  }

  /** A maintenance window begins. */
  silence(silence: Silence, now: number): void {
    this.#ledger.silence(silence, now);
  }

  /** It ends before its time; null: there is none by this id. */
  endSilence(id: string, now: number): { silence: Silence; change: AlarmChange } | null {
    const silence = this.#ledger.endSilence(id, now);
    return silence === null ? null : { silence, change: this.#ledger.take() };
  }

  isSilenced(row: AlarmRow, now: number): boolean {
    return this.#ledger.isSilenced(row, now);
  }

  forgetAgent(agentId: string, now: number): AlarmChange {
    this.#heard.delete(agentId);
    this.#facts.delete(agentId);
    this.#configurations.delete(agentId);
    this.#ledger.deadlines.set(`agent ${agentId}`, null);
    this.#ledger.forgetAgent(agentId, now);
    return this.#ledger.take();
  }

  /** Open and acknowledged alarms. */
  open(): AlarmRow[] {
    return [...this.#ledger.live()].filter(isOpen);
  }

  // --- silence

  #know(agentId: string, topology: TopologyReader): void {
    const record = topology.agent(agentId);
    const latest = topology.latest(agentId);
    const intervalMs = latest === null ? DEFAULT_INTERVAL_MS : latest.report.interval_s * 1000;
    this.#heard.set(agentId, { at: latest?.received_at ?? record?.registered_at ?? 0, intervalMs, here: false });
    if (record !== null) this.#fleetSince = Math.min(this.#fleetSince, record.first_seen_at);
    this.#ledger.deadlines.set(`agent ${agentId}`, this.#startedAt + this.#graceMs(intervalMs));
  }

  #graceMs(intervalMs: number): number {
    return Math.max(SILENT_INTERVALS * intervalMs, START_GRACE_MS);
  }

  /** The clock leapt: what was silent before may only seem so. */
  #beginAnew(now: number): void {
    this.#startedAt = now;
    for (const [agentId, heard] of this.#heard) {
      heard.here = false;
      heard.at = Math.min(heard.at, now);
      this.#ledger.deadlines.set(`agent ${agentId}`, now + this.#graceMs(heard.intervalMs));
    }
  }

  #silentMs(heard: Heard, now: number): number {
    if (!heard.here && now < this.#startedAt + this.#graceMs(heard.intervalMs)) return 0;
    return Math.max(0, now - heard.at);
  }

  #hear(agentId: string, observation: Observation, ref: ReportRef, now: number): void {
    const intervalMs = observation.report.interval_s * 1000;
    const before = this.#heard.get(agentId);
    // A report or two that were missed cause nothing; after a longer silence its tunnels may take a while to mend.
    const lingers = before !== undefined && now - before.at >= SILENT_INTERVALS * intervalMs;
    this.#heard.set(agentId, { at: now, intervalMs, here: true });
    if (this.#fleetSince === Number.POSITIVE_INFINITY || !this.#facts.has(agentId)) {
      const record = this.#topology?.agent(agentId) ?? null;
      if (record !== null) this.#fleetSince = Math.min(this.#fleetSince, record.first_seen_at);
    }
    this.#ledger.deadlines.set(`agent ${agentId}`, now + OVERDUE_INTERVALS * intervalMs);
    this.#ledger.absent(RULE_OF.get("agent_down")!, subjects.agent(agentId), null, ref, now, { lingers });
    for (const row of this.#ledger.ofAgent(agentId)) {
      if (!isOpen(row)) continue;
      if (row.code === "site_down") this.#ledger.absent(RULE_OF.get("site_down")!, row.subject, null, ref, now);
      if (row.code !== "manager_isolated") continue;
      const members = memoryOf(row).agents ?? [];
      const back = members.filter((member) => (this.#heard.get(member)?.at ?? 0) > row.opened_at);
      if (back.length * 2 >= members.length) {
        this.#ledger.absent(RULE_OF.get("manager_isolated")!, row.subject, null, ref, now);
      }
    }
  }

  /** Notes an agent's silence, and when to look again. Whether it counts with others' now. */
  #remember(agentId: string, now: number): boolean {
    const heard = this.#heard.get(agentId);
    const record = this.#topology?.agent(agentId) ?? null;
    if (heard === undefined || record === null || record.blocked) {
      this.#ledger.absent(RULE_OF.get("agent_down")!, subjects.agent(agentId), null, null, now);
      return false;
    }
    const { intervalMs } = heard;
    const silentMs = this.#silentMs(heard, now);
    const grace = this.#startedAt + this.#graceMs(intervalMs);
    const next =
      !heard.here && now < grace
        ? grace
        : [
            heard.at + OVERDUE_INTERVALS * intervalMs,
            heard.at + SILENT_INTERVALS * intervalMs,
            this.#downFrom(heard),
            heard.at + CRITICAL_INTERVALS * intervalMs,
          ].find((at) => at > now);
    // While it is down: whether its host shows signs of life is looked at once an interval.
    this.#ledger.deadlines.set(`agent ${agentId}`, Math.min(next ?? now + intervalMs, now + intervalMs));
    return silentMs >= SILENT_INTERVALS * intervalMs;
  }

  #contacts(topology: TopologyReader, now: number): Contact[] {
    const contacts: Contact[] = [];
    for (const [agentId, heard] of this.#heard) {
      if (topology.agent(agentId)?.blocked !== false) continue;
      const down = this.#ledger.get(keyOf("agent_down", subjects.agent(agentId)));
      contacts.push({
        agentId,
        heardAt: heard.at,
        intervalMs: heard.intervalMs,
        silentMs: this.#silentMs(heard, now),
        wasDown: down !== null && isOpen(down),
      });
    }
    return contacts;
  }

  #judgeTogether(topology: TopologyReader, now: number): void {
    const contacts = this.#contacts(topology, now);
    const alone = isolated(contacts);
    if (alone !== null) {
      const members = alone.map((contact) => contact.agentId).sort();
      if (this.#ledger.get(keyOf("manager_isolated", subjects.manager)) !== null) return;
      const site = sitesDown(contacts, (agentId) => siteKeys(agentId, topology)).find(
        (found) => found.members.length === members.length,
      );
      this.#ledger.present(
        RULE_OF.get("manager_isolated")!,
        subjects.manager,
        {
          severity: "critical",
          message: `${members.length} of ${contacts.filter((contact) => !contact.wasDown).length} agents fell silent at once: the manager is cut off${
            site === undefined ? "" : `, or their common ${site.key} is`
          }`,
          lookAt: "the manager's own uplink, firewall, address and name, before any agent",
          command: "on the manager: ip -br addr; ip route get <an agent's address>",
          agentId: null,
          agents: members,
          seenBy: ["the manager"],
          causes: [],
          sinceAt: Math.min(...alone.map((contact) => contact.heardAt)),
          details: { agents: labels(topology, members).slice(0, 100) },
        },
        null,
        null,
        now,
      );
      return;
    }
    for (const { key, members } of sitesDown(contacts, (agentId) => siteKeys(agentId, topology))) {
      const agents = members.map((contact) => contact.agentId).sort();
      // Said already: whose own alarm has opened beneath it is still one of those that fell silent together.
      if (agents.every((agentId) => this.#siteDown(agentId) !== undefined)) continue;
      this.#ledger.present(
        RULE_OF.get("site_down")!,
        subjects.site(key),
        {
          severity: "critical",
          message: `all ${agents.length} agents behind ${key} fell silent together: ${some(labels(topology, agents))}`,
          lookAt: "that site's router and uplink",
          command: null,
          agentId: null,
          agents,
          seenBy: ["the manager"],
          causes: [keyOf("manager_isolated", subjects.manager)],
          sinceAt: Math.min(...members.map((contact) => contact.heardAt)),
          details: { agents: labels(topology, agents) },
        },
        null,
        null,
        now,
      );
    }
  }

  /** An agent's own silence: pending from the second missed report on, so that what it causes waits for it. */
  #judge(agentId: string, topology: TopologyReader, now: number): void {
    const heard = this.#heard.get(agentId);
    const record = topology.agent(agentId);
    if (heard === undefined || record === null || record.blocked) return;
    const { intervalMs } = heard;
    const silentMs = this.#silentMs(heard, now);
    if (silentMs < OVERDUE_INTERVALS * intervalMs) return;
    const rule = RULE_OF.get("agent_down")!;
    const subject = subjects.agent(agentId);
    const name = label(topology, agentId);
    const alive = this.#aliveBy(agentId, heard, topology);
    const critical = silentMs >= CRITICAL_INTERVALS * intervalMs && alive === null;
    const never = topology.latest(agentId) === null;
    const said = never
      ? `${name} registered and has not reported`
      : alive === null
        ? `nothing arrives from ${name} since ${instant(heard.at)}`
        : `agent stopped, host alive: nothing arrives from ${name} since ${instant(heard.at)}, and ${label(topology, alive)} shakes hands with it`;
    const down = this.#ledger.get(keyOf("agent_down", subject));
    const finding: Finding = {
      severity: critical || (down?.severity === "critical" && alive === null) ? "critical" : "warning",
      message: said,
      lookAt:
        alive === null ? "whether the host is up, and its way to the manager" : "the agent's service on that host",
      command: on(name)`systemctl status kattila-agent`,
      agentId,
      agents: [agentId],
      seenBy: ["the manager"],
      causes: this.#causesOfSilence(agentId, topology),
      sinceAt: heard.at,
      details: { last_heard_at: never ? null : heard.at },
    };
    const due = now >= this.#downFrom(heard) && silentMs > 0;
    const decides = due || (down !== null && isOpen(down));
    this.#ledger.present(rule, subject, finding, null, null, now, { decides });
  }

  /** From when on a silent agent is down by itself. */
  #downFrom(heard: Heard): number {
    // After the manager was cut off, those that are still silent get as long as after a start.
    const cutOff = this.#ledger.recent(keyOf("manager_isolated", subjects.manager))?.resolved_at ?? null;
    const patient = cutOff === null ? 0 : cutOff + this.#graceMs(heard.intervalMs);
    return Math.max(heard.at + DOWN_INTERVALS * heard.intervalMs, patient);
  }

  /** The open alarm of the site that an agent fell silent with. */
  #siteDown(agentId: string): AlarmRow | undefined {
    return this.#ledger.ofAgent(agentId).find((row) => row.code === "site_down" && isOpen(row));
  }

  #causesOfSilence(agentId: string, topology: TopologyReader): Key[] {
    const causes: Key[] = [
      keyOf("manager_isolated", subjects.manager),
      keyOf("id_clone", subjects.agent(agentId)),
      ...this.#ledger
        .ofAgent(agentId)
        .filter((row) => row.code === "site_down" && !isPending(row))
        .map((row) => keyOf("site_down", row.subject)),
    ];
    // Its last report came by way of these.
    for (const relay of topology.latest(agentId)?.relay_path ?? [])
      causes.push(keyOf("agent_down", subjects.agent(relay)));
    for (const item of topology.effective(agentId)?.interfaces ?? []) {
      for (const address of item.addresses.slice(0, 16)) {
        causes.push(keyOf("auth_failure", subjects.source(address.split("/")[0]!)));
      }
    }
    for (const underlay of this.#facts.get(agentId)?.underlays ?? []) {
      causes.push(keyOf("iface_down", subjects.interface(agentId, underlay.interface)));
      causes.push(keyOf("iface_gone", subjects.interface(agentId, underlay.interface)));
    }
    return causes;
  }

  /** A peer that shook hands with this host after its agent's last word; null: none says so. */
  #aliveBy(agentId: string, heard: Heard, topology: TopologyReader): string | null {
    return topology.handshakeSince(agentId, heard.at + ALIVE_SLACK_MS);
  }

  // --- the rest

  #authSources(now: number): number {
    for (const [source, times] of this.#authTimes) {
      if (times.every(({ at }) => now - at >= AUTH_WINDOW_MS)) this.#authTimes.delete(source);
    }
    let open = 0;
    for (const row of this.#ledger.live()) if (row.code === "auth_failure") open++;
    return Math.max(open, this.#authTimes.size);
  }

  #name(agentId: string): string {
    return this.#topology === null ? agentId : label(this.#topology, agentId);
  }

  /** Worked out once for a report; of a large network, once a second: it costs as much as the network is large. */
  #partsOf(
    networkId: string,
    observation: Observation,
    topology: TopologyReader,
    isFresh: (agentId: string) => boolean,
    now: number,
  ): Parts | null {
    const known = this.#parts.get(networkId);
    if (known?.observation === observation) return known.parts;
    if (known?.isLarge === true && Math.abs(now - known.at) < PARTS_MS) return known.parts;
    if (this.#parts.size > MANY_NETWORKS) this.#parts.clear();
    const isLarge = (topology.network(networkId)?.nodes.size ?? 0) > LARGE_NETWORK;
    const parts = partsOf(networkId, topology, isFresh);
    this.#parts.set(networkId, { observation, at: now, isLarge, parts });
    return parts;
  }

  #context(
    agentId: string,
    observation: Observation,
    previous: Facts | null,
    facts: Facts,
    topology: TopologyReader,
    now: number,
  ): Context {
    let troubled: TopologyEdge[] | null = null;
    const isFresh = (id: string): boolean => {
      const heard = this.#heard.get(id);
      return heard !== undefined && now - heard.at < SILENT_INTERVALS * heard.intervalMs;
    };
    return {
      topology,
      now,
      agentId,
      observation,
      previous,
      facts,
      get troubled() {
        return (troubled ??= topology.troubledEdgesOf(agentId));
      },
      isFresh,
      intervalMs: (id) => this.#heard.get(id)?.intervalMs ?? DEFAULT_INTERVAL_MS,
      fleetSince: this.#fleetSince,
      parts: (networkId) => this.#partsOf(networkId, observation, topology, isFresh, now),
      factsOf: (id) => this.#facts.get(id) ?? null,
      live: (key) => this.#ledger.get(key),
    };
  }
}
