// Owns the gathering of what /metrics shows; export/prometheus.ts owns its text.
import type { AgentStatus } from "../shared/api.ts";
import type { PskSource } from "../shared/psk_source.ts";
import type { AuthFailures } from "./auth_failures.ts";
import { prometheus } from "./export/prometheus.ts";
import type { Fleet } from "./fleet.ts";
import type { Ingest } from "./ingest.ts";
import type { Store } from "./store/store.ts";
import type { Stream } from "./stream.ts";
import { agentStatus } from "./views.ts";

export type MetricsSources = {
  fleet: Fleet;
  store: Store;
  ingest: Ingest;
  psk: PskSource;
  stream: Stream;
  authFailures: AuthFailures;
  startedAt: number;
  version: string;
};

/** @throws StoreError when the database cannot be read. */
export function createMetrics(sources: MetricsSources): (now: number) => Promise<string> {
  const { fleet, store, ingest, psk, stream, authFailures, startedAt, version } = sources;
  return async (now) => {
    const agents: Record<AgentStatus, number> = { online: 0, late: 0, down: 0 };
    for (const id of fleet.agents.keys()) {
      const interval = fleet.topology.effective(id)?.interval_s ?? null;
      agents[agentStatus(fleet.contacts.get(id)?.received_at ?? null, interval, now)]++;
    }
    const { confirmed_at: confirmedAt } = psk.status;
    const cpu = process.cpuUsage();
    return prometheus({
      version,
      started_at: startedAt,
      now,
      agents,
      topology: fleet.topology.view(now),
      alarms: fleet.alarms.open().map(({ code, severity }) => ({ code, severity })),
      messages: Object.fromEntries(ingest.answers),
      auth_failures: authFailures.total,
      last_report_at: fleet.lastReportAt,
      psk_age_s: confirmedAt === null ? null : (now - confirmedAt) / 1000,
      stream_clients: stream.listeners,
      database: { writable: (await store.health()) === "ok", ...(await store.figures()) },
      process: { resident_bytes: process.memoryUsage.rss(), cpu_seconds: (cpu.user + cpu.system) / 1e6 },
    });
  };
}
