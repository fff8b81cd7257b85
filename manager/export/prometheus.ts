// Owns the text of `GET /metrics` (Prometheus exposition format 0.0.4): names, help, labels and their bounds. Pure.
import { EDGE_STATES, LAYERS, PROBLEM_STATES, type AgentStatus, type TopologyResponse } from "../../shared/api.ts";
import type { Severity } from "../../shared/api.ts";
import type { Store } from "../store/store.ts";

/** What the manager hands in. Counters count since its start. */
export type MetricsInput = {
  version: string;
  /** Unix milliseconds. */
  started_at: number;
  now: number;
  agents: Record<AgentStatus, number>;
  topology: TopologyResponse;
  /** Open and acknowledged alarms. */
  alarms: { code: string; severity: Severity }[];
  /** Signed messages by the code of their answer: accepted, replay, clock_skew, … Codes are the protocol's own. */
  messages: Record<string, number>;
  /** Messages whose MAC or signature did not hold. */
  auth_failures: number;
  /** When the newest report arrived; null: none yet. */
  last_report_at: number | null;
  /** Seconds since the PSK was last confirmed; null: there is none. */
  psk_age_s: number | null;
  stream_clients: number;
  database: Awaited<ReturnType<Store["figures"]>> & { writable: boolean };
  process: { resident_bytes: number; cpu_seconds: number };
};

/**
 * Series of single edges are bounded: a full mesh of 200 nodes has 19,900 edges, five series each. Beyond this many,
 * broken edges alone are listed, up to as many; the counts by state stay whole.
 */
export const MAX_EDGES_LISTED = 2000;

type Labels = Record<string, string>;
type Sample = [value: number | null, labels?: Labels];

/** All metrics. A value that is not known has no sample. */
export function prometheus(input: MetricsInput): string {
  const lines: string[] = [];
  const add = (type: "gauge" | "counter", name: string, help: string, samples: Sample[]): void => {
    const known = samples.filter(([value]) => value !== null);
    if (known.length === 0) return;
    lines.push(`# HELP kattila_${name} ${help}`, `# TYPE kattila_${name} ${type}`);
    for (const [value, labels = {}] of known) lines.push(`kattila_${name}${labelText(labels)} ${numberText(value!)}`);
  };
  const one = (value: number | null): Sample[] => [[value]];

  add("gauge", "build_info", "Version of the manager.", [[1, { version: input.version }]]);
  add("gauge", "start_time_seconds", "When the manager started, in Unix seconds.", one(input.started_at / 1000));
  add("gauge", "resident_memory_bytes", "Resident memory of the manager.", one(input.process.resident_bytes));
  add("counter", "cpu_seconds_total", "CPU time that the manager used.", one(input.process.cpu_seconds));

  add(
    "gauge",
    "agents",
    "Agents by status.",
    Object.entries(input.agents).map(([status, count]) => [count, { status }]),
  );
  add(
    "gauge",
    "last_report_timestamp_seconds",
    "When the newest report arrived, in Unix seconds.",
    one(input.last_report_at === null ? null : input.last_report_at / 1000),
  );
  add("gauge", "psk_age_seconds", "Time since the PSK was last confirmed at its source.", one(input.psk_age_s));
  add(
    "counter",
    "messages_total",
    "Signed messages by the code of their answer.",
    Object.entries(input.messages).map(([code, count]) => [count, { code }]),
  );
  add("counter", "auth_failures_total", "Messages whose MAC or signature did not hold.", one(input.auth_failures));
  add("gauge", "stream_clients", "Clients of the live stream.", one(input.stream_clients));
  add("gauge", "alarms_open", "Open and acknowledged alarms by code and severity.", countAlarms(input.alarms));

  addTopology(add, input.topology);

  const { database } = input;
  add("gauge", "database_writable", "1 when the last write to the database worked.", one(database.writable ? 1 : 0));
  add("gauge", "database_reports", "Reports in the audit log.", one(database.reports));
  add("gauge", "database_size_bytes", "Size of the database file.", one(database.bytes));
  add("gauge", "database_wal_size_bytes", "Size of the write-ahead log.", one(database.wal_bytes));
  add("gauge", "database_disk_free_bytes", "Free space of the disk under the database.", one(database.free_bytes));
  add("counter", "database_commits_total", "Transactions; each may hold many reports.", one(database.commits));
  add("counter", "database_commit_seconds_total", "Time spent in transactions.", one(database.commit_seconds));
  lines.push("");
  return lines.join("\n");
}

