// `bun run clean`: removes what was built and what tests left to look at.
import { rmSync } from "node:fs";
import { join } from "node:path";

for (const path of ["agent/bin", "manager/bin", "test/output"])
  rmSync(join(import.meta.dir, "..", path), { recursive: true, force: true });
