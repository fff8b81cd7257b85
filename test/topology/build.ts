// Owns small builders of what inference is fed: agents and observations, as the manager's ingest makes them.
import type { AgentRecord, Observation } from "../../manager/model.ts";
import type { Report } from "../../shared/report.ts";

export function record(agentId: string, hostname: string, at: number): AgentRecord {
  return {
    agent_id: agentId,
    public_key: `${agentId.replaceAll("-", "").padEnd(42, "A").slice(0, 42)}A=`,
    hostname,
    agent_version: "0.1.0",
    first_seen_at: at,
    registered_at: at,
    blocked: false,
    regenerate: false,
  };
}

/** A report as it was accepted at `receivedAt`, fresh unless told. */
export function observed(report: Report, receivedAt: number, options: Partial<Observation> = {}): Observation {
  const age = Math.max(0, report.age_ms ?? 0);
  return {
    report,
    received_at: receivedAt,
    observed_at: receivedAt - age,
    relay_path: [],
    via: "direct",
    late: age > 2 * report.interval_s * 1000,
    superseded: false,
    skew_ms: report.collected_at + age - receivedAt,
    ...options,
  };
}
