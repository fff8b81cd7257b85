// Owns how a test runs this project's own programs on lab hosts: the manager, agents, and HTTP from and into a host.
import { createServer, type Server } from "node:net";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Host } from "./host.ts";
import type { LabProcess } from "./namespace.ts";

const ROOT = join(import.meta.dir, "../..");
export const MANAGER_PORT = 5086;
export const AGENT_PORT = 5087;
/** No answer on a lab's own network takes longer, and a test wants to know soon. */
const REQUEST_TIMEOUT_MS = 10_000;

export type HttpAnswer = { status: number; headers: Record<string, string>; text: string };
type HttpRequest = { method?: string; headers?: Record<string, string>; body?: string; timeoutMs?: number };

/** A request sent from a host, over its own network. Throws when there is no answer. */
export async function request(host: Host, url: string, options: HttpRequest = {}): Promise<HttpAnswer> {
  const { method = "GET", headers = {}, body, timeoutMs = REQUEST_TIMEOUT_MS } = options;
  const script = `
    const { url, timeoutMs, ...init } = JSON.parse(await Bun.stdin.text());
    const answer = await fetch(url, { ...init, redirect: "manual", proxy: "", signal: AbortSignal.timeout(timeoutMs) });
    const text = await answer.text();
    console.log(JSON.stringify({ status: answer.status, headers: Object.fromEntries(answer.headers), text }));`;
  const { stdout } = await host.run([process.execPath, "-e", script], {
    input: JSON.stringify({ url, timeoutMs, method, headers, ...(body === undefined ? {} : { body }) }),
    timeoutMs: timeoutMs + 5_000,
  });
  return JSON.parse(stdout) as HttpAnswer;
}

/** A way from the test into a host's loopback port, without touching the machine's network: a small relay inside the
 * host listens on a Unix socket, which both sides see. To the program, requests come from its own loopback. */
export class Door {
  private server: Server | null = null;
  private constructor(
    private readonly socket: string,
    private readonly relay: LabProcess,
    readonly port: number,
  ) {}

  static async open(host: Host, port: number): Promise<Door> {
    const socket = join(host.dir, `door-${port}.sock`);
    // A door that was shut by a kill leaves its socket.
    const script = `
      const { createServer, connect } = require("node:net");
      require("node:fs").rmSync(${JSON.stringify(socket)}, { force: true });
      createServer((outer) => {
        const inner = connect(${port}, "127.0.0.1");
        outer.pipe(inner).pipe(outer);
        outer.on("error", () => inner.destroy());
        inner.on("error", () => outer.destroy());
        outer.on("close", () => inner.destroy());
        inner.on("close", () => outer.destroy());
      }).listen(${JSON.stringify(socket)}, () => console.log("open"));`;
    const relay = await host.spawn([process.execPath, "-e", script], { name: `door-${port}` });
    await relay.waitFor("open");
    return new Door(socket, relay, port);
  }

  /** `fetch` of a path of the program: `/status/agents`. */
  fetch(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(`http://localhost:${this.port}${path}`, {
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      ...init,
      unix: this.socket,
    });
  }

  /** The JSON at a path; throws with the answer when the status is not 2xx. */
  async json<T>(path: string, init?: RequestInit): Promise<T> {
    const response = await this.fetch(path, init);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  }

  /** A loopback port of the machine that leads there, for a browser. Returns its URL. */
  async listen(): Promise<string> {
    const { connect } = await import("node:net");
    this.server ??= createServer((outer) => {
      const inner = connect(this.socket);
      outer.pipe(inner).pipe(outer);
      outer.on("error", () => inner.destroy());
      inner.on("error", () => outer.destroy());
      outer.on("close", () => inner.destroy());
      inner.on("close", () => outer.destroy());
    });
    await new Promise<void>((resolve) => this.server!.listen(0, "127.0.0.1", resolve));
    return `http://localhost:${(this.server.address() as { port: number }).port}`;
  }

  async close(): Promise<void> {
    this.server?.close();
    await this.relay.stop(1_000);
  }
}

/** Environment of a program: the test's own settings only, whatever the machine has set. */
function environment(settings: Record<string, string>): Record<string, string> {
  return { TZ: "UTC", ...settings };
}

export type ManagerOptions = {
  /** Settings: DNS, DNS_SERVERS, PSK, NOTIFY_URL, … */
  settings?: Record<string, string>;
  /** Default: a directory of the host's own, the same at every start. */
  stateDir?: string;
  /** In front of the command: `["faketime", "-f", "+1h"]`. */
  prefix?: string[];
};

