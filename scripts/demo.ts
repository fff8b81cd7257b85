// `bun run demo`: a manager and a simulated fleet (50 agents, two meshes, faults that come and go) that pushes real signed
// reports over HTTP. The manager's clock begins half an hour ago and runs fast until it has caught up, so that the first
// look finds a network with a past.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startManager } from "../manager/server.ts";
import { managerSettings } from "../manager/settings.ts";
import { SettingError, settings } from "../shared/config.ts";
import { readPrivate } from "../shared/files.ts";
import { createLog, reason } from "../shared/log.ts";
import { demoNetwork } from "../test/fleet/demo_network.ts";
import { createDriver } from "../test/fleet/drive.ts";

const PAST_MS = 30 * 60_000;
const PAST_STEP_MS = 10_000;
const PAST_INTERVAL_S = 30;

const directory = mkdtempSync(join(tmpdir(), "kattila-demo-"));
const removeDirectory = () => rmSync(directory, { recursive: true, force: true });

let virtual: number | null = Date.now() - PAST_MS;
const now = () => virtual ?? Date.now();

async function begin() {
  const seed = settings(process.env).wholeNumber("DEMO_SEED", 7, 0, 2 ** 32 - 1, "a whole number");
  const own = managerSettings(
    {
      MANAGER_LISTEN: process.env.MANAGER_LISTEN ?? "127.0.0.1",
      MANAGER_PORT: process.env.MANAGER_PORT,
      DB_PATH: join(directory, "demo.db"),
      STATE_DIR: directory,
    },
    directory,
  );
  process.stdout.write("demo: a fleet of 50 agents reports the last half hour …\n");
  const manager = await startManager(own, createLog("error"), { now });
  return { manager, demo: demoNetwork(seed, now()) };
}

const { manager, demo } = await begin().catch((error: unknown) => {
  removeDirectory();
  process.stderr.write(`demo: ${reason(error)}\n`);
  process.exit(error instanceof SettingError ? 2 : 1);
});
const url = manager.url.replace(/\/$/, "");
const psk = readPrivate(join(directory, "kattila.psk"))!.trim();
const driver = await createDriver(demo.network, url, psk, now(), PAST_INTERVAL_S);

let stopping = false;
const stop = async () => {
  if (stopping) return;
  stopping = true;
  await manager.stop();
  removeDirectory();
  process.exit(0);
};
process.on("SIGINT", () => void stop());
process.on("SIGTERM", () => void stop());

/** At the end the manager's sockets go under what is on its way: that is no failure. */
const step = async (at: number) => {
  try {
    return await driver.step(at);
  } catch (error) {
    if (!stopping) throw error;
    return new Promise<never>(() => {}); // `stop` ends the process
  }
};

let accepted = 0;
for (; virtual + PAST_STEP_MS < Date.now(); virtual += PAST_STEP_MS) {
  demo.faults(virtual);
  accepted += (await step(virtual)).accepted;
  await manager.advance();
}
virtual = null;
process.stdout.write(`demo: ${accepted} reports in; it goes on live. Open ${url}/ — end it with Ctrl-C\n`);
while (!stopping) {
  demo.faults(now());
  const { refused } = await step(now());
  if (refused > 0) process.stderr.write(`demo: ${refused} reports were refused\n`);
  await Bun.sleep(1000);
}
