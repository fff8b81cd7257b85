// The manager's own secrets on disk: private, made once, and refused or mended where they are not as they should be.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { loadAdminToken, loadManagerKey } from "../../manager/secrets.ts";
import type { Log } from "../../shared/log.ts";
import { keptLog, ownDirectory } from "../agent/support.ts";

let own: ReturnType<typeof ownDirectory>;
let directory: string;
let lines: string[];
let log: Log;
beforeEach(() => {
  own = ownDirectory();
  directory = own.path;
  ({ log, lines } = keptLog());
});
afterEach(() => own[Symbol.dispose]());

const NOW = 1_795_442_044_000;
const LOAD: Record<string, () => Promise<string>> = {
  manager_key: async () => (await loadManagerKey(directory, log, NOW)).publicKey,
  admin_token: async () => loadAdminToken(directory, log).token,
};

test.each(Object.keys(LOAD))("%s is made 0600 where there is none, and found by the next start", async (name) => {
  const first = await LOAD[name]!();
  expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
  expect(await LOAD[name]!()).toBe(first);
  expect(readdirSync(directory)).toEqual([name]);
});

test.each(Object.keys(LOAD))("%s that others can read is mended, said, and is the same", async (name) => {
  const first = await LOAD[name]!();
  chmodSync(join(directory, name), 0o644);
  expect(await LOAD[name]!()).toBe(first);
  expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { level: "warning", event: "state_file_mended", path: join(directory, name) },
  ]);
});

test.each(Object.keys(LOAD))("%s as a symbolic link: refused, and what it leads to is left alone", async (name) => {
  const elsewhere = join(directory, "elsewhere");
  writeFileSync(elsewhere, "x".repeat(44), { mode: 0o644 });
  symlinkSync(elsewhere, join(directory, name));
  await expect(LOAD[name]!()).rejects.toThrow("is a symbolic link");
  expect([readFileSync(elsewhere, "utf8"), statSync(elsewhere).mode & 0o777]).toEqual(["x".repeat(44), 0o644]);
});

test.each([
  ["cut off", (seed: string) => seed.slice(0, 20)],
  ["empty", () => ""],
  ["not base64", () => "?".repeat(44)],
])("manager_key that is %s: set aside, a new one, said loudly", async (_name, harm) => {
  const first = await LOAD["manager_key"]!();
  const path = join(directory, "manager_key");
  const harmed = harm(readFileSync(path, "utf8"));
  writeFileSync(path, harmed);
  const second = await LOAD["manager_key"]!();
  expect(second).not.toBe(first);
  expect(await LOAD["manager_key"]!()).toBe(second);
  const aside = readdirSync(directory).filter((name) => name !== "manager_key");
  expect(aside.map((name) => readFileSync(join(directory, name), "utf8"))).toEqual([harmed]);
  expect(lines.filter((line) => line.includes('"level":"error"') && line.includes("manager_key_broken"))).toHaveLength(
    1,
  );
});

test("admin_token that is too short: refused, with the remedy", async () => {
  writeFileSync(join(directory, "admin_token"), "short", { mode: 0o600 });
  await expect(LOAD["admin_token"]!()).rejects.toThrow("remove it, and a new one is made");
});
