// Owns the hosts of these tests: one that answers from the captured fixture, one that answers from a table, and real
// programs in a directory of their own.
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Host, RunResult } from "../../../agent/host.ts";

/** What the commands printed on a real host (its README says which). */
export function captured(name: string): string {
  return readFileSync(join(import.meta.dir, "../../fixtures/debian-12-lab", name), "utf8");
}

export type Answers = {
  /** Output, or how it failed, by the command line. A program without any entry is not installed. */
  commands?: Record<string, string | Exclude<RunResult, { is: "ok" }>>;
  /** Text by path below /proc; an error code such as EACCES; what is not in it is missing. */
  proc?: Record<string, string | { error: string }>;
  /** Text by path below /sys. */
  sys?: Record<string, string>;
};

export type FakeHost = Host & { ran: { command: string; stdin: string | undefined }[]; read: string[] };

/** A host that has nothing but `answers`, and remembers what it was asked. */
export function fakeHost({ commands = {}, proc = {}, sys = {} }: Answers): FakeHost {
  const ran: FakeHost["ran"] = [];
  const read: string[] = [];
  return {
    ran,
    read,
    proc: async (path) => {
      read.push(path);
      const text = proc[path];
      if (typeof text === "string") return { ok: true, text };
      return text === undefined
        ? { ok: false, missing: true, reason: "ENOENT" }
        : { ok: false, missing: false, reason: text.error };
    },
    sys: async (path) => {
      const text = sys[path];
      return text === undefined ? { ok: false, missing: true, reason: "ENOENT" } : { ok: true, text };
    },
    sysList: async (path) => {
      const names = Object.keys(sys)
        .filter((file) => file.startsWith(`${path}/`))
        .map((file) => file.slice(path.length + 1).split("/")[0]!);
      return [...new Set(names)];
    },
    run: async (argv, options = {}) => {
      const command = argv.join(" ");
      ran.push({ command, stdin: options.stdin });
      const answer = commands[command];
      if (typeof answer === "string") return { is: "ok", stdout: answer };
      if (answer !== undefined) return answer;
      if (Object.keys(commands).some((known) => known.split(" ")[0] === argv[0]))
        throw new Error(`the collector ran a command that the test does not know: ${command}`);
      return { is: "missing" };
    },
  };
}

/** Shell scripts under a program's name, in a directory to be used as PATH. */
export function programs(scripts: Record<string, string>): { path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), "kattila-collect-"));
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(path, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(path, name), 0o755);
  }
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}
