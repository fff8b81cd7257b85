// The main job on a real mesh: five hosts with WireGuard, the compiled agent on four of them (no Bun, no Node there), the
// manager on one, reached over the mesh; the fleet key from a TXT record of a real DNS server.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, realpathSync } from "node:fs";
import { join } from "node:path";
import type { AgentResponse, AgentsResponse, TopologyEdge, TopologyResponse } from "../../shared/api.ts";
import { computeMac } from "../../shared/envelope.ts";
import { compiled } from "../support/binary.ts";
import { describeWith, LAB_NEEDS } from "../support/needs.ts";
import type { DnsServer, Host, WireguardInterface } from "./host.ts";
import { createLab, type Lab } from "./lab.ts";
import { AGENT_PORT, Door, eventually, MANAGER_PORT, request, RunningAgent, RunningManager } from "./programs.ts";
import { generateKeyPair, generatePresharedKey } from "./wireguard.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

/** The shortest there is. */
const INTERVAL_S = 1;
const DNS_NAME = "kattila.example";
const KEYS = [1, 2, 3, 4].map((number) => `mesh-test-fleet-key-${number}-0123456789abcdef0123456789`);
const MANAGER_URL = `http://10.9.0.1:${MANAGER_PORT}`;
const AGENTS = ["m", "a", "b", "c"];

