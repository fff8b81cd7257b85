// Silence when healthy: meshes with and without keepalive, busy and idle, agents that restart, one that stays away for less
// than it takes, and the manager's own restart: no alarm may open.
import { expect, setDefaultTimeout, test } from "bun:test";
import { describeWith, LAB_NEEDS } from "../support/needs.ts";
import { INTERVAL_S } from "./faults.ts";
import { Ground } from "./ground.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

/** How long it is watched: CI's share. Longer: DIAGNOSIS_HEALTHY_S. */
const WATCH_S = Number(process.env["DIAGNOSIS_HEALTHY_S"] ?? 150);

describeWith(LAB_NEEDS, "silence when healthy", () => {
  test(
    "no alarm at all",
    async () => {
      await using ground = await Ground.create("healthy");
      const names = ["a", "b", "c", "d"];
      await ground.addHosts("m", ...names);
      ground.planMesh(names);
      ground.planMesh(names, { name: "wg1", port: 51821, prefix: "10.10.0", keepalive: 0 });
      await ground.makeWireguard();
      await ground.startManager("m");
      await ground.startAgents(names);
      await ground.keepPinging([
        ["a", "10.9.0.2"],
        ["c", "10.10.0.4"],
      ]);
      await ground.heard(...names);
      const end = performance.now() + WATCH_S * 1000;
      // Once through the idle mesh: tunnels that worked and sleep, beside those that were never used.
      await ground.host("a").ping("10.10.0.2");
      for (let round = 0; performance.now() < end; round++) {
        await ground.restartAgent(names[round % names.length]!);
        await Bun.sleep(5 * INTERVAL_S * 1000);
        if (round % 4 === 1) {
          // A burst, and rest.
          await ground.host("b").traffic("10.9.0.3", 2_000_000);
        }
        if (round % 4 === 2) {
          await ground.manager.stop();
          await ground.startManager("m");
        }
        const alarms = await ground.alarms("all");
        expect(alarms.map((alarm) => `${alarm.code} ${alarm.message}`)).toEqual([]);
      }
    },
    (WATCH_S + 120) * 1000,
  );
});
