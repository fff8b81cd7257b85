// Owns the agent's only way to the host: reading small files under /proc and /sys, and running programs. Never throws for
// what can be expected of a host; every program has a deadline and an output limit.
import * as fs from "node:fs/promises";

export type HostOptions = {
  /** Tests point these at fixtures. */
  procRoot?: string;
  sysRoot?: string;
  /** PATH of the programs that are run. */
  path?: string;
};

export type TextResult = { ok: true; text: string } | { ok: false; missing: boolean; reason: string };

export type RunResult =
  | { is: "ok"; stdout: string }
  | { is: "missing" }
  | { is: "denied"; stderr: string }
  | { is: "timeout" }
  | { is: "too_large" }
  | { is: "failed"; code: number; stdout: string; stderr: string };

export type Host = {
  /** A file below /proc, by its path without that. */
  proc(path: string): Promise<TextResult>;
  /** A file below /sys. */
  sys(path: string): Promise<TextResult>;
  /** Names in a directory below /sys; [] where there is none. */
  sysList(path: string): Promise<string[]>;
  run(argv: readonly string[], options?: { stdin?: string; timeoutMs?: number }): Promise<RunResult>;
};

/** A collector that hangs is killed after this (issue 2): `wg` answers in a millisecond, a hung socket never. */
const TIMEOUT_MS = 5000;
/** A BGP host's routing table as JSON is about 20 MB; more than this is not a host that we can report. */
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
const MAX_STDERR_BYTES = 4096;
// Daemons started by systemd or cron may lack the administrator's directories.
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

async function read(path: string): Promise<TextResult> {
  try {
    return { ok: true, text: await fs.readFile(path, "utf8") };
  } catch (error) {
    const code = (error as { code?: string }).code ?? "error";
    // An interface that vanishes mid-read says ENODEV or EINVAL.
    return { ok: false, missing: code === "ENOENT" || code === "ENODEV" || code === "ENOTDIR", reason: code };
  }
}

/** Reads a stream up to `limit` bytes; null: there was more. It goes on draining, so that the program can end. */
async function drain(stream: ReadableStream<Uint8Array>, limit: number): Promise<string | null> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream as unknown as AsyncIterable<Uint8Array>) {
    size += chunk.byteLength;
    if (size <= limit) chunks.push(chunk);
  }
  return size > limit ? null : Buffer.concat(chunks).toString("utf8");
}

async function run(
  path: string,
  argv: readonly string[],
  options: { stdin?: string; timeoutMs?: number },
): Promise<RunResult> {
  const program = Bun.which(argv[0]!, { PATH: path });
  if (program === null) return { is: "missing" };
  let child: Bun.Subprocess<"pipe" | "ignore", "pipe", "pipe">;
  try {
    child = Bun.spawn([program, ...argv.slice(1)], {
      env: { PATH: path, LC_ALL: "C" },
      stdin: options.stdin === undefined ? "ignore" : "pipe",
      stdout: "pipe",
      stderr: "pipe",
    });
  } catch (error) {
    const code = (error as { code?: string }).code ?? "";
    if (code === "EACCES" || code === "EPERM") return { is: "denied", stderr: code };
    return code === "ENOENT" ? { is: "missing" } : { is: "failed", code: -1, stdout: "", stderr: code };
  }
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, options.timeoutMs ?? TIMEOUT_MS);
  try {
    const output = Promise.all([
      drain(child.stdout, MAX_OUTPUT_BYTES),
      drain(child.stderr, MAX_STDERR_BYTES),
      child.exited,
    ]);
    if (options.stdin !== undefined) {
      const stdin = child.stdin as Bun.FileSink;
      stdin.write(options.stdin);
      await stdin.end();
    }
    // A killed program's children may hold its pipes: the deadline ends the wait as well.
    const done = await Promise.race([output, Bun.sleep((options.timeoutMs ?? TIMEOUT_MS) + 250).then(() => null)]);
    if (timedOut || done === null) return { is: "timeout" };
    const [stdout, stderr, code] = done;
    if (stdout === null) return { is: "too_large" };
    if (code === 0) return { is: "ok", stdout };
    const words = stderr ?? "";
    if (/operation not permitted|permission denied/i.test(words)) return { is: "denied", stderr: words };
    return { is: "failed", code, stdout, stderr: words };
  } catch (error) {
    return timedOut
      ? { is: "timeout" }
      : { is: "failed", code: -1, stdout: "", stderr: String((error as Error).message) };
  } finally {
    clearTimeout(timer);
    if (child.exitCode === null) child.kill("SIGKILL");
  }
}

export function createHost(options: HostOptions = {}): Host {
  const {
    procRoot = "/proc",
    sysRoot = "/sys",
    path = process.env.PATH ? `${process.env.PATH}:${DEFAULT_PATH}` : DEFAULT_PATH,
  } = options;
  return {
    proc: (name) => read(`${procRoot}/${name}`),
    sys: (name) => read(`${sysRoot}/${name}`),
    sysList: (name) => fs.readdir(`${sysRoot}/${name}`).catch(() => []),
    run: (argv, runOptions = {}) => run(path, argv, runOptions),
  };
}

/** Why a program did not answer, in one line without its output. */
export function failure(program: string, result: Exclude<RunResult, { is: "ok" }>): string {
  switch (result.is) {
    case "missing":
      return `${program} is not installed`;
    case "denied":
      return `${program}: not permitted (run as root, or grant CAP_NET_ADMIN)`;
    case "timeout":
      return `${program} did not answer within 5 s and was killed`;
    case "too_large":
      return `${program} printed more than ${MAX_OUTPUT_BYTES} bytes`;
    case "failed":
      return `${program} failed (exit ${result.code}): ${withoutKeys(result.stderr.trim().split("\n")[0] ?? "").slice(0, 120)}`;
  }
}

/** Whatever looks like a key, of a program's words: 43 base64 characters and "=". */
function withoutKeys(text: string): string {
  return text.replace(/[A-Za-z0-9+/]{43}=/g, "(key)");
}
