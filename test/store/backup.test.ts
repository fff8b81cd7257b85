// Backup: a consistent, private copy of a database in use; never over something that is there.
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { openStore } from "../../manager/store/sqlite.ts";
import { createLog } from "../../shared/log.ts";
import { collect, DAY_MS, place, report, settle, T0 } from "./support.ts";

test("what was committed before it is in it, what comes later is not, and it opens as a database", async () => {
  using at = place();
  const store = await at.open();
  for (let tick = 0; tick < 300; tick++) await store.commit({ reports: [report(tick)] });
  await settle(store, T0 + DAY_MS);
  const expected = await collect(store.allReports());
  const target = `${at.path}.backup`;
  let done = false;
  const backup = store.backup(target).then(() => (done = true));
  let tick = 300;
  for (; !done; tick++) await store.commit({ reports: [report(tick)] });
  await backup;
  expect(fs.statSync(target).mode & 0o777).toBe(0o600);
  expect(fs.readdirSync(at.directory).filter((name) => name.startsWith("kattila.db.backup"))).toEqual([
    "kattila.db.backup",
  ]);
  const database = new Database(target, { readonly: true });
  expect(database.query("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  database.close();
  const copy = await openStore(target, { log: createLog("error") });
  const found = await collect(copy.allReports());
  expect(found.slice(0, 300)).toEqual(expected);
  expect(found.length).toBeLessThanOrEqual(tick);
  await copy.commit({ reports: [report(tick + 1)] });
  await copy.close();
  await store.close();
});

test("an existing file, a link and a missing directory are refused; nothing is left behind", async () => {
  using at = place();
  const store = await at.open();
  const there = `${at.directory}/there`;
  fs.writeFileSync(there, "precious");
  await expect(store.backup(there)).rejects.toThrow("it exists already: name a new file");
  expect(fs.readFileSync(there, "utf8")).toBe("precious");
  fs.symlinkSync(`${at.directory}/nowhere`, `${at.directory}/link`);
  await expect(store.backup(`${at.directory}/link`)).rejects.toThrow("it exists already");
  await expect(store.backup(`${at.directory}/none/backup`)).rejects.toThrow("check its directory");
  await expect(store.backup(at.path)).rejects.toThrow("it exists already");
  expect(fs.existsSync(`${at.directory}/nowhere`)).toBe(false);
  await store.close();
});
