// Addresses, words, colours, camera: the parts of the dashboard that need no browser.
import { uiAssets, uiSize } from "../../manager/ui/assets.ts";
import { describe, expect, test } from "bun:test";
import { type AgentSummary, EDGE_STATES } from "../../shared/api.ts";
import { COLUMNS } from "../../manager/ui/agents_view.tsx";
import { distanceSquared, fit, roomBeside, toScreen, toWorld, zoomAt } from "../../manager/ui/camera.ts";
import { parseShown } from "../../manager/ui/client.ts";
import { escapeXml, mapSvg } from "../../manager/ui/export_map.ts";
import { filterOf, LAYERS_ALL, toggleLayer } from "../../manager/ui/filter.ts";
import { contrast, sixDigits, STATE_DASH, STATE_TONE, TONES } from "../../manager/ui/look.ts";
import { firstCommands } from "../../manager/ui/frame.tsx";
import { lackOf } from "../../manager/ui/map_view.tsx";
import { dumpPositions, layOut, loadPositions, ring } from "../../manager/ui/layout.ts";
import { Picture } from "../../manager/ui/picture.ts";
import { href, instant, parseRoute, withQuery } from "../../manager/ui/route.ts";
import { createScene } from "../../manager/ui/scene.ts";
import { localText, momentOf, stepOf } from "../../manager/ui/timeline_view.tsx";
import { wgAge, wgBytes, wgShow } from "../../manager/ui/wg_show.ts";
import * as words from "../../manager/ui/words.ts";
import { HOSTILE, office } from "./mock.ts";

const NOW = Date.UTC(2026, 10, 23, 12);

describe("addresses", () => {
  test("a view and its parameters come back as they went", () => {
    const query = { node: `wg:ab+/=&"<b>`, q: "ä b" };
    expect(parseRoute(href("map", query))).toEqual({ view: "map", query });
  });
  test("nonsense is the first screen", () => {
    for (const hash of ["", "#", "#/", "#/nowhere", "#constructor", "#/__proto__?x=1"])
      expect(parseRoute(hash).view).toBe("now");
  });
  test("parameters are set and taken away", () => {
    const route = parseRoute("#/map?node=a&layers=tunnel");
    expect(withQuery(route, { node: null, edge: "e" })).toBe("#/map?layers=tunnel&edge=e");
  });
  test("a moment is digits", () => {
    expect(instant("1700000000000")).toBe(1_700_000_000_000);
    for (const text of [undefined, "", "-1", "1e3", "soon"]) expect(instant(text)).toBeNull();
  });
  test("layers switch one by one, and none is not all", () => {
    expect(toggleLayer(filterOf({}), "relay")).toBe("wireguard.physical.tunnel");
    expect(toggleLayer(filterOf({ layers: "wireguard.physical.tunnel" }), "relay")).toBeNull();
    const none = toggleLayer(filterOf({ layers: "relay" }), "relay");
    expect(none).toBe("none");
    expect(filterOf({ layers: none! }).layers.size).toBe(0);
  });
});

