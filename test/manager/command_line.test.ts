// The manager's command line, run as a process: what each flag prints, where, and its exit code.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MANAGER_HELP } from "../../manager/cli.ts";
import { VERSION } from "../../shared/version.ts";
import { registered, runManager, spawnManager, type Spawned } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "kattila-command-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const run = (flags: string[], environment: Record<string, string> = {}) => runManager(flags, directory, environment);

test.each([
  [["-version"], `${VERSION}\n`],
  [["--version"], `${VERSION}\n`],
  [["-help"], MANAGER_HELP],
  [["--help"], MANAGER_HELP],
  [["-h"], MANAGER_HELP],
])("%p prints and exits 0, also where the settings are wrong", async (flags, stdout) => {
  expect(await run(flags, { MANAGER_PORT: "wrong" })).toEqual({ exitCode: 0, stdout, stderr: "" });
});

test.each([
  [["-nope"], 'unknown flag "-nope"; see -help'],
  [["serve"], 'unexpected "serve"; see -help'],
  [["-version", "x"], "-version takes no argument; see -help"],
  [["-verify-log", "x"], "-verify-log takes no argument; see -help"],
  [["-backup"], "-backup takes one FILE; see -help"],
  [["-backup", ""], "-backup takes one FILE; see -help"],
  [["-backup", "a", "b"], "-backup takes one FILE; see -help"],
])("%p is wrong usage: one line, exit 2", async (flags, line) => {
  expect(await run(flags)).toEqual({ exitCode: 2, stdout: "", stderr: `manager: ${line}\n` });
});

test("without a database, -verify-log and -backup say so and make none", async () => {
  for (const flags of [["-verify-log"], ["-backup", "copy.db"]]) {
    const { exitCode, stdout, stderr } = await run(flags, { DB_PATH: "nowhere.db" });
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toContain(`there is no database ${join(directory, "nowhere.db")}: set DB_PATH`);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  }
});

describe("on a database", () => {
  let manager: Spawned;
  beforeAll(async () => {
    manager = await spawnManager(directory);
    const agent = await registered(manager);
    for (let i = 0; i < 5; i++) expect((await agent.send()).status).toBe(200);
  });
  afterAll(() => manager.kill("SIGKILL"));

  test("-backup beside the running manager: a private copy that is whole; never over another file", async () => {
    expect(await run(["-backup", "copy.db"])).toEqual({
      exitCode: 0,
      stdout: `${join(directory, "kattila_manager.db")} is copied to ${join(directory, "copy.db")}\n`,
      stderr: "",
    });
    expect(statSync(join(directory, "copy.db")).mode & 0o777).toBe(0o600);
    using copy = new Database(join(directory, "copy.db"), { readonly: true });
    expect(copy.query("PRAGMA integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
    expect(copy.query("SELECT count(*) AS n FROM reports").get()).toEqual({ n: 5 });
    writeFileSync(join(directory, "mine"), "mine");
    const { exitCode, stdout, stderr } = await run(["-backup", "mine"]);
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toContain("it exists already: name a new file");
    expect(readFileSync(join(directory, "mine"), "utf8")).toBe("mine");
  });

  test("-verify-log: exit 0 when all of it holds, beside the manager; 1 when a byte was altered, by name", async () => {
    const all = "5 reports: 5 verified, 0 could not be verified, 0 altered, 0 missing\n";
    expect(await run(["-verify-log"])).toEqual({ exitCode: 0, stdout: all, stderr: "" });
    // On a copy, so that the manager's own stays what it is. The copy is what a backup is for: it verifies alike.
    expect((await run(["-backup", "altered.db"])).exitCode).toBe(0);
    expect((await run(["-verify-log"], { DB_PATH: "altered.db" })).stdout).toBe(all);
    {
      using altered = new Database(join(directory, "altered.db"));
      altered.run("UPDATE reports_hot SET data = replace(data, 'hel-1', 'hel-2') WHERE tick = 3");
      altered.run("DELETE FROM reports_hot WHERE tick = 4");
    }
    const { exitCode, stdout, stderr } = await run(["-verify-log"], { DB_PATH: "altered.db" });
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/^altered: report [0-9]+ of agent [0-9a-f-]{36}, tick 3, received /m);
    expect(stdout).toEndWith("\n4 reports: 3 verified, 0 could not be verified, 1 altered, 1 missing\n");
    expect(stderr).toBe("manager: the audit log does not hold what was accepted\n");
  });
});

describe("-check-notify", () => {
  const received: { path: string; body: string }[] = [];
  let status = 200;
  let server: { port?: number; stop(force: boolean): void };
  beforeAll(() => {
    server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: async (request) => {
        received.push({ path: new URL(request.url).pathname, body: await request.text() });
        return new Response("", { status });
      },
    });
  });
  afterAll(() => server.stop(true));

  test("without a receiver: exit 2", async () => {
    expect(await run(["-check-notify"])).toEqual({
      exitCode: 2,
      stdout: "",
      stderr: "manager: NOTIFY_URL: is not set: there is nobody to notify\n",
    });
  });

  test("each receiver's answer; exit 0 when all took it, else 1; never the URL's secret", async () => {
    const NOTIFY_URL = `http://127.0.0.1:${server.port}/hook-Canary,ntfy+http://:token-Canary@127.0.0.1:${server.port}/topic`;
    const good = await run(["-check-notify"], { NOTIFY_URL });
    expect([good.exitCode, good.stderr]).toEqual([0, ""]);
    expect(good.stdout.trimEnd().split("\n")).toHaveLength(2);
    expect(good.stdout).toMatch(/^ok +webhook 127\.0\.0\.1:[0-9]+: /m);
    expect(good.stdout).toMatch(/^ok +ntfy 127\.0\.0\.1:[0-9]+: /m);
    expect(received.map(({ path }) => path).sort()).toEqual(["/", "/hook-Canary"]);
    status = 403;
    const bad = await run(["-check-notify"], { NOTIFY_URL });
    expect(bad.exitCode).toBe(1);
    expect(bad.stdout).toMatch(/^FAILED +webhook 127\.0\.0\.1:[0-9]+: .*403/m);
    expect(good.stdout + bad.stdout + bad.stderr).not.toContain("Canary");
  });
});
