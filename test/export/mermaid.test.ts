// Mermaid: each line is one of the few forms that we write, whatever the names; the limit on edges holds.
import { expect, test } from "bun:test";
import { MAX_EDGES, mermaid } from "../../manager/export/mermaid.ts";
import { edge, node, T0 } from "../store/support.ts";
import { HOSTILE, picture } from "./support.ts";

// A label is letters, digits, harmless signs and entities: nothing that Mermaid, Markdown or HTML would read.
const LABEL = String.raw`"(?:(?:\p{L}|\ufffd|#\d+;)(?:[\p{L}\p{N} .:/-]|\ufffd|#\d+;)*)"`;
const FORMS = [
  /^flowchart LR$/,
  new RegExp(String.raw`^  n\d+(?:\[${LABEL}\]|\(\[${LABEL}\]\)|\{\{${LABEL}\}\})$`, "u"),
  /^  style n\d+ stroke:#[0-9a-f]{6}$/,
  new RegExp(String.raw`^  n\d+ (?:---|-\.-|===)(?:\|${LABEL}\|)? n\d+$`, "u"),
  /^  linkStyle \d+(?:,\d+)* stroke:#[0-9a-f]{6}$/,
  /^  %% [0-9a-zA-Z ,:]+$/,
];

const linesOf = (text: string): string[] => text.trimEnd().split("\n");
const links = (lines: string[]): string[] => lines.filter((line) => /^  n\d+ [-=]/.test(line));

test("every line has one of our forms", () => {
  const lines = linesOf(mermaid(picture()));
  for (const line of lines) expect(FORMS.filter((form) => form.test(line)).length, line).toBe(1);
  expect(links(lines).length).toBe(picture().edges.length);
});

test("entities give the names back", () => {
  const labels = linesOf(mermaid(picture())).flatMap((line) => /^  n\d+\["(.*)"\]$/.exec(line)?.[1] ?? []);
  const decoded = labels.map((text) => text.replaceAll(/#(\d+);/g, (_, code) => String.fromCodePoint(Number(code))));
  const shown = HOSTILE.map((name) => name.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "\ufffd"));
  expect(decoded.slice(0, shown.length)).toEqual(shown.map((name) => (name === "" ? " " : name)));
});

test("beyond the limit broken edges come first, and the rest is counted", () => {
  const between = (id: string, state: "up" | "stale") => {
    const made = edge(id, { state });
    [made.a.node, made.b.node] = ["a", "b"];
    return made;
  };
  const edges = Array.from({ length: MAX_EDGES + 20 }, (_, i) => between(`e${i}`, i < MAX_EDGES + 10 ? "up" : "stale"));
  const lines = linesOf(mermaid({ nodes: [node("a"), node("b")], edges, networks: [], at: T0 }));
  expect(lines[1]).toBe("  %% 20 of 520 edges are left out, broken ones last: Mermaid draws at most 500");
  expect(links(lines).length).toBe(MAX_EDGES);
  expect(links(lines).filter((line) => line.includes("stale")).length).toBe(10);
});

test("an edge whose node is filtered out is not drawn", () => {
  const lone = edge("e");
  lone.a.node = "a";
  lone.b.node = "elsewhere";
  expect(links(linesOf(mermaid({ nodes: [node("a")], edges: [lone], networks: [], at: T0 })))).toEqual([]);
});
