// Owns the manager's memory (agents, replay windows, topology, alarms) and the one queue through which it changes: each
// turn of the queue is decided in memory, committed in one transaction, and only then answered. When a commit fails,
// memory is ahead of the database and is built anew from it.
import type { Event } from "../shared/api.ts";
import { parseObject } from "../shared/json.ts";
import { type Log, reason } from "../shared/log.ts";
import type { Report } from "../shared/report.ts";
import { Alarms } from "./alarms/alarms.ts";
import type {
  AgentRecord,
  AlarmChange,
  AlarmRow,
  Batch,
  InterfaceRow,
  Observation,
  ReportRow,
  StoredReport,
  TopologyChange,
  Version,
} from "./model.ts";
import { HttpError } from "./http.ts";
import { parseReport } from "./parse_report.ts";
import { ReplayWindow } from "./replay_window.ts";
import { type Store, StoreError } from "./store/store.ts";
import { Topology } from "./topology/topology.ts";

/** The span of the audit log from which inference is built anew at start: its longest memory of a tunnel (three lossy
 * handshakes, 210 s of deciding) with room. */
const REPLAY_MS = 15 * 60_000;
/** How far back a report with a section is looked for that could not be read since: first where it is found soon. */
const READ_SPANS_MS = [1, 24, 24 * 7].map((hours) => hours * 3_600_000);
/** So many reports of all agents together are looked through for that, at 35 µs each: a start must not take minutes. */
const LOOKED_THROUGH = 100_000;
/** Resolved alarms younger than this are loaded: flapping counts transitions of 30 minutes and clears after 30 more. */
const ALARM_MEMORY_MS = 60 * 60_000;
/** Jobs in one transaction: enough to share an fsync, few enough that the first does not wait long. */
const MAX_JOBS_PER_COMMIT = 128;
/** After a turn failed for a reason that is not the disk's, so many turns take one job each: a bad one falls alone. */
const SINGLE_TURNS = 200;

/** The latest word of an agent, by the time it arrived. */
export type Contact = { received_at: number; via: "direct" | "relay"; relay_path: string[] };

/** What a job may do: read the fleet, change memory, and add to what is committed. */
export type Turn = { batch: Batch; now: number };

type Job = { run(turn: Turn): unknown; resolve(value: unknown): void; reject(error: unknown): void };
type Outcome = { ok: true; value: unknown } | { ok: false; error: HttpError };

/** What listeners hear of after it is durable. */
export type Published = {
  versions: Version[];
  /** Shown otherwise without a row of history. */
  moved: { nodes: string[]; edges: string[] };
  alarms: AlarmRow[];
  events: Event[];
};

/** Name in `meta`: public keys of the foreign peers that an operator expects. */
const EXPECTED_PEERS = "expected_peers";

/** The parts of a batch that are lists. */
type List = Exclude<keyof Batch, "wipe" | "meta">;

/** Adds items to one of a batch's lists, which is not there until it has some. */
function add<Part extends List>(batch: Batch, part: Part, items: readonly NonNullable<Batch[Part]>[number][]): void {
  if (items.length === 0) return;
  const list: unknown[] | undefined = batch[part];
  if (list === undefined) batch[part] = [...items] as Batch[Part];
  else list.push(...items);
}

function viaOf(relayPath: readonly string[]): "direct" | "relay" {
  return relayPath.length === 0 ? "direct" : "relay";
}

function observationOf(row: ReportRow, report: Report, highestTick: number | null): Observation {
  const age = row.received_at - row.observed_at;
  return {
    report,
    received_at: row.received_at,
    observed_at: row.observed_at,
    relay_path: row.relay_path,
    via: viaOf(row.relay_path),
    late: age > 2 * report.interval_s * 1000,
    superseded: highestTick !== null && report.tick < highestTick,
    skew_ms: report.collected_at + age - row.received_at,
  };
}

/** Of the sections that inference keeps while they cannot be read (`filled` in topology.ts), those whose loss loses links. */
const KEPT_SECTIONS = ["interfaces", "routes", "wireguard"] as const;
type Kept = (typeof KEPT_SECTIONS)[number];

/** Which of them a stored report lacks. */
function unread(stored: StoredReport): Kept[] {
  const read = parseObject(stored.data);
  const sections = read.ok ? read.value : {};
  return KEPT_SECTIONS.filter((name) => {
    const items: unknown = sections[name];
    return !Array.isArray(items) || (name === "wireguard" && items.some((item) => item?.peers === null));
  });
}