describeWith([...LAB_NEEDS, "dnsmasq"], "a real mesh", () => {
  let lab: Lab;
  let dns: DnsServer;
  let manager: RunningManager;
  const hosts = new Map<string, Host>();
  const agents = new Map<string, RunningAgent>();
  const mesh = new Map<string, WireguardInterface>();
  /** Private and preshared keys of the mesh: nobody may ever see one. */
  const secrets: string[] = [];
  /** What programs of the lab said, for the search for secrets. */
  const answers: string[] = [];

  const host = (name: string) => hosts.get(name)!;
  const wg = (name: string) => mesh.get(name)!;
  const serve = (psk: string) => dns.serve({ [DNS_NAME]: [`kattila-psk=${psk}`] });
  const settings = () => ({ DNS: DNS_NAME });
  const topology = () => manager.get<TopologyResponse>("/status/topology");
  const ids = async () => {
    const { agents: list } = await manager.get<AgentsResponse>("/status/agents");
    return new Map(list.map((agent) => [agent.hostname, agent.agent_id]));
  };
  const startAgent = async (name: string) => {
    agents.set(
      name,
      await RunningAgent.start(host(name), {
        managerUrl: MANAGER_URL,
        settings: settings(),
        intervalSeconds: INTERVAL_S,
      }),
    );
  };
  /** The WireGuard edge of two hosts' interfaces. */
  const edgeOf = async (one: string, other: string, interfaceName = "wg0"): Promise<TopologyEdge | undefined> => {
    const names = await ids();
    names.set("f", `wg:${wg("f").publicKey}`);
    const wanted = [names.get(one), names.get(other)].sort().join();
    return (await topology()).edges.find(
      (edge) =>
        edge.layer === "wireguard" &&
        [edge.a.node, edge.b.node].sort().join() === wanted &&
        [edge.a.interface, edge.b.interface].includes(interfaceName),
    );
  };

  beforeAll(async () => {
    compiled("agent");
    lab = await createLab("mesh");
    // The first host is the resolver of all.
    const resolvConf = "nameserver 192.168.50.1\n";
    const names = [...AGENTS, "f"];
    const made = await Promise.all(names.map((name) => lab.host(name, { resolvConf })));
    for (const made_ of made) hosts.set(made_.name, made_);
    const presharedKey = generatePresharedKey();
    const interfaces = await lab.mesh(made, { keepalive: 25, prefix6: "fd09::", presharedKey });
    for (const [place, name] of names.entries()) mesh.set(name, interfaces[place]!);
    secrets.push(presharedKey, ...interfaces.map((item) => item.privateKey));
    // Neither Bun nor Node on the hosts that only have an agent.
    for (const name of ["a", "b", "c"]) {
      for (const program of ["bun", "node"]) {
        const path = Bun.which(program);
        if (path !== null) await host(name).run(["mount", "--bind", "/dev/null", realpathSync(path)]);
      }
    }
    dns = await host("m").dns();
    await serve(KEYS[0]!);
    manager = await RunningManager.start(host("m"), { settings: settings() });
    for (const name of AGENTS) await startAgent(name);
  }, 60_000);
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
  });

  test("every agent is seen, over the mesh, with its facts", async () => {
    const list = await eventually("all agents report directly", async () => {
      const { agents: seen } = await manager.get<AgentsResponse>("/status/agents");
      // On a busy machine a first report may find the way over a neighbour before the tunnel's handshake is done.
      const all = seen.length === AGENTS.length && seen.every(({ tick, via }) => tick !== null && via === "direct");
      return all ? seen : null;
    });
    expect(list.map((agent) => agent.hostname).sort()).toEqual([...AGENTS].sort());
    for (const agent of list) {
      expect(agent).toMatchObject({ status: "online", via: "direct", relay_path: [], interval_s: INTERVAL_S });
      expect(agent.wireguard).toEqual([
        { interface: "wg0", public_key: wg(agent.hostname).publicKey, listen_port: 51820, peers: 4 },
      ]);
      expect(agent.addresses).toContain(wg(agent.hostname).address);
      const full = await manager.get<AgentResponse>(`/status/agents/${agent.agent_id}`);
      expect(full.report!.collectors).toMatchObject({
        wireguard: "ok",
        interfaces: "ok",
        routes: "ok",
        neighbors: "ok",
      });
      expect(full.report!.interfaces!.find((item) => item.name === "wg0")).toMatchObject({
        kind: "wireguard",
        up: true,
      });
    }
  });

  test("every WireGuard edge is there once, with both ends' words; who has no agent is a foreign peer", async () => {
    const names = [...AGENTS, "f"];
    const pairs = names.flatMap((one, i) => names.slice(i + 1).map((other) => [one, other] as const));
    await eventually(
      "all edges are up, by every end's own word",
      async () => {
        const { edges } = await topology();
        const links = edges.filter((edge) => edge.layer === "wireguard");
        // Who answered a handshake counts it with the first packet after it: a report later than who began it.
        const shaken = links
          .flatMap(({ a, b }) => [a, b])
          .every((end) => end.node.startsWith("wg:") || end.handshake_age_s !== null);
        return links.length === pairs.length && links.every((edge) => edge.state === "up") && shaken;
      },
      30_000,
    );
    const seen = new Set<string>();
    for (const [one, other] of pairs) {
      const edge = (await edgeOf(one, other))!;
      expect(seen).not.toContain(edge.id);
      seen.add(edge.id);
      for (const end of [edge.a, edge.b]) {
        if (end.node.startsWith("wg:")) {
          expect(end.reported_at).toBeNull();
          continue;
        }
        expect(end).toMatchObject({ interface: "wg0", nat: false, persistent_keepalive_s: 25, listen_port: 51820 });
        expect(end.rx_bytes).toBeGreaterThan(0);
        expect(end.tx_bytes).toBeGreaterThan(0);
        expect(end.handshake_age_s).toBeLessThan(180);
      }
    }
    const { nodes, networks } = await topology();
    expect(nodes.filter((node) => node.kind === "foreign").map((node) => node.id)).toEqual([`wg:${wg("f").publicKey}`]);
    expect(networks).toHaveLength(1);
    expect(networks[0]).toMatchObject({ nodes: 5, parts: 1 });
    expect(networks[0]!.prefixes).toContain("10.9.0.0/24");
  });

  test("byte counts move with real traffic, on that edge alone", async () => {
    const counter = (edge: TopologyEdge) => edge.a.tx_bytes! + edge.b.tx_bytes!;
    const busyBefore = counter((await edgeOf("a", "b"))!);
    const quietBefore = counter((await edgeOf("b", "c"))!);
    await host("a").traffic(wg("b").address, 300_000);
    const edge = await eventually("the counters show it", async () => {
      const now = (await edgeOf("a", "b"))!;
      return counter(now) - busyBefore > 600_000 ? now : null;
    });
    expect(edge.a_to_b_bps).toBeGreaterThan(0);
    expect(edge.b_to_a_bps).toBeGreaterThan(0);
    expect(counter((await edgeOf("b", "c"))!) - quietBefore).toBeLessThan(50_000);
  });

  test("a link is taken down and comes back: the same edge, with its history", async () => {
    const [one, other] = [generateKeyPair(), generateKeyPair()];
    secrets.push(one.privateKey, other.privateKey);
    const plan = { port: 51821, routes: true };
    const make = (name: string, own: typeof one, peer: typeof one, address: string, peerAddress: string, to: string) =>
      host(name).wireguard("wg1", {
        ...plan,
        ...own,
        addresses: [`${address}/24`],
        peers: [
          {
            publicKey: peer.publicKey,
            endpoint: `${host(to).address}:51821`,
            allowedIps: [`${peerAddress}/32`],
            keepalive: 25,
          },
        ],
      });
    await make("a", one, other, "10.10.0.1", "10.10.0.2", "b");
    await make("b", other, one, "10.10.0.2", "10.10.0.1", "a");
    const first = await eventually("the second tunnel is up", async () => {
      const edge = await edgeOf("a", "b", "wg1");
      return edge?.state === "up" ? edge : null;
    });
    expect(first.id).not.toBe((await edgeOf("a", "b"))!.id);
    await host("b").link("wg1", "down");
    const down = await eventually("it is down", async () => {
      const edge = await edgeOf("a", "b", "wg1");
      return edge?.state === "down" ? edge : null;
    });
    expect(down.id).toBe(first.id);
    expect(down.reason).toContain("wg1");
    expect((await edgeOf("a", "b"))!.state).toBe("up");
    await host("b").link("wg1", "up");
    await eventually("it is up again", async () => (await edgeOf("a", "b", "wg1"))?.state === "up");
    const history = await manager.get<{ states: { state: string }[] }>(`/status/edges/${first.id}/history`);
    expect(history.states.map((span) => span.state).slice(-3)).toEqual(["up", "down", "up"]);
  });

  test("the agent's own word: healthcheck, peer, -sysinfo, -dump, -discover, and -once beside a daemon", async () => {
    const door = await Door.open(host("m"), AGENT_PORT);
    const health = await door.json<Record<string, any>>("/status/healthcheck");
    expect(health).toMatchObject({
      status: "ok",
      agent_id: (await ids()).get("m"),
      manager: { reachable: true, via: "direct" },
    });
    const peer = await door.json<Record<string, any>>("/status/peer");
    expect(peer).toMatchObject({ hostname: "m", manager: { reachable: true, hops: 0 } });
    await door.close();
    const agent = agents.get("a")!;
    const sysinfo = JSON.parse((await agent.cli("-sysinfo")).stdout);
    expect(sysinfo.wireguard.find((item: any) => item.interface === "wg0").peers).toHaveLength(4);
    expect(sysinfo.routes.some((route: any) => route.destination === "10.9.0.0/24")).toBe(true);
    expect(sysinfo.routes.some((route: any) => route.destination === "fd09::/64")).toBe(true);
    const discovered = JSON.parse((await agent.cli("-discover", "-json")).stdout);
    const names = JSON.stringify(discovered);
    for (const other of ["m", "b", "c"]) expect(names).toContain(`"hostname":"${other}"`);
    const dumped = join(agent.stateDir, "dump.json");
    expect((await agent.cli("-dump", dumped)).exitCode).toBe(0);
    // Exactly what would be sent: the manager takes it.
    const answer = await request(host("m"), `${MANAGER_URL}/status/updates`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: readFileSync(dumped, "utf8"),
    });
    expect(answer.status).toBe(200);
    const once = await agent.cli("-once");
    expect(once.exitCode).toBe(1);
    expect(once.stderr).toContain("runs");
  });

  test("without root, -sysinfo says what it could not read, and prints the rest", async () => {
    const agent = agents.get("a")!;
    const { stdout, exitCode } = await host("a").run(
      ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", ...agent.command, "-sysinfo"],
      { check: false },
    );
    expect(exitCode).toBe(0);
    const sysinfo = JSON.parse(stdout);
    expect(sysinfo.collectors.wireguard).toMatch(/^error: /);
    expect(sysinfo.wireguard).toBeNull();
    expect(sysinfo.interfaces.some((item: any) => item.name === "wg0")).toBe(true);
  });

  test("the fleet key rotates thrice, with a killed manager each time: no report is lost, the fourth key is refused", async () => {
    for (const key of KEYS.slice(1)) {
      await serve(key);
      await manager.kill();
      manager = await RunningManager.start(host("m"), { settings: settings() });
      // The manager has the new key, agents the one before until they ask: both are taken.
      const before = (await manager.get<AgentsResponse>("/status/agents")).agents;
      await eventually(
        "all deliver on",
        async () => {
          const { agents: now } = await manager.get<AgentsResponse>("/status/agents");
          return now.every((agent) => agent.tick! >= before.find((old) => old.agent_id === agent.agent_id)!.tick! + 2);
        },
        30_000,
      );
      // One agent has asked.
      const code = await agents.get("b")!.stop();
      expect(code).toBe(0);
      await startAgent("b");
    }
    const send = async (psk: string) => {
      const data = JSON.stringify({ v: 1, type: "report" });
      const envelope = { v: 1, data, hmac: await computeMac(psk, data), sig: null };
      return request(host("m"), `${MANAGER_URL}/status/updates`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(envelope),
      });
    };
    // The MAC of a current or previous key holds: what is refused then is the message.
    for (const key of KEYS.slice(1)) expect((await send(key)).status).toBe(422);
    expect((await send(KEYS[0]!)).status).toBe(401);
  }, 120_000);

  test("what the manager and an agent answer is kept for the search for secrets", async () => {
    const { edges } = await manager.get<TopologyResponse>("/status/topology");
    const paths = ["agents", "topology", "alarms?state=all", "events", `edges/${edges[0]!.id}/history`, "healthcheck"];
    for (const path of [...paths, `agents/${(await ids()).get("a")}`])
      answers.push(JSON.stringify(await manager.get(`/status/${path}`)));
    const door = await Door.open(host("m"), AGENT_PORT);
    for (const path of ["healthcheck", "peer"]) answers.push(JSON.stringify(await door.json(`/status/${path}`)));
    await door.close();
    answers.push((await agents.get("a")!.cli("-sysinfo")).stdout);
    // The peers are in them, by their public keys.
    expect(answers.filter((text) => /[A-Za-z0-9+/]{43}=/.test(text)).length).toBeGreaterThan(3);
  });

  test("SIGTERM ends manager and agents with 0; every tick is stored once, and the log verifies", async () => {
    const lastTicks = new Map(
      (await manager.get<AgentsResponse>("/status/agents")).agents.map((agent) => [agent.agent_id, agent.tick!]),
    );
    for (const name of AGENTS) expect(await agents.get(name)!.stop()).toBe(0);
    expect(await manager.stop()).toBe(0);
    const database = new Database(manager.databasePath, { readonly: true });
    const rows = database
      .query<{ agent_id: string; count: number; least: number; most: number }, []>(
        "SELECT agent_id, count(*) AS count, min(tick) AS least, max(tick) AS most FROM reports GROUP BY agent_id",
      )
      .all();
    expect(rows).toHaveLength(AGENTS.length);
    for (const row of rows) {
      expect(row.most).toBeGreaterThanOrEqual(lastTicks.get(row.agent_id)!);
      expect(row.count).toBe(row.most - row.least + 1);
    }
    expect(database.query("PRAGMA integrity_check").values()).toEqual([["ok"]]);
    database.close();
    const verified = await host("m").run(
      [process.execPath, join(import.meta.dir, "../../manager/main.ts"), "-verify-log"],
      {
        cwd: manager.stateDir,
        env: { STATE_DIR: manager.stateDir, DNS: DNS_NAME },
        check: false,
      },
    );
    const counts = /^([0-9]+) reports: ([0-9]+) verified, ([0-9]+) could not be verified, 0 altered, 0 missing$/m.exec(
      verified.stdout,
    );
    expect([verified.exitCode, counts === null ? verified.stdout : ""]).toEqual([0, ""]);
    const [all, sound, unverifiable] = counts!.slice(1).map(Number) as [number, number, number];
    expect(all).toBe(rows.reduce((sum, row) => sum + row.count, 0));
    expect(sound).toBeGreaterThan(0);
    // Reports under the first key cannot be checked any more, and it says so.
    expect(unverifiable).toBeGreaterThan(0);
  });

  test("no private or preshared key is in any file, log or answer of the lab", async () => {
    const files = readdirSync(lab.dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    expect(files.length).toBeGreaterThan(10);
    for (const file of files) {
      const bytes = readFileSync(join(file.parentPath, file.name)).toString("latin1");
      for (const secret of [...secrets, ...KEYS]) {
        if (KEYS.includes(secret) && file.name.endsWith("_psk_ring")) continue;
        if (bytes.includes(secret)) throw new Error(`${file.name} holds a secret`);
      }
    }
    expect(answers.length).toBeGreaterThan(9);
    for (const secret of [...secrets, ...KEYS]) expect(answers.some((text) => text.includes(secret))).toBe(false);
  });
});
