// /metrics: values, bounds, escapes, and promtool's word on the conventions.
import { expect, test } from "bun:test";
import { MAX_EDGES_LISTED, type MetricsInput, prometheus } from "../../manager/export/prometheus.ts";
import { post } from "../fleet/sender.ts";
import { ground, registered } from "../manager/support.ts";
import { edge, T0 } from "../store/support.ts";
import { describeWith } from "../support/needs.ts";
import { HOSTILE, picture } from "./support.ts";

const input = (over: Partial<MetricsInput> = {}): MetricsInput => ({
  version: "0.1.0",
  started_at: T0,
  now: T0 + 5000,
  agents: { online: 3, late: 1, down: 0 },
  topology: picture(),
  alarms: [
    { code: "agent_down", severity: "warning" },
    { code: "agent_down", severity: "warning" },
    { code: "agent_down", severity: "critical" },
  ],
  messages: { accepted: 12, replay: 1 },
  auth_failures: 2,
  last_report_at: T0 + 4000,
  psk_age_s: null,
  stream_clients: 1,
  database: {
    writable: true,
    reports: 12,
    bytes: 4096,
    wal_bytes: 0,
    free_bytes: 1e12,
    commits: 5,
    commit_seconds: 0.25,
  },
  process: { resident_bytes: 5e7, cpu_seconds: 1.5 },
  ...over,
});

const lines = (over?: Partial<MetricsInput>): string[] => prometheus(input(over)).split("\n");
const samples = (name: string, over?: Partial<MetricsInput>): string[] =>
  lines(over).filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));

test("figures in base units; what is unknown has no sample", () => {
  expect(samples("kattila_agents")).toEqual([
    'kattila_agents{status="online"} 3',
    'kattila_agents{status="late"} 1',
    'kattila_agents{status="down"} 0',
  ]);
  expect(samples("kattila_alarms_open")).toEqual([
    'kattila_alarms_open{code="agent_down",severity="warning"} 2',
    'kattila_alarms_open{code="agent_down",severity="critical"} 1',
  ]);
  expect(samples("kattila_messages_total")).toEqual([
    'kattila_messages_total{code="accepted"} 12',
    'kattila_messages_total{code="replay"} 1',
  ]);
  expect(samples("kattila_auth_failures_total")).toEqual(["kattila_auth_failures_total 2"]);
  expect(samples("kattila_psk_age_seconds")).toEqual([]);
  expect(samples("kattila_psk_age_seconds", { psk_age_s: 7 })).toEqual(["kattila_psk_age_seconds 7"]);
  expect(samples("kattila_last_report_timestamp_seconds")).toEqual([
    `kattila_last_report_timestamp_seconds ${(T0 + 4000) / 1000}`,
  ]);
  expect(samples("kattila_edges")).toContain('kattila_edges{layer="wireguard",state="stale"} 1');
  expect(samples("kattila_edge_traffic_bytes_per_second")).toContain(
    'kattila_edge_traffic_bytes_per_second{edge="e1",direction="a_to_b"} 1',
  );
  expect(samples("kattila_edge_handshake_age_seconds")).toContain(
    'kattila_edge_handshake_age_seconds{edge="e1",end="a"} 1',
  );
  expect(samples("kattila_edge_handshake_age_seconds").some((line) => line.includes('end="b"'))).toBe(false);
  expect(samples("kattila_edge_works")).toContain('kattila_edge_works{edge="e0"} 1');
  expect(samples("kattila_edge_works").some((line) => line.includes('edge="e10"'))).toBe(false); // unknown
});

test("without edges the states of WireGuard are still there, at 0", () => {
  const empty = samples("kattila_edges", { topology: { nodes: [], edges: [], networks: [], at: T0 } });
  expect(empty).toContain('kattila_edges{layer="wireguard",state="stale"} 0');
  expect(empty.every((line) => line.includes("wireguard"))).toBe(true);
});

test("series of single edges are bounded; broken ones are listed, all are counted", () => {
  const edges = Array.from({ length: MAX_EDGES_LISTED + 1 }, (_, i) =>
    edge(`e${i}`, { state: i < 3 ? "stale" : "up" }),
  );
  const topology = { nodes: [], edges, networks: [], at: T0 };
  expect(samples("kattila_edge_info", { topology }).length).toBe(3);
  expect(samples("kattila_edges_unlisted", { topology })).toEqual([`kattila_edges_unlisted ${MAX_EDGES_LISTED - 2}`]);
  expect(samples("kattila_edges", { topology })).toContain(
    `kattila_edges{layer="wireguard",state="up"} ${MAX_EDGES_LISTED - 2}`,
  );
});

test("hostile labels stay inside their quotes", () => {
  for (const line of lines().filter((text) => text !== "" && !text.startsWith("#"))) {
    expect(line).toMatch(/^kattila_[a-z_]+(\{([a-z_]+="([^"\\\n]|\\["\\n])*",?)+\})? -?[0-9.e+-]+$/u);
  }
  const named = samples("kattila_edge_info").map((line) => /a_label="((?:[^"\\]|\\.)*)"/.exec(line)![1]!);
  const decoded = named.map((text) => text.replaceAll(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c)));
  for (const name of HOSTILE) expect(decoded).toContain(name);
});

describeWith(["promtool"], "promtool", () => {
  test("check metrics has nothing to say of a running manager's own, which counts what it took and refused", async () => {
    const manager = await ground();
    try {
      const agent = await registered(manager);
      const report = await agent.report();
      for (const body of [report, report, { ...report, hmac: "0".repeat(64) }])
        await post(manager.url, "/status/updates", body);
      const text = await (await fetch(`${manager.url}/metrics`)).text();
      expect(text.split("\n")).toEqual(
        expect.arrayContaining([
          'kattila_messages_total{code="registered"} 1',
          'kattila_messages_total{code="accepted"} 1',
          'kattila_messages_total{code="replay"} 1',
          "kattila_auth_failures_total 1",
        ]),
      );
      const result = Bun.spawnSync(["promtool", "check", "metrics"], { stdin: Buffer.from(text), timeout: 30_000 });
      expect([result.stdout.toString() + result.stderr.toString(), result.exitCode]).toEqual(["", 0]);
    } finally {
      await manager.remove();
    }
  });

  test("check metrics has nothing to say", () => {
    for (const psk_age_s of [null, 60]) {
      const text = prometheus(input({ psk_age_s }));
      const result = Bun.spawnSync(["promtool", "check", "metrics"], { stdin: Buffer.from(text), timeout: 30_000 });
      expect(result.stdout.toString() + result.stderr.toString()).toBe("");
      expect(result.exitCode).toBe(0);
    }
  });
});
