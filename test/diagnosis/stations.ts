// Owns what is done to the lab for each fault of the table: how its laboratory is built, and how the fault is injected and
// repaired there.
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AgentsResponse } from "../../shared/api.ts";
import type { DnsServer } from "../lab/host.ts";
import type { LabProcess } from "../lab/namespace.ts";
import { AGENT_PORT, eventually, MANAGER_PORT, request } from "../lab/programs.ts";
import { generateKeyPair, generatePresharedKey } from "../lab/wireguard.ts";
import { INTERVAL_S, type Station } from "./faults.ts";
import { Ground } from "./ground.ts";

export type Actions = { inject(): Promise<unknown>; repair(): Promise<unknown> };
/** A laboratory that is up, and what can be done to it. Faults run in the order of the table. */
export type Scene = { ground: Ground; faults: Record<string, Actions> };

const WIREGUARD_PORT = 51820;
const reports = (count: number) => Bun.sleep(count * INTERVAL_S * 1000);

/** a, b, c in a full mesh with keepalive and steady pings, and the manager on m. */
async function triangle(name: string): Promise<Ground> {
  const ground = await Ground.create(name);
  await ground.addHosts("m", "a", "b", "c");
  ground.planMesh(["a", "b", "c"]);
  await ground.makeWireguard();
  await ground.startManager("m");
  await ground.startAgents(["a", "b", "c"]);
  await ground.keepPinging([
    ["a", "10.9.0.2"],
    ["b", "10.9.0.3"],
    ["c", "10.9.0.1"],
  ]);
  await ground.heard("a", "b", "c");
  return ground;
}

async function mesh(): Promise<Scene> {
  const ground = await triangle("mesh");
  const { lab } = ground;
  const manager = ground.host("m");
  let rule: { lift(): Promise<void> };
  return {
    ground,
    faults: {
      "host-killed": { inject: () => ground.host("c").kill(), repair: () => ground.switchOn("c", 4) },
      "agent-stopped": {
        inject: () => ground.agents.get("b")!.stop(),
        repair: () => ground.startAgents(["b"]),
      },
      "agent-killed": {
        inject: () => ground.agents.get("a")!.kill(),
        repair: () => ground.startAgents(["a"]),
      },
      "all-silent": {
        inject: () => manager.cable(manager.nics[0]!, "out"),
        repair: () => manager.cable(manager.nics[0]!, "in"),
      },
      "manager-unreachable-for-one": {
        inject: async () => {
          rule = await lab.filter(
            `ip saddr ${ground.host("a").address} ip daddr ${manager.address} tcp dport ${MANAGER_PORT} drop`,
          );
        },
        repair: () => rule.lift(),
      },
      "interface-removed": { inject: () => ground.wg("b").remove(), repair: () => ground.makeWireguard("b") },
      "interface-down": {
        inject: () => ground.host("c").link("wg0", "down"),
        repair: () => ground.host("c").link("wg0", "up"),
      },
    },
  };
}

/** A rule of the switch for as long as the fault lasts. */
function filtered(ground: Ground, ...rules: (() => string)[]): Actions {
  let applied: { lift(): Promise<void> }[] = [];
  return {
    inject: async () => {
      applied = [];
      for (const rule of rules) applied.push(await ground.lab.filter(rule()));
    },
    repair: async () => {
      for (const rule of applied) await rule.lift();
    },
  };
}

function dropped(ground: Ground, from: string, to: string): () => string {
  return () =>
    `ip saddr ${ground.host(from).address} ip daddr ${ground.host(to).address} udp dport ${WIREGUARD_PORT} drop`;
}

async function blocked(): Promise<Scene> {
  const ground = await triangle("blocked");
  const drop = (from: string, to: string) => dropped(ground, from, to);
  return {
    ground,
    faults: {
      "firewall-one-way": filtered(ground, drop("a", "b")),
      "firewall-both-ways": filtered(ground, drop("b", "c"), drop("c", "b")),
      "firewall-at-the-host": {
        inject: () =>
          ground
            .host("a")
            .nft(
              `table ip t { chain input { type filter hook input priority 0; ip saddr ${ground.host("c").address} udp dport ${WIREGUARD_PORT} drop; }; }`,
            ),
        repair: () => ground.host("a").nft("delete table ip t"),
      },
      partition: filtered(ground, drop("a", "c"), drop("c", "a"), drop("b", "c"), drop("c", "b")),
    },
  };
}

