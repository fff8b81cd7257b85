// DOT is what GraphViz reads, and hostile names come out of it as they went in.
import { expect, test } from "bun:test";
import { dot } from "../../manager/export/dot.ts";
import { describeWith } from "../support/needs.ts";
import { HOSTILE, picture } from "./support.ts";

test("one statement a line, whatever the names", () => {
  const lines = dot(picture()).trimEnd().split("\n");
  expect(lines.length).toBe(3 + picture().nodes.length + picture().edges.length + 1);
  expect(lines.at(3)).toBe(`  "host-0" [label="<b>&amp;\\"x\\n10.0.0.1\\nonline", shape=box, color="#1a7f37"];`);
});

describeWith(["dot"], "GraphViz", () => {
  const run = (type: string): string => {
    const result = Bun.spawnSync(["dot", `-T${type}`], { stdin: Buffer.from(dot(picture())), timeout: 60_000 });
    expect(result.stderr.toString().replaceAll(/^Fontconfig.*\n/gm, "")).toBe("");
    expect(result.exitCode).toBe(0);
    return result.stdout.toString();
  };

  test("reads the same nodes and edges", () => {
    const drawn = JSON.parse(run("dot_json")) as {
      objects: { name: string }[];
      edges: { id: string; style: string }[];
    };
    expect(drawn.objects.map(({ name }) => name).toSorted()).toEqual(
      picture()
        .nodes.map(({ id }) => id)
        .toSorted(),
    );
    expect(drawn.edges.map(({ id }) => id).toSorted()).toEqual(
      picture()
        .edges.map(({ id }) => id)
        .toSorted(),
    );
  });

  test("draws hostile names as text", () => {
    const svg = run("svg");
    const texts = [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) =>
      text!
        .replaceAll(/&#(\d+);/g, (_, code) => String.fromCodePoint(Number(code)))
        .replaceAll("&lt;", "<")
        .replaceAll("&gt;", ">")
        .replaceAll("&quot;", '"')
        .replaceAll("&amp;", "&")
        .replaceAll("\u00a0", " "),
    );
    for (const name of HOSTILE.filter((text) => text !== "")) {
      expect(texts).toContain(name.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "\ufffd"));
    }
  });
});
