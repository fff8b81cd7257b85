// `bun run demo`: a network with a past, and nothing left of it; and one line where it cannot start.
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const DEMO = join(import.meta.dir, "../../scripts/demo.ts");

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "kattila-demo-test-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** The demo, with its own directory below the test's. */
const demo = (environment: Record<string, string>) =>
  Bun.spawn([process.execPath, "--no-env-file", DEMO], {
    env: { PATH: process.env["PATH"] ?? "", TMPDIR: directory, MANAGER_PORT: "0", ...environment },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: 60_000,
    killSignal: "SIGKILL",
  });

test("50 agents with half an hour of past; at SIGINT nothing is left", async () => {
  const child = demo({});
  let said = "";
  const decoder = new TextDecoder();
  const reader = child.stdout.getReader();
  while (!said.includes("goes on live")) {
    const { value, done } = await reader.read();
    if (done) break;
    said += decoder.decode(value, { stream: true });
  }
  const url = /Open (http:\/\/127\.0\.0\.1:[0-9]+)\//.exec(said)?.[1];
  const { agents } = (await (await fetch(`${url}/status/agents`)).json()) as { agents: unknown[] };
  expect(agents).toHaveLength(50);
  const past = await fetch(`${url}/status/topology?at=${Date.now() - 15 * 60_000}`);
  expect(((await past.json()) as { edges: unknown[] }).edges.length).toBeGreaterThan(20);
  child.kill("SIGINT");
  expect([await child.exited, await new Response(child.stderr).text()]).toEqual([0, ""]);
  expect(readdirSync(directory)).toEqual([]);
}, 60_000);

test("where it cannot start: one line that names the setting, and nothing left", async () => {
  using other = Bun.serve({ hostname: "127.0.0.1", port: 0, reusePort: true, fetch: () => new Response() });
  for (const [environment, exitCode, line] of [
    [{ MANAGER_PORT: String(other.port) }, 1, `cannot listen on 127.0.0.1, port ${other.port}: another program does`],
    [{ MANAGER_PORT: "x" }, 2, 'MANAGER_PORT="x": must be a port'],
    [{ DEMO_SEED: "x" }, 2, 'DEMO_SEED="x": must be a whole number'],
  ] as const) {
    const child = demo(environment);
    const stderr = await new Response(child.stderr).text();
    expect([await child.exited, stderr]).toEqual([exitCode, expect.stringMatching(/^demo: [^\n]*\n$/)]);
    expect(stderr).toContain(line);
    expect(readdirSync(directory)).toEqual([]);
  }
});
