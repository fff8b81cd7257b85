// Owns what the agent's tests share: a host that says what it is told, the captured one, and a private directory.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Agent, openAgent } from "../../agent/agent.ts";
import type { Host, RunResult, TextResult } from "../../agent/host.ts";
import type { ServerOptions } from "../../agent/server.ts";
import { agentSettings } from "../../agent/settings.ts";
import { createLog, type Log } from "../../shared/log.ts";
import type { Peer, Wireguard } from "../../shared/report.ts";

export const FIXTURE = join(import.meta.dir, "../fixtures/debian-12-lab");

/** A file of the captured host. */
export const captured = (name: string): string => readFileSync(join(FIXTURE, name), "utf8");

export type Told = {
  /** Command line → what it prints, or how it fails; one that is not here is not installed. */
  programs?: Record<string, string | RunResult>;
  /** Path below /proc → its text; one that is not here is missing. */
  proc?: Record<string, string>;
  sys?: Record<string, string>;
};

/** A host that knows only what it is told, and remembers what it was asked. */
export function toldHost({ programs = {}, proc = {}, sys = {} }: Told): Host & { asked: string[]; stdin: string[] } {
  const file = (files: Record<string, string>, path: string): TextResult =>
    path in files ? { ok: true, text: files[path]! } : { ok: false, missing: true, reason: "ENOENT" };
  const asked: string[] = [];
  const stdin: string[] = [];
  return {
    asked,
    stdin,
    async proc(path) {
      asked.push(`/proc/${path}`);
      return file(proc, path);
    },
    async sys(path) {
      asked.push(`/sys/${path}`);
      return file(sys, path);
    },
    async sysList(path) {
      const names = Object.keys(sys)
        .filter((name) => name.startsWith(`${path}/`))
        .map((name) => name.slice(path.length + 1).split("/")[0]!);
      return [...new Set(names)];
    },
    async run(argv, options = {}) {
      const line = argv.join(" ");
      asked.push(line);
      if (options.stdin !== undefined) stdin.push(options.stdin);
      const answer = programs[line];
      if (answer === undefined) return { is: "missing" };
      return typeof answer === "string" ? { is: "ok", stdout: answer } : answer;
    },
  };
}

/** A program's failure as `run` tells it. */
export const failed = (stderr: string, code = 1, stdout = ""): RunResult => ({ is: "failed", code, stdout, stderr });

/** The captured host: its programs and /proc, with `over` laid on top. */
export function capturedHost(over: Told = {}) {
  const programs: Record<string, string | RunResult> = {
    "wg show interfaces": captured("wg-interfaces.txt"),
    "wg show wg0 dump": captured("wg0.dump"),
    "wg show wg1 dump": captured("wg1.dump"),
    "ip -j -d -s addr": captured("addr.out"),
    "ip -j -4 route show table all": captured("route4.out"),
    "ip -j -6 route show table all": captured("route6.out"),
    "ip -j -4 rule": captured("rule4.out"),
    "ip -j -6 rule": captured("rule6.out"),
    "ip -s -j neigh": captured("neigh.out"),
    "ip -force -j -batch -": captured("route-get.out"),
    "bridge -j fdb show dev vx7": captured("fdb.out"),
    "nft -j list chains": captured("nft.out"),
    ...over.programs,
  };
  const proc: Record<string, string> = { ...over.proc };
  for (const name of ["net/route", "net/ipv6_route", "net/arp", "net/dev", "loadavg", "meminfo", "uptime"])
    proc[name] ??= captured(`proc/${name}`);
  return toldHost({ programs, proc, sys: over.sys ?? {} });
}

/** Hand-written: WireGuard `name` with a peer for each of these; what is not told is unknown or none. */
export function tunnel(peers: readonly Partial<Peer>[], name = "wg0", fwmark: number | null = null): Wireguard {
  const whole = peers.map((peer): Peer => ({
    public_key: `${"A".repeat(43)}=`,
    endpoint: null,
    allowed_ips: [],
    latest_handshake_at: null,
    rx_bytes: 0,
    tx_bytes: 0,
    persistent_keepalive_s: null,
    ...peer,
  }));
  return { interface: name, public_key: null, listen_port: null, fwmark, peers: whole, status: "ok" };
}

