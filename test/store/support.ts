// Owns what the store's tests share: a store in a directory of its own, and made-up rows.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AgentRecord, AlarmRow, NewEvent, ReportRow } from "../../manager/model.ts";
import { openStore } from "../../manager/store/sqlite.ts";
import type { Store } from "../../manager/store/store.ts";
import type { TopologyEdge, TopologyNode } from "../../shared/api.ts";
import { createLog } from "../../shared/log.ts";

export const T0 = 1_790_000_000_000;
export const DAY_MS = 86_400_000;
export const KEEP = { reportsMs: 7 * DAY_MS, eventsMs: 400 * DAY_MS };
export const AGENT = "0b0f3f6e-56c1-4f6a-9f43-1a2b3c4d5e6f";
export const OTHER = "1c1f3f6e-56c1-4f6a-9f43-1a2b3c4d5e6f";

export type Place = {
  path: string;
  directory: string;
  lines: string[];
  open(): Promise<Store>;
  [Symbol.dispose](): void;
};

/** A directory that goes with the scope; `open` opens the database in it. */
export function place(): Place {
  const directory = mkdtempSync(join(tmpdir(), "kattila-store-"));
  const path = join(directory, "kattila.db");
  const lines: string[] = [];
  return {
    path,
    directory,
    lines,
    open: () => openStore(path, { log: createLog("debug", (line) => lines.push(line)) }),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}

const hex = (bytes: number): string => crypto.getRandomValues(new Uint8Array(bytes)).toHex();

/** A report row of one tick; 30 s a tick from T0 on. */
export function report(tick: number, over: Partial<ReportRow> = {}): ReportRow {
  const at = T0 + tick * 30_000;
  const nonce = over.nonce ?? hex(16);
  const row = {
    agent_id: AGENT,
    tick,
    boot_id: "4c7ff6a4-0a3b-4a53-8f00-1a2b3c4d5e6f",
    nonce,
    collected_at: at,
    received_at: at + 40,
    observed_at: at + 28,
    relay_path: [],
    hmac: hex(32),
    sig: crypto.getRandomValues(new Uint8Array(64)).toBase64(),
    ...over,
  };
  return {
    ...row,
    data: over.data ?? JSON.stringify({ v: 1, type: "report", agent_id: row.agent_id, tick, nonce, load: [0.05, 1.5] }),
  };
}

export function event(at: number, over: Partial<NewEvent> = {}): NewEvent {
  return {
    at,
    code: "roamed",
    severity: "info",
    subject: "edge:e1",
    agent_id: AGENT,
    message: "moved",
    details: { from: "192.0.2.1:1" },
    ...over,
  };
}

export function alarm(id: string, openedAt: number, over: Partial<AlarmRow> = {}): AlarmRow {
  return {
    id,
    code: "agent_down",
    severity: "warning",
    subject: `agent:${AGENT}`,
    agent_id: AGENT,
    state: "open",
    message: "nothing arrives",
    opened_at: openedAt,
    acknowledged_at: null,
    resolved_at: null,
    depends_on: ["x"],
    details: { seen: '<b>&"x' },
    flapping: false,
    since_at: openedAt - 1,
    memory: { count: 3 },
    ...over,
  };
}

export function agent(over: Partial<AgentRecord> = {}): AgentRecord {
  return {
    agent_id: AGENT,
    public_key: "key",
    hostname: `<b>&"x`,
    agent_version: "0.1.0",
    first_seen_at: T0,
    registered_at: T0,
    blocked: false,
    regenerate: false,
    ...over,
  };
}

export function node(id: string, over: Partial<TopologyNode> = {}): TopologyNode {
  return {
    id,
    kind: "agent",
    label: id,
    status: "online",
    addresses: ["10.0.0.1"],
    networks: [],
    attached: [],
    nat: false,
    exit: false,
    reason: null,
    wireguard_keys: [],
    ...over,
  };
}

export function edge(id: string, over: Partial<TopologyEdge> = {}): TopologyEdge {
  const end = {
    interface: "wg0",
    endpoint: null,
    nat: false,
    public_key: null,
    listen_port: null,
    allowed_ips: null,
    handshake_age_s: null,
    latest_handshake_at: null,
    persistent_keepalive_s: null,
    rx_bytes: null,
    tx_bytes: null,
    reported_at: null,
  };
  return {
    id,
    layer: "wireguard",
    network: null,
    a: { node: "a", ...end },
    b: { node: "b", ...end },
    state: "up",
    reason: null,
    cause: null,
    observed_by: [],
    latest_handshake_at: null,
    a_to_b_bps: null,
    b_to_a_bps: null,
    a_to_b_loss: null,
    b_to_a_loss: null,
    rides_on: [],
    first_seen_at: T0,
    changed_at: T0,
    ...over,
  };
}

export async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

/** Rounds of housekeeping until nothing is left to do; the number of rounds. */
export async function settle(store: Store, now: number, keep = KEEP): Promise<number> {
  for (let rounds = 1; ; rounds++) if (!(await store.maintain(now, keep))) return rounds;
}
