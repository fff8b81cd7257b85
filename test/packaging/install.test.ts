// install.sh below a directory of its own (--root), as any user, with small scripts for binaries: what it refuses, what it
// writes with which modes, that a second run changes nothing, that no key is shown, and that nothing is left afterwards.
import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeWith } from "../support/needs.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const PACKAGING = join(import.meta.dir, "../../packaging");
const INSTALL = join(PACKAGING, "install.sh");
/** Of no fleet: made to be looked for where it must not be. */
const KEY = "canary-of-the-packaging-test-0123456789";

let work: string;
let root: string;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), "kattila-packaging-"));
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

/** A script that answers as the program would. */
function program(name: string, lines: string): string {
  const path = join(work, name);
  writeFileSync(path, `#!/bin/sh\n${lines}\n`, { mode: 0o644 });
  return path;
}
const answering = (kind: string, version = "1.2.3") =>
  `case $1 in -version) echo ${version} ;; -help) echo "kattila ${kind}: does things" ;; esac`;

/** Runs install.sh with the stage as its root. */
function run(words: string[], input?: string, prefix: string[] = []) {
  const child = Bun.spawnSync([...prefix, INSTALL, ...words, "--root", root], {
    stdin: input === undefined ? "ignore" : Buffer.from(input),
    env: { PATH: process.env.PATH! },
    timeout: 30_000,
  });
  return { code: child.exitCode, stdout: child.stdout.toString(), stderr: child.stderr.toString() };
}

/** Every file and directory of the stage with its mode, and what is in the file. */
function stage(): Record<string, string> {
  const found: Record<string, string> = {};
  for (const path of readdirSync(root, { recursive: true, encoding: "utf8" })) {
    const stat = statSync(join(root, path));
    const mode = (stat.mode & 0o7777).toString(8);
    found[path] = stat.isDirectory() ? mode : `${mode} ${readFileSync(join(root, path), "utf8")}`;
  }
  return found;
}
const modes = () => Object.fromEntries(Object.entries(stage()).map(([path, text]) => [path, text.split(" ")[0]]));

let agent: string;
let manager: string;
const URL = ["--manager-url", "http://10.80.0.1:5086"];
beforeEach(() => {
  root = mkdtempSync(join(work, "root-"));
  // What every host has.
  for (const path of ["usr/local/bin", "etc/systemd/system", "var/lib"])
    mkdirSync(join(root, path), { recursive: true });
  agent = program("agent", answering("agent"));
  manager = program("manager", answering("manager"));
});

