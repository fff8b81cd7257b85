// `agent -once` against a listening manager: what it says is what became of the report.
import { afterEach, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { onceCommand } from "../../agent/commands.ts";
import { agentSettings } from "../../agent/settings.ts";
import { createLog } from "../../shared/log.ts";
import { type Ground, ground } from "../manager/support.ts";

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
