// The agent's command line, run as a process against a listening manager: what each flag prints, where, its exit code, and
// what it leaves behind.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AGENT_HELP } from "../../agent/cli.ts";
import { verifyMac } from "../../shared/envelope.ts";
import type { Envelope, Report } from "../../shared/report.ts";
import { VERSION } from "../../shared/version.ts";
import { type Ground, ground } from "../manager/support.ts";
import { silentResolvers } from "../support/silent_dns.ts";
import { captured, ownDirectory, runAgent, spawnAgent } from "./support.ts";
import { stopwatch } from "../support/stopwatch.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const LOOPBACK = { AGENT_LISTEN: "127.0.0.1", AGENT_PORT: "0" };

let own: ReturnType<typeof ownDirectory>;
let state: string;
beforeEach(() => {
  own = ownDirectory();
  state = join(own.path, "state");
});
afterEach(() => own[Symbol.dispose]());

test.each([
  [["-version"], `${VERSION}\n`],
  [["--version"], `${VERSION}\n`],
  [["-help"], AGENT_HELP],
  [["--help"], AGENT_HELP],
  [["-h"], AGENT_HELP],
])("%p prints and exits 0, also where the settings are wrong; nothing is made", async (flags, stdout) => {
  expect(await runAgent(flags, own.path, { AGENT_PORT: "wrong", STATE_DIR: state })).toEqual({
    exitCode: 0,
    stdout,
    stderr: "",
  });
  expect(readdirSync(own.path)).toEqual([]);
});

test.each([
  [["-nope"], 'unknown flag "-nope"; see -help'],
  [["--nope=1"], 'unknown flag "--nope=1"; see -help'],
  [["run"], 'unexpected "run"; see -help'],
  [["---once"], 'unexpected "---once"; see -help'],
  [["-"], 'unexpected "-"; see -help'],
  [["-once", "x"], "-once takes no argument; see -help"],
  [["-reset", "-once"], "-reset takes no argument; see -help"],
  [["-dump"], "-dump takes one FILE; see -help"],
  [["-dump", ""], "-dump takes one FILE; see -help"],
  [["-dump", "a", "b"], "-dump takes one FILE; see -help"],
  [["-discover", "x"], "-discover takes -json or nothing; see -help"],
  [["-json"], "-json goes with -discover; see -help"],
])("%p is wrong usage: one line, exit 2, nothing made", async (flags, line) => {
  expect(await runAgent(flags, own.path, { STATE_DIR: state })).toEqual({
    exitCode: 2,
    stdout: "",
    stderr: `agent: ${line}\n`,
  });
  expect(readdirSync(own.path)).toEqual([]);
});

describe("where it cannot start: one line that names the setting, and its exit code", () => {
  const starts = (environment: Record<string, string>, flags: string[] = []) =>
    runAgent(flags, own.path, { ...LOOPBACK, STATE_DIR: state, LOG_LEVEL: "error", ...environment });

  test("a port that another agent serves", async () => {
    using other = Bun.serve({ port: 0, hostname: "127.0.0.1", reusePort: true, fetch: () => new Response() });
    expect(await starts({ AGENT_PORT: String(other.port) })).toEqual({
      exitCode: 1,
      stdout: "",
      stderr: `agent: cannot listen on 127.0.0.1, port ${other.port}: another program does: end it, or set AGENT_PORT\n`,
    });
  });

  test("an address that this host has not", async () => {
    expect(await starts({ AGENT_LISTEN: "192.0.2.1" })).toEqual({
      exitCode: 1,
      stdout: "",
      stderr:
        "agent: cannot listen on 192.0.2.1, port 0: this host has no such address: set AGENT_LISTEN to one it has\n",
    });
  });

  test.each([[[]], [["-once"]], [["-dump", "dump.json"]], [["-reset"]]])(
    "%p: a state directory that is none",
    async (flags) => {
      writeFileSync(state, "");
      expect(await starts({}, flags)).toEqual({
        exitCode: 2,
        stdout: "",
        stderr: `agent: STATE_DIR=${JSON.stringify(state)}: must be a directory, or one that can be made (EEXIST)\n`,
      });
    },
  );

  test("an outbox that is a symbolic link: refused, and what it names is left alone", async () => {
    const elsewhere = join(own.path, "elsewhere");
    mkdirSync(state);
    mkdirSync(elsewhere);
    writeFileSync(join(elsewhere, "000000000001-1.json"), "precious");
    symlinkSync(elsewhere, join(state, "agent_outbox"));
    for (const flags of [[], ["-once"]]) {
      expect(await starts({}, flags)).toEqual({
        exitCode: 1,
        stdout: "",
        stderr: `agent: ${join(state, "agent_outbox")} is not a directory: remove it\n`,
      });
    }
    expect(readFileSync(join(elsewhere, "000000000001-1.json"), "utf8")).toBe("precious");
  });
});

