// The log's lines against hostile names: one line an event, nothing in it that a terminal obeys, and nothing lost.
import { expect, test } from "bun:test";
import { createLog, reason } from "../../shared/log.ts";

const HOSTILE: readonly [name: string, text: string][] = [
  ["a line of its own", 'x\n{"level":"error","event":"forged"}'],
  ["a carriage return", "x\rforged"],
  ["an escape sequence", "\u001b[2J\u001b]0;title\u0007"],
  ["a C1 control sequence", "\u009b2J\u0085next line"],
  ["a turn of direction", "evil\u202egnp.exe\u2066\u2069\u200f"],
  ["separators of lines", "a\u2028b\u2029c"],
  ["invisible letters", "hel\u200b-1\ufeff\u{e0041}"],
];

test.each(HOSTILE)("%s stays text, and comes back whole", (_name, text) => {
  const lines: string[] = [];
  createLog("info", (line) => lines.push(line)).warning("hostname_seen", { hostname: text });
  expect(lines).toHaveLength(1);
  expect(lines[0]).not.toMatch(/[\p{Cc}\p{Cf}\u2028\u2029]/u);
  expect(JSON.parse(lines[0]!)).toMatchObject({ level: "warning", event: "hostname_seen", hostname: text });
});

test("letters of any script are left as they are", () => {
  const lines: string[] = [];
  createLog("info", (line) => lines.push(line)).info("seen", { hostname: "säätö-東京-🛰" });
  expect(lines[0]).toContain("säätö-東京-🛰");
});

test("what is below the level is not written", () => {
  const lines: string[] = [];
  const log = createLog("warning", (line) => lines.push(line));
  log.debug("a");
  log.info("b");
  log.warning("c");
  log.error("d");
  expect(lines.map((line) => (JSON.parse(line) as { event: string }).event)).toEqual(["c", "d"]);
});

test("a reason is one line with its causes", () => {
  const cause = new Error("no such\nfile", { cause: "ENOENT" });
  expect(reason(new Error("cannot read", { cause }))).toBe("cannot read: no such file: ENOENT");
});
