// The units under a real systemd (pid 1 of its own namespaces): agent and manager run with all their restrictions on, the
// agent reads WireGuard with no more rights than it says, and install.sh sets up, upgrades and takes away.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createLab, type Lab } from "../lab/lab.ts";
import { eventually } from "../lab/programs.ts";
import { generateKeyPair } from "../lab/wireguard.ts";
import { compiled } from "../support/binary.ts";
import { describeWith, LAB_NEEDS, missing } from "../support/needs.ts";
import { SystemdBox, whyNoBox } from "./box.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const PACKAGING = join(import.meta.dir, "../../packaging");
const AGENT = "/usr/local/bin/kattila-agent";
/** Bits of linux/capability.h. */
const CAP_DAC_OVERRIDE = 1 << 1;
const CAP_NET_ADMIN = 1 << 12;

const NEEDS = [...LAB_NEEDS, "systemd-analyze"] as const;
// No package helps where the kernel refuses: what can be said without a running systemd is in install.test.ts.
const refused = missing(NEEDS).length > 0 ? null : whyNoBox();
if (refused !== null) console.log(`not run, a systemd of its own cannot be booted here: ${refused}`);

const services = () => {
  let lab: Lab;
  let box: SystemdBox;
  let before: string[];
  const peer = generateKeyPair();
  const install = (...words: string[]) => box.run(["/mnt/1/install.sh", ...words], { check: false });
  const agentBinary = () => `/mnt/2/${compiled("agent").split("/").pop()!}`;
  const managerBinary = () => `/mnt/3/${compiled("manager").split("/").pop()!}`;

  /** Why a command did not do what it was to do. */
  const READ_ONLY = "Read-only file system";
  const DENIED = "Permission denied";
  const tried = async (...command: string[]) => {
    const { stderr, exitCode } = await box.run(["nice", ...command], { check: false });
    return exitCode === 0 ? "done" : stderr.trim().split(": ").pop();
  };
  const cannotExecute = async (path: string) => {
    expect(await tried("cp", "/usr/bin/true", path)).toBe("done");
    expect(await tried(path)).toBe(DENIED);
    await box.run(["rm", path]);
  };
  const json = async <T>(url: string) => JSON.parse((await box.run(["curl", "-sS", "-m", "5", url])).stdout) as T;
  type Sections = { wireguard: { peers: { public_key: string }[] | null; status: string }[]; collectors: unknown };

  beforeAll(async () => {
    lab = await createLab("services");
    const host = await lab.host("node");
    await host.wireguard("wg0", {
      addresses: ["10.9.0.1/24"],
      peers: [{ publicKey: peer.publicKey, allowedIps: ["10.9.0.2/32"] }],
    });
    // As wireguard-go would make it; the lab's own is stricter.
    await host.run(["chmod", "755", "/run/wireguard"]);
    await host.nft("table inet t { chain c { type filter hook input priority 0; }; }");
    box = await SystemdBox.boot(host, [PACKAGING, dirname(compiled("agent")), dirname(compiled("manager"))]);
    before = await box.changed();
  }, 120_000);
  afterAll(async () => {
    await box?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  test("the manager serves as its own user, without capabilities, and sees nothing else of the host", async () => {
    expect(await install("manager", managerBinary())).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(/^kattila-manager [0-9.]+: installed\n$/),
    });
    expect(await json<object>("http://localhost:5086/status/healthcheck")).toMatchObject({
      status: "ok",
      database: "ok",
    });
    expect((await box.run(["stat", "-c", "%U %a", "/var/lib/kattila-manager"])).stdout).toBe("kattila-manager 700\n");
    const state = readdirSync(box.path("/var/lib/kattila-manager"));
    expect(state).toContain("kattila_manager.db");
    for (const name of state)
      expect([name, statSync(box.path(`/var/lib/kattila-manager/${name}`)).mode & 0o777]).toEqual([name, 0o600]);
    expect(await rights("kattila-manager")).toEqual({ effective: 0, bounding: 0, noNewPrivileges: 1, seccomp: 2 });
    const view = await box.view("kattila-manager");
    for (const path of ["/etc/x", "/usr/lib/x", "/var/lib/x", "/run/x", "/run/wireguard/x"])
      expect([path, await tried("touch", view + path)]).toEqual([path, READ_ONLY]);
    await cannotExecute(`${view}/var/lib/kattila-manager/program`);
    await cannotExecute(`${view}/tmp/program`);
  }, 60_000);

  /** Of a service's process, by the kernel. */
  async function rights(unit: string) {
    const status = readFileSync(box.path(`/proc/${await box.show(unit, "MainPID")}/status`), "utf8");
    const field = (name: string, radix = 16) =>
      parseInt(new RegExp(`^${name}:\\s+(\\w+)$`, "m").exec(status)![1]!, radix);
    return {
      effective: field("CapEff"),
      bounding: field("CapBnd"),
      noNewPrivileges: field("NoNewPrivs"),
      seccomp: field("Seccomp"),
    };
  }

  const agents = async () => {
    const answer = await json<{ agents: { agent_id: string; tick: number; wireguard: { peers: number | null }[] }[] }>(
      "http://localhost:5086/status/agents",
    );
    return answer.agents;
  };

  test("the agent reports with CAP_NET_ADMIN alone; the root-owned socket of a userspace WireGuard needs the drop-in", async () => {
    const key = readFileSync(box.path("/var/lib/kattila-manager/kattila.psk"), "utf8");
    const asked = ["agent", agentBinary(), "--manager-url", "http://localhost:5086", "--interval", "1"];
    const done = await box.run(["/mnt/1/install.sh", ...asked, "--psk-file", "-"], { input: key });
    expect(done.stdout).toMatch(/--userspace-wireguard\nkattila-agent [0-9.]+: installed\n$/);
    expect(done.stdout + done.stderr).not.toContain(key.trim());
    const reported = await eventually("it reports", async () =>
      (await agents()).find(({ wireguard }) => wireguard.length > 0),
    );
    expect(reported.wireguard.map(({ peers }) => peers)).toEqual([null]);
    expect(await rights("kattila-agent")).toMatchObject({
      effective: CAP_NET_ADMIN,
      bounding: CAP_NET_ADMIN,
      noNewPrivileges: 1,
      seccomp: 2,
    });

    expect((await install("agent", agentBinary(), "--userspace-wireguard")).stdout).toEndWith(": changed\n");
    await eventually("it reads the peer", async () => (await agents())[0]!.wireguard[0]!.peers === 1);
    expect(await rights("kattila-agent")).toMatchObject({
      effective: CAP_NET_ADMIN | CAP_DAC_OVERRIDE,
      bounding: CAP_NET_ADMIN | CAP_DAC_OVERRIDE,
    });
    // It may open what is root's now: so that is not there.
    const view = await box.view("kattila-agent");
    const listed = async (path: string) => (await box.run(["ls", view + path])).stdout.trim().split("\n");
    expect(await listed("/run")).toEqual(["systemd", "wireguard"]);
    expect(await listed("/run/systemd")).not.toContain("private");
    expect(await listed("/var/lib")).toEqual(["kattila-agent"]);
    expect((await box.run(["cat", `${view}/etc/shadow`])).stdout).toBe("");
    for (const path of ["/etc/x", "/usr/lib/x", "/var/lib/x", "/run/x", "/run/wireguard/x"])
      expect([path, await tried("touch", view + path)]).toEqual([path, READ_ONLY]);
    await cannotExecute(`${view}/var/lib/kattila-agent/program`);
  }, 60_000);

  test("without any capability it says which collectors could not read", async () => {
    const unit = readFileSync(box.path("/etc/systemd/system/kattila-agent.service"), "utf8");
    const probe = (capabilities: string) => {
      const text = unit
        .replace(/^(CapabilityBoundingSet|AmbientCapabilities)=.*$/gm, `$1=${capabilities}`)
        .replace(/^(Restart|StateDirectory)=.*$/gm, "")
        .replace(/^Type=.*$/m, "Type=oneshot")
        .replace(/^ExecStart=.*$/m, `ExecStart=${AGENT} -sysinfo`)
        .replace(/^SystemCallErrorNumber/m, capabilities === "" ? "SystemCallFilter=capset\n$&" : "$&");
      writeFileSync(box.path("/etc/systemd/system/probe.service"), text);
    };
    const sysinfo = async () => {
      await box.run(["sh", "-c", "rm -f /run/log-probe; systemctl daemon-reload; systemctl start probe"]);
      return JSON.parse(box.log("probe")) as Sections;
    };
    const denied = expect.stringContaining("not permitted");
    const base = { interfaces: "ok", routes: "ok", neighbors: "ok", rules: "ok", system: "ok" };
    probe("");
    expect((await sysinfo()).collectors).toEqual({ ...base, wireguard: denied, firewall: denied });
    // Reading alone does not connect to a socket.
    probe("CAP_NET_ADMIN CAP_DAC_READ_SEARCH");
    expect((await sysinfo()).collectors).toEqual({ ...base, wireguard: denied, firewall: "ok" });
    probe("CAP_NET_ADMIN CAP_DAC_OVERRIDE");
    const { collectors, wireguard } = await sysinfo();
    expect(collectors).toEqual({ ...base, wireguard: "ok", firewall: "ok" });
    expect(wireguard[0]!.peers!.map(({ public_key }) => public_key)).toEqual([peer.publicKey]);
    await box.run(["sh", "-c", "rm /etc/systemd/system/probe.service /run/log-probe; systemctl daemon-reload"]);
  }, 60_000);

  test("systemd finds no fault with the units, and rates them as README says", async () => {
    const units = ["kattila-agent.service", "kattila-manager.service"];
    const verified = await box.run(["systemd-analyze", "verify", ...units]);
    expect(verified.stdout + verified.stderr).toBe("");
    const readme = readFileSync(join(PACKAGING, "README.md"), "utf8").replace(/ +/g, " ");
    const exposure = async (...words: string[]) => {
      const { stdout } = await box.run(["systemd-analyze", "security", "--no-pager", ...words]);
      return /Overall exposure level for \S+: ([0-9.]+)/.exec(stdout)![1]!;
    };
    // As the file is, without the drop-in that is installed by now.
    await box.run(["cp", "/mnt/1/kattila-agent.service", "/run/alone.service"]);
    const alone = await exposure("--offline=true", "/run/alone.service");
    const withDropIn = await exposure(units[0]!);
    const manager = await exposure(units[1]!);
    expect(readme).toContain(`| ${alone}; with the drop-in ${withDropIn} | ${manager} |`);
    for (const figure of [alone, withDropIn, manager]) expect(Number(figure)).toBeLessThan(2);
  }, 60_000);

  test("what ends comes again, but not with a wrong setting; nothing is restarted without need", async () => {
    const pid = await box.show("kattila-agent", "MainPID");
    expect((await install("agent", agentBinary())).stdout).toEndWith(": unchanged\n");
    expect(await box.show("kattila-agent", "MainPID")).toBe(pid);
    await box.run(["systemctl", "kill", "-s", "KILL", "kattila-agent"]);
    await eventually("it is back", async () => {
      const now = await box.show("kattila-agent", "MainPID");
      return now !== "0" && now !== pid;
    });
    const wrong = "echo REPORT_INTERVAL=soon >> /etc/kattila/agent.env; systemctl restart kattila-agent";
    await box.run(["sh", "-c", wrong], { check: false });
    await eventually("it has ended", async () => (await box.show("kattila-agent", "ActiveState")) === "failed");
    expect(box.log("kattila-agent")).toContain('agent: REPORT_INTERVAL="soon": must be');
    // It is put right by naming it.
    expect((await install("agent", agentBinary(), "--interval", "1")).stdout).toEndWith(": changed\n");
    expect(await box.show("kattila-agent", "ActiveState")).toBe("active");
    expect(readFileSync(box.path("/etc/kattila/agent.env"), "utf8").match(/REPORT_INTERVAL/g)).toHaveLength(1);
  }, 60_000);

  test("uninstall with --keep-state keeps the identity; with --yes nothing is left", async () => {
    const [agent] = await agents();
    expect(await box.changed()).toContain("/etc/kattila/agent.env");
    expect((await install("uninstall", "agent", "--keep-state")).exitCode).toBe(0);
    expect(await box.show("kattila-agent", "LoadState")).toBe("not-found");
    expect((await box.run(["pgrep", "-x", "kattila-agent"], { check: false })).stdout).toBe("");
    expect((await install("agent", agentBinary())).stdout).toEndWith(": installed\n");
    await eventually("it reports again", async () => {
      const [now] = await agents();
      return now!.agent_id === agent!.agent_id && now!.tick > agent!.tick;
    });
    for (const program of ["agent", "manager"]) {
      expect(await install("uninstall", program, "--yes")).toMatchObject({ exitCode: 0, stderr: "" });
      expect((await install("uninstall", program, "--yes")).exitCode).toBe(0);
    }
    // useradd and userdel wrote these anew; neither user is in them.
    const accounts = /^\/etc\/(passwd|shadow|group|gshadow|subuid|subgid)-?$|^\/etc\/\.pwd\.lock$/;
    expect((await box.changed()).filter((path) => !accounts.test(path))).toEqual(before);
    expect((await box.run(["getent", "passwd", "kattila-agent", "kattila-manager"], { check: false })).stdout).toBe("");
    expect((await box.run(["getent", "group", "kattila-agent", "kattila-manager"], { check: false })).stdout).toBe("");
    for (const path of ["/etc/kattila", "/var/lib/kattila-agent", "/etc/systemd/system/kattila-agent.service.d"])
      expect((await box.run(["ls", path], { check: false })).exitCode).not.toBe(0);
  }, 60_000);
};
if (refused === null) describeWith(NEEDS, "as services", services);
