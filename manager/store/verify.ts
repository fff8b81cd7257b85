// Owns the re-verification of the audit log: MAC, signature and filing of each stored report, and in words what could
// not be verified and why.
import { verifyMac, verifySignature } from "../../shared/envelope.ts";
import type { StoredReport } from "../model.ts";

export type Finding = {
  id: number;
  agent_id: string;
  tick: number;
  received_at: number;
  /** altered: the stored bytes are not those that were accepted. unverifiable: a key is missing. */
  kind: "altered" | "unverifiable";
  why: string;
};

export type LogSummary = {
  reports: number;
  /** MAC, signature and filing hold. */
  verified: number;
  unverifiable: number;
  altered: number;
  /** Rows whose bytes are gone. */
  missing: number;
};

/** WebCrypto is ten times faster with many checks in flight than one by one. */
const IN_FLIGHT = 64;

/**
 * Verifies every report of the log.
 * @param log how many reports beyond the id `prunedTo` the log says that it holds; retention may have taken those before
 * @param psks the PSK ring, newest first
 * @param publicKeys agent_id → pinned Ed25519 key, base64
 * @param onFinding told of each report that is not verified, in the order of the log
 */
export async function verifyLog(
  reports: AsyncIterable<StoredReport>,
  log: { prunedTo: number; rows: number },
  psks: readonly string[],
  publicKeys: ReadonlyMap<string, string>,
  onFinding: (finding: Finding) => void,
): Promise<LogSummary> {
  const summary: LogSummary = { reports: 0, verified: 0, unverifiable: 0, altered: 0, missing: 0 };
  let found = 0;
  let group: StoredReport[] = [];
  const settle = async (): Promise<void> => {
    for (const finding of await Promise.all(group.map((report) => verify(report, psks, publicKeys)))) {
      if (finding === null) summary.verified++;
      else {
        summary[finding.kind]++;
        onFinding(finding);
      }
    }
    group = [];
  };
  for await (const report of reports) {
    summary.reports++;
    if (report.id > log.prunedTo) found++;
    if (group.push(report) === IN_FLIGHT) await settle();
  }
  await settle();
  summary.missing = Math.max(0, log.rows - found);
  return summary;
}

async function verify(
  report: StoredReport,
  psks: readonly string[],
  publicKeys: ReadonlyMap<string, string>,
): Promise<Finding | null> {
  const { id, agent_id, tick, received_at, data, hmac, sig } = report;
  const found = (kind: Finding["kind"], why: string): Finding => ({ id, agent_id, tick, received_at, kind, why });
  const publicKey = publicKeys.get(agent_id);
  const [macKey, signed] = await Promise.all([
    verifyMac({ v: 1, data, hmac, sig }, psks),
    publicKey === undefined ? null : verifySignature(publicKey, data, sig),
  ]);
  const misfiled = misfiling(report);
  if (misfiled !== null) return found("altered", misfiled);
  if (signed === true) {
    return macKey >= 0
      ? null
      : found("unverifiable", "MAC made with a key that is no longer in the ring; the agent's signature holds");
  }
  if (signed === null) {
    return macKey >= 0
      ? found("unverifiable", "agent forgotten: no public key to check its signature with; the MAC holds")
      : found("unverifiable", "agent forgotten, and MAC made with a key that is no longer in the ring");
  }
  return macKey >= 0
    ? found("unverifiable", "signature by another key than the agent's present one; the MAC holds")
    : found("altered", "neither MAC nor signature holds");
}

/** The row's own columns are not signed: they must say what the signed bytes say. */
function misfiling({ agent_id, tick, boot_id, nonce, collected_at, data }: StoredReport): string | null {
  let said: Record<string, unknown>;
  try {
    said = JSON.parse(data) as Record<string, unknown>;
  } catch {
    return "the signed bytes are no JSON";
  }
  for (const [name, value] of Object.entries({ agent_id, tick, boot_id, nonce, collected_at })) {
    if (said[name] !== value) return `filed under ${name} ${value}, but the signed bytes say ${String(said[name])}`;
  }
  return null;
}
