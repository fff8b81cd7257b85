// The dashboard on the real lab: three hosts with WireGuard and the compiled agent. A link goes down, and the first screen
// says which, why, and what it took down, without a reload; it comes back, and the screen says that too.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { AgentsResponse } from "../../shared/api.ts";
import { createLab, type Lab } from "../lab/lab.ts";
import type { Host } from "../lab/host.ts";
import { eventually, MANAGER_PORT, RunningAgent, RunningManager } from "../lab/programs.ts";
import { compiled } from "../support/binary.ts";
import { describeWith, LAB_NEEDS } from "../support/needs.ts";
import { type Browser, openBrowser } from "./browser.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const PSK = "dashboard-lab-fleet-key-0123456789abcdef0123";
const INTERVAL_S = 1;
const NAMES = ["alder", "birch", "cedar"];

describeWith([...LAB_NEEDS, "chromium"], "dashboard on the lab", () => {
  let lab: Lab;
  let hosts: Host[];
  let manager: RunningManager;
  let browser: Browser;

  beforeAll(async () => {
    compiled("agent");
    lab = await createLab("dashboard");
    const [m, ...rest] = (await Promise.all(["m", ...NAMES].map((name) => lab.host(name)))) as [Host, ...Host[]];
    hosts = rest;
    await lab.mesh(hosts, { keepalive: 25 });
    manager = await RunningManager.start(m, { settings: { PSK } });
    for (const host of hosts) {
      await RunningAgent.start(host, {
        managerUrl: `http://${m.address}:${MANAGER_PORT}`,
        settings: { PSK },
        intervalSeconds: INTERVAL_S,
      });
    }
    await eventually("all report", async () => {
      const { agents } = await manager.get<AgentsResponse>("/status/agents");
      return agents.length === NAMES.length && agents.every((agent) => agent.tick !== null);
    });
    browser = await openBrowser(await manager.door.listen());
  }, 60_000);
  afterAll(async () => {
    browser?.close();
    await lab?.[Symbol.asyncDispose]();
  });

  test("all is well, then a link is down, then well again: live", async () => {
    await browser.open("#/now");
    await browser.until(`/3 of 3 up/.test(document.body.innerText)`, "all three are up", 20_000);
    await hosts[1]!.link("wg0", "down");
    await browser.until(
      `/birch[^\\n]* wg0[^\\n]*down/i.test(document.body.innerText)`,
      "the interface that is down",
      20_000,
    );
    await browser.screenshot("lab-down");
    await browser.open("#/map");
    await browser.until(`document.querySelector(".stage canvas")`, "the map");
    await browser.screenshot("lab-map");
    await browser.open("#/now");
    await hosts[1]!.link("wg0", "up");
    await browser.until(
      `!/birch[^\\n]* wg0[^\\n]* is down/i.test(document.querySelector("main").innerText.split(/changed/i)[0])`,
      "well again",
      30_000,
    );
    expect(browser.complaints).toEqual([]);
  }, 120_000);
});
