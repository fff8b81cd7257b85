// Owns what the tests of a listening manager share: a manager on loopback in a directory of its own, an agent that signs
// for itself, a report with one of everything, and sockets that say exactly what they are told.
import { Database } from "bun:sqlite";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StreamEvents } from "../../shared/api.ts";
import { type RunningManager, startManager } from "../../manager/server.ts";
import { managerSettings } from "../../manager/settings.ts";
import { newNonce, seal, type SigningKey } from "../../shared/envelope.ts";
import { createLog } from "../../shared/log.ts";
import type { Envelope } from "../../shared/report.ts";
import { createSender, type Posted, post } from "../fleet/sender.ts";
import { stopwatch } from "../support/stopwatch.ts";

export type Ground = {
  directory: string;
  databasePath: string;
  /** What the manager logged, all levels. */
  lines: string[];
  /** The manager's clock; null: the real one. */
  clock: { at: number | null };
  now(): number;
  url: string;
  port: number;
  /** The newest PSK in the manager's ring. */
  psk: string;
  adminToken: string;
  start(more?: Record<string, string>): Promise<void>;
  stop(): Promise<void>;
  /** Looks at the clock now, as the manager does every second. */
  advance(): Promise<void>;
  /** Rows of what a message could have stored. */
  stored(): Record<string, number>;
  /** Stops it and removes the directory. */
  remove(): Promise<void>;
};