describe("install.sh", () => {
  test("an agent with its key from stdin: files and modes; a second run changes nothing; uninstall leaves nothing", () => {
    const before = stage();
    const first = run(
      ["agent", agent, ...URL, "--interval", "60", "--psk-file", "-", "--userspace-wireguard"],
      `${KEY}\n`,
    );
    expect(first).toMatchObject({ code: 0, stderr: "" });
    expect(first.stdout).toEndWith("kattila-agent 1.2.3: installed\n");
    const made = modes();
    for (const path of Object.keys(before)) delete made[path];
    expect(made).toEqual({
      "usr/local/bin/kattila-agent": "755",
      "etc/kattila": "755",
      "etc/kattila/agent.env": "600",
      "etc/systemd/system/kattila-agent.service": "644",
      "etc/systemd/system/kattila-agent.service.d": "755",
      "etc/systemd/system/kattila-agent.service.d/userspace-wireguard.conf": "644",
      "var/lib/kattila-agent": "700",
      "var/lib/kattila-agent/kattila.psk": "600",
    });
    const env = readFileSync(join(root, "etc/kattila/agent.env"), "utf8");
    expect(env).toContain("\nMANAGER_URL=http://10.80.0.1:5086\nREPORT_INTERVAL=60\n");
    expect(env).not.toContain(KEY);
    const after = stage();
    for (const words of [[], [...URL], ["--interval", "60"], ["--psk-file", "-"]]) {
      const again = run(["agent", agent, ...words], `${KEY}\n`);
      expect(again.code).toBe(0);
      expect(again.stdout).toEndWith("kattila-agent 1.2.3: unchanged\n");
    }
    expect(stage()).toEqual(after);
    expect(run(["uninstall", "agent", "--yes"])).toMatchObject({ code: 0, stdout: "kattila-agent: removed\n" });
    expect(stage()).toEqual(before);
    // Once more is no error.
    expect(run(["uninstall", "agent", "--yes"]).code).toBe(0);
  });

  test("uninstall takes the socket directory that the userspace drop-in makes, unless a WireGuard has its socket there", () => {
    const sockets = join(root, "run/wireguard");
    for (const [words, socket, left] of [
      [["--userspace-wireguard"], null, []],
      [["--userspace-wireguard"], "wg0.sock", ["wg0.sock"]],
      [[], null, []],
    ] as const) {
      rmSync(sockets, { recursive: true, force: true });
      run(["agent", agent, ...URL, "--psk-file", "-", ...words], KEY);
      mkdirSync(sockets, { recursive: true });
      if (socket !== null) writeFileSync(join(sockets, socket), "");
      expect(run(["uninstall", "agent", "--yes"])).toMatchObject({ code: 0, stdout: "kattila-agent: removed\n" });
      expect(existsSync(sockets)).toBe(socket !== null || words.length === 0);
      if (existsSync(sockets)) expect(readdirSync(sockets)).toEqual([...left]);
    }
  });

  test("an upgrade keeps settings that others wrote; options change what they name; a new source of the key replaces the old", () => {
    run(["agent", agent, ...URL, "--psk-file", "-"], KEY);
    const file = join(root, "etc/kattila/agent.env");
    writeFileSync(file, `${readFileSync(file, "utf8")}AGENT_ALLOW=10.0.0.0/8\nPSK_FILE=/etc/kattila/key\n`);
    program("agent", answering("agent", "1.3.0"));
    expect(run(["agent", agent]).stdout).toEndWith("kattila-agent 1.3.0: upgraded\n");
    expect(readFileSync(file, "utf8")).toContain("AGENT_ALLOW=10.0.0.0/8\nPSK_FILE=/etc/kattila/key\n");
    const changed = run([
      "agent",
      agent,
      "--dns",
      "k.example.com",
      "--manager-url",
      "https://a.example,https://[fd00::1]:1",
    ]);
    expect(changed.stdout).toEndWith(": changed\n");
    const settings = () => readFileSync(file, "utf8").trim().split("\n").slice(1);
    const url = "MANAGER_URL=https://a.example,https://[fd00::1]:1";
    expect(settings()).toEqual(["AGENT_ALLOW=10.0.0.0/8", "DNS=k.example.com", url]);
    expect(run(["agent", agent, "--psk-file", "-"], KEY).stdout).toEndWith(": changed\n");
    expect(settings()).toEqual(["AGENT_ALLOW=10.0.0.0/8", url]);
  });

  test("--keep-state keeps settings and state, and a later install goes on with them", () => {
    run(["manager", manager, "--psk-file", "-"], KEY);
    expect(run(["uninstall", "manager", "--keep-state"]).code).toBe(0);
    expect(
      Object.keys(stage())
        .filter((path) => path.includes("kattila"))
        .sort(),
    ).toEqual([
      "etc/kattila",
      "etc/kattila/manager.env",
      "var/lib/kattila-manager",
      "var/lib/kattila-manager/kattila.psk",
    ]);
    expect(run(["manager", manager]).stdout).toEndWith(": installed\n");
    expect(readFileSync(join(root, "var/lib/kattila-manager/kattila.psk"), "utf8")).toBe(KEY);
  });

  test("uninstall leaves what is not its own, and says so", () => {
    run(["manager", manager]);
    writeFileSync(join(root, "etc/kattila/ca.pem"), "");
    writeFileSync(join(root, "etc/kattila/manager.env"), "DB_PATH=/srv/kattila.db\n");
    const { code, stdout } = run(["uninstall", "manager", "--yes"]);
    expect(code).toBe(0);
    expect(stdout).toContain("left where DB_PATH said: /srv/kattila.db\n");
    expect(stdout).toMatch(/left, for other files are there: .*\/etc\/kattila\n/);
    expect(Object.keys(stage())).toContain("etc/kattila/ca.pem");
  });

  const url = "--manager-url must be http:// or https:// URLs without user, query or fragment";
  const silent = () => program("silent", "exit 0");
  test.each<[string, () => string[], number, string]>([
    ["nothing", () => [], 2, "agent or manager?"],
    ["an unknown program", () => ["relay", agent], 2, "unexpected relay"],
    ["no binary", () => ["agent", ...URL, "--dns", "k.example"], 2, "agent needs the path of its binary"],
    [
      "a binary that is not there",
      () => ["agent", "/nowhere", ...URL, "--dns", "k.example"],
      1,
      "/nowhere is no file that can be read",
    ],
    ["no manager", () => ["agent", agent, "--dns", "k.example"], 2, "an agent needs --manager-url URL"],
    ["no key", () => ["agent", agent, ...URL], 2, "an agent needs the key: --dns NAME or --psk-file FILE"],
    [
      "two keys",
      () => ["agent", agent, ...URL, "--dns", "k.example", "--psk-file", agent],
      2,
      "choose one: --dns or --psk-file",
    ],
    ["a URL without scheme", () => ["agent", agent, "--manager-url", "10.80.0.1:5086"], 2, url],
    ["a URL with a password", () => ["agent", agent, "--manager-url", "http://u:p@host"], 2, url],
    ["a URL with a query", () => ["agent", agent, "--manager-url", "http://host/?a"], 2, url],
    [
      "a URL and a setting behind it",
      () => ["agent", agent, "--manager-url", "http://host\nPSK_FILE=/etc/shadow"],
      2,
      url,
    ],
    ["an empty value", () => ["agent", agent, "--manager-url", ""], 2, "--manager-url needs a value, or is no option"],
    [
      "an interval of 0",
      () => ["agent", agent, ...URL, "--interval", "0"],
      2,
      "--interval must be a number of seconds from 1 to 86400",
    ],
    [
      "an interval over a day",
      () => ["agent", agent, ...URL, "--interval", "86401"],
      2,
      "--interval must be a number of seconds from 1 to 86400",
    ],
    [
      "a key that is none",
      () => ["agent", agent, "--manager-key", "abc"],
      2,
      "--manager-key must be base64 of 32 bytes",
    ],
    ["a name with a space", () => ["agent", agent, "--dns", "a b"], 2, "--dns must be a DNS name"],
    ["an unknown option", () => ["agent", agent, "--nonsense", "x"], 2, "unknown option --nonsense"],
    [
      "an agent's option for the manager",
      () => ["manager", manager, ...URL],
      2,
      "MANAGER_URL is a setting of the agent",
    ],
    [
      "a drop-in for the manager",
      () => ["manager", manager, "--userspace-wireguard"],
      2,
      "--userspace-wireguard is for the agent",
    ],
    [
      "the wrong binary",
      () => ["agent", manager, ...URL, "--dns", "k.example"],
      1,
      "is not the agent: nothing was changed",
    ],
    [
      "a binary without version",
      () => ["agent", silent(), ...URL, "--dns", "k.example"],
      1,
      "does not run here, or is no kattila program",
    ],
    ["uninstall of nothing", () => ["uninstall"], 2, "agent or manager?"],
    [
      "uninstall without a word on the state",
      () => ["uninstall", "agent"],
      2,
      "--yes removes them, --keep-state keeps them",
    ],
    [
      "uninstall with settings",
      () => ["uninstall", "agent", "--yes", "--interval", "1"],
      2,
      "uninstall takes --yes, --keep-state and --root",
    ],
    [
      "uninstall with both words on the state",
      () => ["uninstall", "agent", "--keep-state", "--yes"],
      2,
      "choose one: --yes or --keep-state",
    ],
  ])("%s is refused in one line, and nothing changes", (_, words, code, message) => {
    const before = stage();
    const answer = run(words());
    expect([answer.code, answer.stdout]).toEqual([code, ""]);
    expect(answer.stderr).toContain(message);
    expect(answer.stderr).toMatch(/^install\.sh: .*\n$/);
    expect(stage()).toEqual(before);
  });

  test("a link where the key belongs is replaced; what it names stays as it was, also with the same content", () => {
    run(["agent", agent, ...URL, "--psk-file", "-"], KEY);
    const key = join(root, "var/lib/kattila-agent/kattila.psk");
    const elsewhere = join(root, "elsewhere");
    writeFileSync(elsewhere, KEY, { mode: 0o644 });
    rmSync(key);
    symlinkSync(elsewhere, key);
    expect(run(["agent", agent, "--psk-file", "-"], KEY).code).toBe(0);
    expect([lstatSync(key).isFile(), (lstatSync(key).mode & 0o777).toString(8)]).toEqual([true, "600"]);
    expect((statSync(elsewhere).mode & 0o777).toString(8)).toBe("644");
  });

  test("a bad binary does not replace a good one", () => {
    run(["manager", manager]);
    const before = stage();
    expect(run(["manager", program("broken", "exit 1")]).code).toBe(1);
    expect(run(["manager", program("garbage", "\x7fELF")]).code).toBe(1);
    expect(stage()).toEqual(before);
  });

  test.each([
    ["short", "0123456789"],
    ["of two lines", `${KEY}\n${KEY}\n`],
    ["empty", ""],
  ])("a key that is %s is refused without showing it", (_, key) => {
    const before = stage();
    const { code, stdout, stderr } = run(["agent", agent, ...URL, "--psk-file", "-"], key);
    expect({ code, stdout, stderr }).toEqual({
      code: 1,
      stdout: "",
      stderr: "install.sh: the key in - must be one line of 16 bytes or more\n",
    });
    expect(stage()).toEqual(before);
  });
});

