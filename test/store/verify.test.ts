// Re-verification: what holds, what cannot be checked and why, what was altered, what is missing.
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import type { ReportRow } from "../../manager/model.ts";
import { openLogSnapshot } from "../../manager/store/sqlite.ts";
import { type Finding, verifyLog } from "../../manager/store/verify.ts";
import { newNonce, seal, signingKey } from "../../shared/envelope.ts";
import { AGENT, DAY_MS, OTHER, place, settle, T0 } from "./support.ts";

const PSKS = ["current-psk-of-32-characters-abcdef", "previous-psk-of-32-characters-abcde"];
const OLD_PSK = "older-psk-of-32-characters-abcdefgh";
const key = await signingKey();
const otherKey = await signingKey();
const KEYS = new Map([[AGENT, key.publicKey]]);

async function sealed(tick: number, psk = PSKS[0]!, by = key, agent_id = AGENT): Promise<ReportRow> {
  const at = T0 + tick * 30_000;
  const row = { agent_id, tick, boot_id: "boot", nonce: newNonce(), collected_at: at };
  const { data, hmac, sig } = await seal(JSON.stringify({ v: 1, type: "report", ...row }), psk, by);
  return { ...row, received_at: at, observed_at: at, relay_path: [], data, hmac, sig: sig! };
}

test("every report is verified or explained, hot and packed", async () => {
  using at = place();
  const store = await at.open();
  const rows = await Promise.all(Array.from({ length: 130 }, (_, tick) => sealed(tick, PSKS[tick % 2])));
  rows.push(await sealed(130, OLD_PSK));
  rows.push(await sealed(1, PSKS[0], otherKey, OTHER));
  rows.push(await sealed(2, OLD_PSK, otherKey, OTHER));
  rows.push(await sealed(131, PSKS[0], otherKey));
  const altered = await sealed(132);
  rows.push({ ...altered, data: altered.data.replace('"boot"', '"b00t"'), boot_id: "b00t" });
  rows.push({ ...(await sealed(133)), tick: 134 });
  await store.commit({ reports: rows });
  for (const now of [T0, T0 + DAY_MS]) {
    await settle(store, now);
    const log = openLogSnapshot(at.path);
    const findings: Finding[] = [];
    const summary = await verifyLog(log.allReports(), log, PSKS, KEYS, (finding) => findings.push(finding));
    log.close();
    expect(summary).toEqual({ reports: 136, verified: 130, unverifiable: 4, altered: 2, missing: 0 });
    expect(findings.map(({ agent_id, tick, kind, why }) => [agent_id === AGENT ? "A" : "O", tick, kind, why])).toEqual([
      ["A", 130, "unverifiable", "MAC made with a key that is no longer in the ring; the agent's signature holds"],
      ["O", 1, "unverifiable", "agent forgotten: no public key to check its signature with; the MAC holds"],
      ["O", 2, "unverifiable", "agent forgotten, and MAC made with a key that is no longer in the ring"],
      ["A", 131, "unverifiable", "signature by another key than the agent's present one; the MAC holds"],
      ["A", 132, "altered", "neither MAC nor signature holds"],
      ["A", 134, "altered", "filed under tick 134, but the signed bytes say 133"],
    ]);
  }
  await store.close();
});

test("a row whose bytes were taken away is missed", async () => {
  using at = place();
  const store = await at.open();
  await store.commit({ reports: [await sealed(1), await sealed(2)] });
  await store.close();
  const database = new Database(at.path);
  database.run("DELETE FROM reports_hot WHERE tick = 1");
  database.close();
  const log = openLogSnapshot(at.path);
  expect(await verifyLog(log.allReports(), log, PSKS, KEYS, () => {})).toEqual({
    reports: 1,
    verified: 1,
    unverifiable: 0,
    altered: 0,
    missing: 1,
  });
  log.close();
});