async function lonely(): Promise<Scene> {
  const ground = await Ground.create("lonely");
  await ground.addHosts("m", "a", "b");
  ground.planMesh(["a", "b"]);
  await ground.makeWireguard();
  await ground.startManager("m");
  await ground.startAgents(["a", "b"]);
  await ground.keepPinging([["a", "10.9.0.2"]], 1200);
  await ground.heard("a", "b");
  return {
    ground,
    faults: {
      "mtu-black-hole": filtered(ground, () => `ip protocol udp udp dport ${WIREGUARD_PORT} meta length > 700 drop`),
      "last-path-cut": filtered(ground, dropped(ground, "a", "b"), dropped(ground, "b", "a")),
      "preshared-key-mismatch": {
        // Removed and added, so that no session of before goes on; in one go, as the agent sees it.
        inject: () =>
          ground.unseenBy("b", async () => {
            await ground.wg("b").removePeer(ground.plan("a").publicKey);
            await ground.wg("b").setPeers({ ...ground.peer("b", "a"), presharedKey: generatePresharedKey() });
          }),
        repair: () => ground.wg("b").setPeers({ publicKey: ground.plan("a").publicKey, presharedKey: null }),
      },
    },
  };
}

async function config(): Promise<Scene> {
  const ground = await Ground.create("config");
  await ground.addHosts("m", "a", "b", "c");
  // c knows a LAN behind a.
  ground.planMesh(["a", "b", "c"], {
    adjust: (from, to, peer) =>
      from === "c" && to === "a" ? { ...peer, allowedIps: [...peer.allowedIps!, "10.20.0.0/24"] } : peer,
  });
  await ground.makeWireguard();
  await ground.startManager("m");
  await ground.startAgents(["a", "b", "c"]);
  await ground.heard("a", "b", "c");
  const [a, b, c] = [ground.host("a"), ground.host("b"), ground.host("c")];
  const setBack = (host: string, ...to: string[]) =>
    ground.wg(host).setPeers(...to.map((name) => ground.peer(host, name)));
  const stranger = generateKeyPair().publicKey;
  let second: string;
  let asking: LabProcess;
  return {
    ground,
    faults: {
      "peer-removed": {
        inject: () => ground.wg("b").removePeer(ground.plan("a").publicKey),
        repair: () => setBack("b", "a"),
      },
      "one-sided-peer": {
        inject: async () => {
          const made = await a.wireguard("wg1", {
            port: 51821,
            addresses: ["10.8.0.1/24"],
            peers: [
              {
                publicKey: ground.plan("c").publicKey,
                endpoint: `${c.address}:${WIREGUARD_PORT}`,
                allowedIps: ["10.8.0.3/32"],
              },
            ],
          });
          second = made.publicKey;
        },
        repair: () =>
          ground.wg("c").setPeers({ publicKey: second, endpoint: `${a.address}:51821`, allowedIps: ["10.8.0.1/32"] }),
      },
      "allowed-ips-moved": {
        inject: () =>
          ground
            .wg("a")
            .setPeers({ publicKey: ground.plan("c").publicKey, allowedIps: ["10.9.0.3/32", "10.9.0.2/32"] }),
        repair: () => setBack("a", "c", "b"),
      },
      "allowed-ips-overlap": {
        inject: () =>
          b.wireguard("wg1", {
            port: 51821,
            addresses: ["10.7.0.1/24"],
            peers: [{ publicKey: stranger, allowedIps: ["10.9.0.3/32"] }],
          }),
        repair: async () => {
          await b.run(["wg", "set", "wg1", "peer", stranger, "allowed-ips", "10.7.0.2/32"]);
          await b.ip("route del 10.9.0.3/32 dev wg1");
        },
      },
      "route-lost": {
        inject: () => c.ip("route del 10.20.0.0/24 dev wg0"),
        repair: () => c.ip("route add 10.20.0.0/24 dev wg0"),
      },
      "mtu-too-large": {
        inject: () => b.ip("link set wg0 mtu 1500"),
        repair: () => b.ip("link set wg0 mtu 1420"),
      },
      "cannot-send": {
        inject: async () => {
          asking = await b.spawn(["ping", "-n", "-q", "-i", "1", "10.9.0.1"], { name: "ping" });
          // An unreachable route would not do: userspace WireGuard sends by the card that it used before.
          await a.nft(
            `table ip t { chain output { type filter hook output priority 0; ip daddr ${b.address} udp dport ${WIREGUARD_PORT} drop; }; }`,
          );
        },
        repair: async () => {
          await a.nft("delete table ip t");
          await asking.stop();
        },
      },
      "collector-fails": {
        inject: async () => {
          const broken = join(c.dir, "broken-wg");
          writeFileSync(broken, "#!/bin/sh\necho 'Unable to access interface: Operation not permitted' >&2\nexit 1\n", {
            mode: 0o755,
          });
          await c.run(["mount", "--bind", broken, Bun.which("wg")!]);
        },
        repair: () => c.run(["umount", Bun.which("wg")!]),
      },
    },
  };
}