/** A directory of programs that print what was captured: in front of the host's own on the PATH. */
function capturedPrograms(): string {
  const directory = join(own.path, "bin");
  mkdirSync(directory);
  const cat = (name: string) => `exec /bin/cat ${join(import.meta.dir, "../fixtures/debian-12-lab", name)}`;
  writeFileSync(
    join(directory, "wg"),
    `#!/bin/sh\ncase "$2" in interfaces) ${cat("wg-interfaces.txt")};; wg0) ${cat("wg0.dump")};; wg1) ${cat("wg1.dump")};; esac\nexit 1\n`,
    { mode: 0o755 },
  );
  return directory;
}
/** The private and preshared keys of the captured host. */
const SECRETS = ["wg0.dump", "wg1.dump"]
  .flatMap((name) =>
    captured(name)
      .trim()
      .split("\n")
      .map((line, i) => line.split("\t")[i === 0 ? 0 : 1]!),
  )
  .filter((key) => key !== "(none)");

test("-sysinfo needs neither PSK nor state nor right settings, and prints no private key", async () => {
  const path = `${capturedPrograms()}:${process.env["PATH"]}`;
  const { exitCode, stdout, stderr } = await runAgent(["-sysinfo"], own.path, {
    PATH: path,
    PSK: "short",
    STATE_DIR: state,
  });
  expect([exitCode, stderr]).toEqual([0, ""]);
  const told = JSON.parse(stdout) as Report;
  expect(told).toMatchObject({ agent_version: VERSION, collectors: { wireguard: "ok", system: "ok" } });
  expect(told.wireguard!.map((item) => item.peers!.length).sort()).toEqual([0, 3]);
  expect(SECRETS).toHaveLength(4);
  for (const secret of SECRETS) expect(stdout).not.toContain(secret);
  expect(existsSync(state)).toBe(false);
});

describe("what is printed arrives whole, or the exit code says that it did not", () => {
  /** `agent -sysinfo` of a host with 2,000 routes, its output `into` a file or a pipe of the shell's. */
  const shell = (into: string) => {
    const programs = join(own.path, "bin");
    mkdirSync(programs);
    const routes = Array.from({ length: 2000 }, (_, i) => ({ dst: `10.${i >> 8}.${i & 255}.0/24`, dev: "eth0" }));
    writeFileSync(join(own.path, "routes"), JSON.stringify(routes));
    writeFileSync(
      join(programs, "ip"),
      `#!/bin/sh\ncase "$2$3" in -4route) exec /bin/cat ${join(own.path, "routes")};; esac\necho '[]'\n`,
      { mode: 0o755 },
    );
    const agent = `'${process.execPath}' --no-env-file '${join(import.meta.dir, "../../agent/main.ts")}' -sysinfo`;
    const { stdout, stderr } = Bun.spawnSync(["bash", "-c", `{ ${agent}; echo "exit $?" >&2; } ${into}`], {
      cwd: own.path,
      env: { PATH: `${programs}:${process.env["PATH"]}` },
      timeout: 20_000,
    });
    return { stdout: stdout.toString(), stderr: stderr.toString() };
  };

  test("to a reader that is slow: more than a pipe holds", () => {
    const { stdout, stderr } = shell("| { sleep 0.5; cat; }");
    expect(stderr).toBe("exit 0\n");
    expect(stdout.length).toBeGreaterThan(2 * 65_536);
    expect((JSON.parse(stdout) as Report).routes).toHaveLength(2000);
  });

  test("to a reader that has enough: no failure, and no trace", () => {
    expect(shell("| head -n 1")).toEqual({ stdout: "{\n", stderr: "exit 0\n" });
  });

  test("to a disk that is full: exit 1, and why", () => {
    const { stderr } = shell("> /dev/full");
    expect(stderr).toMatch(/^agent: what was printed could not be written: ENOSPC[^\n]*\nexit 1\n$/);
  });
});