/** A manager on a free loopback port, started, with its own state and database. */
export async function ground(environment: Record<string, string> = {}): Promise<Ground> {
  const directory = mkdtempSync(join(tmpdir(), "kattila-manager-"));
  const databasePath = join(directory, "kattila.db");
  const read = (name: string) => readFileSync(join(directory, name), "utf8").trim();
  let manager: RunningManager | null = null;
  const own: Ground = {
    directory,
    databasePath,
    lines: [],
    clock: { at: null },
    url: "",
    port: 0,
    psk: "",
    adminToken: "",
    now: () => own.clock.at ?? Date.now(),
    async start(more = {}) {
      manager = await startManager(
        managerSettings(
          {
            MANAGER_LISTEN: "127.0.0.1",
            MANAGER_PORT: "0",
            DB_PATH: databasePath,
            STATE_DIR: directory,
            ...environment,
            ...more,
          },
          directory,
        ),
        createLog("debug", (line) => own.lines.push(line)),
        { now: own.now },
      );
      own.port = manager.port;
      own.url = `http://127.0.0.1:${own.port}`;
      own.psk = (JSON.parse(read("manager_psk_ring")) as { psks: string[] }).psks[0]!;
      own.adminToken = environment["ADMIN_TOKEN"] ?? read("admin_token");
    },
    async stop() {
      await manager?.stop();
      manager = null;
    },
    advance: async () => manager?.advance(),
    stored: () => storedRows(databasePath),
    async remove() {
      await own.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
  await own.start();
  return own;
}

const STORED = ["agents", "retired_agents", "agent_interfaces", "reports", "topology_nodes", "topology_edges"] as const;

function storedRows(path: string): Record<string, number> {
  using database = new Database(path, { readonly: true });
  const count = (table: string) => (database.query(`SELECT count(*) AS n FROM ${table}`).get() as { n: number }).n;
  return Object.fromEntries(STORED.map((table) => [table, count(table)]));
}

/** A WireGuard key that nobody has: base64 of 32 times one byte. */
export function publicKeyOf(byte: number): string {
  return new Uint8Array(32).fill(byte).toBase64();
}

export type Data = Record<string, unknown>;

/** Hand-written: a report's data with one of everything, so that each field can be made wrong in its place. */
export function reportData(agentId: string, tick: number, now: number, over: Data = {}): Data {
  return {
    v: 1,
    type: "report",
    agent_id: agentId,
    tick,
    nonce: newNonce(),
    sent_at: now,
    collected_at: now - 12,
    age_ms: 12,
    boot_id: "4c7ff6a4-0a3b-4a53-8f00-1a2b3c4d5e6f",
    agent_version: "0.1.0",
    interval_s: 30,
    dropped: 0,
    collectors: { wireguard: "ok", interfaces: "ok", routes: "ok", neighbors: "ok" },
    system: {
      hostname: "hel-1",
      kernel: "6.1.0",
      arch: "x64",
      uptime_s: 1000,
      cpus: 2,
      load: [0.1, 0.2, 0.3],
      memory_total_bytes: 1 << 30,
      memory_available_bytes: 1 << 29,
      ip_forward: true,
      ipv6_forward: false,
    },
    interfaces: [
      {
        name: "eth0",
        kind: "physical",
        mac: "02:00:00:00:00:01",
        mtu: 1500,
        up: true,
        carrier: true,
        addresses: ["192.168.50.1/24"],
        rx_bytes: 0,
        tx_bytes: 0,
        speed_mbps: 1000,
        parent: null,
        master: null,
        tunnel: null,
      },
      {
        name: "wg0",
        kind: "wireguard",
        mac: null,
        mtu: 1420,
        up: true,
        carrier: true,
        addresses: ["10.99.0.1/24"],
        rx_bytes: 0,
        tx_bytes: 0,
        speed_mbps: null,
        parent: null,
        master: null,
        tunnel: null,
      },
    ],
    routes: [{ destination: "0.0.0.0/0", gateway: "192.168.50.254", interface: "eth0", metric: 0 }],
    neighbors: [{ address: "192.168.50.2", mac: "02:00:00:00:00:02", interface: "eth0" }],
    wireguard: [
      {
        interface: "wg0",
        public_key: publicKeyOf(1),
        listen_port: 51820,
        fwmark: null,
        peers: [
          {
            public_key: publicKeyOf(2),
            endpoint: "192.168.50.2:51820",
            allowed_ips: ["10.99.0.2/32"],
            latest_handshake_at: now - 20_000,
            rx_bytes: 1000,
            tx_bytes: 1000,
            persistent_keepalive_s: null,
          },
        ],
      },
    ],
    ...over,
  };
}

export type Agent = {
  id: string;
  key: SigningKey;
  /** Of the last report that was made. */
  tick: number;
  /** The next report under a fresh tick; `over` replaces fields of its data. */
  report(over?: Data): Promise<Envelope>;
  /** Sends the next report. */
  send(over?: Data): Promise<Posted>;
};

/** An agent that is registered with the manager of `place`. */
export async function registered(
  place: { url: string; psk: string; now(): number },
  hostname = "hel-1",
): Promise<Agent> {
  const sender = await createSender(place.url, place.psk);
  const answer = await sender.register(hostname, place.now());
  if (answer.status !== 201) throw new Error(`registering ${hostname}: ${answer.status}`);
  const agent: Agent = {
    id: sender.agentId,
    key: sender.key,
    tick: 0,
    report(over = {}) {
      agent.tick++;
      return seal(JSON.stringify(reportData(agent.id, agent.tick, place.now(), over)), place.psk, agent.key);
    },
    send: async (over = {}) => post(place.url, "/status/updates", await agent.report(over)),
  };
  return agent;
}

export type Said = {
  /** Everything that came back, as Latin-1. */
  text: string;
  /** Of the first answer; null: there was none. */
  status: number | null;
  /** Whether the other side closed, and after how long that the machine ran. */
  closed: boolean;
  afterMs: number;
  /** Bytes that the kernel took from us. */
  sentBytes: number;
};

/**
 * Writes `chunks` to loopback `port`, `gapMs` apart, and listens until the other side closes, for `patienceMs` at most;
 * without `untilClosed` an answer's whole body ends it too.
 */
export function say(
  port: number,
  chunks: Iterable<string | Uint8Array>,
  options: { gapMs?: number; patienceMs?: number; untilClosed?: boolean } = {},
): Promise<Said> {
  const { gapMs = 0, patienceMs = 5000, untilClosed = false } = options;
  return new Promise((resolve) => {
    const watch = stopwatch();
    const received: Buffer[] = [];
    const text = () => Buffer.concat(received).toString("latin1");
    let done = false;
    const socket = connect(port, "127.0.0.1");
    const end = (closed: boolean) => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      const said = text();
      const status = /^HTTP\/1\.1 ([0-9]{3}) /.exec(said)?.[1];
      resolve({
        text: said,
        status: status === undefined ? null : Number(status),
        closed,
        afterMs: watch.ms(),
        sentBytes: socket.bytesWritten,
      });
      socket.destroy();
    };
    const timer = setTimeout(() => end(false), patienceMs);
    socket.setNoDelay(true);
    socket.on("error", () => {}); // "close" follows
    socket.on("close", () => end(true));
    socket.on("data", (chunk: Buffer) => {
      received.push(chunk);
      const [head, body] = text().split("\r\n\r\n", 2);
      const length = /\r\ncontent-length: ([0-9]+)/i.exec(head!)?.[1];
      if (!untilClosed && body !== undefined && length !== undefined && body.length >= Number(length)) end(false);
    });
    socket.on("connect", async () => {
      for (const chunk of chunks) {
        if (done) return;
        if (!socket.write(chunk)) {
          await new Promise<void>((next) => {
            socket.once("drain", next);
            socket.once("close", () => next());
          });
        }
        if (gapMs > 0) await Bun.sleep(gapMs);
      }
    });
  });
}

export type Spawned = {
  url: string;
  port: number;
  psk: string;
  pid: number;
  now(): number;
  /** What it wrote so far. */
  stdout(): string;
  stderr(): string;
  /** Ends it; resolves with its exit code, null when the signal ended it. */
  kill(signal: "SIGTERM" | "SIGKILL"): Promise<number | null>;
};

// As bunfig.toml has it for who starts it in the checkout, and the build for the binaries.
const BUN = [process.execPath, "--no-env-file"];
const MAIN = join(import.meta.dir, "../../manager/main.ts");

/** The environment of a manager's process: nothing of ours but the PATH. */
export function managerEnvironment(environment: Record<string, string> = {}): Record<string, string> {
  return { PATH: process.env["PATH"] ?? "", MANAGER_LISTEN: "127.0.0.1", MANAGER_PORT: "0", ...environment };
}

/** `bun manager/main.ts` as a process of its own with `directory` as its working directory, once it serves. */
export async function spawnManager(directory: string, environment: Record<string, string> = {}): Promise<Spawned> {
  const child = Bun.spawn([...BUN, MAIN], {
    cwd: directory,
    env: managerEnvironment(environment),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const texts = { stdout: "", stderr: "" };
  const drain = async (name: "stdout" | "stderr") => {
    const decoder = new TextDecoder();
    for await (const chunk of child[name]) texts[name] += decoder.decode(chunk, { stream: true });
  };
  const drained = Promise.all([drain("stdout"), drain("stderr")]);
  const kill = async (signal: "SIGTERM" | "SIGKILL") => {
    child.kill(signal);
    await child.exited;
    await drained;
    return child.exitCode;
  };
  for (const until = Date.now() + 30_000; ;) {
    const port = /"url":"https?:\/\/[^"]*:([0-9]+)\/"/.exec(texts.stderr)?.[1];
    if (port !== undefined) {
      const ring = JSON.parse(readFileSync(join(directory, "manager_psk_ring"), "utf8")) as { psks: string[] };
      return {
        url: `http://127.0.0.1:${port}`,
        port: Number(port),
        psk: ring.psks[0]!,
        pid: child.pid,
        now: Date.now,
        stdout: () => texts.stdout,
        stderr: () => texts.stderr,
        kill,
      };
    }
    if (child.exitCode !== null || Date.now() > until) {
      await kill("SIGKILL");
      throw new Error(`the manager did not start: ${texts.stderr}`);
    }
    await Bun.sleep(20);
  }
}

/** Runs `bun manager/main.ts` with `flags` to its end; `as`: a command in front of it, such as setpriv. */
export async function runManager(
  flags: readonly string[],
  directory: string,
  environment: Record<string, string> = {},
  as: readonly string[] = [],
): Promise<{ exitCode: number | null; stdout: string; stderr: string }> {
  const child = Bun.spawn([...as, ...BUN, MAIN, ...flags], {
    cwd: directory,
    env: managerEnvironment(environment),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: 60_000,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  await child.exited;
  return { exitCode: child.exitCode, stdout, stderr };
}

/** Reads the live stream while `happens` happens, until `enough` says so of what came, for 30 s at most. */
export async function listen(
  place: { url: string },
  happens: () => Promise<void>,
  enough: (heard: StreamEvents["topology"][]) => boolean,
): Promise<{ topology: StreamEvents["topology"][]; events: StreamEvents["event"][] }> {
  const aborted = new AbortController();
  const timer = setTimeout(() => aborted.abort(), 30_000);
  const response = await fetch(`${place.url}/status/stream`, { signal: aborted.signal });
  const heard = { topology: [] as StreamEvents["topology"][], events: [] as StreamEvents["event"][] };
  const decoder = new TextDecoder();
  let text = "";
  let begun: Promise<void> | null = null;
  try {
    for await (const chunk of response.body!) {
      text += decoder.decode(chunk, { stream: true });
      const frames = text.split("\n\n");
      text = frames.pop()!;
      for (const frame of frames) {
        const name = /^event: (.*)$/m.exec(frame)?.[1];
        const data = /^data: (.*)$/m.exec(frame)?.[1];
        if (name === "hello") begun ??= happens();
        if (name === "topology") heard.topology.push(JSON.parse(data!));
        if (name === "event") heard.events.push(JSON.parse(data!));
      }
      if (enough(heard.topology)) break;
    }
  } finally {
    clearTimeout(timer);
    aborted.abort();
    await begun;
  }
  return heard;
}
