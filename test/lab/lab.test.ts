// The lab itself: hosts and a mesh come up, pass packets, break and heal as told, and leave nothing behind.
import { expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { describeWith, LAB_NEEDS } from "../support/needs.ts";
import { createLab } from "./lab.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

/** Pids of all processes in a network namespace. */
function processesIn(netns: string): string[] {
  return readdirSync("/proc").filter((entry) => {
    try {
      return /^\d+$/.test(entry) && readlinkSync(`/proc/${entry}/ns/net`) === netns;
    } catch {
      return false;
    }
  });
}

describeWith([...LAB_NEEDS, "dnsmasq"], "lab", () => {
  test("four hosts: a mesh passes packets, links break and heal, and nothing is left", async () => {
    const linksBefore = readFileSync("/proc/net/dev", "utf8").split("\n").length;
    let dir = "";
    const netns: string[] = [];
    /** Of the namespaces: as long as one is open, no other gets its number. */
    const held: number[] = [];
    {
      await using lab = await createLab("four");
      dir = lab.dir;
      const hosts = await Promise.all(["a", "b", "c", "d"].map((name) => lab.host(name)));
      const [a, b, c, d] = hosts as [(typeof hosts)[0], (typeof hosts)[0], (typeof hosts)[0], (typeof hosts)[0]];
      for (const { pid } of hosts) {
        netns.push(readlinkSync(`/proc/${pid}/ns/net`));
        held.push(openSync(`/proc/${pid}/ns/net`, "r"));
      }
      expect(new Set(netns).size).toBe(4);
      expect(hosts.map((host) => host.address)).toEqual([
        "192.168.50.1",
        "192.168.50.2",
        "192.168.50.3",
        "192.168.50.4",
      ]);
      expect((await c.run(["hostname"])).stdout.trim()).toBe("c");

      const mesh = await lab.mesh(hosts, { prefix6: "fd09::" });
      for (const other of ["10.9.0.2", "10.9.0.3", "fd09::4"]) expect(await a.pingUntil(other)).toBe(true);
      const before = await mesh[0]!.peer(mesh[1]!.publicKey);
      expect(before.handshake).toBeGreaterThan(0);
      await a.traffic(mesh[1]!.address, 100_000);
      expect((await mesh[0]!.peer(mesh[1]!.publicKey)).txBytes - before.txBytes).toBeGreaterThan(100_000);

      // its own /sys and /run/wireguard
      expect(b.isUp("wg0")).toBe(true);
      await b.link("wg0", "down");
      expect(b.isUp("wg0")).toBe(false);
      expect(await a.ping("10.9.0.2")).toBe(false);
      await b.link("wg0", "up");
      expect(await a.pingUntil("10.9.0.2")).toBe(true);
      expect(existsSync("/run/wireguard/wg0.sock")).toBe(false);

      const fault = await lab.filter(`ip saddr ${a.address} ip daddr ${c.address} drop`);
      expect(await a.ping("10.9.0.3")).toBe(false);
      expect(await b.pingUntil("10.9.0.3")).toBe(true);
      await fault.lift();
      expect(await a.pingUntil("10.9.0.3")).toBe(true);

      await a.cable(a.nics[0]!, "out");
      expect(await a.ping("192.168.50.2")).toBe(false);
      await a.cable(a.nics[0]!, "in");
      expect(await a.pingUntil("192.168.50.2")).toBe(true);

      await d.kill();
      expect(await a.ping("10.9.0.4")).toBe(false);
    }
    expect(existsSync(dir)).toBe(false);
    for (const inode of netns) expect(processesIn(inode)).toEqual([]);
    for (const descriptor of held) closeSync(descriptor);
    expect(readFileSync("/proc/net/dev", "utf8").split("\n").length).toBe(linksBefore);
  });

  test("a NAT router, a preshared key that does not match, an MTU black hole and a slow line", async () => {
    await using lab = await createLab("nat");
    const lan = await lab.segment("lan", { prefix: "192.168.1" });
    const [hub, router, home] = await Promise.all([
      lab.host("hub"),
      lab.host("router", { segments: [lab.underlay, lan] }),
      lab.host("home", { segments: [lan] }),
    ]);
    await router.masquerade(router.nics[0]!);
    await home.ip(`route add default via ${router.nics[1]!.address}`);
    const hubEnd = await hub.wireguard("wg0", { addresses: ["10.9.0.1/24"] });
    const homeEnd = await home.wireguard("wg0", {
      addresses: ["10.9.0.2/24"],
      peers: [{ publicKey: hubEnd.publicKey, endpoint: hubEnd.endpoint(), allowedIps: ["10.9.0.1/32"] }],
    });
    await hubEnd.setPeers({ publicKey: homeEnd.publicKey, allowedIps: ["10.9.0.2/32"] });
    expect(await home.pingUntil("10.9.0.1")).toBe(true);
    expect((await hubEnd.peer(homeEnd.publicKey)).endpoint).toStartWith(`${router.address}:`);

    const hole = await lab.filter("ip protocol udp meta length > 700 drop");
    expect(await home.ping("10.9.0.1", { size: 1000 })).toBe(false);
    expect(await home.pingUntil("10.9.0.1")).toBe(true);
    await hole.lift();
    await home.limit("eth0", 200);
    expect(await home.ping("10.9.0.1", { size: 1000, timeoutSeconds: 10 })).toBe(true);

    await homeEnd.removePeer(hubEnd.publicKey);
    await homeEnd.setPeers({
      publicKey: hubEnd.publicKey,
      endpoint: hubEnd.endpoint(),
      allowedIps: ["10.9.0.1/32"],
      presharedKey: "YmFkIHByZXNoYXJlZCBrZXkgb2YgdGhlIGxhYi4uLi4=",
    });
    expect(await home.ping("10.9.0.1", { timeoutSeconds: 2 })).toBe(false);
  });

  test("programs are started, signalled and stopped; commands end at their time-out", async () => {
    await using lab = await createLab("programs");
    const host = await lab.host("solo", { resolvConf: "nameserver 192.168.50.1\n" });
    const program = await host.spawn([
      "sh",
      "-c",
      "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done",
    ]);
    await program.waitFor("ready");
    expect(await program.stop()).toBe(3);
    expect(program.output()).toBe("ready\nbye\n");
    expect(program.kill()).toBe(false);
    const killed = await host.spawn(["sleep", "60"]);
    expect(killed.kill("SIGKILL")).toBe(true);
    expect(await killed.exited).toBe(137);
    expect(host.run(["sleep", "60"], { timeoutMs: 100 })).rejects.toThrow("took over 100 ms");
    expect(host.run(["sh", "-c", "echo no >&2; exit 7"])).rejects.toThrow("exited 7: no");

    const dns = await host.dns(host.address, { "kattila.lab": ["kattila-psk=one"] });
    const script = `const { Resolver } = require("node:dns/promises");
      console.log(JSON.stringify(await new Resolver({ timeout: 500, tries: 1 }).resolveTxt("kattila.lab")))`;
    const ask = () => host.run([process.execPath, "-e", script], { check: false });
    expect((await ask()).stdout.trim()).toBe('[["kattila-psk=one"]]');
    await dns.serve({ "kattila.lab": ["kattila-psk=two"] });
    expect((await ask()).stdout.trim()).toBe('[["kattila-psk=two"]]');
    await dns.stop();
    expect((await ask()).exitCode).not.toBe(0);
  });

  test("a program that was stopped goes on or ends as it is told, and nothing of it is left", async () => {
    const enteringWith = (word: string) =>
      readdirSync("/proc").filter((entry) => {
        try {
          return readFileSync(`/proc/${entry}/cmdline`, "utf8").includes(word);
        } catch {
          return false;
        }
      });
    let left: { exited: Promise<number> };
    {
      await using lab = await createLab("stopped");
      const host = await lab.host("solo");
      const stopped = async () => {
        const program = await host.spawn(["sleep", "7531"]);
        expect(program.kill("SIGSTOP")).toBe(true);
        await Bun.sleep(200); // for the nsenter that stops with it
        return program;
      };
      const woken = await stopped();
      woken.kill("SIGCONT");
      expect(await woken.stop()).toBe(143);
      const killed = await stopped();
      killed.kill("SIGKILL");
      expect(await killed.exited).toBe(137);
      left = await stopped();
    }
    expect(await left.exited).toBe(137);
    expect(enteringWith("7531")).toEqual([]);
  });

  test("a lab whose process is killed outright leaves no process and no interface", async () => {
    const script = `
      import { createLab } from ${JSON.stringify(`${import.meta.dir}/lab.ts`)};
      import { readlinkSync } from "node:fs";
      const lab = await createLab("orphan");
      const [a, b] = await Promise.all([lab.host("a"), lab.host("b")]);
      await lab.mesh([a, b]);
      console.log(lab.dir, readlinkSync("/proc/" + a.pid + "/ns/net"));
      await Bun.sleep(60_000);`;
    const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
    const { value } = await child.stdout.getReader().read();
    const [dir, netns] = Buffer.from(value!).toString().trim().split(" ") as [string, string];
    expect(processesIn(netns).length).toBeGreaterThan(1);
    child.kill("SIGKILL");
    await child.exited;
    const deadline = Date.now() + 30_000;
    while (processesIn(netns).length > 0 && Date.now() < deadline) await Bun.sleep(20);
    expect(processesIn(netns)).toEqual([]);
    // the next process that makes a lab removes the directory
    expect(existsSync(dir)).toBe(true);
    const next = Bun.spawnSync([
      process.execPath,
      "-e",
      `import { createLab } from ${JSON.stringify(`${import.meta.dir}/lab.ts`)}; await using lab = await createLab("next");`,
    ]);
    expect(next.exitCode).toBe(0);
    expect(existsSync(dir)).toBe(false);
    expect(readdirSync(tmpdir()).filter((entry) => entry.endsWith("-next"))).toEqual([]);
  });
});
