// Owns the manager's single-shot commands: verify the audit log, back up, try the notifications. They print to stdout and
// return the exit code.
import { join, resolve } from "node:path";
import type { Log } from "../shared/log.ts";
import type { Print } from "../shared/program.ts";
import { PskSource } from "../shared/psk_source.ts";
import { checkNotify } from "./notify.ts";
import type { ManagerSettings } from "./settings.ts";
import { backupDatabase } from "./store/backup.ts";
import { openReadOnly } from "./store/open.ts";
import { openLogSnapshot } from "./store/sqlite.ts";
import { verifyLog } from "./store/verify.ts";

/** More findings than this are counted, not listed. */
const MAX_FINDINGS = 1000;

/** `-verify-log`: exit 1 when a report was altered or its bytes are gone. */
export async function verifyLogCommand(
  settings: ManagerSettings,
  log: Log,
  print: Print,
  complain: Print,
): Promise<number> {
  const snapshot = openLogSnapshot(settings.databasePath);
  const psk = new PskSource({
    origin: settings.psk.kind === "default" ? { ...settings.psk, create: false } : settings.psk,
    ringPath: join(settings.stateDirectory, "manager_psk_ring"),
    log,
  });
  try {
    await psk.once();
    const keys = new Map((await snapshot.loadAgents()).map((agent) => [agent.agent_id, agent.public_key]));
    let listed = 0;
    const summary = await verifyLog(snapshot.allReports(), snapshot, psk.psks, keys, (finding) => {
      if (++listed > MAX_FINDINGS) return;
      const at = new Date(finding.received_at).toISOString();
      print(
        `${finding.kind}: report ${finding.id} of agent ${finding.agent_id}, tick ${finding.tick}, received ${at}: ${finding.why}`,
      );
    });
    if (listed > MAX_FINDINGS) print(`… and ${listed - MAX_FINDINGS} more`);
    print(
      `${summary.reports} reports: ${summary.verified} verified, ${summary.unverifiable} could not be verified, ${summary.altered} altered, ${summary.missing} missing`,
    );
    if (summary.altered + summary.missing === 0) return 0;
    complain("the audit log does not hold what was accepted");
    return 1;
  } finally {
    snapshot.close();
  }
}

/** `-backup FILE`. */
export async function backupCommand(settings: ManagerSettings, path: string, print: Print): Promise<number> {
  const target = resolve(path);
  // Refuses what is no database of ours: nobody should learn so from the backup.
  openReadOnly(settings.databasePath).close();
  await backupDatabase(settings.databasePath, target);
  print(`${settings.databasePath} is copied to ${target}`);
  return 0;
}

/** `-check-notify`: exit 1 when a receiver did not take the message, 2 when NOTIFY_URL is not set. */
export async function checkNotifyCommand(settings: ManagerSettings, print: Print, complain: Print): Promise<number> {
  if (settings.notifyUrls.length === 0) {
    complain("NOTIFY_URL: is not set: there is nobody to notify");
    return 2;
  }
  const results = await checkNotify(settings.notifyUrls);
  for (const { receiver, ok, answer } of results) print(`${ok ? "ok" : "FAILED"}  ${receiver}: ${answer}`);
  return results.every(({ ok }) => ok) ? 0 : 1;
}
