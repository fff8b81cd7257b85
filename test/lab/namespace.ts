// Owns one set of Linux namespaces (network, mount, pid, host name) and the processes in it. A holder process is its
// pid 1 and reads from a pipe of ours: when this process ends, however it ends, the pipe closes, the holder exits, and
// the kernel kills what is left inside and frees the interfaces. So nothing has to be swept up after a crash.
import { appendFileSync, closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";

/** No command of a lab takes longer; `ping` and the like say their own. */
const COMMAND_TIMEOUT_MS = 20_000;

export type RunOptions = {
  timeoutMs?: number;
  input?: string;
  env?: Record<string, string>;
  cwd?: string;
  /** false: a non-zero exit is an answer, not an error. */
  check?: boolean;
};
export type RunResult = { stdout: string; stderr: string; exitCode: number };

/** A long-running program inside a namespace. Its output goes to `logFile`. */
export type LabProcess = {
  /** Of the program itself, as seen from outside the namespace. */
  pid: number;
  logFile: string;
  /** What it has printed so far, stdout and stderr together. */
  output(): string;
  /** Sends a signal to the program; false when it is gone. */
  kill(signal?: NodeJS.Signals): boolean;
  /** Exit code; 128 + signal number where a signal ended it. */
  exited: Promise<number>;
  /** SIGTERM, then SIGKILL after `graceMs`; resolves with the exit code. */
  stop(graceMs?: number): Promise<number>;
  /** Waits until the output holds `text`; throws with the output when it has not by then, or the program ended. */
  waitFor(text: string | RegExp, timeoutMs?: number): Promise<void>;
};

/** Runs in the new namespaces as pid 1. `$1` is the host name, the rest are `source target` pairs of files to bind. */
const HOLDER_SCRIPT = `
set -e
read -r outer_pid rest < /proc/self/stat
hostname "$1"; shift
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /run/wireguard
mount -t tmpfs -o mode=0700 tmpfs /run/wireguard
while [ $# -gt 1 ]; do mount --bind "$1" "$2"; shift 2; done
for key in all default; do
  echo 0 > /proc/sys/net/ipv6/conf/$key/accept_dad
  echo 0 > /proc/sys/net/ipv6/conf/$key/accept_ra
  echo 0 > /proc/sys/net/ipv6/conf/$key/router_solicitations
done
ip link set lo up
echo "$outer_pid"
exec cat > /dev/null
`;

export type NamespaceOptions = {
  hostname: string;
  /** Where logs go; made if it is not there. */
  dir: string;
  /** Files of the real host to be replaced inside: target path → content. */
  files?: Record<string, string>;
};

export class Namespace {
  private logs = 0;
  /** An nsenter each. It stops itself when its program is stopped, and stays so unless it is told to go on. */
  private readonly spawned: Subprocess[] = [];
  private constructor(
    readonly hostname: string,
    readonly dir: string,
    /** Of the holder, as seen from outside. `/proc/<pid>/root` is the mount namespace's view. */
    readonly pid: number,
    private readonly holder: Subprocess<"pipe", "pipe", "pipe">,
  ) {}

  /** Makes the namespaces. `lo` is up, /proc, /sys and /run/wireguard are its own. */
  static async create({ hostname, dir, files = {} }: NamespaceOptions): Promise<Namespace> {
    mkdirSync(dir, { recursive: true });
    const binds: string[] = [];
    for (const [target, content] of Object.entries(files)) {
      const source = join(dir, `bind-${binds.length / 2}`);
      writeFileSync(source, content);
      binds.push(source, target);
    }
    const holder = Bun.spawn(
      [
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--uts",
        "--kill-child",
        "--",
        "sh",
        "-c",
        HOLDER_SCRIPT,
        "holder",
      ].concat(hostname, binds),
      { stdin: "pipe", stdout: "pipe", stderr: "pipe" },
    );
    // The runtime keeps this process alive for a child otherwise, even when all else is done.
    holder.unref();
    const reader = holder.stdout.getReader();
    let text = "";
    while (!text.includes("\n")) {
      const { value, done } = await reader.read();
      if (done) {
        throw new Error(`cannot make namespaces for ${hostname}: ${(await new Response(holder.stderr).text()).trim()}`);
      }
      text += Buffer.from(value).toString();
    }
    reader.releaseLock();
    return new Namespace(hostname, dir, Number(text), holder);
  }

  get alive(): boolean {
    return this.holder.exitCode === null && this.holder.signalCode === null;
  }

  /** Where a path of this namespace's mounts is, as seen from outside. */
  path(path: string): string {
    return `/proc/${this.pid}/root${path}`;
  }

  private enter(command: string[]): string[] {
    return ["nsenter", "-t", String(this.pid), "--net", "--mount", "--pid", "--uts", "--wd=/", "--", ...command];
  }

  /** Runs a command to its end. Throws on a non-zero exit (unless `check: false`) and on time-out. */
  async run(command: string[], options: RunOptions = {}): Promise<RunResult> {
    const { timeoutMs = COMMAND_TIMEOUT_MS, input, env, cwd, check = true } = options;
    // `timeout` runs inside: killing nsenter from outside would leave the command behind.
    const limited = ["timeout", "-s", "KILL", String(timeoutMs / 1000), ...command];
    const child = Bun.spawn(this.enter(cwd === undefined ? limited : ["env", "-C", cwd, ...limited]), {
      stdin: input === undefined ? "ignore" : Buffer.from(input),
      stdout: "pipe",
      stderr: "pipe",
      env: { ...process.env, ...env },
    });
    const [stdout, stderr, exitCode] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    if (exitCode === 137) throw new Error(`${this.hostname}: ${command.join(" ")} took over ${timeoutMs} ms`);
    if (check && exitCode !== 0) {
      throw new Error(`${this.hostname}: ${command.join(" ")} exited ${exitCode}: ${(stderr || stdout).trim()}`);
    }
    return { stdout, stderr, exitCode };
  }

  /** Starts a program that keeps running until it is stopped or the namespace ends. */
  async spawn(
    command: string[],
    options: { name?: string; env?: Record<string, string>; cwd?: string } = {},
  ): Promise<LabProcess> {
    const logFile = join(
      this.dir,
      `${String(this.logs++).padStart(2, "0")}-${options.name ?? command[0]!.split("/").pop()}.log`,
    );
    appendFileSync(logFile, "");
    const log = openSync(logFile, "a");
    const child = Bun.spawn(this.enter(options.cwd === undefined ? command : ["env", "-C", options.cwd, ...command]), {
      stdin: "ignore",
      stdout: log,
      stderr: log,
      env: { ...process.env, ...options.env },
    });
    closeSync(log);
    child.unref();
    this.spawned.push(child);
    const exited = child.exited.then((code) => code);
    const output = () => readFileSync(logFile, "utf8");
    const pid = await childOf(child, output);
    const kill = (signal: NodeJS.Signals = "SIGTERM") => {
      if (child.exitCode !== null || child.signalCode !== null) return false;
      try {
        return process.kill(pid, signal);
      } catch {
        return false;
      } finally {
        if (signal !== "SIGSTOP") child.kill("SIGCONT");
      }
    };
    return {
      pid,
      logFile,
      output,
      kill,
      exited,
      async stop(graceMs = 10_000) {
        kill("SIGTERM");
        const timer = setTimeout(() => kill("SIGKILL"), graceMs);
        const code = await exited;
        clearTimeout(timer);
        return code;
      },
      async waitFor(text, timeoutMs = 30_000) {
        const has = () => (typeof text === "string" ? output().includes(text) : text.test(output()));
        const deadline = Date.now() + timeoutMs;
        while (!has()) {
          const ended = child.exitCode !== null || child.signalCode !== null;
          if (ended || Date.now() > deadline) {
            if (has()) return;
            throw new Error(`${command[0]} ${ended ? "ended" : "ran"} without printing ${text}:\n${output()}`);
          }
          await Bun.sleep(20);
        }
      },
    };
  }

  /** Ends every process inside and frees the interfaces: to others, the host has lost power. */
  async kill(): Promise<void> {
    // The holder itself, not the unshare above it: pid 1 is reaped only after everything else inside has ended.
    if (this.alive) process.kill(this.pid, "SIGKILL");
    for (const child of this.spawned) child.kill("SIGCONT"); // it has a program to reap, or pid 1 waits for ever
    await this.holder.exited;
  }
}

/** nsenter forks to enter a pid namespace: the program is its one child. */
async function childOf(parent: Subprocess, output: () => string): Promise<number> {
  for (const until = Date.now() + COMMAND_TIMEOUT_MS; Date.now() < until;) {
    try {
      const children = readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, "utf8").trim();
      if (children !== "") return Number(children.split(" ")[0]);
    } catch {
      break; // ended already
    }
    await Bun.sleep(2);
  }
  // It is gone: a pid that no process has, so that kill() says false.
  if (parent.exitCode !== null || parent.signalCode !== null) return 2 ** 31 - 1;
  parent.kill("SIGKILL");
  await parent.exited;
  throw new Error(`a program in a namespace could not be started: ${output()}`);
}