async function keys(): Promise<Scene> {
  const ground = await Ground.create("keys");
  await ground.addHosts("m", "a", "b", "c", "d");
  ground.planMesh(["a", "b", "c"]);
  await ground.makeWireguard();
  await ground.startManager("m");
  await ground.startAgents(["a", "b", "c", "d"]);
  await ground.keepPinging([
    ["a", "10.9.0.2"],
    ["b", "10.9.0.3"],
  ]);
  await ground.heard("a", "b", "c", "d");
  const { privateKey, publicKey } = ground.plan("b");
  let copy: Awaited<ReturnType<ReturnType<Ground["host"]>["wireguard"]>>;
  return {
    ground,
    faults: {
      "key-changed": {
        inject: () => ground.wg("b").rekey(),
        repair: () => ground.wg("b").rekey({ privateKey, publicKey }),
      },
      "key-reused": {
        inject: async () => {
          const of = ground.plan("a");
          copy = await ground
            .host("d")
            .wireguard("wg0", { privateKey: of.privateKey, publicKey: of.publicKey, addresses: ["10.9.0.4/24"] });
        },
        repair: () => copy.rekey(),
      },
      "address-duplicate": {
        inject: () => ground.host("c").ip("addr add 10.9.0.1/32 dev wg0"),
        repair: () => ground.host("c").ip("addr del 10.9.0.1/32 dev wg0"),
      },
    },
  };
}

/** b's second address on the backbone, for the tunnel that is to loop: the others' endpoint stays reachable. */
const LOOP_ADDRESS = "192.168.51.77";

async function underlay(): Promise<Scene> {
  const ground = await Ground.create("underlay");
  await ground.addHosts("m", "a", "b");
  const backbone = await ground.lab.segment("backbone");
  for (const name of ["a", "b"]) await ground.host(name).attach(backbone);
  await ground.host("b").ip(`addr add ${LOOP_ADDRESS}/24 dev eth1`);
  for (const place of [0, 1, 2]) {
    ground.planMesh(["a", "b"], {
      name: `wg${place}`,
      port: WIREGUARD_PORT + place,
      prefix: `10.${9 + place}.0`,
      nic: 1,
      adjust: (from, _to, peer) =>
        place === 2 && from === "a" ? { ...peer, endpoint: `${LOOP_ADDRESS}:${WIREGUARD_PORT + 2}` } : peer,
    });
  }
  await ground.makeWireguard();
  await ground.host("a").limit("wg2", 500);
  await ground.startManager("m");
  await ground.startAgents(["a", "b"]);
  await ground.keepPinging([
    ["a", "10.9.0.2"],
    ["a", "10.10.0.2"],
    ["a", "10.11.0.2"],
  ]);
  await ground.heard("a", "b");
  const a = ground.host("a");
  return {
    ground,
    faults: {
      "cable-out-under-tunnels": {
        inject: () => a.cable(a.nics[1]!, "out"),
        repair: () => a.cable(a.nics[1]!, "in"),
      },
      "tunnel-loop": {
        inject: async () => {
          const peer = ground.peer("a", "b", "wg2");
          await ground.wg("a", "wg2").setPeers({ ...peer, allowedIps: [...peer.allowedIps!, `${LOOP_ADDRESS}/32`] });
        },
        repair: () =>
          // Each end has learned an address of the other inside the tunnel: only a new start forgets it.
          ground.unseenBy("a", () =>
            ground.unseenBy("b", async () => {
              for (const name of ["a", "b"]) await ground.wg(name, "wg2").remove();
              for (const name of ["a", "b"]) await ground.makeWireguard(name, "wg2");
            }),
          ),
      },
    },
  };
}

