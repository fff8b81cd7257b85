// Owns the reads of everything but the audit log: agents, topology by moment, events, alarms, small values.
import type { Database } from "bun:sqlite";
import type { Event, TopologyEdge, TopologyNetwork, TopologyNode } from "../../shared/api.ts";
import type { AgentRecord, AlarmRow, AlarmTransition, EntityKind, InterfaceRow, Silence } from "../model.ts";
import type { Store } from "./store.ts";

export type Reader = Pick<
  Store,
  | "loadAgents"
  | "retiredAgents"
  | "topologyAt"
  | "versionsOf"
  | "events"
  | "liveAlarms"
  | "alarms"
  | "alarm"
  | "transitionsAfter"
  | "silences"
  | "interfacesOf"
  | "meta"
>;

type Row = Record<string, string | number | null>;

/** Rows of a past picture read in one turn of the event loop: 1 kB each, about 10 ms. */
const PAGE_ROWS = 1000;
const EVENT_COLUMNS = "id, at, code, severity, subject, agent_id, message, details";
const ALARM_COLUMNS =
  "id, code, severity, subject, agent_id, state, message, since_at, opened_at, acknowledged_at, resolved_at, flapping, depends_on, details, memory";
const TRANSITION_COLUMNS =
  "sequence, alarm_id, at, from_state, to_state, severity, report_agent_id, report_tick, note, notify";

const event = (row: Row): Event => ({ ...row, details: JSON.parse(row.details as string) }) as Event;

const alarm = (row: Row): AlarmRow =>
  ({
    ...row,
    flapping: row.flapping === 1,
    depends_on: JSON.parse(row.depends_on as string),
    details: JSON.parse(row.details as string),
    memory: JSON.parse(row.memory as string),
  }) as AlarmRow;

const transition = (row: Row): AlarmTransition => ({
  alarm_id: row.alarm_id as string,
  at: row.at as number,
  from: row.from_state as string | null,
  to: row.to_state as string,
  severity: row.severity as AlarmTransition["severity"],
  report:
    row.report_agent_id === null ? null : { agent_id: row.report_agent_id as string, tick: row.report_tick as number },
  note: row.note as string | null,
  notify: row.notify === 1,
});