/** A directory of the test's own, removed at the end of its scope. */
export function ownDirectory(): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "kattila-agent-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** A log that keeps its lines. */
export function keptLog(): { log: Log; lines: string[] } {
  const lines: string[] = [];
  return { log: createLog("debug", (line) => lines.push(line)), lines };
}

/** The environment of an agent's process: nothing of ours but the PATH. */
function agentEnvironment(environment: Record<string, string>): Record<string, string> {
  return { PATH: process.env["PATH"] ?? "", ...environment };
}

/** `bun agent/main.ts` with `directory` as its working directory. */
export function spawnAgent(flags: readonly string[], directory: string, environment: Record<string, string>) {
  return Bun.spawn(
    // As bunfig.toml has it for who starts it in the checkout, and the build for the binaries.
    [process.execPath, "--no-env-file", join(import.meta.dir, "../../agent/main.ts"), ...flags],
    {
      cwd: directory,
      env: agentEnvironment(environment),
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: 60_000,
      killSignal: "SIGKILL",
    },
  );
}

/** Runs it to its end. */
export async function runAgent(flags: readonly string[], directory: string, environment: Record<string, string>) {
  const child = spawnAgent(flags, directory, environment);
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  await child.exited;
  return { exitCode: child.exitCode, stdout, stderr };
}

export type OwnAgent = {
  agent: Agent;
  /** As `createAgentApp` and `serveAgent` take it; a test may put its own over it. */
  server: ServerOptions;
  directory: string;
  psk: string;
  lines: string[];
} & Disposable;

/** An agent that is not running, with state of its own; `host` is what it collects from. */
export async function ownAgent(environment: Record<string, string> = {}, host: Host = toldHost({})): Promise<OwnAgent> {
  const own = ownDirectory();
  const { log, lines } = keptLog();
  const psk = environment["PSK"] ?? "agent-test-fleet-key-0123456789abcdef";
  const settings = agentSettings({ PSK: psk, STATE_DIR: join(own.path, "state"), ...environment }, own.path);
  const agent = await openAgent(settings, host, log, { machineIdPath: join(own.path, "no-machine-id") });
  await agent.psk.once();
  const server: ServerOptions = {
    listen: "127.0.0.1",
    port: 0,
    allow: settings.allow,
    identity: agent.identity,
    outbox: agent.outbox,
    psk: agent.psk,
    delivery: agent.delivery,
    relay: agent.relay,
    sections: agent.sections,
    hostname: agent.hostname,
    reset: agent.reset,
    startedAt: Date.now(),
    log,
  };
  return { agent, server, directory: settings.stateDirectory, psk, lines, [Symbol.dispose]: own[Symbol.dispose] };
}

export type Gate = {
  url: string;
  /** Bodies that came, in their order. */
  bodies: string[];
  /** Most requests that were under way at once. */
  atOnce: number;
  /** Answers in the manager's place; null: the manager does. It may ask the manager for its answer first. */
  instead: ((forward: () => Promise<Response>) => Response | Promise<Response>) | null;
} & AsyncDisposable;

/** Stands between an agent and the manager at `to`. */
export function gateTo(to: { url: string }): Gate {
  let underWay = 0;
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    development: false,
    async fetch(request) {
      const body = await request.text();
      gate.bodies.push(body);
      gate.atOnce = Math.max(gate.atOnce, ++underWay);
      const forward = () =>
        fetch(`${to.url}${new URL(request.url).pathname}`, {
          method: request.method,
          headers: { "Content-Type": "application/json" },
          ...(body === "" ? {} : { body }),
        }).catch(() => new Response(null, { status: 502 }));
      try {
        return await (gate.instead === null ? forward() : gate.instead(forward));
      } finally {
        underWay--;
      }
    },
  });
  const gate: Gate = {
    url: `http://127.0.0.1:${server.port}`,
    bodies: [],
    atOnce: 0,
    instead: null,
    [Symbol.asyncDispose]: () => server.stop(true),
  };
  return gate;
}