function countAlarms(alarms: MetricsInput["alarms"]): Sample[] {
  const counts = new Map<string, [number, Labels]>();
  for (const { code, severity } of alarms) {
    const key = `${code} ${severity}`;
    const [count] = counts.get(key) ?? [0];
    counts.set(key, [count + 1, { code, severity }]);
  }
  return [...counts.values()];
}

function addTopology(
  add: (type: "gauge", name: string, help: string, samples: Sample[]) => void,
  { nodes, edges, networks }: TopologyResponse,
): void {
  const kinds = new Map<string, number>();
  for (const { kind } of nodes) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  add(
    "gauge",
    "nodes",
    "Nodes of the topology by kind.",
    [...kinds].map(([kind, count]) => [count, { kind }]),
  );

  const states = new Map<string, number>();
  for (const { layer, state } of edges) states.set(`${layer} ${state}`, (states.get(`${layer} ${state}`) ?? 0) + 1);
  add(
    "gauge",
    "edges",
    "Edges by layer and state.",
    LAYERS.flatMap((layer) =>
      // Every state of WireGuard, also at 0: an alert on `stale` must not lack its series.
      EDGE_STATES.map((state): Sample => {
        const count = states.get(`${layer} ${state}`) ?? 0;
        return [count === 0 && layer !== "wireguard" ? null : count, { layer, state }];
      }),
    ),
  );
  add(
    "gauge",
    "network_nodes",
    "Member nodes of a network.",
    networks.map(({ id, name, nodes: count }) => [count, { network: id, name }]),
  );
  add(
    "gauge",
    "network_parts",
    "Parts that working edges leave a network in; 1 is whole.",
    networks.map(({ id, name, parts }) => [parts, { network: id, name }]),
  );

  const broken = edges.filter(({ state }) => PROBLEM_STATES.includes(state));
  const listed = edges.length <= MAX_EDGES_LISTED ? edges : broken.slice(0, MAX_EDGES_LISTED);
  add("gauge", "edges_unlisted", "Edges without series of their own, for their number.", [
    [edges.length - listed.length],
  ]);
  const labelOf = new Map(nodes.map(({ id, label }) => [id, label]));
  add(
    "gauge",
    "edge_info",
    "Which two nodes an edge connects.",
    listed.map(({ id, layer, a, b }) => [
      1,
      {
        edge: id,
        layer,
        a: a.node,
        a_label: labelOf.get(a.node) ?? "",
        b: b.node,
        b_label: labelOf.get(b.node) ?? "",
      },
    ]),
  );
  add(
    "gauge",
    "edge_works",
    "0 when the edge's state says that packets do not pass as configured, else 1.",
    listed.map(({ id, state }) => [state === "unknown" ? null : PROBLEM_STATES.includes(state) ? 0 : 1, { edge: id }]),
  );
  add(
    "gauge",
    "edge_handshake_age_seconds",
    "Age of the last WireGuard handshake by one end's word, at its last report.",
    listed.flatMap(({ id, a, b }): Sample[] => [
      [a.handshake_age_s, { edge: id, end: "a" }],
      [b.handshake_age_s, { edge: id, end: "b" }],
    ]),
  );
  const bytes = (bits: number | null): number | null => (bits === null ? null : bits / 8);
  add(
    "gauge",
    "edge_traffic_bytes_per_second",
    "Traffic over an edge.",
    listed.flatMap(({ id, a_to_b_bps, b_to_a_bps }): Sample[] => [
      [bytes(a_to_b_bps), { edge: id, direction: "a_to_b" }],
      [bytes(b_to_a_bps), { edge: id, direction: "b_to_a" }],
    ]),
  );
  add(
    "gauge",
    "edge_loss_ratio",
    "Share of an edge's bytes that did not arrive.",
    listed.flatMap(({ id, a_to_b_loss, b_to_a_loss }): Sample[] => [
      [a_to_b_loss, { edge: id, direction: "a_to_b" }],
      [b_to_a_loss, { edge: id, direction: "b_to_a" }],
    ]),
  );
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    // The three escapes of the exposition format; other bytes are taken as they are.
    ([name, value]) => `${name}="${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`,
  );
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function numberText(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
}
