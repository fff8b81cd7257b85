// Opening: what is refused, in one line with a remedy, and left as it was found; privacy; crash leftovers.
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { openDatabase } from "../../manager/store/open.ts";
import { SCHEMA_VERSION } from "../../manager/store/schema.ts";
import { openLogSnapshot, openStore } from "../../manager/store/sqlite.ts";
import { StoreError } from "../../manager/store/store.ts";
import { createLog } from "../../shared/log.ts";
import { describeWith } from "../support/needs.ts";
import { collect, KEEP, type Place, place, report, T0 } from "./support.ts";

async function refusal(open: () => Promise<unknown>): Promise<StoreError> {
  const error = await open().then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(StoreError);
  expect((error as StoreError).message).not.toContain("\n");
  return error as StoreError;
}

/** Contents and modes of every file in the directory, without the lock and SQLite's table of who reads. */
function snapshot({ directory }: Place): Record<string, string> {
  return Object.fromEntries(
    fs
      .readdirSync(directory)
      .filter((name) => !name.endsWith("-lock") && !name.endsWith("-shm"))
      .map((name) => {
        const path = join(directory, name);
        return [name, `${fs.statSync(path).mode.toString(8)} ${Bun.hash(fs.readFileSync(path))}`];
      }),
  );
}

const REFUSED: [what: string, make: (path: string) => void, says: RegExp][] = [
  [
    "a text file",
    (path) => fs.writeFileSync(path, "hello, I am a note of 100 bytes and more ".repeat(5)),
    /is not a database: set DB_PATH/,
  ],
  ["a few bytes", (path) => fs.writeFileSync(path, "x"), /is not a database/],
  [
    "a newer schema",
    (path) =>
      withDatabase(path, (db) => {
        db.run(`PRAGMA application_id = ${0x6b617474}`);
        db.run(`PRAGMA user_version = ${SCHEMA_VERSION + 1}`);
        db.run("CREATE TABLE t (x)");
      }),
    new RegExp(
      `newer manager \\(schema ${SCHEMA_VERSION + 1}, this one reads up to ${SCHEMA_VERSION}\\): run that version`,
    ),
  ],
  [
    "another program's database",
    (path) =>
      withDatabase(path, (db) => {
        db.run("PRAGMA user_version = 1");
        db.run("CREATE TABLE t (x)");
      }),
    /another program's database/,
  ],
  ["a directory", (path) => fs.mkdirSync(path), /is not a file/],
  [
    "a symbolic link",
    (path) => {
      fs.writeFileSync(`${path}-target`, "");
      fs.symlinkSync(`${path}-target`, path);
    },
    /is a symbolic link: set DB_PATH to the file itself/,
  ],
];

function withDatabase(path: string, work: (database: Database) => void): void {
  const database = new Database(path);
  work(database);
  database.close();
}

for (const [what, make, says] of REFUSED) {
  test(`${what} is refused and left alone`, async () => {
    using at = place();
    make(at.path);
    const before = fs.statSync(at.path).isFile() ? snapshot(at) : null;
    expect((await refusal(at.open)).message).toMatch(says);
    if (before !== null) expect(snapshot(at)).toEqual(before);
    expect((await refusal(at.open)).message).toMatch(says); // the lock is free again
  });
}

test("a newer schema that is still in the WAL is refused too", async () => {
  using at = place();
  await (await at.open()).close();
  const newer = new Database(at.path);
  newer.run("PRAGMA journal_mode = WAL");
  newer.run(`PRAGMA user_version = ${SCHEMA_VERSION + 1}`);
  const before = snapshot(at);
  expect((await refusal(at.open)).message).toContain("newer manager");
  expect(snapshot(at)).toEqual(before);
  newer.close();
});

test("a database in which another program has tables, and no version", async () => {
  using at = place();
  withDatabase(at.path, (db) => db.run("CREATE TABLE t (x)"));
  const before = snapshot(at);
  expect((await refusal(at.open)).message).toContain("another program's database");
  expect(snapshot(at)).toEqual(before);
});

test("no such directory", async () => {
  using at = place();
  const error = await refusal(() => openStore(join(at.directory, "none", "db"), { log: createLog("error") }));
  expect(error.message).toContain(`there is no directory ${join(at.directory, "none")}: make it, or set DB_PATH`);
});

test("a second manager on one database is refused; the first goes on", async () => {
  using at = place();
  const store = await at.open();
  await store.commit({ reports: [report(1)] });
  const error = await refusal(at.open);
  expect(error.fault).toBe("locked");
  expect(error.message).toContain("in use by another manager");
  await store.commit({ reports: [report(2)] });
  await store.close();
  const again = await at.open();
  expect((await collect(again.allReports())).length).toBe(2);
  await again.close();
});