async function hub(): Promise<Scene> {
  const ground = await Ground.create("hub");
  await ground.addHosts("m", "h", "a", "b", "f");
  ground.planMesh(["h", "a", "b", "f"], {
    adjust(from, to, peer) {
      const { endpoint: _endpoint, keepalive: _keepalive, ...bare } = peer;
      // f is a foreign peer of all; its own list is the mirror of theirs.
      if (from === "f") return bare;
      if (to === "f") return peer;
      // The hub learns where its spokes are. a dials b, which does not dial.
      if (from === "h") return bare;
      if (from === "b" && to === "a") return bare;
      // b has no keepalive towards the hub.
      if (from === "b" && to === "h") return { ...bare, endpoint: peer.endpoint! };
      return peer;
    },
  });
  await ground.makeWireguard();
  await ground.startManager("m");
  await ground.host("b").ping("10.9.0.1");
  await ground.startAgents(["h", "a", "b"]);
  await ground.keepPinging([
    ["h", "10.9.0.4"],
    ["a", "10.9.0.4"],
    ["b", "10.9.0.4"],
    ["a", "10.9.0.1"],
    ["a", "10.9.0.3"],
  ]);
  await ground.heard("h", "a", "b");
  const b = ground.host("b");
  // Where a report goes astray, b looks for a relay: its question to h would wake the tunnel that nobody may wake.
  await b.nft(
    `table inet quiet { chain output { type filter hook output priority 0; oifname wg0 tcp dport ${AGENT_PORT} drop; }; }`,
  );
  const moved = "192.168.50.77";
  return {
    ground,
    faults: {
      "foreign-peer-killed": { inject: () => ground.host("f").kill(), repair: () => ground.switchOn("f", 5) },
      "keepalive-missing": {
        inject: () =>
          ground.unseenBy("h", async () => {
            await ground.wg("h").remove();
            await ground.makeWireguard("h");
          }),
        repair: async () => {
          await ground.wg("b").setPeers({ publicKey: ground.plan("h").publicKey, keepalive: 25 });
          await b.ping("10.9.0.1", { count: 20, intervalSeconds: 1 });
        },
      },
      "endpoint-outdated": {
        inject: () =>
          ground.unseenBy("b", async () => {
            const { address } = b;
            await b.ip(`addr add ${moved}/24 dev eth0`, `addr del ${address}/24 dev eth0`);
            // The second of two addresses in one subnet goes with the first.
            await b.run(["ip", "addr", "replace", `${moved}/24`, "dev", "eth0"]);
            // A session that went on would tell a the new address within 15 s: the host has restarted.
            await ground.wg("b").remove();
            await ground.makeWireguard("b");
            await b.ping("10.9.0.1", { count: 3 });
          }),
        repair: () =>
          ground.wg("a").setPeers({ publicKey: ground.plan("b").publicKey, endpoint: `${moved}:${WIREGUARD_PORT}` }),
      },
    },
  };
}