describe("what a page says where there is little to show", () => {
  test("the first commands can be run where they are to be: another host's loopback is its own, a taken port is another", () => {
    expect(firstCommands("http://localhost:5086")).toEqual({
      here: "bun run agent",
      elsewhere: "MANAGER_URL=http://ADDRESS-OF-THE-MANAGER:5086 ./agent",
      demo: "MANAGER_PORT=5096 bun run demo",
    });
    expect(firstCommands("http://[::1]:5096")).toEqual({
      here: "MANAGER_URL=http://[::1]:5096 bun run agent",
      elsewhere: "MANAGER_URL=http://ADDRESS-OF-THE-MANAGER:5096 ./agent",
      demo: "MANAGER_PORT=5106 bun run demo",
    });
    expect(firstCommands("https://kattila.example.com")).toMatchObject({
      here: "MANAGER_URL=https://kattila.example.com bun run agent",
      elsewhere: "MANAGER_URL=https://kattila.example.com ./agent",
    });
    expect(firstCommands("http://10.80.0.1:5086").elsewhere).toBe("MANAGER_URL=http://10.80.0.1:5086 ./agent");
  });
  test("an address that names what is gone says so, and an empty map why it is empty", () => {
    const picture = new Picture(office(NOW));
    const [node, edge] = [[...picture.nodes.keys()][0]!, [...picture.edges.keys()][0]!];
    const lack = (query: Record<string, string>, of = picture, nodes = of.nodes.size) =>
      lackOf(of, { view: "map", query }, nodes);
    expect([lack({}), lack({ node }), lack({ edge }), lack({ network: [...picture.networks.keys()][0]! })]).toEqual(
      Array(4).fill(null),
    );
    expect(lack({ node: "gone" })).toContain("This host is gone");
    expect(lack({ edge: "gone" })).toContain("This link is gone");
    expect(lack({ network: "gone" }, picture, 0)).toContain("This network is gone");
    expect(lack({ layers: "none" }, picture, 0)).toBe("Nothing fits what is chosen above.");
    expect(lack({}, new Picture({ nodes: [], edges: [], networks: [], at: 1 }))).toBe(
      "Nothing is known of this moment.",
    );
    expect(lack({ node: "gone" }, new Picture())).toBeNull(); // it waits
  });
});

describe("strangers' names", () => {
  test("what would be obeyed instead of shown is replaced in every answer; the rest stays as it is", () => {
    const of = (name: string) => parseShown(JSON.stringify({ [name]: [name] }));
    for (const name of ["evil\u202egnp.exe", "\u200bhub", "a\u2028b", "del\u007f", "c1\u009b", "\u2066x"]) {
      const shown = name.replace(/[\u007f-\u009f\u200b-\u206f]/g, "\ufffd");
      expect(of(name)).toEqual({ [shown]: [shown] });
    }
    for (const name of ["two\nlines\t", HOSTILE, "é漢字🦄مرحبا", 'a"\\b']) expect(of(name)).toEqual({ [name]: [name] });
  });
  test("a host without a name that can be seen goes by its id", () => {
    const topology = office(NOW);
    const node = topology.nodes[0]!;
    for (const label of ["", " ", "\n\t"]) {
      const picture = new Picture({ ...topology, nodes: [{ ...node, label }] });
      expect([picture.label(node.id), picture.nodes.get(node.id)!.label]).toEqual([node.id, node.id]);
      const agent = { agent_id: node.id, hostname: label } as AgentSummary;
      expect(COLUMNS.find(({ key }) => key === "name")!.of(agent)).toBe(node.id);
    }
  });
});

describe("words", () => {
  test.each([
    [0, "0 s"],
    [99_000, "99 s"],
    [100_000, "2 min"],
    [3_600_000, "60 min"],
    [6_000_000, "1 h 40 min"],
    [7_200_000, "2 h"],
    [172_800_000, "2 d"],
    [187_200_000, "2 d 4 h"],
    [-5000, "0 s"],
    [null, "unknown"],
  ] as const)("duration of %p is %p", (value, text) => expect(words.duration(value)).toBe(text));
  test("unknown is not zero", () => {
    expect([words.rate(null), words.bytes(null), words.percent(null), words.duration(null)]).toEqual(
      Array(4).fill("unknown"),
    );
    expect([words.rate(0), words.bytes(0), words.percent(0)]).toEqual(["0 bit/s", "0 B", "0 %"]);
    expect(words.ago(null, NOW)).toBe("never");
  });
  test("the manager's moments are in the reader's zone", () => {
    const at = Date.UTC(2026, 10, 23, 10, 53, 33);
    expect(words.localTimes("nothing arrives since 2026-11-23T10:53:33Z, and 2026-11-23T10:53:33.5Z", NOW)).toBe(
      `nothing arrives since ${words.clock(at, NOW)}, and ${words.clock(at, NOW)}`,
    );
    expect(words.localTimes("a-2026-11-23 stays", NOW)).toBe("a-2026-11-23 stays");
  });
  test("a clock is in time, ahead or behind; nobody reads minus zero", () => {
    expect([null, 0, -40, 61_000, -3000].map(words.skew)).toEqual([
      "unknown",
      "in time",
      "in time",
      "61 s ahead",
      "3 s behind",
    ]);
  });
  test("amounts take fitting units", () => {
    expect([words.rate(1500), words.rate(25_000_000), words.bytes(1536), words.percent(0.034)]).toEqual([
      "1.5 kbit/s",
      "25 Mbit/s",
      "1.5 KiB",
      "3.4 %",
    ]);
  });
  test("every state has a word, a sign, a meaning, a tone and a dash", () => {
    for (const state of EDGE_STATES) {
      expect(words.STATE_WORDS[state].length).toBeGreaterThan(1);
      expect(words.STATE_SIGN[state].length).toBe(1);
      expect(words.STATE_MEANS[state].length).toBeGreaterThan(5);
    }
    expect(new Set(EDGE_STATES.map((state) => words.STATE_SIGN[state])).size).toBe(EDGE_STATES.length);
  });
});

