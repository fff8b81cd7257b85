// Owns the shape of the database: every migration, in order. PRAGMA user_version counts those applied. A released
// migration is never edited; a change is a new one at the end.
import type { Database } from "bun:sqlite";

/** "katt": tells our database from another program's (PRAGMA application_id). */
export const APPLICATION_ID = 0x6b617474;

// STRICT everywhere: a number that is no integer, or beyond 64 bits, is an error instead of a silent REAL.
const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL             -- JSON
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE agents (
    agent_id      TEXT PRIMARY KEY,
    public_key    TEXT NOT NULL,
    hostname      TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    first_seen_at INTEGER NOT NULL,
    registered_at INTEGER NOT NULL,
    blocked       INTEGER NOT NULL,
    regenerate    INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE retired_agents (
    agent_id   TEXT PRIMARY KEY,
    retired_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE agent_interfaces (
    agent_id    TEXT NOT NULL,
    name        TEXT NOT NULL,
    kind        TEXT NOT NULL,
    public_key  TEXT,
    listen_port INTEGER,
    addresses   TEXT NOT NULL,      -- JSON
    mac         TEXT,
    mtu         INTEGER,
    up          INTEGER,
    PRIMARY KEY (agent_id, name)
  ) STRICT, WITHOUT ROWID;

  -- The audit log: one row per accepted report until retention takes it. Its bytes are in reports_hot under the same id,
  -- or in the pack of its agent whose id_from..id_to holds the id. Packing leaves this table alone, so it stays dense.
  -- id counts up in the order of receipt: a report is written at the end of both tables, and nowhere else. That (agent_id,
  -- tick) is unique is the replay window's affair; an index of it would cost every report a page of its own.
  CREATE TABLE reports (
    id          INTEGER PRIMARY KEY,
    agent_id    TEXT NOT NULL,
    tick        INTEGER NOT NULL,
    received_at INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE reports_hot (
    id           INTEGER PRIMARY KEY,
    agent_id     TEXT NOT NULL,
    tick         INTEGER NOT NULL,
    boot_id      TEXT NOT NULL,
    nonce        TEXT NOT NULL,
    collected_at INTEGER NOT NULL,
    received_at  INTEGER NOT NULL,
    observed_at  INTEGER NOT NULL,
    relay_path   TEXT NOT NULL,     -- JSON
    hmac         TEXT NOT NULL,     -- hmac, sig and data: as received
    sig          TEXT NOT NULL,
    data         TEXT NOT NULL
  ) STRICT;

  CREATE TABLE packs (
    id            INTEGER PRIMARY KEY,
    agent_id      TEXT NOT NULL,
    id_from       INTEGER NOT NULL, -- of reports; ranges of one agent never overlap
    id_to         INTEGER NOT NULL,
    tick_from     INTEGER NOT NULL,
    tick_to       INTEGER NOT NULL,
    received_to   INTEGER NOT NULL,
    observed_from INTEGER NOT NULL,
    observed_to   INTEGER NOT NULL,
    reports       INTEGER NOT NULL,
    raw_bytes     INTEGER NOT NULL, -- UTF-8 bytes of data before packing
    body          BLOB NOT NULL
  ) STRICT;
  CREATE INDEX packs_of_agent ON packs (agent_id, id_to);
  CREATE INDEX packs_by_id ON packs (id_to, id_from);
  CREATE INDEX packs_by_age ON packs (received_to, reports);

  -- A version holds from valid_from until before valid_to; NULL: it holds now.
  CREATE TABLE topology_nodes (
    version    INTEGER PRIMARY KEY,
    id         TEXT NOT NULL,
    valid_from INTEGER NOT NULL,
    valid_to   INTEGER,
    kind       TEXT NOT NULL,
    status     TEXT NOT NULL,
    body       TEXT NOT NULL        -- JSON, as all bodies below
  ) STRICT;
  CREATE UNIQUE INDEX topology_nodes_now ON topology_nodes (id) WHERE valid_to IS NULL;
  CREATE INDEX topology_nodes_of ON topology_nodes (id, valid_from);
  CREATE INDEX topology_nodes_ended ON topology_nodes (valid_to, valid_from) WHERE valid_to IS NOT NULL;

  CREATE TABLE topology_edges (
    version    INTEGER PRIMARY KEY,
    id         TEXT NOT NULL,
    valid_from INTEGER NOT NULL,
    valid_to   INTEGER,
    layer      TEXT NOT NULL,
    network    TEXT,
    node_a     TEXT NOT NULL,
    node_b     TEXT NOT NULL,
    state      TEXT NOT NULL,
    reason     TEXT,
    changed_at INTEGER NOT NULL,    -- since when it is in this state
    body       TEXT NOT NULL
  ) STRICT;
  CREATE UNIQUE INDEX topology_edges_now ON topology_edges (id) WHERE valid_to IS NULL;
  CREATE INDEX topology_edges_of ON topology_edges (id, valid_from);
  CREATE INDEX topology_edges_ended ON topology_edges (valid_to, valid_from) WHERE valid_to IS NOT NULL;

  CREATE TABLE topology_networks (
    version    INTEGER PRIMARY KEY,
    id         TEXT NOT NULL,
    valid_from INTEGER NOT NULL,
    valid_to   INTEGER,
    name       TEXT NOT NULL,
    body       TEXT NOT NULL
  ) STRICT;
  CREATE UNIQUE INDEX topology_networks_now ON topology_networks (id) WHERE valid_to IS NULL;
  CREATE INDEX topology_networks_of ON topology_networks (id, valid_from);
  CREATE INDEX topology_networks_ended ON topology_networks (valid_to, valid_from) WHERE valid_to IS NOT NULL;

  -- AUTOINCREMENT here and below: an id that a reader keeps as its place must never be given again.
  CREATE TABLE events (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    code     TEXT NOT NULL,
    severity TEXT NOT NULL,
    subject  TEXT NOT NULL,
    agent_id TEXT,
    message  TEXT NOT NULL,
    details  TEXT NOT NULL
  ) STRICT;
  CREATE INDEX events_at ON events (at);
  CREATE INDEX events_of_agent ON events (agent_id, at) WHERE agent_id IS NOT NULL;
  CREATE INDEX events_of_subject ON events (subject, at);

  CREATE TABLE alarms (
    id              TEXT PRIMARY KEY,
    code            TEXT NOT NULL,
    severity        TEXT NOT NULL,
    subject         TEXT NOT NULL,
    agent_id        TEXT,
    state           TEXT NOT NULL,  -- pending, open, acknowledged, resolved
    message         TEXT NOT NULL,
    since_at        INTEGER NOT NULL,
    opened_at       INTEGER NOT NULL,
    acknowledged_at INTEGER,
    resolved_at     INTEGER,
    flapping        INTEGER NOT NULL,
    depends_on      TEXT NOT NULL,
    details         TEXT NOT NULL,
    memory          TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX alarms_live ON alarms (opened_at, id) WHERE state <> 'resolved';
  CREATE INDEX alarms_resolved ON alarms (resolved_at) WHERE state = 'resolved';
  CREATE INDEX alarms_opened ON alarms (opened_at, id);
  CREATE INDEX alarms_of_agent ON alarms (agent_id, opened_at, id) WHERE agent_id IS NOT NULL;

  CREATE TABLE alarm_transitions (
    sequence        INTEGER PRIMARY KEY AUTOINCREMENT,
    alarm_id        TEXT NOT NULL,
    at              INTEGER NOT NULL,
    from_state      TEXT,
    to_state        TEXT NOT NULL,
    severity        TEXT NOT NULL,
    report_agent_id TEXT,
    report_tick     INTEGER,
    note            TEXT,
    notify          INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX alarm_transitions_of ON alarm_transitions (alarm_id);
  CREATE INDEX alarm_transitions_to_notify ON alarm_transitions (sequence) WHERE notify = 1;

  CREATE TABLE silences (
    id         TEXT PRIMARY KEY,
    agents     TEXT NOT NULL,
    codes      TEXT NOT NULL,
    until_at   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    reason     TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
];

/** The user_version that this program writes, and the highest that it reads. */
export const SCHEMA_VERSION = MIGRATIONS.length;

function schemaVersion(database: Database): number {
  return (database.query("PRAGMA user_version").get() as { user_version: number }).user_version;
}

/** Brings the database to SCHEMA_VERSION, each step in a transaction of its own. */
export function migrate(database: Database): void {
  for (let version = schemaVersion(database); version < SCHEMA_VERSION; version++) {
    database.transaction(() => {
      database.run(MIGRATIONS[version]!);
      // PRAGMA takes no bound values; both are integers of ours.
      database.run(`PRAGMA user_version = ${version + 1}`);
      database.run(`PRAGMA application_id = ${APPLICATION_ID}`);
    })();
  }
}