/** Rows of agent_interfaces as a report gives them. */
function interfaceRows(agentId: string, report: Report): InterfaceRow[] {
  const wireguard = new Map((report.wireguard ?? []).map((wg) => [wg.interface, wg]));
  return (report.interfaces ?? []).map((item) => ({
    agent_id: agentId,
    name: item.name,
    kind: item.kind,
    public_key: wireguard.get(item.name)?.public_key ?? null,
    listen_port: wireguard.get(item.name)?.listen_port ?? null,
    addresses: item.addresses,
    mac: item.mac,
    mtu: item.mtu,
    up: item.up,
  }));
}

/** Whether two reports give the same rows of agent_interfaces; lists that did not change are the same ones. */
function sameRows(before: Report, report: Report): boolean {
  const [items, keys] = [report.interfaces ?? [], report.wireguard ?? []];
  return (
    items.length === before.interfaces?.length &&
    keys.length === (before.wireguard?.length ?? 0) &&
    items.every((item, i) => {
      const was = before.interfaces![i]!;
      return (
        item.name === was.name &&
        item.kind === was.kind &&
        item.addresses === was.addresses &&
        item.mac === was.mac &&
        item.mtu === was.mtu &&
        item.up === was.up
      );
    }) &&
    keys.every((item, i) => {
      const was = before.wireguard![i]!;
      return (
        item.interface === was.interface && item.public_key === was.public_key && item.listen_port === was.listen_port
      );
    })
  );
}

export class Fleet {
  agents = new Map<string, AgentRecord>();
  /** Ids that took a new identity: 410 for good. */
  retired = new Set<string>();
  contacts = new Map<string, Contact>();
  topology!: Topology;
  alarms!: Alarms;
  /** Accepted reports since the start. */
  accepted = 0;
  lastReportAt: number | null = null;
  /** From the arrival of the newest report until its commit, by a clock that does not jump; null: none since the start. */
  ingestLagMs: number | null = null;

  #windows = new Map<string, ReplayWindow>();
  #keys = new Map<string, string>();
  #interfaces = new Map<string, string>();
  #queue: Job[] = [];
  #turning = false;
  #stale = true;
  #singleTurns = 0;
  #idle: (() => void)[] = [];

  constructor(
    private readonly store: Store,
    private readonly startedAt: number,
    private readonly log: Log,
    private readonly publish: (published: Published) => void,
    private readonly clock: () => number = Date.now,
  ) {}

  /** Agent id by pinned public key. */
  agentOfKey(publicKey: string): string | null {
    return this.#keys.get(publicKey) ?? null;
  }

  /** Builds memory from the database: agents, open versions, live alarms, and a replay of the newest reports. */
  async load(now: number): Promise<void> {
    const { store } = this;
    const agents = await store.loadAgents();
    this.agents = new Map(agents.map((agent) => [agent.agent_id, agent]));
    this.#keys = new Map(agents.map((agent) => [agent.public_key, agent.agent_id]));
    this.retired = new Set(await store.retiredAgents());
    this.contacts.clear();
    this.#windows.clear();
    this.#interfaces.clear();
    const expected = (await store.meta(EXPECTED_PEERS)) as string[] | null;
    const picture = await store.topologyAt(null);
    this.topology = new Topology(agents, picture, this.startedAt, undefined, expected ?? []);
    this.alarms = new Alarms(await store.liveAlarms(ALARM_MEMORY_MS, now), await store.silences(now), this.startedAt);
    const replayed = new Set<string>();
    const highest = new Map<string, number>();
    const replay = (stored: StoredReport) => {
      // Bytes that somebody altered are no reason not to start: -verify-log tells of them.
      const read = parseObject(stored.data);
      if (!read.ok || !this.agents.has(stored.agent_id)) return;
      const parsed = parseReport(read.value, this.topology.effective(stored.agent_id));
      if (!parsed.success) return;
      const before = highest.get(stored.agent_id) ?? null;
      const observation = observationOf(stored, parsed.data, before);
      highest.set(stored.agent_id, Math.max(before ?? 0, stored.tick));
      this.topology.observe(observation, stored.received_at, { replay: true });
      this.contacts.set(stored.agent_id, {
        received_at: stored.received_at,
        via: viaOf(stored.relay_path),
        relay_path: stored.relay_path,
      });
      replayed.add(stored.agent_id);
    };
    // Who was silent for long still has a last word: older than the replay, so before it. What its sections lack, because
    // they could not be read then already, is in a report that is older still.
    const recent: StoredReport[] = [];
    const first = new Map<string, StoredReport>();
    for await (const stored of store.reportsSince(now - REPLAY_MS)) {
      recent.push(stored);
      if (!first.has(stored.agent_id)) first.set(stored.agent_id, stored);
    }
    // Whose sections could be read once: of an agent that may never read one, nothing is looked for.
    const listing = new Set(
      picture.edges.flatMap(({ layer, observed_by }) => (layer === "wireguard" ? observed_by : [])),
    );
    const looking = { left: LOOKED_THROUGH };
    const addressed = new Set(picture.nodes.filter(({ addresses }) => addresses.length > 0).map(({ id }) => id));
    for (const { agent_id: agentId } of agents) {
      const stored = first.get(agentId) ?? (await store.latestReport(agentId));
      if (stored === null) continue;
      const lost = unread(stored).filter((name) => (name === "wireguard" ? listing : addressed).has(agentId));
      const last = lost.length === 0 ? null : await this.#lastWith(lost, stored, looking);
      if (last !== null) replay(last);
      if (!first.has(agentId)) replay(stored);
    }
    for (const stored of recent) replay(stored);
    this.alarms.begin(this.topology);
    for (const id of replayed) {
      const report = this.topology.effective(id);
      if (report !== null) this.#interfaces.set(id, JSON.stringify(interfaceRows(id, report)));
    }
    this.#stale = false;
  }

