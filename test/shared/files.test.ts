// A lock file that cannot be opened: one line with the remedy, whatever hinders.
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StateError, tryLock } from "../../shared/files.ts";

test("a lock whose path cannot even be looked at is refused as one that cannot be opened", () => {
  const directory = mkdtempSync(join(tmpdir(), "kattila-files-"));
  try {
    const path = join(directory, "agent.lock");
    symlinkSync("agent.lock", path); // root may look everywhere, but not at this
    expect(() => tryLock(path)).toThrow(
      new StateError(`cannot open ${path} to lock it (ELOOP): check owner and mode of it and of its directory`),
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});