describe("colours", async () => {
  const css = await Bun.file(`${import.meta.dir}/../../manager/ui/app.css`).text();
  const variables = (block: string) =>
    new Map([...block.matchAll(/--([a-z-]+): (#[0-9a-f]{6});/g)].map((match) => [match[1]!, match[2]!]));
  const [light, dark] = css.split("@media (prefers-color-scheme: dark)");
  const themes = { light: variables(light!), dark: variables(dark!) };

  test("contrast is WCAG's", () => {
    expect(contrast("#000000", "#ffffff")).toBeCloseTo(21, 5);
    expect(contrast("#777777", "#ffffff")).toBeCloseTo(4.48, 2);
  });
  for (const [name, theme] of Object.entries(themes)) {
    const of = (variable: string) => theme.get(variable)!;
    test(`${name}: text and words of state reach 4.5 on every ground they stand on`, () => {
      for (const ground of ["ground", "raised", "sunk"])
        for (const ink of ["text", "muted", "accent"])
          expect({ ink, ground, ok: contrast(of(ink), of(ground)) >= 4.5 }).toEqual({ ink, ground, ok: true });
      for (const ground of ["ground", "raised"])
        for (const ink of TONES)
          expect({ ink, ground, ok: contrast(of(ink), of(ground)) >= 4.5 }).toEqual({ ink, ground, ok: true });
      for (const tone of TONES) {
        expect({ tone, ok: contrast(of("text"), of(`${tone}-wash`)) >= 4.5 }).toEqual({ tone, ok: true });
        expect({ tone, ok: contrast(of(tone), of(`${tone}-wash`)) >= 4.5 }).toEqual({ tone, ok: true });
      }
      expect(contrast(of("on-accent"), of("accent"))).toBeGreaterThanOrEqual(4.5);
      // Signs on filled marks, and the hollow in a node.
      for (const tone of TONES) expect(contrast(of(tone), of("raised"))).toBeGreaterThanOrEqual(3);
    });
    test(`${name}: borders of what is typed into, and the focus ring, reach 3`, () => {
      for (const ground of ["ground", "raised"]) {
        expect(contrast(of("edge"), of(ground))).toBeGreaterThanOrEqual(3);
        expect(contrast(of("accent"), of(ground))).toBeGreaterThanOrEqual(3);
      }
    });
  }
  test("what the bundler makes of a colour is the same colour", async () => {
    const { body } = (await uiAssets()).get("/assets/app.css")!;
    const served = new TextDecoder().decode(body).split("prefers-color-scheme");
    const inTheme = (block: string) =>
      [...block.matchAll(/--([a-z-]+):(#[0-9a-f]+)[;}]/g)].map((match) => [match[1]!, sixDigits(match[2]!)] as const);
    expect(new Map(inTheme(served[0]!))).toEqual(themes.light);
    expect(new Map(inTheme(served[1]!))).toEqual(themes.dark);
    expect(["#fff", "#Ab0", "#123456"].map(sixDigits)).toEqual(["#ffffff", "#AAbb00", "#123456"]);
  });
  test("states of one tone differ by their dash", () => {
    for (const tone of TONES) {
      const dashes = EDGE_STATES.filter((state) => STATE_TONE[state] === tone).map((state) => STATE_DASH[state].join());
      expect(new Set(dashes).size).toBe(dashes.length);
    }
  });
});

describe("camera", () => {
  const camera = { x: 40, y: -7, scale: 1.7 };
  test("screen and world are each other's inverse", () => {
    const there = toWorld(camera, toScreen(camera, { x: 12, y: 34 }));
    expect(there.x).toBeCloseTo(12);
    expect(there.y).toBeCloseTo(34);
  });
  test("what is under the pointer stays there while zooming", () => {
    const about = { x: 300, y: 200 };
    const before = toWorld(camera, about);
    const after = toWorld(zoomAt(camera, about, 1.4), about);
    expect(after.x).toBeCloseTo(before.x);
    expect(after.y).toBeCloseTo(before.y);
  });
  test("fitting shows every point, and nothing is no accident", () => {
    const points = [
      { x: -500, y: 3 },
      { x: 900, y: 777 },
    ];
    const fitted = fit(points, 800, 600, 50);
    for (const point of points) {
      const { x, y } = toScreen(fitted, point);
      expect(x).toBeGreaterThanOrEqual(49.9);
      expect(x).toBeLessThanOrEqual(750.1);
      expect(y).toBeGreaterThanOrEqual(49.9);
      expect(y).toBeLessThanOrEqual(550.1);
    }
    expect(fit([], 800, 600)).toEqual({ x: 400, y: 300, scale: 1 });
    expect(fit([{ x: 5, y: 5 }], 800, 600).scale).toBeLessThan(10);
  });
  test("a panel leaves room beside it, on a phone above it", () => {
    expect(roomBeside({ width: 1440, height: 700 }, 464)).toEqual({ width: 976, height: 700 });
    expect(roomBeside({ width: 768, height: 700 }, 464)).toEqual({ width: 304, height: 700 });
    expect(roomBeside({ width: 390, height: 700 }, 464)).toEqual({ width: 390, height: 280 });
    expect(roomBeside({ width: 390, height: 700 }, 0)).toEqual({ width: 390, height: 700 });
  });
  test("the distance to a line ends at its ends", () => {
    expect(distanceSquared({ x: 0, y: 3 }, { x: -5, y: 0 }, { x: 5, y: 0 })).toBe(9);
    expect(distanceSquared({ x: 9, y: 0 }, { x: -5, y: 0 }, { x: 5, y: 0 })).toBe(16);
    expect(distanceSquared({ x: 1, y: 0 }, { x: 0, y: 0 }, { x: 0, y: 0 })).toBe(1);
  });
});

describe("layout", () => {
  const ids = ["a", "b", "c", "d"];
  const links = [
    { source: "a", target: "b" },
    { source: "b", target: "c" },
  ];
  const run = (positions: ReturnType<typeof loadPositions>, nodes = ids) => {
    const layout = layOut(nodes, links, positions);
    let rounds = 0;
    while (!layout.work(() => rounds++ % 7 !== 6)) if (rounds > 10_000) throw new Error("it does not end");
    return positions;
  };
  test("it comes out the same each time, and nodes stand apart", () => {
    const first = run(new Map());
    expect(run(new Map())).toEqual(first);
    const points = [...first.values()];
    for (const [i, p] of points.entries())
      for (const q of points.slice(i + 1)) expect(Math.hypot(p.x - q.x, p.y - q.y)).toBeGreaterThan(25);
  });
  test("what stands does not move when a node comes", () => {
    const positions = run(new Map());
    const before = new Map([...positions].map(([id, point]) => [id, { ...point }]));
    run(positions, [...ids, "e"]);
    for (const [id, point] of before) expect(positions.get(id)).toEqual(point);
    expect(positions.has("e")).toBe(true);
  });
  test("positions outlive the page; another's text is none", () => {
    const positions = run(new Map());
    const back = loadPositions(dumpPositions(positions));
    for (const [id, { x }] of positions) expect(Math.abs(back.get(id)!.x - x)).toBeLessThanOrEqual(0.5);
    for (const text of [null, "", "[]", "{", '{"a":1}', '{"a":["x",2]}']) expect(loadPositions(text).size).toBe(0);
  });
  test("a ring has room for each name", () => {
    const positions = new Map();
    ring(
      Array.from({ length: 200 }, (_, i) => String(i)),
      positions,
    );
    const [first, second] = [positions.get("0"), positions.get("1")];
    expect(Math.hypot(first.x - second.x, first.y - second.y)).toBeGreaterThan(20);
  });
});

describe("exports and copies", () => {
  test("a hostile name is text in the SVG", () => {
    const picture = new Picture(office(NOW));
    const positions = new Map([...picture.nodes.keys()].map((id, i) => [id, { x: i * 10, y: (i % 7) * 30 }]));
    const palette = Object.fromEntries(
      [...TONES, "ground", "raised", "text", "muted", "accent", "line"].map((name) => [name, "#123456"]),
    ) as never;
    const svg = mapSvg(
      createScene(picture, { layers: LAYERS_ALL, network: null, foreign: true, edges: "all" }),
      positions,
      palette,
    );
    expect(svg).not.toContain(HOSTILE);
    expect(svg).toContain("&#60;img src=x onerror=&#34;window.pwned=1&#34;&#62;");
    expect(svg.match(/<circle /g)!.length).toBe(49);
    // Who is not online has a sign on it: not by colour alone.
    const signed = [...picture.nodes.values()].filter(({ kind, status }) => kind === "agent" && status !== "online");
    expect(signed.length).toBeGreaterThan(0);
    expect(svg.match(/text-anchor="middle"[^>]*>[◔✕?]</g)!.length).toBe(signed.length);
    expect(escapeXml("a\u0000\u001b&'")).toBe("a\ufffd\ufffd&#38;&#39;");
  });
  test("ages and bytes are wg's", () => {
    expect([wgAge(0), wgAge(1), wgAge(100), wgAge(90_061)]).toEqual([
      "Now",
      "1 second ago",
      "1 minute, 40 seconds ago",
      "1 day, 1 hour, 1 minute, 1 second ago",
    ]);
    expect([wgBytes(92), wgBytes(1536), wgBytes(5 * 2 ** 30)]).toEqual(["92 B", "1.50 KiB", "5.00 GiB"]);
  });
  test("one end's view reads as wg show prints it", () => {
    const [edge] = office(NOW).edges;
    const text = wgShow(edge!.a, edge!.b, NOW);
    expect(text.split("\n")).toEqual([
      "interface: wg0",
      `  public key: ${edge!.a.public_key}`,
      "  listening port: 51820",
      "",
      `peer: ${edge!.b.public_key}`,
      "  endpoint: 192.0.2.2:51820",
      "  allowed ips: 10.80.0.0/32",
      "  latest handshake: 40 seconds ago",
      "  transfer: 114.77 MiB received, 94.19 MiB sent",
      "  persistent keepalive: every 25 seconds",
    ]);
    expect(wgShow({ ...edge!.a, allowed_ips: null }, edge!.b, NOW)).toContain("(no peer ");
  });
});

describe("timeline", () => {
  test("steps and moments fit each other; the last step is now", () => {
    const range = 3_600_000;
    expect(momentOf(1000, NOW, range)).toBeNull();
    expect(momentOf(500, NOW, range)).toBe(NOW - range / 2);
    expect(stepOf(NOW - range / 2, NOW, range)).toBe(500);
    expect([stepOf(null, NOW, range), stepOf(NOW - 9 * range, NOW, range)]).toEqual([1000, 0]);
    expect(new Date(localText(NOW)).getTime()).toBe(NOW);
  });
});

test("the dashboard's files are under 60 kB gzipped, and no empty ones", () => {
  const { bytes, gzippedBytes } = uiSize();
  expect(gzippedBytes).toBeLessThan(60_000);
  expect(gzippedBytes).toBeGreaterThan(20_000);
  expect(bytes).toBeGreaterThan(gzippedBytes);
});