  /** The newest report of an agent before this one that has these sections; null: none is kept, or `looking` came to its end. */
  async #lastWith(
    sections: readonly Kept[],
    before: StoredReport,
    looking: { left: number },
  ): Promise<StoredReport | null> {
    const { agent_id: agentId } = before;
    let to = before.observed_at;
    for (const span of READ_SPANS_MS) {
      const from = before.observed_at - span;
      let found: StoredReport | null = null;
      for await (const stored of this.store.reportsOf(agentId, from, to)) {
        if (looking.left-- <= 0) return null;
        const lacks = unread(stored);
        if (sections.every((name) => !lacks.includes(name))) found = stored;
      }
      if (found !== null) return found;
      to = from;
    }
    return null;
  }

  /** The agent's replay window, from the audit log the first time. */
  async window(agentId: string): Promise<ReplayWindow> {
    let window = this.#windows.get(agentId);
    if (window === undefined) {
      window = new ReplayWindow(await this.store.replayWindow(agentId));
      this.#windows.set(agentId, window);
    }
    return window;
  }

  /**
   * Runs `run` in the queue; resolves with its result once what it added to the batch is durable.
   * @throws StoreError when it could not be stored: memory then is as if it had not run.
   */
  mutate<T>(run: (turn: Turn) => T | Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ run, resolve: resolve as (value: unknown) => void, reject });
      // Not at once: what arrives in this turn of the event loop shares the transaction.
      if (!this.#turning) {
        this.#turning = true;
        setImmediate(() => void this.#turn());
      }
    });
  }

  /** Resolves when the queue is empty. */
  drained(): Promise<void> {
    if (!this.#turning) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  async #turn(): Promise<void> {
    while (this.#queue.length > 0) {
      const jobs = this.#queue.splice(0, this.#singleTurns > 0 ? 1 : MAX_JOBS_PER_COMMIT);
      if (this.#singleTurns > 0) this.#singleTurns--;
      await this.#run(jobs);
      // Let the sockets be served between two turns.
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#turning = false;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  async #run(jobs: Job[]): Promise<void> {
    const now = this.clock();
    const batch: Batch = {};
    const outcomes: Outcome[] = [];
    try {
      if (this.#stale) {
        const fault = await this.store.health();
        if (fault !== "ok") throw new StoreError(fault, "the database cannot be written");
        await this.load(now);
        this.log.info("memory_rebuilt", {});
      }
      for (const job of jobs) outcomes.push(await this.#outcome(job, { batch, now }));
      const committed = Object.keys(batch).length === 0 ? { events: [] } : await this.store.commit(batch);
      this.publish({
        versions: batch.versions ?? [],
        moved: this.topology.takeMoved(),
        alarms: batch.alarms ?? [],
        events: committed.events,
      });
    } catch (error) {
      this.#stale = true;
      if (!(error instanceof StoreError) || error.fault === "failing") this.#singleTurns = SINGLE_TURNS;
      this.log.error("not_stored", { reason: reason(error), jobs: jobs.length });
      for (const job of jobs) {
        job.reject(
          error instanceof StoreError
            ? error
            : new StoreError("failing", "the change could not be applied", { cause: error }),
        );
      }
      return;
    }
    jobs.forEach((job, index) => {
      const outcome = outcomes[index]!;
      if (outcome.ok) job.resolve(outcome.value);
      else job.reject(outcome.error);
    });
  }

  /** A job refuses by HttpError before it changes anything: that is its own affair. Whatever else it throws is a bug. */
  async #outcome(job: Job, turn: Turn): Promise<Outcome> {
    try {
      return { ok: true, value: await job.run(turn) };
    } catch (error) {
      if (error instanceof HttpError) return { ok: false, error };
      throw error;
    }
  }

  // What follows runs inside a turn.

  putAgent(record: AgentRecord, turn: Turn): void {
    const known = this.agents.has(record.agent_id);
    this.agents.set(record.agent_id, record);
    this.#keys.set(record.public_key, record.agent_id);
    add(turn.batch, "agents", [record]);
    this.takeTopology(
      known ? this.topology.updateAgent(record, turn.now) : this.topology.addAgent(record, turn.now),
      turn,
    );
  }

  forgetAgent(agentId: string, turn: Turn): void {
    const record = this.agents.get(agentId);
    if (record !== undefined) this.#keys.delete(record.public_key);
    this.agents.delete(agentId);
    this.contacts.delete(agentId);
    this.#windows.delete(agentId);
    this.#interfaces.delete(agentId);
    // The batch forgets before it writes: what earlier jobs of this turn were about to write goes here.
    const { agents, interfaces } = turn.batch;
    if (agents !== undefined) turn.batch.agents = agents.filter((row) => row.agent_id !== agentId);
    if (interfaces !== undefined) turn.batch.interfaces = interfaces.filter((row) => row.agent_id !== agentId);
    add(turn.batch, "forget", [agentId]);
    this.takeTopology(this.topology.forgetAgent(agentId, turn.now), turn);
    this.takeAlarms(this.alarms.forgetAgent(agentId, turn.now), turn);
  }

  /** Marks a foreign peer as expected, or no longer: its silence is a warning then. */
  expectPeer(publicKey: string, expected: boolean, turn: Turn): void {
    this.takeTopology(this.topology.expect(publicKey, expected, turn.now), turn);
    turn.batch.meta = { ...turn.batch.meta, [EXPECTED_PEERS]: [...this.topology.expected] };
  }

  retireAgent(agentId: string, turn: Turn): void {
    this.retired.add(agentId);
    add(turn.batch, "retire", [{ agent_id: agentId, at: turn.now }]);
    this.forgetAgent(agentId, turn);
  }

  /**
   * Forgets everything but the ids that were retired, also what earlier jobs of this turn were about to store; its agents
   * register again.
   */
  wipe(turn: Turn): void {
    for (const part of Object.keys(turn.batch) as (keyof Batch)[]) {
      if (part !== "retire" && part !== "meta") delete turn.batch[part];
    }
    turn.batch.wipe = true;
    turn.batch.meta = { ...turn.batch.meta, [EXPECTED_PEERS]: [] };
    this.agents.clear();
    this.contacts.clear();
    this.#keys.clear();
    this.#windows.clear();
    this.#interfaces.clear();
    this.topology = new Topology([], { nodes: [], edges: [], networks: [] }, turn.now);
    this.alarms = new Alarms([], [], turn.now);
  }

  /** One accepted report: audit log, interfaces, inference, alarms. */
  takeReport(row: ReportRow, report: Report, window: ReplayWindow, turn: Turn): void {
    const observation = observationOf(row, report, window.highest);
    window.accept(row.tick, row.nonce);
    add(turn.batch, "reports", [row]);
    this.accepted++;
    this.lastReportAt = row.received_at;
    this.contacts.set(row.agent_id, {
      received_at: row.received_at,
      via: viaOf(row.relay_path),
      relay_path: row.relay_path,
    });
    if (!observation.superseded) {
      const agent = this.agents.get(row.agent_id)!;
      const hostname = report.system?.hostname ?? agent.hostname;
      if (hostname !== agent.hostname || report.agent_version !== agent.agent_version) {
        this.putAgent({ ...agent, hostname, agent_version: report.agent_version }, turn);
      }
      const before = this.topology.effective(row.agent_id);
      if (report.interfaces !== null && (before === null || !sameRows(before, report))) {
        const rows = interfaceRows(row.agent_id, report);
        const text = JSON.stringify(rows);
        if (this.#interfaces.get(row.agent_id) !== text) {
          this.#interfaces.set(row.agent_id, text);
          add(turn.batch, "interfaces", [{ agent_id: row.agent_id, rows }]);
        }
      }
    }
    const change = this.topology.observe(observation, turn.now);
    this.takeTopology(change, turn);
    this.takeAlarms(this.alarms.onObservation(observation, this.topology, change, turn.now), turn);
  }

  takeTopology(change: TopologyChange, { batch }: Turn): void {
    add(batch, "versions", change.versions);
    add(batch, "events", change.events);
  }

  takeAlarms(change: AlarmChange, { batch }: Turn): void {
    add(batch, "alarms", change.alarms);
    add(batch, "transitions", change.transitions);
    add(batch, "withdrawn", change.withdrawn);
    add(batch, "events", change.events);
  }
}