describeWith(["strace"], "the key", () => {
  test("is in no argument, environment or output of any process of install.sh", () => {
    const trace = join(work, "trace");
    const file = join(work, "key");
    writeFileSync(file, KEY, { mode: 0o600 });
    const strace = ["strace", "-f", "-v", "-s", "4096", "-e", "trace=execve", "-o", trace];
    for (const [name, input] of [
      [file, undefined],
      ["-", KEY],
    ] as const) {
      const { code, stdout, stderr } = run(["agent", agent, ...URL, "--psk-file", name], input, strace);
      expect(code).toBe(0);
      const calls = readFileSync(trace, "utf8");
      // It saw what was run, with its arguments.
      expect(calls).toContain('"--manager-url", "http://10.80.0.1:5086"');
      expect(calls + stdout + stderr).not.toContain(KEY.slice(0, 12));
      expect(readFileSync(join(root, "var/lib/kattila-agent/kattila.psk"), "utf8")).toBe(KEY);
    }
  });
});

describeWith(["shellcheck"], "install.sh's text", () => {
  test("is POSIX sh that shellcheck has nothing to say about", () => {
    const { stdout, exitCode } = Bun.spawnSync(["shellcheck", "--shell=sh", INSTALL]);
    expect(stdout.toString()).toBe("");
    expect(exitCode).toBe(0);
  });
});
