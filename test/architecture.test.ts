// Who may import whom, held by reading every source file: the sides stay apart, the core stays pure, SQL stays in its
// folder, and there are no more dependencies than two.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

const ROOT = join(import.meta.dir, "..");
const transpilers = {
  ts: new Bun.Transpiler({ loader: "ts", target: "bun" }),
  tsx: new Bun.Transpiler({ loader: "tsx", target: "bun" }),
};

type Source = {
  path: string;
  /** First comment, in one line. */
  claim: string;
  /** Without comments and types. */
  code: string;
  /** All imports, of types too: packages by name, files by path from the root. */
  imports: string[];
  /** Those that are there when it runs. */
  loads: string[];
};

function sourceOf(path: string): Source {
  // A macro would run here.
  const text = readFileSync(join(ROOT, path), "utf8").replace(' with { type: "macro" }', "");
  const transpiler = transpilers[path.endsWith("x") ? "tsx" : "ts"];
  const named = (specifier: string) =>
    specifier.startsWith(".") ? relative(ROOT, join(ROOT, dirname(path), specifier)) : specifier;
  const specifiers = [...text.matchAll(/\b(?:from|import)\s*\(?\s*["']([\w.@][^"'\s]*)["']/g)].map(
    (match) => match[1]!,
  );
  return {
    path,
    claim: (/^(?:\/\/.*\n)+/.exec(text)?.[0] ?? "").replace(/^\/\/ ?/gm, "").replaceAll("\n", " "),
    code: transpiler.transformSync(text),
    imports: specifiers.map(named),
    loads: transpiler.scanImports(text).map((found) => named(found.path)),
  };
}

const sources = new Map<string, Source>();
for (const side of ["shared", "agent", "manager", "scripts"]) {
  for (const path of new Bun.Glob(`${side}/**/*.{ts,tsx}`).scanSync(ROOT)) {
    if (!path.endsWith(".d.ts")) sources.set(path, sourceOf(path));
  }
}
const within = (...folders: string[]) =>
  [...sources.values()].filter(({ path }) => folders.some((folder) => path.startsWith(`${folder}/`)));
const isFile = (name: string) => /^(shared|agent|manager|scripts|test)\/|^package\.json$/.test(name);
/** `path → import` of those imports of `files` that `allowed` does not have. */
const trespasses = (files: Source[], allowed: (name: string, file: Source) => boolean) =>
  files.flatMap((file) => file.imports.filter((name) => !allowed(name, file)).map((name) => `${file.path} → ${name}`));

test("there is something to read, and every import of a file names one", () => {
  expect(sources.size).toBeGreaterThan(100);
  const product = within("shared", "agent", "manager");
  const unknown = trespasses(product, (name) => !isFile(name) || sources.has(name) || name.endsWith(".d.ts"));
  expect(unknown.filter((line) => !/\.(css|html|json)$/.test(line))).toEqual([]);
  // The reading itself: what a known file imports.
  expect(sources.get("manager/store/open.ts")!.imports).toContain("bun:sqlite");
  expect(sources.get("shared/envelope.ts")!.imports).toContain("shared/report.ts");
  expect(sources.get("shared/envelope.ts")!.loads).not.toContain("shared/report.ts"); // a type
});

describe("sides", () => {
  test("shared imports neither side, and of packages zod only; of the runtime, where it does I/O", () => {
    const withInput = ["shared/config.ts", "shared/files.ts", "shared/psk_source.ts"];
    expect(
      trespasses(within("shared"), (name, { path }) =>
        isFile(name)
          ? name.startsWith("shared/") || path === "shared/version.ts"
          : name === "zod/mini" || (/^(node|bun):/.test(name) && withInput.includes(path)),
      ),
    ).toEqual([]);
  });

  test("agent and manager never import each other, nor scripts, nor tests", () => {
    expect(trespasses(within("agent"), (name) => !isFile(name) || /^(agent|shared)\//.test(name))).toEqual([]);
    expect(trespasses(within("manager"), (name) => !isFile(name) || /^(manager|shared)\//.test(name))).toEqual([]);
  });

  test("packages: hono serves, zod/mini checks, d3-force only arranges the map; the agent has no hono/jsx", () => {
    const packages = (files: Source[]) => [
      ...new Set(files.flatMap(({ imports }) => imports.filter((name) => !isFile(name) && !/^(node|bun):/.test(name)))),
    ];
    expect(packages(within("shared"))).toEqual(["zod/mini"]);
    expect(packages(within("agent")).filter((name) => !["hono", "zod/mini"].includes(name))).toEqual([]);
    const ui = within("manager/ui");
    const server = within("manager").filter((file) => !ui.includes(file));
    expect(packages(server).filter((name) => !["hono", "zod/mini"].includes(name))).toEqual([]);
    expect(packages(ui).filter((name) => !["hono/jsx", "hono/jsx/dom", "d3-force"].includes(name))).toEqual([]);
  });

  test("what runs in the browser loads nothing of the server's", () => {
    const served = ["manager/ui/assets.ts", "manager/ui/bundle.ts"];
    const browser = within("manager/ui").filter(({ path }) => !served.includes(path));
    const foreign = browser.flatMap((file) =>
      file.loads
        .filter((name) => /^(node|bun):/.test(name) || (isFile(name) && !/^(manager\/ui|shared)\//.test(name)))
        .map((name) => `${file.path} → ${name}`),
    );
    expect(foreign).toEqual([]);
  });
});

describe("the pure core", () => {
  // What reaches outside, or asks the machine instead of the caller.
  const REACHING =
    /(?<![.\w])(?:process|Bun|localStorage)\.|\bDate\.now\b|\bnew Date\(\)|\bperformance\.now\b|(?<!\.)\bfetch\(|\bset(?:Timeout|Interval)\(/;
  const impurity = (file: Source): string | null => {
    const runtime = file.loads.find((name) => /^(node|bun):/.test(name));
    if (runtime !== undefined) return `loads ${runtime}`;
    const reach = REACHING.exec(file.code);
    return reach === null ? null : `uses ${reach[0]}`;
  };
  /** Why a file is not pure, by the way there; null: it is, and so is all that it loads. */
  const reached = (path: string, way: string[] = []): string | null => {
    const file = sources.get(path);
    if (file === undefined || way.includes(path)) return null;
    const own = impurity(file);
    if (own !== null) return [...way, path].join(" → ") + ` ${own}`;
    for (const name of file.loads) {
      const found = isFile(name) ? reached(name, [...way, path]) : null;
      if (found !== null) return found;
    }
    return null;
  };

  test("topology, alarms, exports and the wire's own rules: pure, with all that they load", () => {
    const core = [
      ...within("manager/topology", "manager/alarms", "manager/export").map(({ path }) => path),
      ...["report", "net", "psk", "json", "limits", "api", "envelope"].map((name) => `shared/${name}.ts`),
      "manager/replay_window.ts",
      "manager/views.ts",
      "agent/table.ts",
      "agent/candidates.ts",
    ];
    expect(core.length).toBeGreaterThan(30);
    for (const path of core) expect(sources.has(path)).toBe(true);
    expect(core.map((path) => reached(path)).filter((why) => why !== null)).toEqual([]);
  });

  test("who says of himself that he is pure reaches for nothing", () => {
    const claiming = [...sources.values()].filter(({ claim }) => /\bPure(?:\.|;|:)/.test(claim));
    expect(claiming.length).toBeGreaterThan(40);
    const liars = claiming.map((file) => [file.path, impurity(file)]).filter(([, why]) => why !== null);
    expect(liars).toEqual([]);
  });
});

test("SQL stands in manager/store alone, and so does the database", () => {
  const SQL =
    /\b(?:SELECT\s|INSERT\s+(?:OR\s+\w+\s+)?INTO\b|UPDATE\s+\w+\s+SET\b|DELETE\s+FROM\b|CREATE\s+(?:TABLE|INDEX)\b|PRAGMA\s|VACUUM\b)/;
  const elsewhere = within("shared", "agent", "manager").filter(({ path }) => !path.startsWith("manager/store/"));
  expect(elsewhere.filter(({ code }) => SQL.test(code)).map(({ path }) => path)).toEqual([]);
  expect(elsewhere.filter(({ imports }) => imports.includes("bun:sqlite")).map(({ path }) => path)).toEqual([]);
  expect(within("manager/store").filter(({ code }) => SQL.test(code)).length).toBeGreaterThan(5);
});

test("every file says first what it owns", () => {
  const silent = within("shared", "agent", "manager").filter(({ claim }) => claim.length < 20);
  expect(silent.map(({ path }) => path)).toEqual([]);
});

test("two dependencies, and two to develop with, each at one exact version", () => {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    dependencies: Record<string, string>;
    devDependencies: Record<string, string>;
  };
  expect(Object.keys(dependencies).sort()).toEqual(["hono", "zod"]);
  expect(Object.keys(devDependencies).sort()).toEqual(["bun-types", "d3-force"]);
  for (const version of Object.values({ ...dependencies, ...devDependencies })) {
    expect(version).toMatch(/^[0-9]+\.[0-9]+\.[0-9]+$/);
  }
});
