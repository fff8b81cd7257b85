// `agent -once` against a listening manager: what it says is what became of the report; also after a kill at each point.
import { Database } from "bun:sqlite";
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { onceCommand } from "../../agent/commands.ts";
import { agentSettings } from "../../agent/settings.ts";
import type { AlarmsResponse } from "../../shared/api.ts";
import { createLog } from "../../shared/log.ts";
import { type Ground, ground } from "../manager/support.ts";
import { ownDirectory, runAgent } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

let manager: Ground;
afterEach(() => manager.remove());

test("delivered, refused, and a new identity are told apart", async () => {
  manager = await ground();
  const directory = join(manager.directory, "agent");
  mkdirSync(directory);
  const settings = agentSettings({ PSK: manager.psk, MANAGER_URL: manager.url }, directory);
  const once = async () => {
    const said: string[] = [];
    const say = (text: string) => void said.push(text);
    const exitCode = await onceCommand(
      settings,
      createLog("error", () => {}),
      say,
      say,
    );
    return { exitCode, said: said.join("\n") };
  };
  const reset = async (more: Record<string, unknown>) => {
    const { agents } = (await (await fetch(`${manager.url}/status/agents`)).json()) as {
      agents: { agent_id: string }[];
    };
    const answer = await fetch(`${manager.url}/status/admin/reset`, {
      method: "POST",
      headers: { Authorization: `Bearer ${manager.adminToken}`, "Content-Type": "application/json" },
      body: JSON.stringify({ agent_id: agents[0]!.agent_id, ...more }),
    });
    expect(answer.status).toBe(200);
  };

  expect(await once()).toEqual({ exitCode: 0, said: expect.stringMatching(/^delivered 1 report as .* 200 accepted/) });
  await reset({ block: true });
  expect(await once()).toEqual({
    exitCode: 1,
    said: expect.stringMatching(/^not delivered: 403 blocked.*; 1 wait in the outbox$/),
  });
  await reset({ block: false });
  expect(await once()).toEqual({ exitCode: 0, said: expect.stringMatching(/^delivered 2 reports as/) });
  await reset({ regenerate: true });
  expect(await once()).toEqual({ exitCode: 1, said: expect.stringMatching(/^not delivered: 410 reset/) });
  expect(await once()).toEqual({ exitCode: 0, said: expect.stringMatching(/^delivered 1 report as/) });
});

test.each([
  ["taking a tick and keeping the report", "taken", [3]],
  ["keeping the report and sending it", "kept", [2, 3]],
])(
  "killed between %s: the tick is not used twice, what was kept arrives once",
  async (_name, moment, ticks) => {
    manager = await ground();
    using own = ownDirectory();
    const environment = { PSK: manager.psk, MANAGER_URL: manager.url, STATE_DIR: join(own.path, "state") };
    const once = () => runAgent(["-once"], own.path, environment);
    expect((await once()).exitCode).toBe(0);
    const child = Bun.spawn([process.execPath, "--no-env-file", join(import.meta.dir, "tick_child.ts"), moment], {
      cwd: own.path,
      env: { PATH: process.env["PATH"] ?? "", ...environment },
      stdout: "pipe",
      stderr: "inherit",
    });
    for await (const chunk of child.stdout) {
      expect(new TextDecoder().decode(chunk)).toBe("2\n");
      child.kill("SIGKILL");
    }
    await child.exited;
    expect(child.signalCode).toBe("SIGKILL");
    expect((await once()).exitCode).toBe(0);
    using database = new Database(manager.databasePath, { readonly: true });
    expect(database.query("SELECT tick FROM reports ORDER BY id").values().flat()).toEqual([1, ...ticks]);
    expect(database.query("PRAGMA integrity_check").values()).toEqual([["ok"]]);
    const { alarms } = (await (await fetch(`${manager.url}/status/alarms?state=all`)).json()) as AlarmsResponse;
    expect(alarms.filter(({ code }) => ["replay", "data_lost", "id_clone"].includes(code))).toEqual([]);
  },
  30_000,
);
