// No secret leaves its place: a real agent with a `wg` that tells its private and preshared keys, a real manager, tokens,
// and afterwards every byte that was written, sent, logged or answered is searched for each of them.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AgentsResponse, AlarmsResponse, TopologyResponse } from "../../shared/api.ts";
import { newNonce, seal, signingKey } from "../../shared/envelope.ts";
import { post } from "../fleet/sender.ts";
import { publicKeyOf, runManager, spawnManager, type Spawned } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

/** 32 bytes that begin with `words`, as wg prints keys. Nobody's. */
const keyOf = (words: string) => Buffer.from(words.padEnd(32, ".").slice(0, 32)).toString("base64");
const PRIVATE = ["canary wg0 private", "canary wg1 private", "canary failing private"].map(keyOf);
const PRESHARED = ["canary preshared one", "canary preshared two", "canary preshared bad line"].map(keyOf);
const PSK = "canary-fleet-psk-0123456789abcdefghij";
const ADMIN_TOKEN = "canary-admin-token-0123456789abcdefghij";
const READ_TOKEN = "canary-read-token-0123456789abcdefghijk";
const HOOK = "canary-hook-0123456789";

const tab = (...fields: string[]) => fields.join("\t");
// Hand-written, in the shape of wireguard-tools 1.0.20210914: keys of two interfaces, lines that do not fit, one that fails.
const DUMPS: Record<string, string[]> = {
  wg0: [
    tab(PRIVATE[0]!, publicKeyOf(1), "51820", "off"),
    tab(publicKeyOf(2), PRESHARED[0]!, "192.0.2.1:51820", "(none)", "0", "148", "296", "off"),
    tab(publicKeyOf(3), PRESHARED[1]!, "(none)", "(none)", "0", "0", "0", "25"),
    tab(publicKeyOf(4), PRESHARED[2]!, "192.0.2.1:51820", "(none)", "0", "0"),
    tab(publicKeyOf(4), PRESHARED[2]!, "192.0.2.1:51820", "(none)", "0", "0", "0", "off", "?", "?"),
    tab(PRESHARED[2]!.slice(1), PRESHARED[2]!, "192.0.2.1:51820", PRESHARED[2]!, "0", "0", "0", "off"),
  ],
  // The fields in another order than ours: whatever stands in them, the first line's first and the second's second go.
  wg1: [tab(PRIVATE[1]!, publicKeyOf(5), "0", "0xca6c"), PRIVATE[1]!],
};
const FAKE_WG = `#!/bin/sh
case "$*" in
  "show interfaces") echo wg0 wg1 wg2 ;;
${Object.entries(DUMPS)
  .map(([name, lines]) => `  "show ${name} dump") cat <<'END'\n${lines.join("\n")}\nEND\n  ;;`)
  .join("\n")}
  *) echo "Key is not the correct length or format: \\\`${PRIVATE[2]}'" >&2; exit 1 ;;
esac
`;

let root: string;
let manager: Spawned;
let tap: Server;
let hook: { port?: number; stop(force: boolean): void };
/** What passed between agent and manager; what receivers of alarms were sent. */
const wire: Buffer[] = [];
const notified: string[] = [];
/** Everything that was printed or logged by the agent. */
const printed: string[] = [];

const AGENT = join(import.meta.dir, "../../agent/main.ts");

function spawnAgent(flags: string[], managerUrl: string): Bun.Subprocess<"ignore", "pipe", "pipe"> {
  return Bun.spawn([process.execPath, "--no-env-file", AGENT, ...flags], {
    cwd: join(root, "agent"),
    env: {
      PATH: `${root}/bin:${process.env["PATH"]}`,
      PSK,
      MANAGER_URL: managerUrl,
      AGENT_LISTEN: "127.0.0.1",
      AGENT_PORT: "0",
      // A daemon reports often; -once has as long for its one try as most agents have.
      REPORT_INTERVAL: flags.length === 0 ? "1" : "30",
      LOG_LEVEL: "debug",
    },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: 60_000,
    killSignal: "SIGKILL",
  });
}

