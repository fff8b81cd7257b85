// Owns what one batch writes: the statements and their order. Runs inside a transaction that commits.ts holds.
import type { Database } from "bun:sqlite";
import type {
  AgentRecord,
  AlarmRow,
  AlarmTransition,
  Batch,
  EntityKind,
  NewEvent,
  ReportRow,
  Version,
} from "../model.ts";
import type { Committed } from "./store.ts";

/** What a batch did to the audit log, for the counters that are kept in memory. */
export type Applied = Committed & {
  reports: { agent_id: string; id: number; received_at: number }[];
  wiped: boolean;
};

export type Writer = (batch: Batch, nextReportId: () => number) => Applied;

const flag = (value: boolean): number => (value ? 1 : 0);
const nullableFlag = (value: boolean | null): number | null => (value === null ? null : flag(value));

/** Prepares every statement once. The writer throws what SQLite throws; the caller rolls back. */
export function prepareWriter(database: Database): Writer {
  const prepare = (sql: string) => database.prepare(sql);

  const wipe = [
    "reports",
    "reports_hot",
    "packs",
    "agents",
    "agent_interfaces",
    "topology_nodes",
    "topology_edges",
    "topology_networks",
    "events",
    "alarms",
    "alarm_transitions",
    "silences",
  ].map((table) => prepare(`DELETE FROM ${table}`));

  const forgetAgent = prepare("DELETE FROM agents WHERE agent_id = ?1");
  const forgetInterfaces = prepare("DELETE FROM agent_interfaces WHERE agent_id = ?1");
  const retire = prepare("INSERT INTO retired_agents (agent_id, retired_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING");
  const putAgent = prepare(`
    INSERT INTO agents (agent_id, public_key, hostname, agent_version, first_seen_at, registered_at, blocked, regenerate)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (agent_id) DO UPDATE SET public_key = ?2, hostname = ?3, agent_version = ?4, first_seen_at = ?5,
      registered_at = ?6, blocked = ?7, regenerate = ?8`);
  const putInterface = prepare(`
    INSERT OR REPLACE INTO agent_interfaces
      (agent_id, name, kind, public_key, listen_port, addresses, mac, mtu, up)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)`);
  const addReport = prepare("INSERT INTO reports (id, agent_id, tick, received_at) VALUES (?1, ?2, ?3, ?4)");
  const addBytes = prepare(`
    INSERT INTO reports_hot (id, agent_id, tick, boot_id, nonce, collected_at, received_at, observed_at, relay_path,
      hmac, sig, data)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)`);

  const entity = (table: string) => ({
    open: prepare(`SELECT version, valid_from FROM ${table} WHERE id = ?1 AND valid_to IS NULL`),
    end: prepare(`UPDATE ${table} SET valid_to = ?2 WHERE version = ?1`),
    drop: prepare(`DELETE FROM ${table} WHERE version = ?1`),
  });
  const entities: Record<EntityKind, ReturnType<typeof entity>> = {
    node: entity("topology_nodes"),
    edge: entity("topology_edges"),
    network: entity("topology_networks"),
  };
  const addNode = prepare(
    "INSERT INTO topology_nodes (id, valid_from, kind, status, body) VALUES (?1, ?2, ?3, ?4, ?5)",
  );
  const addEdge = prepare(`
    INSERT INTO topology_edges (id, valid_from, layer, network, node_a, node_b, state, reason, changed_at, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)`);
  const addNetwork = prepare("INSERT INTO topology_networks (id, valid_from, name, body) VALUES (?1, ?2, ?3, ?4)");

  const addEvent = prepare(`
    INSERT INTO events (at, code, severity, subject, agent_id, message, details) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)`);
  const putAlarm = prepare(`
    INSERT OR REPLACE INTO alarms (id, code, severity, subject, agent_id, state, message, since_at, opened_at,
      acknowledged_at, resolved_at, flapping, depends_on, details, memory)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)`);
  const dropAlarm = prepare("DELETE FROM alarms WHERE id = ?1 AND state = 'pending'");
  const addTransition = prepare(`
    INSERT INTO alarm_transitions
      (alarm_id, at, from_state, to_state, severity, report_agent_id, report_tick, note, notify)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)`);
  const putSilence = prepare(`
    INSERT OR REPLACE INTO silences (id, agents, codes, until_at, created_at, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)`);
  const putMeta = prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)");

  const writeAgent = (agent: AgentRecord): void => {
    putAgent.run(
      agent.agent_id,
      agent.public_key,
      agent.hostname,
      agent.agent_version,
      agent.first_seen_at,
      agent.registered_at,
      flag(agent.blocked),
      flag(agent.regenerate),
    );
  };

  const writeReport = (row: ReportRow, id: number): void => {
    addReport.run(id, row.agent_id, row.tick, row.received_at);
    addBytes.run(
      id,
      row.agent_id,
      row.tick,
      row.boot_id,
      row.nonce,
      row.collected_at,
      row.received_at,
      row.observed_at,
      JSON.stringify(row.relay_path),
      row.hmac,
      row.sig,
      row.data,
    );
  };

  const writeVersion = (version: Version): void => {
    const { open, end, drop } = entities[version.kind];
    const before = open.get(version.id) as { version: number; valid_from: number } | null;
    // A late report may tell of a moment before the version it changes: history never runs backwards.
    const isFirst = version.kind === "node" && version.first === true;
    const at = before === null || isFirst ? version.at : Math.max(version.at, before.valid_from);
    if (before !== null) {
      if (before.valid_from >= at)
        drop.run(before.version); // two versions of one moment: the later one counts
      else end.run(before.version, at);
    }
    if (version.body === null) return;
    const body = JSON.stringify(version.body);
    if (version.kind === "node") {
      addNode.run(version.id, at, version.body.kind, version.body.status, body);
    } else if (version.kind === "edge") {
      const { layer, network, a, b, state, reason, changed_at } = version.body;
      addEdge.run(version.id, at, layer, network, a.node, b.node, state, reason, changed_at, body);
    } else {
      addNetwork.run(version.id, at, version.body.name, body);
    }
  };

  const writeEvent = (event: NewEvent): number =>
    Number(
      addEvent.run(
        event.at,
        event.code,
        event.severity,
        event.subject,
        event.agent_id,
        event.message,
        JSON.stringify(event.details),
      ).lastInsertRowid,
    );

  const writeAlarm = (alarm: AlarmRow): void => {
    putAlarm.run(
      alarm.id,
      alarm.code,
      alarm.severity,
      alarm.subject,
      alarm.agent_id,
      alarm.state,
      alarm.message,
      alarm.since_at,
      alarm.opened_at,
      alarm.acknowledged_at,
      alarm.resolved_at,
      flag(alarm.flapping),
      JSON.stringify(alarm.depends_on),
      JSON.stringify(alarm.details),
      JSON.stringify(alarm.memory),
    );
  };

  const writeTransition = (transition: AlarmTransition): void => {
    addTransition.run(
      transition.alarm_id,
      transition.at,
      transition.from,
      transition.to,
      transition.severity,
      transition.report?.agent_id ?? null,
      transition.report?.tick ?? null,
      transition.note,
      flag(transition.notify),
    );
  };

  // What clears goes first, so that one batch can clear and begin anew.
  return (batch, nextReportId) => {
    const applied: Applied = { events: [], reports: [], wiped: batch.wipe === true };
    if (batch.wipe === true) for (const statement of wipe) statement.run();
    for (const agentId of batch.forget ?? []) {
      forgetAgent.run(agentId);
      forgetInterfaces.run(agentId);
    }
    for (const { agent_id, at } of batch.retire ?? []) retire.run(agent_id, at);
    for (const agent of batch.agents ?? []) writeAgent(agent);
    for (const { agent_id, rows } of batch.interfaces ?? []) {
      forgetInterfaces.run(agent_id);
      for (const row of rows) {
        putInterface.run(
          agent_id,
          row.name,
          row.kind,
          row.public_key,
          row.listen_port,
          JSON.stringify(row.addresses),
          row.mac,
          row.mtu,
          nullableFlag(row.up),
        );
      }
    }
    for (const row of batch.reports ?? []) {
      const id = nextReportId();
      writeReport(row, id);
      applied.reports.push({ agent_id: row.agent_id, id, received_at: row.received_at });
    }
    for (const version of batch.versions ?? []) writeVersion(version);
    for (const event of batch.events ?? []) applied.events.push({ id: writeEvent(event), ...event });
    for (const alarm of batch.alarms ?? []) writeAlarm(alarm);
    for (const transition of batch.transitions ?? []) writeTransition(transition);
    for (const id of batch.withdrawn ?? []) dropAlarm.run(id);
    for (const silence of batch.silences ?? []) {
      putSilence.run(
        silence.id,
        JSON.stringify(silence.agents),
        JSON.stringify(silence.codes),
        silence.until_at,
        silence.created_at,
        silence.reason,
      );
    }
    for (const [name, value] of Object.entries(batch.meta ?? {})) putMeta.run(name, JSON.stringify(value));
    return applied;
  };
}