async function nat(): Promise<Scene> {
  const ground = await Ground.create("nat");
  const { lab } = ground;
  await ground.addHosts("m", "h", "o1", "o2", "o3");
  const inner = await lab.segment("inner", { prefix: "192.168.1" });
  const router = await lab.host("r", { segments: [lab.underlay, inner] });
  ground.hosts.set("r", router);
  await router.masquerade(router.nics[0]!);
  for (const name of ["n1", "n2"]) {
    const host = await lab.host(name, { segments: [inner] });
    ground.hosts.set(name, host);
    await host.ip(`route add default via ${router.nics[1]!.address}`);
  }
  ground.planMesh(["h", "n1", "n2"], {
    adjust(from, to, peer) {
      const { endpoint: _endpoint, keepalive: _keepalive, ...bare } = peer;
      if (from === "h") return to === "n1" ? bare : null;
      if (to === "h") return from === "n1" ? peer : null;
      return peer;
    },
  });
  await ground.makeWireguard();
  await ground.startManager("m");
  await ground.startAgents(["h", "n1", "n2", "o1", "o2", "o3"]);
  await ground.keepPinging([
    ["n1", "10.9.0.1"],
    ["n1", "10.9.0.3"],
  ]);
  await ground.heard("h", "n1", "n2", "o1", "o2", "o3");
  const n1 = ground.host("n1");
  let outer = router.nics[0]!.address;
  const rebind = async (address: string) => {
    await router.ip(
      `addr add ${address}/32 dev eth0`,
      `addr del ${outer}/${outer === router.nics[0]!.address ? 24 : 32} dev eth0`,
    );
    // A /32 brings no route to the segment.
    await router.ip(`route replace ${lab.underlay.subnet} dev eth0 src ${address}`);
    outer = address;
    await eventually(
      `h sees n1 at ${address}`,
      async () => (await ground.wg("h").peer(ground.plan("n1").publicKey)).endpoint?.startsWith(`${address}:`),
      40_000,
    );
    await reports(2);
  };
  return {
    ground,
    faults: {
      "nat-rebinding": {
        inject: async () => {
          for (const last of [91, 92, 93, 94]) await rebind(`192.168.50.${last}`);
        },
        repair: async () => {},
      },
      "site-cut-off": {
        inject: () => router.cable(router.nics[0]!, "out"),
        repair: () => router.cable(router.nics[0]!, "in"),
      },
      "default-route-moved": {
        inject: () => n1.ip("route replace default via 192.168.1.250"),
        repair: () => n1.ip(`route replace default via ${router.nics[1]!.address}`),
      },
    },
  };
}

const FAKETIME = `/usr/lib/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu/faketime/libfaketime.so.1`;
const DNS_NAME = "kattila.example";
const KEYS = ["one", "two"].map((name) => `diagnosis-suite-fleet-key-${name}-0123456789abcdef`) as [string, string];
const WRONG_KEY = "diagnosis-suite-key-that-was-never-the-fleets";
const MINUTE_S = 60;
const HOUR_S = 3600;

