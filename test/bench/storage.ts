// Owns the measurement of what the audit log costs on disk: one simulated day of an agent with 20 peers, busy and idle,
// through the real store. `bun run bench storage` prints it.
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ReportRow } from "../../manager/model.ts";
import { openStore } from "../../manager/store/sqlite.ts";
import { createLog } from "../../shared/log.ts";

const PEERS = 20;
const INTERVAL_MS = 30_000;
const DAY_MS = 86_400_000;
const T0 = 1_790_000_000_000;
const KEEP = { reportsMs: 7 * DAY_MS, eventsMs: 400 * DAY_MS };

const random = (below: number): number => Math.floor(Math.random() * below);
const hex = (bytes: number): string => crypto.getRandomValues(new Uint8Array(bytes)).toHex();
const base64 = (bytes: number): string => crypto.getRandomValues(new Uint8Array(bytes)).toBase64();

export type Traffic = "busy" | "idle";

/** The rows of one agent, tick by tick. Busy: up to 5 MB each way per peer and interval; idle: keepalives alone. */
export function* reportRows(traffic: Traffic): Generator<ReportRow> {
  const agentId = crypto.randomUUID();
  const bootId = crypto.randomUUID();
  const ownKey = base64(32);
  const peers = Array.from({ length: PEERS }, (_, i) => ({
    public_key: base64(32),
    endpoint: `203.0.113.${i + 1}:51820`,
    allowed_ips: [`10.99.0.${i + 2}/32`],
    latest_handshake_at: T0 - random(120_000),
    rx_bytes: random(1e11),
    tx_bytes: random(1e11),
    persistent_keepalive_s: 25,
    via: { interface: "eth0", source: "192.168.50.1" },
  }));
  const ethernet = { rx: 10 ** 12, tx: 10 ** 12 };
  const offset = random(INTERVAL_MS);
  for (let tick = 1; ; tick++) {
    const at = T0 + offset + tick * INTERVAL_MS + random(20);
    for (const peer of peers) {
      for (const way of ["rx_bytes", "tx_bytes"] as const) peer[way] += traffic === "busy" ? random(5e6) : 32;
      if (at - peer.latest_handshake_at > 120_000) peer.latest_handshake_at = at - (at % 1000) - 1000 * random(30);
    }
    for (const way of ["rx", "tx"] as const) ethernet[way] += random(traffic === "busy" ? 1e8 : 5000);
    const load = () => random(traffic === "busy" ? 300 : 20) / 100;
    const nonce = hex(16);
    const link = { carrier: true, up: true, speed_mbps: null, parent: null, master: null, tunnel: null };
    const data = JSON.stringify({
      v: 1,
      type: "report",
      agent_id: agentId,
      tick,
      nonce,
      sent_at: at + 12,
      collected_at: at,
      age_ms: 10 + random(8),
      boot_id: bootId,
      agent_version: "0.1.0",
      interval_s: 30,
      dropped: 0,
      delivery: {
        outbox_reports: 0,
        outbox_bytes: 0,
        outbox_limit_bytes: 16_777_216,
        relay_refused: { loop: 0, hop_limit: 0 },
        psk_error: null,
      },
      collectors: { wireguard: "ok", interfaces: "ok", routes: "ok", neighbors: "ok" },
      system: {
        hostname: "host-17",
        kernel: "6.1.0-28-amd64",
        arch: "x64",
        uptime_s: 100_000 + tick * 30 + random(100) / 100,
        cpus: 4,
        load: [load(), load(), load()],
        memory_total_bytes: 8e9,
        memory_available_bytes: 4e9 + 4096 * random(1e5),
        ip_forward: true,
        ipv6_forward: false,
      },
      interfaces: [
        {
          name: "eth0",
          kind: "physical",
          mac: "52:54:00:12:34:56",
          mtu: 1500,
          addresses: ["192.168.50.1/24"],
          rx_bytes: ethernet.rx,
          tx_bytes: ethernet.tx,
          ...link,
        },
        {
          name: "wg0",
          kind: "wireguard",
          mac: null,
          mtu: 1420,
          addresses: ["10.99.0.1/24"],
          rx_bytes: peers.reduce((sum, { rx_bytes }) => sum + rx_bytes, 0),
          tx_bytes: peers.reduce((sum, { tx_bytes }) => sum + tx_bytes, 0),
          ...link,
        },
      ],
      routes: [
        { destination: "0.0.0.0/0", gateway: "192.168.50.254", interface: "eth0", metric: 0 },
        { destination: "10.99.0.0/24", gateway: null, interface: "wg0", metric: 0 },
      ],
      neighbors: Array.from({ length: 4 }, (_, i) => ({
        address: `192.168.50.${i + 2}`,
        mac: `52:54:00:12:34:6${i}`,
        interface: "eth0",
      })),
      wireguard: [{ interface: "wg0", public_key: ownKey, listen_port: 51820, fwmark: null, peers }],
    });
    yield {
      agent_id: agentId,
      tick,
      boot_id: bootId,
      nonce,
      collected_at: at,
      received_at: at + 12 + random(5),
      observed_at: at + random(5),
      relay_path: [],
      data,
      hmac: hex(32),
      sig: base64(64),
    };
  }
}