/** Runs it to its end; `meanwhile` gets what it wrote so far, and may end it. */
async function runAgent(
  flags: string[],
  managerUrl = "http://127.0.0.1:9",
  meanwhile: (child: Bun.Subprocess, errors: () => string) => Promise<void> = async () => {},
): Promise<{ exitCode: number; stdout: string }> {
  const child = spawnAgent(flags, managerUrl);
  const decoder = new TextDecoder();
  let errors = "";
  const drained = (async () => {
    for await (const chunk of child.stderr) errors += decoder.decode(chunk, { stream: true });
  })();
  const stdout = new Response(child.stdout).text();
  await meanwhile(child, () => errors);
  printed.push(await stdout);
  await drained;
  printed.push(errors);
  return { exitCode: await child.exited, stdout: await stdout };
}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "kattila-canary-"));
  for (const name of ["bin", "manager", "agent"]) mkdirSync(join(root, name));
  writeFileSync(join(root, "bin/wg"), FAKE_WG);
  chmodSync(join(root, "bin/wg"), 0o755);
  hook = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async (request) => {
      notified.push(await request.text());
      return new Response("");
    },
  });
  manager = await spawnManager(join(root, "manager"), {
    PSK,
    ADMIN_TOKEN,
    READ_TOKEN,
    NOTIFY_URL: `http://127.0.0.1:${hook.port}/${HOOK}`,
    LOG_LEVEL: "debug",
  });
  tap = createServer((near) => {
    const far = connect(manager.port, "127.0.0.1");
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on("data", (chunk: Buffer) => {
        wire.push(chunk);
        to.write(chunk);
      });
      from.on("error", () => to.destroy());
      from.on("close", () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => tap.listen(0, "127.0.0.1", resolve));
});
afterAll(async () => {
  tap.close();
  hook.stop(true);
  await manager.kill("SIGKILL");
  rmSync(root, { recursive: true, force: true });
});

/** Each secret in the spellings in which it could lie about. */
function spellings(secrets: Record<string, string>): [name: string, spelling: Buffer][] {
  return Object.entries(secrets).flatMap(([name, secret]) => {
    const bytes = /^[A-Za-z0-9+/]{43}=$/.test(secret) ? Buffer.from(secret, "base64") : Buffer.from(secret);
    return [
      [name, Buffer.from(secret)],
      [`${name}, escaped`, Buffer.from(JSON.stringify(secret).slice(1, -1))],
      [`${name}, raw`, bytes],
      [`${name}, base64`, Buffer.from(bytes.toString("base64").replace(/=+$/, "").slice(0, -1))],
      [`${name}, base64url`, Buffer.from(bytes.toString("base64url").slice(0, -1))],
      [`${name}, hex`, Buffer.from(bytes.toString("hex"))],
    ] as [string, Buffer][];
  });
}

/** Files below `directory`, by path from there. */
function filesIn(directory: string): [path: string, content: Buffer][] {
  return readdirSync(directory, { recursive: true })
    .map(String)
    .filter((path) => statSync(join(directory, path)).isFile())
    .map((path) => [path, readFileSync(join(directory, path))]);
}

/** Where a secret may lie. */
const OWN_FILES: Record<string, string[]> = {
  PSK: ["agent/agent_psk_ring", "manager/manager_psk_ring"],
  "agent's key": ["agent/agent_key"],
  "manager's key": ["manager/manager_key"],
};

