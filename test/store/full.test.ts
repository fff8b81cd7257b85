// A disk that runs low, then full, then is freed: a real one, a small tmpfs in a mount namespace of its own.
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describeWith } from "../support/needs.ts";
import { place } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

describeWith(["root"], "a full disk", () => {
  test("prunes early, answers full, reads on, recovers unaided, loses nothing that it acknowledged and had to keep", () => {
    using at = place();
    const mount = join(at.directory, "disk");
    mkdirSync(mount);
    const script = `mount -t tmpfs -o size=40m none ${mount} && bun ${join(import.meta.dir, "full_child.ts")} ${mount}`;
    const run = Bun.spawnSync(["unshare", "-m", "sh", "-c", script], { timeout: 90_000 });
    expect(run.stderr.toString()).toBe("");
    expect(JSON.parse(run.stdout.toString())).toEqual({
      ballast: true,
      more_than_fits: "ok",
      pruned: true,
      filled_then: "ok",
      too_large: "full",
      health_with_ballast: "ok",
      ballast_given_up: true,
      feed_on_ballast: "ok",
      fault: "full",
      health_when_full: "full",
      still: "full",
      reads: true,
      maintain_after: "ok",
      health_after: "ok",
      feed_after: "ok",
      ballast_back: true,
      every_acknowledged_one_once: true,
      kept: expect.any(Number),
      said_low: true,
      said_recovered: true,
      integrity: "ok",
    });
  }, 100_000);
});
