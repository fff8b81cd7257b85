// A manager whose disk is full, as agents and readers meet it: a real one, a small tmpfs in a mount namespace of its own.
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeWith } from "../support/needs.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

describeWith(["root"], "a full disk under a listening manager", () => {
  test("agents hear 503 and when to come again, readers read on, and nothing acknowledged is lost", () => {
    const mount = mkdtempSync(join(tmpdir(), "kattila-full-"));
    try {
      const script = `mount -t tmpfs -o size=24m none ${mount} && bun ${join(import.meta.dir, "full_disk_child.ts")}`;
      const run = Bun.spawnSync(["unshare", "-m", "sh", "-c", script], {
        env: { ...process.env, TMPDIR: mount },
        timeout: 90_000,
      });
      expect(run.stderr.toString()).toBe("");
      expect(JSON.parse(run.stdout.toString())).toEqual({
        refused: 503,
        retry_after: true,
        other_agent: 503,
        agents: 200,
        topology: 200,
        alarms: 200,
        metrics: 200,
        healthcheck: 503,
        health: "full",
        taken_after: 200,
        healthcheck_after: 200,
        again: 409,
        other_after: 200,
        after_restart: 200,
        every_acknowledged_one_once: true,
        integrity: "ok",
      });
    } finally {
      rmSync(mount, { recursive: true, force: true });
    }
  }, 100_000);
});