test("no secret is anywhere but in its own file", async () => {
  const places: [place: string, content: Buffer][] = [];
  const saw = (place: string, content: string | Buffer) => void places.push([place, Buffer.from(content)]);
  const tapped = `http://127.0.0.1:${(tap.address() as { port: number }).port}`;

  // --- the agent: what it prints, keeps while it cannot deliver, and delivers
  const sysinfo = await runAgent(["-sysinfo"]);
  expect([sysinfo.exitCode, sysinfo.stdout.includes(publicKeyOf(2))]).toEqual([0, true]);
  expect(sysinfo.stdout).toContain("wg failed (exit 1): Key is not the correct length or format: `(key)'");
  expect((await runAgent(["-dump", "dump.json"])).exitCode).toBe(0);
  expect((await runAgent(["-once"])).exitCode).toBe(1); // nobody listens there: to the outbox
  for (const [path, content] of filesIn(join(root, "agent"))) saw(`while it waits: agent/${path}`, content);
  expect(places.some(([place, content]) => place.includes("agent_outbox") && content.includes(publicKeyOf(2)))).toBe(
    true,
  );
  expect((await runAgent(["-discover", "-json"], tapped)).exitCode).toBe(0);
  expect((await runAgent(["-once"], tapped)).exitCode).toBe(0);
  const daemon = await runAgent([], tapped, async (child, errors) => {
    try {
      let port: string | undefined;
      await until(() => (port = /"event":"agent_started".*"port":([0-9]+)/.exec(errors())?.[1]) !== undefined);
      for (const path of ["healthcheck", "peer"]) {
        saw(`agent's /status/${path}`, await (await fetch(`http://127.0.0.1:${port}/status/${path}`)).text());
      }
      const before = wire.length;
      await until(() => wire.length > before + 4);
    } finally {
      child.kill("SIGTERM");
    }
  });
  expect(daemon.exitCode).toBe(0);
  for (const text of printed) saw("what the agent printed", text);

  // --- a clone and a stranger, for alarms, their notification and the audit of failures
  const { agents } = await read<AgentsResponse>("agents");
  const agentId = agents[0]!.agent_id;
  const clone = await signingKey();
  const register = {
    v: 1,
    type: "register",
    agent_id: agentId,
    nonce: newNonce(),
    sent_at: Date.now(),
    hostname: "clone",
    agent_version: "0.1.0",
    public_key: clone.publicKey,
  };
  const registering = await seal(JSON.stringify(register), PSK, clone);
  expect((await post(manager.url, "/status/register", registering)).status).toBe(409);
  expect((await post(manager.url, "/status/register", { ...registering, hmac: "0".repeat(64) })).status).toBe(401);
  const login = await fetch(`${manager.url}/status/login`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token: ADMIN_TOKEN }),
  });
  const cookie = /=([0-9a-f]{64})/.exec(login.headers.get("Set-Cookie")!)![1]!;
  saw("the login's answer", await login.text());
  await until(() => notified.length > 0);
  for (const text of notified) saw("a notification", text);

  // --- the manager: every answer, the log, the files
  const { alarms } = await read<AlarmsResponse>("alarms");
  const { edges } = await read<TopologyResponse>("topology");
  expect(alarms.map(({ code }) => code)).toContain("id_clone");
  expect(edges.length).toBeGreaterThan(0);
  const paths = [
    "status/healthcheck",
    "status/agents",
    `status/agents/${agentId}`,
    "status/topology",
    "status/topology.json",
    "status/topology.dot",
    "status/topology.mmd",
    `status/topology/diff?from=${Date.now() - 60_000}`,
    `status/edges/${edges[0]!.id}/history`,
    `status/path?from=${agentId}&to=192.0.2.1`,
    "status/alarms?state=all",
    `status/alarms/${alarms[0]!.id}`,
    "status/events",
    "status/silences",
    "metrics",
    "",
  ];
  for (const path of paths) {
    const answer = await fetch(`${manager.url}/${path}`, { headers: { Authorization: `Bearer ${READ_TOKEN}` } });
    expect([path, answer.status]).toEqual([path, 200]);
    saw(`/${path}`, await answer.text());
  }
  const streaming = await fetch(`${manager.url}/status/stream`, {
    headers: { Authorization: `Bearer ${READ_TOKEN}` },
  });
  const reader = streaming.body!.getReader();
  const first = await reader.read();
  await reader.cancel();
  expect([streaming.status, first.value!.length > 0]).toEqual([200, true]);
  saw("/status/stream", Buffer.from(first.value!));
  for (const headers of [{}, { Authorization: `Bearer ${READ_TOKEN.slice(1)}` }] as Record<string, string>[]) {
    const answer = await fetch(`${manager.url}/status/agents`, { headers });
    expect(answer.status).toBe(401);
    saw("a refusal", await answer.text());
  }
  const environment = { PSK, ADMIN_TOKEN, READ_TOKEN };
  for (const flags of [["-backup", "copy.db"], ["-verify-log"]]) {
    const command = await runManager(flags, join(root, "manager"), environment);
    expect(command.exitCode).toBe(0);
    saw(`manager ${flags[0]}`, command.stdout + command.stderr);
  }
  expect(Buffer.concat(wire).includes(publicKeyOf(2))).toBe(true);
  saw("the wire", Buffer.concat(wire));
  const running = filesIn(root);
  expect(running.some(([path, content]) => path.endsWith("-wal") && content.length > 0)).toBe(true);
  expect(await manager.kill("SIGTERM")).toBe(0);
  for (const [path, content] of [...running, ...filesIn(root)]) saw(path, content);
  saw("what the manager printed", manager.stdout());
  saw("what the manager logged", manager.stderr());

  // --- the search
  const state = (path: string) => readFileSync(join(root, path), "utf8").trim();
  const secrets = spellings({
    ...Object.fromEntries(PRIVATE.map((key, i) => [`private key ${i}`, key])),
    ...Object.fromEntries(PRESHARED.map((key, i) => [`preshared key ${i}`, key])),
    PSK,
    ADMIN_TOKEN,
    READ_TOKEN,
    "the receiver's path": HOOK,
    "the session's cookie": cookie,
    "agent's key": state("agent/agent_key").match(/[A-Za-z0-9+/]{43}=/)![0],
    "manager's key": state("manager/manager_key"),
  });
  const found = new Set<string>();
  for (const [place, content] of places) {
    if (place === "bin/wg") continue; // it tells them
    for (const [name, spelling] of secrets) {
      const allowed = OWN_FILES[name.split(",")[0]!] ?? [];
      if (!allowed.some((path) => place.endsWith(path)) && content.includes(spelling)) found.add(`${name}: ${place}`);
    }
  }
  expect([...found]).toEqual([]);
  // The search finds what is there.
  expect(
    secrets.some(([name, spelling]) => name === "PSK" && state("agent/agent_psk_ring").includes(String(spelling))),
  ).toBe(true);
}, 60_000);

async function read<T>(path: string): Promise<T> {
  const answer = await fetch(`${manager.url}/status/${path}`, { headers: { Authorization: `Bearer ${READ_TOKEN}` } });
  return (await answer.json()) as T;
}

async function until(condition: () => boolean): Promise<void> {
  for (const end = Date.now() + 15_000; !condition(); await Bun.sleep(20)) {
    if (Date.now() > end) throw new Error("it did not come to pass");
  }
}