/** A manager on a host. */
export class RunningManager {
  private constructor(
    readonly host: Host,
    readonly stateDir: string,
    readonly process: LabProcess,
    /** Into its API, as if from its own host. */
    readonly door: Door,
  ) {}

  /** Starts `bun manager/main.ts` and waits until it serves. */
  static async start(
    host: Host,
    { settings = {}, stateDir, prefix = [] }: ManagerOptions = {},
  ): Promise<RunningManager> {
    const dir = stateDir ?? join(host.dir, "manager");
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const running = await host.spawn([...prefix, process.execPath, join(ROOT, "manager/main.ts")], {
      name: "manager",
      cwd: dir,
      env: environment({ STATE_DIR: dir, ...settings }),
    });
    await running.waitFor("serves on");
    return new RunningManager(host, dir, running, await Door.open(host, MANAGER_PORT));
  }

  get databasePath(): string {
    return join(this.stateDir, "kattila_manager.db");
  }

  /** JSON of a GET, as seen from its own loopback. */
  get<T>(path: string): Promise<T> {
    return this.door.json<T>(path);
  }

  /** SIGTERM; the exit code. */
  async stop(): Promise<number> {
    await this.door.close();
    return this.process.stop();
  }

  /** `kill -9`. */
  async kill(): Promise<void> {
    await this.door.close();
    this.process.kill("SIGKILL");
    await this.process.exited;
  }
}

export function startManager(host: Host, options?: ManagerOptions): Promise<RunningManager> {
  return RunningManager.start(host, options);
}

export type AgentOptions = {
  managerUrl: string;
  /** Settings: DNS, DNS_SERVERS, PSK, AGENT_ALLOW, … */
  settings?: Record<string, string>;
  /** Seconds between reports; default 1, the shortest. */
  intervalSeconds?: number;
  /** Default: a directory of the host's own, the same at every start. */
  stateDir?: string;
  prefix?: string[];
  /** The compiled binary (default), or `bun agent/main.ts`, which needs no build. */
  compiled?: boolean;
};

/** An agent on a host. */
export class RunningAgent {
  private constructor(
    readonly host: Host,
    readonly stateDir: string,
    readonly process: LabProcess,
    readonly command: string[],
    readonly environment: Record<string, string>,
  ) {}

  static async start(host: Host, options: AgentOptions): Promise<RunningAgent> {
    const { managerUrl, settings = {}, intervalSeconds = 1, prefix = [], compiled = true } = options;
    const dir = options.stateDir ?? join(host.dir, "agent");
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const command = [...prefix, ...(compiled ? [agentBinary()] : [process.execPath, join(ROOT, "agent/main.ts")])];
    const env = environment({
      STATE_DIR: dir,
      MANAGER_URL: managerUrl,
      REPORT_INTERVAL: String(intervalSeconds),
      ...settings,
    });
    const running = await host.spawn(command, { name: "agent", cwd: dir, env });
    return new RunningAgent(host, dir, running, command, env);
  }

  /** Runs the agent's command line on the same state: `cli("-sysinfo")`. */
  async cli(...flags: string[]): Promise<{ stdout: string; stderr: string; exitCode: number }> {
    return this.host.run([...this.command, ...flags], { env: this.environment, cwd: this.stateDir, check: false });
  }

  /** SIGTERM; the exit code. */
  stop(): Promise<number> {
    return this.process.stop();
  }

  async kill(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.process.exited;
  }
}

export function startAgent(host: Host, options: AgentOptions): Promise<RunningAgent> {
  return RunningAgent.start(host, options);
}

/** Path of the compiled agent for this machine. Throws when it has not been built. */
export function agentBinary(): string {
  const path = join(ROOT, `agent/bin/agent-${process.arch === "arm64" ? "arm64" : "amd64"}`);
  if (!existsSync(path)) throw new Error(`${path} is not there: bun run build makes it`);
  return path;
}

/** Waits until `probe` returns something else than null, false or undefined, or throws; `what` says what was missed. */
export async function eventually<T>(
  what: string,
  probe: () => T | Promise<T>,
  timeoutMs = 30_000,
): Promise<NonNullable<Exclude<T, false>>> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    let last: unknown = null;
    try {
      const value = await probe();
      if (value !== null && value !== undefined && value !== false) return value as NonNullable<Exclude<T, false>>;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`did not happen in ${timeoutMs} ms: ${what}`, { cause: last });
    await Bun.sleep(100);
  }
}