test("all files are 0600; one that others could read is mended, and that is said", async () => {
  using at = place();
  let store = await at.open();
  await store.commit({ reports: [report(1)] });
  await store.maintain(Date.now(), { reportsMs: 1e12, eventsMs: 1e12 });
  const modes = () =>
    fs
      .readdirSync(at.directory)
      .map((name) => [name, (fs.statSync(join(at.directory, name)).mode & 0o777).toString(8)]);
  expect(
    modes()
      .map(([name]) => name)
      .toSorted(),
  ).toEqual(["", "-ballast", "-lock", "-shm", "-wal"].map((suffix) => `kattila.db${suffix}`));
  for (const [name, mode] of modes()) expect(`${name} ${mode}`).toBe(`${name} 600`);
  await store.close();
  fs.chmodSync(at.path, 0o644);
  store = await at.open();
  await store.commit({ reports: [report(2)] });
  for (const [name, mode] of modes()) expect(`${name} ${mode}`).toBe(`${name} 600`);
  expect(at.lines.some((line) => line.includes("database_mode_mended"))).toBe(true);
  await store.close();
});

test("a damaged database is refused in one line, and the lock is free again", async () => {
  using at = place();
  const store = await at.open();
  await store.commit({ reports: [report(1)] });
  await store.close();
  const bytes = fs.readFileSync(at.path);
  fs.writeFileSync(at.path, bytes.fill(0xaa, 4096)); // the header stays
  for (let i = 0; i < 2; i++) {
    const { fault, message } = await refusal(at.open);
    expect(fault).toBe("failing");
    expect(message).toContain("is damaged: move it away, or put a backup in its place");
  }
});

test("the settings that durability rests on", async () => {
  using at = place();
  const store = await at.open();
  await store.close();
  const database = new Database(at.path, { readonly: true });
  expect(database.query("PRAGMA journal_mode").get()).toEqual({ journal_mode: "wal" });
  expect(database.query("PRAGMA auto_vacuum").get()).toEqual({ auto_vacuum: 2 });
  expect(database.query("PRAGMA user_version").get()).toEqual({ user_version: SCHEMA_VERSION });
  database.close();
  // Of the manager's own connection: 2 is FULL, each commit is on the disk before it is told.
  const own = openDatabase(at.path);
  expect(own.database.query("PRAGMA synchronous").get()).toEqual({ synchronous: 2 });
  own.database.close();
  own.lock.release();
});

test("a snapshot of the log is read beside a running manager, and never changes", async () => {
  using at = place();
  const store = await at.open();
  await store.commit({ reports: [report(1), report(2)] });
  const log = openLogSnapshot(at.path);
  await store.commit({ reports: [report(3)] });
  expect(log.rows).toBe(2);
  expect((await collect(log.allReports())).map(({ tick }) => tick)).toEqual([1, 2]);
  log.close();
  await store.close();
  expect(() => openLogSnapshot(join(at.directory, "none"))).toThrow("there is no database");
});

describeWith(["root"], "a file system that is mounted read-only", () => {
  test("an existing database and a missing one are both refused", async () => {
    using at = place();
    const mount = join(at.directory, "mount");
    fs.mkdirSync(mount);
    // In a mount namespace of its own, which ends with the process.
    const script = `
      mount -t tmpfs none ${mount} && bun ${join(import.meta.dir, "open_once.ts")} ${mount}/a.db &&
      sha256sum ${mount}/a.db > ${at.directory}/before && mount -o remount,ro ${mount} || exit 9
      bun ${join(import.meta.dir, "open_once.ts")} ${mount}/a.db
      bun ${join(import.meta.dir, "open_once.ts")} ${mount}/b.db
      sha256sum --check --quiet ${at.directory}/before && ls ${mount}`;
    const run = Bun.spawnSync(["unshare", "-m", "sh", "-c", script], { timeout: 30_000 });
    expect(run.stderr.toString()).toBe("");
    const lines = run.stdout.toString().trimEnd().split("\n");
    expect(lines[0]).toBe("opened");
    for (const line of lines.slice(1, 3))
      expect(line).toMatch(/^read_only: cannot open the database .* cannot be written/);
    expect(lines.slice(3).filter((name) => name.startsWith("b"))).toEqual([]);
    expect(run.exitCode).toBe(0);
  });
});

test("a link where the ballast is about to be made is not written through", async () => {
  using at = place();
  const precious = join(at.directory, "precious");
  fs.writeFileSync(precious, "precious");
  fs.symlinkSync(precious, `${at.path}-ballast.tmp`);
  const store = await at.open();
  for (let i = 0; i < 3; i++) await store.maintain(T0, KEEP);
  await store.close();
  expect(fs.readFileSync(precious, "utf8")).toBe("precious");
  expect(fs.lstatSync(`${at.path}-ballast`).isFile()).toBe(true);
});
