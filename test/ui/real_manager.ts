// Owns a real manager on loopback for the dashboard's tests: fed over HTTP by the simulated fleet, with half an hour of past,
// one hostile host, and able to be stopped and started again on the same port and database.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startManager } from "../../manager/server.ts";
import { managerSettings } from "../../manager/settings.ts";
import { readPrivate } from "../../shared/files.ts";
import { createLog } from "../../shared/log.ts";
import { demoNetwork } from "../fleet/demo_network.ts";
import { createDriver } from "../fleet/drive.ts";

/** What a hostile host calls itself, and its interface: the kernel takes such names. */
export const HOSTILE_HOST = `<img src=x onerror="window.pwned=1">`;
export const HOSTILE_INTERFACE = `<b>&"x`;

const STEP_MS = 10_000;
const INTERVAL_S = 30;

export type RealManager = {
  url: string;
  adminToken: string;
  /** Sends what is due now. */
  report(): Promise<void>;
  stop(): Promise<void>;
  /** Starts it again where it was. */
  start(): Promise<void>;
  remove(): Promise<void>;
};

/** Starts it and lets `minutes` pass. `environment`: more settings (LOCAL_READ, …). Without the hostile host it is the demo's. */
export async function startRealManager(
  minutes: number,
  environment: Record<string, string> = {},
  withHostile = true,
): Promise<RealManager> {
  const directory = mkdtempSync(join(tmpdir(), "kattila-ui-"));
  let virtual: number | null = Date.now() - minutes * 60_000;
  const now = () => virtual ?? Date.now();
  let port = 0;
  const settingsFor = () =>
    managerSettings(
      {
        MANAGER_LISTEN: "127.0.0.1",
        MANAGER_PORT: String(port),
        DB_PATH: join(directory, "ui.db"),
        STATE_DIR: directory,
        ...environment,
      },
      directory,
    );
  // Port 0 is no setting of the manager's: a free one is looked for here.
  const probe = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });
  port = probe.port!;
  await probe.stop(true);
  let manager = await startManager(settingsFor(), createLog("error"), { now });
  const url = `http://127.0.0.1:${port}`;
  const psk = readPrivate(join(directory, "kattila.psk"))!.trim();
  const demo = demoNetwork(7, now());
  if (withHostile) {
    const hostile = demo.network.hosts.find(({ hostname }) => hostname === "app-mad-1")!;
    hostile.hostname = HOSTILE_HOST;
    for (const end of hostile.ends) end.interface.name = HOSTILE_INTERFACE;
  }
  const driver = await createDriver(demo.network, url, psk, now(), INTERVAL_S);
  for (; virtual + STEP_MS < Date.now(); virtual += STEP_MS) {
    demo.faults(virtual);
    await driver.step(virtual);
    await manager.advance();
  }
  virtual = null;
  return {
    url,
    adminToken: readPrivate(join(directory, "admin_token"))!.trim(),
    async report() {
      demo.faults(now());
      await driver.step(now());
      await manager.advance();
    },
    stop: () => manager.stop(),
    async start() {
      manager = await startManager(settingsFor(), createLog("error"), { now });
    },
    async remove() {
      await manager.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