describe("beside a manager", () => {
  let manager: Ground;
  let settings: Record<string, string>;
  beforeAll(async () => {
    manager = await ground();
  });
  afterAll(() => manager.remove());
  beforeEach(() => {
    settings = { ...LOOPBACK, PSK: manager.psk, MANAGER_URL: manager.url, STATE_DIR: state };
  });
  const run = (flags: string[], more: Record<string, string> = {}) =>
    runAgent(flags, own.path, { ...settings, ...more });
  const id = () => readFileSync(join(state, "agent_id.txt"), "utf8").split("\n")[0]!;
  const deliver = (path: string, envelope: string) =>
    fetch(`${manager.url}${path}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: envelope,
    });
  const codeOf = async (answer: Response) =>
    (JSON.parse(((await answer.json()) as Envelope).data) as { code: string }).code;

  test("-once says what the manager answered", async () => {
    const { exitCode, stdout, stderr } = await run(["-once"], { LOG_LEVEL: "error" });
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^delivered 1 report as [0-9a-f-]{36}, direct: 200 accepted \(.*\)\n$/);
    expect(stdout).toContain(id());
  });

  test("-once with another fleet's PSK: exit 1, the manager's answer, and the report waits", async () => {
    const { exitCode, stdout, stderr } = await run(["--once"], {
      PSK: "another-fleets-key-0123456789abcdef",
      LOG_LEVEL: "error",
    });
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/^agent: not delivered: 401 unauthenticated: .*; 1 wait in the outbox\n$/);
  });

  test("-once where nobody listens: exit 1, which way failed, and the report waits for the next", async () => {
    // A port that was free a moment ago.
    const gone = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
    const url = `http://127.0.0.1:${gone.port}`;
    await gone.stop(true);
    const away = await run(["-once"], { MANAGER_URL: url, LOG_LEVEL: "error" });
    expect([away.exitCode, away.stdout]).toEqual([1, ""]);
    expect(away.stderr).toBe(
      `agent: not delivered: ${url}: ECONNREFUSED: connection refused: nothing listens on that port, or a firewall rejects; 1 wait in the outbox\n`,
    );
    const back = await run(["-once"], { MANAGER_URL: `${url},${manager.url}`, LOG_LEVEL: "error" });
    expect([back.exitCode, back.stderr]).toEqual([0, ""]);
    expect(back.stdout).toStartWith("delivered 2 reports as ");
  });

  test("-once where a stranger listens: what it says is one line, bounded, and moves no cursor", async () => {
    using stranger = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: () => Response.json({ error: "\u001b[2J", message: `a\nb\u009b1A${"x".repeat(10_000)}` }, { status: 403 }),
    });
    const { exitCode, stderr } = await run(["-once"], {
      MANAGER_URL: `http://127.0.0.1:${stranger.port}`,
      LOG_LEVEL: "error",
    });
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^agent: not delivered: 403 \?\[2J: a\?b\?1Ax+; 1 wait in the outbox\n$/);
    expect(stderr.length).toBeLessThan(400);
  });

  test("-once without any PSK: exit 1, and where one was looked for", async () => {
    const { PSK: _psk, ...without } = settings;
    const { exitCode, stdout, stderr } = await runAgent(["-once"], own.path, { ...without, LOG_LEVEL: "error" });
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr.trimEnd().split("\n").at(-1)).toContain(join(state, "kattila.psk"));
  });

  test("an agent started in the manager's directory finds its key", async () => {
    const { PSK: _psk, ...without } = settings;
    const { exitCode, stdout } = await runAgent(["-once"], own.path, { ...without, STATE_DIR: manager.directory });
    expect([exitCode, stdout]).toEqual([0, expect.stringContaining("200 accepted")]);
  });

  test("-dump writes exactly what would be sent: 0600, whole, without a private key; the manager takes it", async () => {
    await run(["-once"]);
    const target = join(own.path, "report.json");
    writeFileSync(target, "older, and readable", { mode: 0o644 });
    const path = `${capturedPrograms()}:${process.env["PATH"]}`;
    const { exitCode, stdout, stderr } = await run(["-dump", "report.json"], { PATH: path, LOG_LEVEL: "error" });
    expect([exitCode, stdout, stderr]).toEqual([0, `the signed report is in ${target}\n`, ""]);
    expect(statSync(target).mode & 0o777).toBe(0o600);
    const text = readFileSync(target, "utf8");
    const envelope = JSON.parse(text) as Envelope;
    expect(Object.keys(envelope)).toEqual(["v", "data", "hmac", "sig"]);
    expect(await verifyMac(envelope, [manager.psk])).toBe(0);
    expect(JSON.parse(envelope.data)).toMatchObject({ type: "report", agent_id: id(), tick: 2 });
    expect(JSON.parse(envelope.data).wireguard).toHaveLength(2);
    for (const secret of [...SECRETS, manager.psk]) expect(text).not.toContain(secret);

    const altered = await deliver("/status/updates", text.replace(/\\"tick\\":2,/, '\\"tick\\":3,'));
    expect(altered.status).toBe(401);
    const first = await deliver("/status/updates", text);
    expect([first.status, await codeOf(first)]).toEqual([200, "accepted"]);
    const again = await deliver("/status/updates", text);
    expect([again.status, await codeOf(again)]).toEqual([409, "replay"]);
    const reset = await deliver("/status/admin/reset", text);
    expect(reset.status).toBe(401);
    // Its tick was its own: the next report has another.
    expect((await run(["-once"])).stdout).toContain("200 accepted");
    expect(readFileSync(join(state, "agent_tick"), "utf8")).toBe("3\n");
  });

  test("-dump over a link, or into a directory that is not there: exit 1, nothing written", async () => {
    writeFileSync(join(own.path, "mine"), "mine");
    symlinkSync(join(own.path, "mine"), join(own.path, "link"));
    const link = await run(["-dump", "link"], { LOG_LEVEL: "error" });
    expect(link).toEqual({
      exitCode: 1,
      stdout: "",
      stderr: `agent: ${join(own.path, "link")} is a symbolic link: replace it by the file itself\n`,
    });
    expect(readFileSync(join(own.path, "mine"), "utf8")).toBe("mine");
    const nowhere = await run(["-dump", "no/such/file"], { LOG_LEVEL: "error" });
    expect([nowhere.exitCode, nowhere.stderr]).toEqual([1, expect.stringContaining("(ENOENT)")]);
  });

  test("-reset: a new id and key, an empty outbox; the manager sees another agent", async () => {
    await run(["-once"]);
    await run(["-once"], { MANAGER_URL: "http://127.0.0.1:9" });
    const [before, key] = [id(), readFileSync(join(state, "agent_key"), "utf8")];
    expect(readdirSync(join(state, "agent_outbox")).filter((name) => name.endsWith(".json"))).toHaveLength(1);
    const { exitCode, stdout, stderr } = await run(["-reset"], { LOG_LEVEL: "error" });
    expect([exitCode, stdout, stderr]).toEqual([0, `this agent is ${id()} now\n`, ""]);
    expect(id()).not.toBe(before);
    expect(readFileSync(join(state, "agent_key"), "utf8")).not.toBe(key);
    expect((await run(["-once"])).stdout).toStartWith(`delivered 1 report as ${id()}, direct: 200 accepted`);
    expect(readFileSync(join(state, "agent_tick"), "utf8")).toBe("1\n");
  });

  test("-discover, of a host without WireGuard: a table's line, or [] as JSON; takes no lock and makes nothing", async () => {
    // Only the fake programs are found: this machine's WireGuard is none of the test's.
    mkdirSync(join(own.path, "none"));
    writeFileSync(join(own.path, "none/wg"), "#!/bin/sh\nexit 0\n", { mode: 0o755 });
    const path = { PATH: `${join(own.path, "none")}:${process.env["PATH"]}`, AGENT_PORT: "5087" };
    expect(await run(["-discover"], path)).toEqual({
      exitCode: 0,
      stdout: "no agent answered on port 5087: this host has no WireGuard interface\n",
      stderr: "",
    });
    for (const flags of [
      ["-discover", "-json"],
      ["--discover", "--json"],
      ["-json", "-discover"],
    ])
      expect(await run(flags, path)).toEqual({ exitCode: 0, stdout: "[]\n", stderr: "" });
    expect(existsSync(state)).toBe(false);
    // As a user who may not ask: nobody was, and that is said.
    writeFileSync(
      join(own.path, "none/wg"),
      '#!/bin/sh\necho \'Unable to access interface wg0: Operation not permitted\' >&2\n[ "$2" != interfaces ] || echo wg0\n[ "$2" = interfaces ]\n',
    );
    expect((await run(["-discover"], path)).stdout).toMatch(
      /^no agent answered on port 5087: WireGuard could not be read whole \(error: .*not permitted.*\)\n$/,
    );
  });

  describe("and a daemon", () => {
    let daemon: ReturnType<typeof spawnAgent>;
    let said: string;
    let drained: Promise<void>;
    let port: number;
    function start(more: Record<string, string>): void {
      said = "";
      daemon = spawnAgent([], own.path, { ...settings, ...more });
      drained = (async () => {
        const decoder = new TextDecoder();
        for await (const chunk of daemon.stderr) said += decoder.decode(chunk, { stream: true });
      })();
    }
    beforeEach(async () => {
      start({ REPORT_INTERVAL: "1" });
      for (const until = Date.now() + 10_000; !said.includes('"event":"registered"');) {
        if (Date.now() > until) throw new Error(`the daemon did not register: ${said}`);
        await Bun.sleep(20);
      }
      port = Number(/"port":([0-9]+)/.exec(said)![1]);
    });
    afterEach(async () => {
      daemon.kill("SIGKILL");
      await daemon.exited;
    });
    const end = async (signal: "SIGTERM" | "SIGINT") => {
      const watch = stopwatch();
      daemon.kill(signal);
      const exitCode = await daemon.exited;
      await drained;
      return { exitCode, seconds: watch.ms() / 1000 };
    };

    test.each(["SIGTERM", "SIGINT"] as const)("%s ends it in order, with exit code 0, within 10 s", async (signal) => {
      const { exitCode, seconds } = await end(signal);
      expect(exitCode).toBe(0);
      expect(seconds).toBeLessThan(10);
      const events = said
        .trim()
        .split("\n")
        .map((line) => (JSON.parse(line) as { event: string }).event);
      expect(events).toContain("agent_stopping");
      expect(events.at(-1)).toBe("agent_stopped");
      expect(said).not.toContain(manager.psk);
    });

    test("SIGTERM while the manager hangs: within 10 s, and the report is in the outbox", async () => {
      await end("SIGTERM");
      using silent = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Promise<Response>(() => {}) });
      start({ MANAGER_URL: `http://127.0.0.1:${silent.port}`, REPORT_INTERVAL: "2" });
      // Until its first report is on the way.
      for (const until = Date.now() + 10_000; silent.pendingRequests === 0 && Date.now() < until;) await Bun.sleep(20);
      expect(silent.pendingRequests).toBe(1);
      const { exitCode, seconds } = await end("SIGTERM");
      expect(exitCode).toBe(0);
      expect(seconds).toBeLessThan(10);
      expect(readdirSync(join(state, "agent_outbox")).filter((name) => name.endsWith(".json"))).toHaveLength(1);
      await silent.stop(true);
    });

    test("SIGTERM while wg hangs, and then the manager by each of its ways: within 10 s all together", async () => {
      await end("SIGTERM");
      const [bin, asked] = [join(own.path, "bin"), join(own.path, "asked")];
      mkdirSync(bin);
      writeFileSync(join(bin, "wg"), `#!/bin/sh\n: > ${asked}\nexec sleep 60\n`, { mode: 0o755 });
      using silent = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Promise<Response>(() => {}) });
      const ways = ["", "/second", "/third"].map((path) => `http://127.0.0.1:${silent.port}${path}`);
      start({ PATH: `${bin}:${process.env["PATH"]}`, MANAGER_URL: ways.join(), REPORT_INTERVAL: "30" });
      for (const until = Date.now() + 10_000; !existsSync(asked) && Date.now() < until;) await Bun.sleep(20);
      const { exitCode, seconds } = await end("SIGTERM");
      expect(exitCode).toBe(0);
      expect(seconds).toBeLessThan(10);
      // It was collected, and is kept.
      expect(readdirSync(join(state, "agent_outbox")).filter((name) => name.endsWith(".json"))).toHaveLength(1);
      await silent.stop(true);
    });

    test("SIGTERM while its resolvers are silent from the start on: within 10 s", async () => {
      await end("SIGTERM");
      using silent = await silentResolvers();
      start({ PSK: "", DNS: "kattila.test", DNS_SERVERS: silent.servers });
      for (const until = Date.now() + 10_000; !said.includes('"event":"agent_started"') && Date.now() < until;)
        await Bun.sleep(20);
      const { exitCode, seconds } = await end("SIGTERM");
      expect(exitCode).toBe(0);
      expect(seconds).toBeLessThan(10);
    }, 40_000);

    test("-once and a second daemon are refused: the state is held; -dump is not", async () => {
      const once = await run(["-once"]);
      expect(once).toEqual({
        exitCode: 1,
        stdout: "",
        stderr: `agent: an agent runs on ${state}: it sends by itself; end it first, or set STATE_DIR\n`,
      });
      expect(await run([])).toEqual({
        exitCode: 1,
        stdout: "",
        stderr: `agent: an agent runs on ${state} already: end it, or set STATE_DIR\n`,
      });
      expect((await run(["-dump", "out"])).exitCode).toBe(0);
      const { tick } = JSON.parse((JSON.parse(readFileSync(join(own.path, "out"), "utf8")) as Envelope).data) as Report;
      expect(tick).toBeGreaterThan(0);
    });

    test("its lock is free after a kill -9", async () => {
      daemon.kill("SIGKILL");
      await daemon.exited;
      expect((await run(["-once"])).stdout).toContain("200 accepted");
    });

    test("-reset goes to it: it takes a new identity and reports under it", async () => {
      const before = id();
      const { exitCode, stdout, stderr } = await run(["-reset"], { AGENT_PORT: String(port), LOG_LEVEL: "error" });
      expect([exitCode, stderr]).toEqual([0, ""]);
      expect(stdout).toBe(`the running agent is ${id()} now (version ${VERSION})\n`);
      expect(id()).not.toBe(before);
      const seen = async () => {
        const { agents } = (await (await fetch(`${manager.url}/status/agents`)).json()) as {
          agents: { agent_id: string; tick: number }[];
        };
        return agents.find((agent) => agent.agent_id === id())?.tick ?? 0;
      };
      for (const until = Date.now() + 8000; (await seen()) === 0 && Date.now() < until;) await Bun.sleep(100);
      expect(await seen()).toBeGreaterThan(0);
    });

    test("-reset with another PSK, or at a port where nobody listens: exit 1, why, and nothing changes", async () => {
      const before = id();
      const other = await run(["-reset"], {
        AGENT_PORT: String(port),
        PSK: "another-fleets-key-0123456789abcdef",
        STATE_DIR: state,
        LOG_LEVEL: "error",
      });
      expect([other.exitCode, other.stderr]).toEqual([
        1,
        "agent: the running agent did not take the reset: status 401\n",
      ]);
      const nobody = await run(["-reset"], { AGENT_PORT: "9", LOG_LEVEL: "error" });
      expect([nobody.exitCode, nobody.stderr]).toEqual([
        1,
        expect.stringMatching(/^agent: the running agent did not take the reset: .+\n$/),
      ]);
      expect(id()).toBe(before);
    });
  });
});