/** Prepares every statement once; each call answers from the database as it is then. */
export function prepareReader(database: Database): Reader {
  const prepare = (sql: string) => {
    const statement = database.prepare(sql);
    return {
      all: (...values: (string | number | null)[]) => statement.all(...values) as Row[],
      get: (...values: (string | number | null)[]) => statement.get(...values) as Row | null,
    };
  };

  const agents = prepare("SELECT * FROM agents ORDER BY first_seen_at, agent_id");
  const retired = prepare("SELECT agent_id FROM retired_agents");
  const interfaces = prepare("SELECT * FROM agent_interfaces WHERE agent_id = ?1 ORDER BY name");
  const meta = prepare("SELECT value FROM meta WHERE name = ?1");
  const silences = prepare("SELECT * FROM silences WHERE until_at > ?1 ORDER BY created_at, id");

  const entity = (table: string) => ({
    now: prepare(`SELECT body FROM ${table} WHERE valid_to IS NULL`),
    // By page: of a moment ?1, what still holds, and what ended since.
    holding: prepare(`
      SELECT id, body FROM ${table} WHERE valid_to IS NULL AND valid_from <= ?1 AND id > ?2 ORDER BY id LIMIT ?3`),
    ended: prepare(`
      SELECT id, body, valid_to, valid_from, version FROM ${table}
      WHERE valid_to IS NOT NULL AND valid_from <= ?1 AND (valid_to, valid_from, version) > (?2, ?3, ?4)
      ORDER BY valid_to, valid_from, version LIMIT ?5`),
    of: prepare(`SELECT valid_from, valid_to, body FROM ${table} WHERE id = ?1 ORDER BY valid_from`),
  });
  const entities: Record<EntityKind, ReturnType<typeof entity>> = {
    node: entity("topology_nodes"),
    edge: entity("topology_edges"),
    network: entity("topology_networks"),
  };
  const bodiesNow = <T>(kind: EntityKind): T[] =>
    entities[kind].now.all().map((row) => JSON.parse(row.body as string) as T);
  /** Page by page, so that a large picture holds up no report. What ends meanwhile may be met twice: by its id, once. */
  const bodiesAt = async <T>(kind: EntityKind, at: number): Promise<T[]> => {
    const { holding, ended } = entities[kind];
    const bodies = new Map<string, T>();
    const take = (rows: Row[]): Row | null => {
      for (const { id, body } of rows) {
        if (!bodies.has(id as string)) bodies.set(id as string, JSON.parse(body as string) as T);
      }
      return rows.length === PAGE_ROWS ? rows.at(-1)! : null;
    };
    const breath = () => new Promise((resolve) => setImmediate(resolve));
    for (let last = take(holding.all(at, "", PAGE_ROWS)); last !== null;) {
      await breath();
      last = take(holding.all(at, last.id!, PAGE_ROWS));
    }
    // What ended at that very moment held until before it.
    for (let last = take(ended.all(at, at + 1, -1, -1, PAGE_ROWS)); last !== null;) {
      await breath();
      last = take(ended.all(at, last.valid_to!, last.valid_from!, last.version!, PAGE_ROWS));
    }
    return [...bodies.values()];
  };

  // One statement per way in, so that each has its index: no OR over what may be absent.
  const eventPage = (where: string) =>
    prepare(`
      SELECT ${EVENT_COLUMNS} FROM events
      WHERE ${where} at BETWEEN ?1 AND ?2 AND (at < ?3 OR (at = ?3 AND id < ?4))
      ORDER BY at DESC, id DESC LIMIT ?5`);
  const eventsAll = eventPage("");
  const eventsOfAgent = eventPage("agent_id = ?6 AND");
  const eventsOfSubject = eventPage("subject = ?6 AND");
  const eventsOfBoth = eventPage("subject = ?6 AND agent_id = ?7 AND");
  const eventPlace = prepare("SELECT at, id FROM events WHERE id = ?1");

  const live = prepare(`
    SELECT ${ALARM_COLUMNS} FROM alarms WHERE state <> 'resolved'
    UNION ALL
    SELECT ${ALARM_COLUMNS} FROM alarms WHERE state = 'resolved' AND resolved_at > ?1`);
  const alarmPage = (where: string) =>
    prepare(`
      SELECT ${ALARM_COLUMNS} FROM alarms WHERE ${where} AND (opened_at, id) < (?1, ?2)
      ORDER BY opened_at DESC, id DESC LIMIT ?3`);
  const STATES = {
    open: "state <> 'resolved' AND state <> 'pending'",
    resolved: "state = 'resolved'",
    all: "state <> 'pending'",
  };
  const alarmsOfAll = {
    open: alarmPage(STATES.open),
    resolved: alarmPage(STATES.resolved),
    all: alarmPage(STATES.all),
  };
  const ofAgent = (states: string) => alarmPage(`${states} AND agent_id = ?4`);
  const alarmsOfAgent = { open: ofAgent(STATES.open), resolved: ofAgent(STATES.resolved), all: ofAgent(STATES.all) };
  const alarmById = prepare(`SELECT ${ALARM_COLUMNS} FROM alarms WHERE id = ?1`);
  const transitionsOf = prepare(
    `SELECT ${TRANSITION_COLUMNS} FROM alarm_transitions WHERE alarm_id = ?1 ORDER BY sequence`,
  );
  const transitionsToNotify = prepare(
    `SELECT ${TRANSITION_COLUMNS} FROM alarm_transitions WHERE notify = 1 AND sequence > ?1 ORDER BY sequence LIMIT ?2`,
  );

  return {
    loadAgents: async () =>
      agents
        .all()
        .map((row) => ({ ...row, blocked: row.blocked === 1, regenerate: row.regenerate === 1 }) as AgentRecord),
    retiredAgents: async () => retired.all().map((row) => row.agent_id as string),

    topologyAt: async (at) =>
      at === null
        ? {
            nodes: bodiesNow<TopologyNode>("node"),
            edges: bodiesNow<TopologyEdge>("edge"),
            networks: bodiesNow<TopologyNetwork>("network"),
          }
        : {
            nodes: await bodiesAt<TopologyNode>("node", at),
            edges: await bodiesAt<TopologyEdge>("edge", at),
            networks: await bodiesAt<TopologyNetwork>("network", at),
          },
    versionsOf: async (kind, id) =>
      entities[kind].of.all(id).map((row) => ({
        from_at: row.valid_from as number,
        until_at: row.valid_to as number | null,
        body: JSON.parse(row.body as string),
      })),

    events: async ({ agent_id, subject, from_at, to_at, limit, before }) => {
      let place: [at: number, id: number] = [Number.MAX_SAFE_INTEGER, 0];
      if (before !== undefined) {
        const row = eventPlace.get(before);
        if (row === null) return []; // pruned since: all that is older is gone as well
        place = [row.at as number, row.id as number];
      }
      const page = [from_at ?? 0, to_at ?? Number.MAX_SAFE_INTEGER, ...place, limit] as const;
      if (subject !== undefined && agent_id !== undefined)
        return eventsOfBoth.all(...page, subject, agent_id).map(event);
      if (subject !== undefined) return eventsOfSubject.all(...page, subject).map(event);
      if (agent_id !== undefined) return eventsOfAgent.all(...page, agent_id).map(event);
      return eventsAll.all(...page).map(event);
    },

    liveAlarms: async (resolvedWithinMs, now) => live.all(now - resolvedWithinMs).map(alarm),
    alarms: async ({ state, agent_id, limit, before }) => {
      let place: [openedAt: number, id: string] = [Number.MAX_SAFE_INTEGER, ""];
      if (before !== undefined) {
        const row = alarmById.get(before);
        if (row === null) return [];
        place = [row.opened_at as number, row.id as string];
      }
      const rows =
        agent_id === undefined
          ? alarmsOfAll[state].all(...place, limit)
          : alarmsOfAgent[state].all(...place, limit, agent_id);
      return rows.map(alarm);
    },
    alarm: async (id) => {
      const row = alarmById.get(id);
      return row === null ? null : { alarm: alarm(row), transitions: transitionsOf.all(id).map(transition) };
    },
    transitionsAfter: async (sequence, limit) =>
      transitionsToNotify.all(sequence, limit).map((row) => ({ ...transition(row), sequence: row.sequence as number })),
    silences: async (now) =>
      silences
        .all(now)
        .map(
          (row) =>
            ({ ...row, agents: JSON.parse(row.agents as string), codes: JSON.parse(row.codes as string) }) as Silence,
        ),
    interfacesOf: async (agentId) =>
      interfaces.all(agentId).map(
        (row) =>
          ({
            ...row,
            addresses: JSON.parse(row.addresses as string),
            up: row.up === null ? null : row.up === 1,
          }) as InterfaceRow,
      ),
    meta: async (name) => {
      const row = meta.get(name);
      return row === null ? null : JSON.parse(row.value as string);
    },
  };
}
