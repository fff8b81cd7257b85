// README and .env.example against the code: every alarm, setting, route, metric and flag is there, as the code has it.
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { AGENT_HELP } from "../../agent/cli.ts";
import { RULES } from "../../manager/alarms/rules.ts";
import { MANAGER_HELP } from "../../manager/cli.ts";
import { EDGE_STATES } from "../../shared/api.ts";

const root = join(import.meta.dir, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
// The formatter pads tables.
const readme = read("README.md").replace(/ {2,}/g, " ");

function matches(path: string, pattern: RegExp): string[] {
  return [...new Set([...read(path).matchAll(pattern)].map((match) => match[1]!))];
}

/** The part below a heading of the second level. */
function section(heading: string): string {
  const start = readme.indexOf(`\n## ${heading}\n`);
  if (start < 0) throw new Error(`README has no section ${heading}`);
  const end = readme.indexOf("\n## ", start + 1);
  return readme.slice(start, end < 0 ? undefined : end);
}

test("the table of alarms is the rules' own", () => {
  const rows = section("Alarms")
    .split("\n")
    .filter((line) => line.startsWith("| `"));
  const expected = RULES.map(
    ({ code, help: { severity, opens, resolves, means, todo } }) =>
      `| \`${code}\` | ${severity} | ${opens} | ${resolves} | ${means} | ${todo} |`,
  );
  expect(rows).toEqual(expected.sort());
});

/** Names of settings that a program reads: every call on the typed settings, and NAME_FILE beside each secret. */
function settingsOf(...paths: string[]): string[] {
  return paths.flatMap((path) => [
    ...matches(path, /setting\s*\.\s*\w+\(\s*"([A-Z][A-Z_]+)"/g).filter((name) => name !== "STATE_DIRECTORY"),
    ...matches(path, /[^.\w]secret\("([A-Z_]+)"\)/g).flatMap((name) => [name, `${name}_FILE`]),
  ]);
}

test("every setting is in README's table, in .env.example and in -help", () => {
  const both = settingsOf("shared/psk_source.ts");
  const agent = settingsOf("agent/settings.ts");
  const manager = settingsOf("manager/settings.ts");
  expect(both.sort()).toEqual(["DNS", "DNS_SERVERS", "PSK", "PSK_FILE"]);
  expect(agent).toContain("REPORT_INTERVAL");
  expect(manager).toContain("ADMIN_TOKEN_FILE");
  const table = section("Settings");
  const example = read(".env.example");
  for (const name of new Set([...both, ...agent, ...manager])) {
    expect(table).toContain(`\`${name}\``);
    if (!/^(ADMIN|READ)_TOKEN$/.test(name)) expect(example).toContain(`#${name}=`);
  }
  // A token has _FILE in brackets there.
  const inHelp = (help: string, name: string) =>
    help.includes(name) || help.includes(`${name.replace(/_FILE$/, "")}[_FILE]`);
  for (const name of [...both, ...agent]) expect([name, inHelp(AGENT_HELP, name)]).toEqual([name, true]);
  for (const name of [...both, ...manager]) expect([name, inHelp(MANAGER_HELP, name)]).toEqual([name, true]);
  for (const name of matches(".env.example", /^#([A-Z_]+)=/gm)) expect(table).toContain(`\`${name}\``);
});

test("every flag of -help is in README, and no other", () => {
  const text = section("Command line");
  for (const [help, heading] of [
    [AGENT_HELP, "| Agent | |"],
    [MANAGER_HELP, "| Manager | |"],
  ] as const) {
    const flags = [...help.matchAll(/^ {2}(-[a-z-]+)/gm)].map((match) => match[1]!);
    const start = text.indexOf(heading);
    const rows = text.slice(start).split("\n\n")[0]!.split("\n").slice(2);
    const said = rows.flatMap((row) => [...row.split("|")[1]!.matchAll(/`(-[a-z-]+)/g)].map((match) => match[1]!));
    expect(said.sort()).toEqual(flags.sort());
  }
});

test("every route is in README", () => {
  const text = section("Endpoints");
  const routes = [...read("manager/app.ts").matchAll(/route\("(GET|POST)", "([^"]+)"/g)];
  expect(routes.length).toBeGreaterThan(20);
  for (const [, method, path] of routes) {
    // `.json`, `.dot` and `.mmd` share a row.
    const shown = path!.replace(/^\/status\/topology\.(dot|mmd)$/, ".$1");
    const row = text.split("\n").find((line) => line.startsWith(`| ${method} |`) && line.includes(`\`${shown}\``));
    expect([method, path, row !== undefined]).toEqual([method, path, true]);
  }
  for (const path of matches("agent/server.ts", /"(\/status\/[a-z]+)": "(?:GET|POST)"/g)) expect(text).toContain(path);
});

test("every metric and every state is in README", () => {
  const metrics = matches("manager/export/prometheus.ts", /add\(\s*"(?:gauge|counter)",\s*"([a-z_]+)"/g);
  expect(metrics.length).toBeGreaterThan(25);
  for (const name of metrics) expect(section("Metrics")).toContain(`\`kattila_${name}\``);
  for (const state of EDGE_STATES) expect(section("What the picture says")).toContain(`| \`${state}\` |`);
});

test("the scripts that README and DESIGN name are there", () => {
  const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
  for (const text of [readme, read("DESIGN.md")]) {
    for (const [, name] of text.matchAll(/bun run ([a-z:]+)/g)) expect(Object.keys(scripts)).toContain(name!);
    for (const [, path] of text.matchAll(/bun test (test\/[\w/.]+)/g))
      expect(readFileSync(join(root, path!))).toBeDefined();
  }
});

test("every file that DESIGN names is there", () => {
  const names = new Set(
    readdirSync(root, { recursive: true, encoding: "utf8" }).filter((path) => !path.includes("node_modules")),
  );
  const paths = [...names];
  for (const [, path] of read("DESIGN.md").matchAll(/`((?:[\w-]+\/)*[\w-]+\.tsx?)`/g)) {
    expect([path, paths.some((name) => name === path || name.endsWith(`/${path}`))]).toEqual([path, true]);
  }
});
