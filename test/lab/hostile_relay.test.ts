// A relay that lies: it has the fleet key, as every node has, and answers in the manager's place. The agent that has no
// other way believes none of it, keeps its reports and its identity, and delivers them when a true way opens. Besides it:
// peers that send endless bodies, bombs, redirects and slow drips, each in bounded time.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AgentsResponse } from "../../shared/api.ts";
import { compiled } from "../support/binary.ts";
import { describeWith, LAB_NEEDS } from "../support/needs.ts";
import type { Host } from "./host.ts";
import { createLab, type Lab } from "./lab.ts";
import { AGENT_PORT, eventually, MANAGER_PORT, RunningAgent, RunningManager } from "./programs.ts";
import { stopwatch } from "../support/stopwatch.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const INTERVAL_S = 1;
const PSK = "hostile-relay-test-fleet-key-0123456789abcdef";

/** What the hostile host answers, by the mode in a file. It counts what it was asked. */
const HOSTILE = `
  import { gzipSync } from "node:zlib";
  import { appendFileSync, readFileSync } from "node:fs";
  import { seal, signingKey } from "${join(import.meta.dir, "../../shared/envelope.ts")}";
  const [mode, log] = process.argv.slice(-2);
  const key = await signingKey();
  const peer = { agent_id: crypto.randomUUID(), hostname: "x", version: "0.1.0", interfaces: [], routes: [], peers: [],
    manager: { reachable: true, hops: 0 } };
  const endless = () => new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(65536).fill(32)) });
  const drip = () => new ReadableStream({ async pull(controller) { await Bun.sleep(500); controller.enqueue(new Uint8Array([32])); } });
  Bun.serve({
    port: ${AGENT_PORT},
    development: false,
    idleTimeout: 60,
    async fetch(request) {
      const path = new URL(request.url).pathname;
      const now = readFileSync(mode, "utf8");
      appendFileSync(log, now + " " + path + "\\n");
      switch (now) {
        case "endless": return new Response(endless());
        case "bomb": return new Response(gzipSync(new Uint8Array(64 << 20)), { headers: { "Content-Encoding": "gzip" } });
        case "redirect": return new Response(null, { status: 307, headers: { Location: "http://169.254.169.254/status/peer" } });
        case "drip": return new Response(drip());
        case "html": return new Response("<html>Welcome to our network</html>", { headers: { "Content-Type": "text/html" } });
      }
      if (path === "/status/peer") return Response.json(peer);
      const outer = JSON.parse((await request.json()).data);
      const inner = JSON.parse(outer.envelope.data);
      const ack = { v: 1, type: "ack", code: "accepted", message: "", nonce: inner.nonce, agent_id: inner.agent_id,
        tick: inner.tick ?? null, server_time_at: Date.now() };
      let status = 200;
      if (now === "forged-reset") { status = 410; ack.code = "reset"; }
      if (now === "forged-clock") { status = 401; ack.code = "clock_skew"; ack.server_time_at = Date.now() + 3600000; }
      if (now === "forged-conflict") { status = 409; ack.code = "id_conflict"; ack.agent_id = crypto.randomUUID(); }
      return Response.json(await seal(JSON.stringify(ack), ${JSON.stringify(PSK)}, key), { status });
    },
  });
  console.log("hostile");`;

describeWith(LAB_NEEDS, "a hostile relay", () => {
  let lab: Lab;
  let manager: RunningManager;
  let agent: RunningAgent;
  let a: Host;
  let mode: string;
  let asked: string;
  let way: { lift(): Promise<void> } | null = null;

  const health = async () => {
    const { stdout } = await a.run(["curl", "-s", "-m", "5", `http://127.0.0.1:${AGENT_PORT}/status/healthcheck`]);
    return JSON.parse(stdout) as {
      agent_id: string;
      manager: { reachable: boolean; via: string | null };
      outbox: { reports: number; dropped: number };
    };
  };
  const summary = async () =>
    (await manager.get<AgentsResponse>("/status/agents")).agents.find((one) => one.hostname === "a")!;
  const requests = async (kind: string) => {
    const text = await Bun.file(asked).text();
    return text.split("\n").filter((line) => line.startsWith(`${kind} `)).length;
  };

  beforeAll(async () => {
    compiled("agent");
    lab = await createLab("hostile-relay");
    const [m, one, x] = (await Promise.all(["m", "a", "x"].map((name) => lab.host(name)))) as [Host, Host, Host];
    a = one;
    const mesh = await lab.mesh([a, x], { keepalive: 25 });
    mode = join(x.dir, "mode");
    asked = join(x.dir, "asked");
    writeFileSync(mode, "forged-ack");
    writeFileSync(asked, "");
    const script = join(x.dir, "hostile.ts");
    writeFileSync(script, HOSTILE);
    const hostile = await x.spawn([process.execPath, script, mode, asked], { name: "hostile" });
    await hostile.waitFor("hostile");
    manager = await RunningManager.start(m, { settings: { PSK } });
    agent = await RunningAgent.start(a, {
      managerUrl: `http://${m.address}:${MANAGER_PORT}`,
      settings: { PSK },
      intervalSeconds: INTERVAL_S,
    });
    await eventually("it reports", async () => ((await summary())?.tick ?? 0) > 0);
    expect(await a.pingUntil(mesh[1]!.address)).toBe(true);
    way = await lab.filter(`ip saddr ${a.address} ip daddr ${m.address} tcp dport ${MANAGER_PORT} drop`);
  }, 60_000);
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
  });

  for (const kind of ["forged-ack", "forged-reset", "forged-clock", "forged-conflict"]) {
    test(`${kind}: believed in nothing`, async () => {
      const before = await summary();
      writeFileSync(mode, kind);
      await eventually("the relay was used", async () => (await requests(kind)) >= 2, 45_000);
      const waiting = (await health()).outbox.reports;
      await eventually("more waits", async () => (await health()).outbox.reports > waiting, 20_000);
      const now = await health();
      expect(now.agent_id).toBe(before.agent_id);
      expect(now.outbox.dropped).toBe(0);
      expect(now.manager.via === "relay").toBe(false);
    }, 90_000);
  }

  for (const kind of ["endless", "bomb", "redirect", "drip", "html"]) {
    test(`a peer that answers with: ${kind}`, async () => {
      writeFileSync(mode, kind);
      const watch = stopwatch();
      const { stdout, exitCode } = await agent.cli("-discover", "-json");
      expect(exitCode).toBe(0);
      expect(JSON.parse(stdout)).toEqual([]);
      // One probe's 2 s, and the start of the program.
      expect(watch.ms()).toBeLessThan(4_000);
      expect(await requests(kind)).toBeGreaterThan(0);
      expect((await health()).outbox.dropped).toBe(0);
    });
  }

  test("the true way opens: all that was kept arrives, under the same identity", async () => {
    const before = await summary();
    const { outbox } = await health();
    expect(outbox.reports).toBeGreaterThan(5);
    await way!.lift();
    const now = await eventually(
      "nothing waits",
      async () => {
        if ((await health()).outbox.reports > 1) return null;
        const after = await summary();
        return after.tick! >= before.tick! + outbox.reports ? after : null;
      },
      60_000,
    );
    expect(now).toMatchObject({ agent_id: before.agent_id, via: "direct", dropped: 0 });
    expect(Math.abs(now.skew_ms!)).toBeLessThan(5_000);
    const log = agent.process.output();
    expect(log).not.toContain("169.254.169.254");
  }, 90_000);
});