async function identity(): Promise<Scene> {
  const ground = await Ground.create("identity");
  const { lab } = ground;
  await ground.addHosts("m", "a", "b");
  ground.hosts.set(
    "d",
    await lab.host("d", { files: { "/proc/sys/kernel/random/boot_id": "7d1f9a52-3c0e-4a8e-9d0b-0c9a1e5f4b21\n" } }),
  );
  // The clock of every program here: an offset in a file, read at every look at the clock. Timers stay true.
  const clock = join(lab.dir, "clock");
  let offset = 0;
  const set = (seconds: number) => writeFileSync(clock, `+${(offset = seconds)}\n`);
  set(0);
  /** Moves the clock of all while no report is on its way: one that was collected before would say that its host is behind. */
  const leap = (seconds: number) =>
    eventually("all agents are between two reports", async () => {
      const agents = [...ground.agents.values()].filter(({ process }) => process.kill("SIGSTOP"));
      try {
        const { agents: seen, server_time_at: now } = await ground.manager.get<AgentsResponse>("/status/agents");
        const between = agents.every(({ stateDir }) => {
          const read = (name: string) => readFileSync(join(stateDir, name), "utf8").trim();
          const own = seen.find(({ agent_id: id }) => id === read("agent_id.txt"));
          // Its last is there, and the next is not collected yet.
          return own?.tick === Number(read("agent_tick")) && now - own.last_seen_at! < 0.7 * INTERVAL_S * 1000;
        });
        if (between) set(offset + seconds);
        return between;
      } finally {
        for (const { process } of agents) process.kill("SIGCONT");
      }
    });
  const fake = (file: string) => [
    "env",
    `LD_PRELOAD=${FAKETIME}`,
    `FAKETIME_TIMESTAMP_FILE=${file}`,
    "FAKETIME_NO_CACHE=1",
    "FAKETIME_DONT_FAKE_MONOTONIC=1",
  ];
  const answers = (psk: string) => ({ [DNS_NAME]: [`kattila-psk=${psk}`] });
  const dns: DnsServer = await ground.host("m").dns(undefined, answers(KEYS[0]));
  const ofB: DnsServer = await ground.host("b").dns(undefined, answers(KEYS[0]));
  const by = (host: string) => ({ DNS: DNS_NAME, DNS_SERVERS: ground.host(host).address });
  // Idle, without peers: for the stranger.
  await ground.host("a").wireguard("wg0", { addresses: ["10.9.0.1/24"] });
  await ground.startManager("m", by("m"), fake(clock));
  await ground.startAgents(["a"], by("m"), fake(clock));
  await ground.startAgents(["b"], by("b"), fake(clock));
  await ground.heard("a", "b");
  const b = () => ground.agents.get("b")!;
  const restartB = (clockFile = clock) => ground.restartAgent("b", by("b"), fake(clockFile));
  const skewed = join(lab.dir, "clock-of-b");
  /** A stranger's message makes the manager ask its key's source again, at most once a minute of its clock. */
  const askAgain = async (from: string) => {
    await leap(61);
    const envelope = { v: 1, data: "{}", hmac: "0".repeat(64), sig: null };
    await request(ground.host(from), `http://${ground.host("m").address}:${MANAGER_PORT}/status/updates`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(envelope),
    });
  };
  const snapshot = join(lab.dir, "snapshot");
  return {
    ground,
    faults: {
      "clock-ahead": {
        inject: async () => {
          writeFileSync(skewed, `+${offset + 2 * MINUTE_S}\n`);
          await restartB(skewed);
        },
        repair: () => restartB(),
      },
      "clock-an-hour-behind": {
        inject: async () => {
          writeFileSync(skewed, `${offset - HOUR_S}\n`);
          await restartB(skewed);
        },
        repair: () => restartB(),
      },
      "dns-ambiguous": {
        inject: async () => {
          await dns.serve({ [DNS_NAME]: KEYS.map((psk) => `kattila-psk=${psk}`) });
          await askAgain("d");
        },
        repair: async () => {
          await dns.serve(answers(KEYS[0]));
          await askAgain("d");
        },
      },
      "dns-wrong-for-two-hours": {
        inject: async () => {
          await dns.serve({});
          await askAgain("d");
          await reports(1);
          await leap(2 * HOUR_S + MINUTE_S);
        },
        repair: async () => {
          await dns.serve(answers(KEYS[0]));
          await askAgain("d");
        },
      },
      "dns-changed-but-not-for-one": {
        inject: async () => {
          await dns.serve(answers(KEYS[1]));
          await askAgain("d");
          await reports(1);
          await ground.restartAgent("a", by("m"), fake(clock));
          await leap(2 * HOUR_S + MINUTE_S);
        },
        repair: async () => {
          await ofB.serve(answers(KEYS[1]));
          await restartB();
        },
      },
      "wrong-fleet-key": {
        inject: async () => {
          await b().stop();
          await ofB.serve(answers(WRONG_KEY));
          rmSync(join(b().stateDir, "agent_psk_ring"));
          await restartB();
        },
        repair: async () => {
          await ofB.serve(answers(KEYS[1]));
          await restartB();
          await reports(3);
          await leap(16 * MINUTE_S);
        },
      },
      "state-cloned": {
        inject: async () => {
          cpSync(ground.agents.get("a")!.stateDir, join(ground.host("d").dir, "agent"), { recursive: true });
          await ground.startAgents(["d"], by("m"), fake(clock));
        },
        repair: async () => {
          await ground.agents.get("d")!.stop();
          await reports(3);
          await leap(11 * MINUTE_S);
          await reports(1);
          await ground.acknowledge("replay");
        },
      },
      "state-rolled-back": {
        inject: async () => {
          await b().stop();
          cpSync(b().stateDir, snapshot, { recursive: true });
          await restartB();
          await reports(5);
          await b().stop();
          rmSync(b().stateDir, { recursive: true });
          cpSync(snapshot, b().stateDir, { recursive: true });
          await restartB();
        },
        repair: () => ground.acknowledge("replay"),
      },
      "stranger-peer": {
        inject: async () => {
          await leap(25 * HOUR_S);
          await reports(3);
          const { publicKey } = generateKeyPair();
          await ground.host("a").run(["wg", "set", "wg0", "peer", publicKey, "allowed-ips", "10.9.0.66/32"]);
        },
        repair: () => ground.acknowledge("peer_unknown"),
      },
    },
  };
}

export const SCENES: Record<Station, () => Promise<Scene>> = {
  mesh,
  blocked,
  lonely,
  config,
  keys,
  underlay,
  hub,
  nat,
  identity,
};
