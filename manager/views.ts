// Owns how the manager's memory is shown: agent summaries and what of a past moment the API serves. Pure.
import type { AgentResponse, AgentStatus, AgentSummary, Layer, TopologyResponse } from "../shared/api.ts";
import { isLinkLocal, isLoopback, parsePrefix } from "../shared/net.ts";
import type { Report } from "../shared/report.ts";
import type { Contact } from "./fleet.ts";
import type { AgentRecord, Observation } from "./model.ts";

/** online: heard under 2 intervals ago; late: under 3; else down. */
export function agentStatus(lastSeenAt: number | null, intervalSeconds: number | null, now: number): AgentStatus {
  if (lastSeenAt === null || intervalSeconds === null) return "down";
  const intervals = (now - lastSeenAt) / (intervalSeconds * 1000);
  if (intervals < 2) return "online";
  return intervals < 3 ? "late" : "down";
}

/** Interface addresses without length, loopback and link-local left out, in the report's order. */
function reportAddresses(report: Report | null): string[] {
  const addresses = new Set<string>();
  for (const item of report?.interfaces ?? []) {
    for (const text of item.addresses) {
      const prefix = parsePrefix(text);
      if (prefix === null || isLoopback(prefix) || isLinkLocal(prefix)) continue;
      addresses.add(text.slice(0, text.indexOf("/")));
    }
  }
  return [...addresses];
}

export function agentSummary(
  agent: AgentRecord,
  contact: Contact | null,
  latest: Observation | null,
  effective: Report | null,
  now: number,
): AgentSummary {
  const report = effective;
  return {
    agent_id: agent.agent_id,
    hostname: agent.hostname,
    status: agentStatus(contact?.received_at ?? null, report?.interval_s ?? null, now),
    first_seen_at: agent.first_seen_at,
    last_seen_at: contact?.received_at ?? null,
    tick: latest?.report.tick ?? null,
    agent_version: agent.agent_version,
    via: contact?.via ?? null,
    relay_path: contact?.relay_path ?? [],
    addresses: reportAddresses(report),
    wireguard: (report?.wireguard ?? []).map((item) => ({
      interface: item.interface,
      public_key: item.public_key,
      listen_port: item.listen_port,
      peers: item.peers?.length ?? null,
    })),
    load: report?.system?.load ?? null,
    interval_s: report?.interval_s ?? null,
    skew_ms: latest?.skew_ms ?? null,
    outbox_reports: report?.delivery?.outbox_reports ?? null,
    dropped: report?.dropped ?? null,
    blocked: agent.blocked,
  };
}

export function agentDetail(summary: AgentSummary, latest: Observation | null): AgentResponse {
  return { ...summary, report: latest?.report ?? null, report_received_at: latest?.received_at ?? null };
}

/** Keeps edges of one layer or network, and the nodes and networks that they touch. */
export function filterTopology(
  picture: TopologyResponse,
  layer: Layer | null,
  network: string | null,
): TopologyResponse {
  if (layer === null && network === null) return picture;
  const edges = picture.edges.filter(
    (edge) => (layer === null || edge.layer === layer) && (network === null || edge.network === network),
  );
  const touched = new Set(edges.flatMap((edge) => [edge.a.node, edge.b.node]));
  return {
    at: picture.at,
    edges,
    nodes: picture.nodes.filter(
      (node) => touched.has(node.id) || (network !== null && node.networks.includes(network)),
    ),
    networks: picture.networks.filter((item) =>
      network !== null ? item.id === network : edges.some((edge) => edge.network === item.id),
    ),
  };
}
