// What `bun run build` made: standalone programs for both machines. The foreign one runs under qemu-user.
import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VERSION } from "../shared/version.ts";
import { compiled } from "./support/binary.ts";
import { describeWith } from "./support/needs.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const ROOT = join(import.meta.dir, "..");
/** Where Debian's cross libraries for arm64 lie. */
const ARM64_LIBRARIES = "/usr/aarch64-linux-gnu";

/** Runs a program with nothing of this process's environment, in an empty directory. */
async function run(command: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const cwd = mkdtempSync(join(tmpdir(), "kattila-binary-"));
  try {
    const child = Bun.spawn(command, {
      cwd,
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
      stdout: "pipe",
      stderr: "pipe",
      timeout: 60_000,
    });
    const [stdout, stderr, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    return { code, stdout, stderr };
  } finally {
    rmSync(cwd, { recursive: true, force: true });
  }
}

for (const program of ["agent", "manager"] as const) {
  test(`the compiled ${program} of this machine answers -version, and prints a usage for what it does not know`, async () => {
    const path = compiled(program);
    expect(await run([path, "-version"])).toMatchObject({ code: 0, stdout: expect.stringContaining(VERSION) });
    const wrong = await run([path, "-nonsense"]);
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain("-nonsense");
  }, 60_000);
}

test("the compiled agent prints what it sees of this machine", async () => {
  const { code, stdout } = await run([compiled("agent"), "-sysinfo"]);
  expect(code).toBe(0);
  const seen = JSON.parse(stdout);
  expect(seen.interfaces.map((item: { name: string }) => item.name)).toContain("lo");
  expect(seen.collectors.interfaces).toBe("ok");
}, 60_000);

describeWith(process.arch === "x64" ? ["qemu-aarch64-static"] : [], "binaries for arm64", () => {
  const emulated = process.arch === "x64" ? ["qemu-aarch64-static", "-L", ARM64_LIBRARIES] : [];
  const paths = ["agent", "manager"].map((program) => join(ROOT, program, "bin", `${program}-arm64`));
  beforeAll(() => {
    // Their runtime comes from the registry: a test does not fetch it.
    if (process.env["CI"] === "true") for (const path of paths) expect(existsSync(path)).toBe(true);
  });
  const built = paths.every((path) => existsSync(path));
  if (!built) console.log("skipped, the arm64 binaries are not there: bun run build");
  test.skipIf(!built)(
    "answer -version",
    async () => {
      for (const path of paths)
        expect(await run([...emulated, path, "-version"])).toMatchObject({
          code: 0,
          stdout: expect.stringContaining(VERSION),
        });
    },
    120_000,
  );
  test.skipIf(!built)(
    "the agent answers -sysinfo",
    async () => {
      const { code, stdout } = await run([...emulated, paths[0]!, "-sysinfo"]);
      expect(code).toBe(0);
      const seen = JSON.parse(stdout);
      expect(seen.system.arch).toBe("arm64");
      expect(seen.interfaces.map((item: { name: string }) => item.name)).toContain("lo");
    },
    120_000,
  );
});