export type StorageFigures = {
  traffic: Traffic;
  /** UTF-8 bytes of data, MAC and signature as received. */
  raw_bytes_per_report: number;
  /** Growth of the database file (row, index, pack) for each further report once packed. */
  bytes_per_report: number;
  /** The same for a day at 30 s. */
  bytes_per_day: number;
  /** Longest round of housekeeping and its median. */
  round_ms: { longest: number; median: number };
};

/** Feeds `agents` agents two days of reports, and measures by how much the second day lets the closed file grow. */
export async function measureStorage(traffic: Traffic, agents = 8): Promise<StorageFigures> {
  const directory = mkdtempSync(join(tmpdir(), "kattila-storage-"));
  const path = join(directory, "bench.db");
  try {
    const fleet = Array.from({ length: agents }, () => reportRows(traffic));
    const rounds: number[] = [];
    let raw = 0;
    const day = async (): Promise<number> => {
      const store = await openStore(path, { log: createLog("error") });
      raw = 0;
      for (let i = 0; i < DAY_MS / INTERVAL_MS; i++) {
        const reports = fleet.map((rows) => rows.next().value as ReportRow);
        for (const { data, hmac, sig } of reports) raw += data.length + hmac.length + sig.length;
        await store.commit({ reports });
        for (let more = true; more;) {
          const started = performance.now();
          more = await store.maintain(reports[0]!.received_at, KEEP);
          rounds.push(performance.now() - started);
        }
      }
      await store.close(); // copies the WAL home, and cuts off the pages that were given back
      return statSync(path).size;
    };
    const before = await day();
    const after = await day();
    const reports = (agents * DAY_MS) / INTERVAL_MS;
    rounds.sort((a, b) => a - b);
    return {
      traffic,
      raw_bytes_per_report: Math.round(raw / reports),
      bytes_per_report: Math.round((after - before) / reports),
      bytes_per_day: Math.round((after - before) / agents),
      round_ms: { longest: rounds.at(-1)!, median: rounds[Math.floor(rounds.length / 2)]! },
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Prints what a report costs in the database once packed, busy and idle, beside its raw size. */
export async function benchStorage(): Promise<void> {
  for (const traffic of ["busy", "idle"] as const) {
    const figures = await measureStorage(traffic);
    console.log(
      `storage, ${traffic}: ${figures.bytes_per_report} bytes a report (raw ${figures.raw_bytes_per_report}), ${(figures.bytes_per_day / 1e6).toFixed(2)} MB an agent and day; a round of housekeeping ${figures.round_ms.median.toFixed(1)} ms, the longest ${figures.round_ms.longest.toFixed(1)} ms`,
    );
  }
}
