// The dashboard in a real browser, on a real manager fed by the simulated fleet: every view, clicked, typed and slid; what comes
// back after a restart; and what must never happen.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { stopwatch } from "../support/stopwatch.ts";
import { type Browser, openBrowser } from "./browser.ts";
import { fullMesh, startMock } from "./mock.ts";
import { HOSTILE_HOST, HOSTILE_INTERFACE, type RealManager, startRealManager } from "./real_manager.ts";
import type { AgentsResponse, TopologyDiff, TopologyResponse } from "../../shared/api.ts";

/** Long enough for the demo's faults to have raised their alarms. */
const PAST_MINUTES = 28;
const SECOND = 1000;
// A browser on a machine that does other things too.
setDefaultTimeout(60 * SECOND);

describeWith(["chromium"], "dashboard", () => {
  let manager: RealManager;
  let browser: Browser;
  const get = async <T>(path: string): Promise<T> => (await fetch(`${manager.url}${path}`)).json() as Promise<T>;

  beforeAll(async () => {
    manager = await startRealManager(PAST_MINUTES);
    browser = await openBrowser(manager.url);
    await browser.open("#/now");
    await browser.until(`document.querySelector(".verdict h1")`, "the first screen");
  }, 120 * SECOND);
  afterAll(async () => {
    browser?.close();
    await manager?.remove();
  }, 30 * SECOND);

  test("now: verdict, causes with effects and a command, what changed, sight", async () => {
    const text = await browser.text();
    expect(text).toMatch(/\d+ of 50 up, \d+ causes?, since (\d{4}-\d\d-\d\d )?\d\d:\d\d/);
    expect(text).toContain("nothing arrives from web-hel-4");
    expect(text).toContain("systemctl status kattila-agent");
    expect(text).toMatch(/effects?:/);
    expect(text).toContain("hub-ams wg0 does not list web-fra-3");
    expect(text).toMatch(/last report \d+ s ago/);
    expect(text).toMatch(/ingest lag \d+ (ms|s)/);
    await browser.until(`document.querySelector(".live [role=status]").innerText === "● live"`, "the stream");
    expect(await browser.value("document.title")).toMatch(/^\(\d+\) Now/);
    // This host may read without a login: there is no session to end.
    expect(text).not.toContain("Log out");
  });

  test("map: a node's panel by click, an edge's by address, Escape closes", async () => {
    await browser.open("#/map");
    await browser.until(`localStorage.getItem("kattila.positions")`, "the layout", 15 * SECOND);
    const at = await browser.value<{ x: number; y: number }>(`(async () => {
      const canvas = document.querySelector(".stage canvas");
      const box = canvas.getBoundingClientRect();
      for (let y = 20; y < box.height - 60; y += 12) for (let x = 20; x < box.width - 20; x += 12) {
        canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: box.x + x, clientY: box.y + y, pointerId: 1, pointerType: "mouse" }));
        if (canvas.style.cursor === "pointer") return { x: box.x + x, y: box.y + y };
      }
    })()`);
    await browser.until(`document.querySelector(".tip")`, "the tip");
    await browser.clickAt(at.x, at.y);
    await browser.until(`document.querySelector(".panel")`, "a panel");
    expect(await browser.value<string>("location.hash")).toMatch(/#\/map\?(node|edge)=/);
    await browser.press("Escape");
    await browser.until(`!document.querySelector(".panel")`, "closing");
    // The key works from the moment the panel stands, not a frame later.
    await browser.value(`(() => { const watch = new MutationObserver(() => {
      if (document.querySelector(".panel") === null) return;
      watch.disconnect();
      window.pressed = true;
      document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
    }); watch.observe(document.body, { childList: true, subtree: true }); history.back(); })()`);
    await browser.until(`window.pressed && !document.querySelector(".panel")`, "closing at once");

    const { edges, nodes } = await get<TopologyResponse>("/status/topology");
    const label = (id: string) => nodes.find((node) => node.id === id)!.label;
    const blocked = edges.find(({ cause }) => cause === "a_to_b_blocked" || cause === "b_to_a_blocked")!;
    await browser.open(`#/map?edge=${blocked.id}`);
    await browser.until(`document.querySelector(".panel .spark")`, "the sparkline");
    const panel = await browser.value<string>(`document.querySelector(".panel").innerText`);
    for (const words of [
      "stale",
      blocked.reason!,
      label(blocked.a.node),
      label(blocked.b.node),
      "Handshake",
      "AllowedIPs",
      "peer: ",
      "latest handshake",
      "History",
    ])
      expect(panel).toContain(words);
  });

  test("a host's line to its segment: nothing is asked of a history that nobody keeps", async () => {
    const { edges } = await get<TopologyResponse>("/status/topology");
    const line = edges.find(({ a, b }) => [a, b].some(({ node }) => node.startsWith("segment:")))!;
    const before = browser.requests.length;
    await browser.open(`#/map?edge=${encodeURIComponent(line.id)}`);
    await browser.until(`document.querySelector(".panel")?.innerText.includes("No history is kept")`, "the panel");
    await Bun.sleep(200);
    expect(browser.requests.slice(before).filter((url) => url.includes("/history"))).toEqual([]);
    await browser.press("Escape");
  });

  test("positions stay through a reload and an update", async () => {
    await browser.open("#/map");
    const before = await browser.value<string>(`localStorage.getItem("kattila.positions")`);
    await manager.report();
    await browser.view.navigate("about:blank");
    await browser.open("#/map");
    await browser.until(`document.querySelector(".stage canvas")`, "the map");
    await Bun.sleep(400);
    const after = JSON.parse(await browser.value<string>(`localStorage.getItem("kattila.positions")`));
    for (const [id, place] of Object.entries(JSON.parse(before))) expect(after[id]).toEqual(place);
  });

  test("search: typed, chosen by Enter", async () => {
    await browser.open("#/map");
    await browser.click(".search input");
    await browser.type("hub-hel");
    await browser.until(`document.querySelector(".results a")`, "results");
    await browser.press("Enter");
    await browser.until(`document.querySelector(".panel h2")?.innerText === "hub-hel"`, "the node's panel");
    await browser.until(`document.querySelector(".panel").innerText.includes("Kernel")`, "the agent's report");
  });

  test("layers and networks go into the address, and out of the map", async () => {
    await browser.open("#/map");
    await browser.click(`[aria-label="Layers"] button:nth-child(2)`);
    await browser.until(`location.hash.includes("layers=wireguard.tunnel.relay")`, "the address");
    await browser.until(`!document.querySelector(".legend").innerText.includes("physical")`, "the legend");
  });

  test("export: the map as SVG and PNG, the data as NetJSON, DOT and Mermaid, each a file", async () => {
    const directory = mkdtempSync(join(tmpdir(), "kattila-downloads-"));
    try {
      await browser.view.cdp("Page.setDownloadBehavior", { behavior: "allow", downloadPath: directory });
      await browser.open("#/map");
      await browser.click(".tools details summary");
      const links = `[...document.querySelectorAll(".tools details .results a")]`;
      expect(await browser.value<string[]>(`${links}.map((link) => link.innerText)`)).toEqual([
        "Picture, SVG",
        "Picture, PNG",
        "NetJSON",
        "GraphViz DOT",
        "Mermaid",
      ]);
      const saved = async (index: number, ending: string) => {
        await browser.value(`${links}[${index}].click()`);
        for (const deadline = Date.now() + 10 * SECOND; Date.now() < deadline; await Bun.sleep(50)) {
          const name = readdirSync(directory).find((file) => file.endsWith(ending));
          if (name !== undefined) return new Uint8Array(readFileSync(join(directory, name)));
        }
        throw new Error(`no ${ending} was saved: ${readdirSync(directory)}`);
      };
      const text = async (index: number, ending: string) => new TextDecoder().decode(await saved(index, ending));
      const svg = await text(0, ".svg");
      expect(svg).toStartWith("<svg ");
      expect(svg).toContain(">hub-ams</text>");
      expect(svg).not.toContain("<img");
      // Its signature, and its size: twice the canvas's.
      const png = await saved(1, ".png");
      expect([...png.slice(0, 8)]).toEqual([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
      const width = await browser.value<number>(
        `document.querySelector(".stage canvas").getBoundingClientRect().width`,
      );
      expect(new DataView(png.buffer, png.byteOffset).getUint32(16)).toBe(2 * width);
      expect(JSON.parse(await text(2, ".netjson"))).toMatchObject({ type: "NetworkGraph" });
      expect(await text(3, ".dot")).toContain("hub-ams");
      expect(await text(4, ".mmd")).toContain("hub-ams");
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test("matrix: a cell by keys, its edge by Enter", async () => {
    await browser.open("#/matrix");
    await browser.until(`document.querySelector(".split aside table")`, "the table");
    await browser.value(`document.querySelector(".stage canvas").focus()`);
    let words = "";
    for (let i = 0; i < 60 && !/ to .*: (up|stale|idle)/.test(words); i++) {
      await browser.press(i % 3 === 0 ? "ArrowDown" : "ArrowRight");
      words = await browser.value<string>(`document.querySelector(".tip")?.innerText ?? ""`);
    }
    expect(words).toMatch(/ to .*: (up|stale|idle)/);
    await browser.press("Enter");
    await browser.until(`document.querySelector(".panel")`, "the edge's panel");
    await browser.screenshot("matrix-panel");
  });

  test("matrix: a healthy cell is the colour of health, also in the theme whose white the bundler shortens", async () => {
    for (const scheme of ["light", "dark"] as const) {
      await browser.theme(scheme);
      await browser.open("#/now");
      await browser.open("#/matrix");
      // Pixels of the sheet that are clearly green, and clearly blue.
      const tinted = `(() => { const canvas = document.querySelector(".stage canvas"); if (!canvas) return null;
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let [green, blue] = [0, 0];
        for (let i = 0; i < data.length; i += 4) {
          if (data[i + 1] - data[i] > 15 && data[i + 1] > data[i + 2]) green++;
          if (data[i + 2] - data[i + 1] > 60) blue++;
        }
        return { green, blue }; })()`;
      await browser.until(`${tinted}?.green > 3000`, `green cells, ${scheme}`);
      expect(await browser.value(`${tinted}.blue`)).toBe(0);
    }
    await browser.theme("light");
  });

  test("matrix: cells too small for a sign differ by shape: broken fills its cell, lossy a triangle of it, idle two quarters", async () => {
    const shares: number[] = [];
    for (const state of ["stale", "lossy", "idle"] as const) {
      const made = fullMesh(60, Date.now());
      const mock = await startMock({
        make: () => ({ ...made, edges: made.edges.map((edge) => ({ ...edge, state, cause: null })) }),
      });
      const small = await openBrowser(mock.url);
      try {
        await small.phone();
        await small.open("#/matrix");
        // Of the pixels in the middle of the sheet, those that are left white.
        const share = `(() => { const canvas = document.querySelector(".stage canvas"); if (!canvas) return 1;
          const { data } = canvas.getContext("2d").getImageData(120, 120, 200, 200);
          if (data[0] + data[1] + data[2] === 0) return 1; // not painted yet
          let paper = 0;
          for (let i = 0; i < data.length; i += 4) if (Math.min(data[i], data[i + 1], data[i + 2]) > 245) paper++;
          return paper / (data.length / 4); })()`;
        await small.until(`document.querySelector(".split aside tbody") && ${share} < 0.95`, `the cells, ${state}`);
        shares.push(await small.value<number>(share));
        await small.screenshot(`matrix-small-${state}`);
      } finally {
        small.close();
        await mock.stop();
      }
    }
    const [stale, lossy, idle] = shares as [number, number, number];
    expect(stale).toBeLessThan(0.1);
    expect(lossy).toBeWithin(0.2, 0.6);
    expect(idle).toBeWithin(0.35, 0.65);
  });

  test("agents: sorted by a click, filtered by typing, hostile names are text", async () => {
    await browser.open("#/agents");
    await browser.until(`document.querySelectorAll("tbody tr").length === 50`, "fifty rows");
    await browser.click("thead th:first-child button");
    await browser.until(`document.querySelector("thead th").ariaSort === "ascending"`, "the order");
    expect(await browser.value<string>(`document.querySelector("tbody td").innerText`)).toBe(HOSTILE_HOST);
    await browser.click(`[aria-label="Filter agents"]`);
    await browser.type("web-hel-4");
    await browser.until(`document.querySelectorAll("tbody tr").length === 1`, "one row");
    expect(await browser.text()).toContain("✕ down");
    expect(await browser.value<string>("location.hash")).toContain("q=web-hel-4");
  });

  test("hostile names are text everywhere they stand", async () => {
    const { agents } = await get<AgentsResponse>("/status/agents");
    const hostile = agents.find(({ hostname }) => hostname === HOSTILE_HOST)!;
    await browser.open(`#/map?node=${hostile.agent_id}`);
    await browser.until(
      `document.querySelector(".panel h2")?.innerText === ${JSON.stringify(HOSTILE_HOST)}`,
      "its panel",
    );
    const { edges } = await get<TopologyResponse>("/status/topology");
    const edge = edges.find(({ a, b }) => a.node === hostile.agent_id || b.node === hostile.agent_id)!;
    await browser.open(`#/map?edge=${edge.id}`);
    await browser.until(
      `document.querySelector(".panel h2")?.innerText.includes(${JSON.stringify(HOSTILE_INTERFACE)})`,
      "its edge",
    );
    expect(await browser.value("document.querySelectorAll('img, main b').length")).toBe(0);
    expect(await browser.value("window.pwned")).toBeUndefined();
  });

  test("alarms: cause above effect, acknowledged with the admin token alone", async () => {
    await browser.open("#/alarms");
    await browser.until(
      `(() => { const cause = [...document.querySelectorAll(".cause")].find((item) => item.querySelector("h3").innerText.includes("nothing arrives from web-hel-4"));
      return cause !== undefined && cause.querySelectorAll(".under li").length >= 2; })()`,
      "a cause above its effects",
    );
    await browser.click(".cause .alarm button");
    await browser.until(`document.querySelector("[role=alert]")?.innerText.includes("admin token")`, "the refusal");
    await browser.click("[role=alert] button");
    await browser.until(`document.querySelector("#token")`, "the login");
    await browser.click("#token");
    await browser.type(manager.adminToken);
    await browser.press("Enter");
    await browser.until(`document.querySelector(".cause .alarm button")`, "the alarms again");
    expect(await browser.value("document.cookie")).toBe("");
    expect(await browser.value<string>("location.href")).not.toContain(manager.adminToken);
    // Not just the first: some alarms (peer_removed) are over once acknowledged, and show nothing then.
    const button = `.cause .alarm button[aria-label^="Acknowledge: nothing arrives from web-hel-4"]`;
    await browser.click(button);
    await browser.until(`!document.querySelector(${JSON.stringify(button)})`, "acknowledging");
    await browser.until(`document.querySelector("main").innerText.includes("acknowledged")`, "saying so");
  });

  test("alarms: one that its acknowledgement ends is gone, also when the stream says so before the answer", async () => {
    await browser.open("#/alarms");
    const button = `.cause .alarm button[aria-label^="Acknowledge: hub-ams wg0 does not list web-fra-3"]`;
    await browser.until(`document.querySelector(${JSON.stringify(button)})`, "the alarm");
    await browser.value(`(() => { const ask = window.fetch; window.fetch = async (path, ...more) => {
      const answer = await ask(path, ...more);
      if (String(path).endsWith("/ack")) { await new Promise((resolve) => setTimeout(resolve, 700)); window.answered = true; }
      return answer; }; })()`);
    await browser.click(button);
    const gone = `!document.querySelector("main").innerText.includes("hub-ams wg0 does not list web-fra-3")`;
    await browser.until(gone, "its end, by the stream");
    await browser.until("window.answered", "the answer");
    // Two frames: the store tells the page once a frame.
    await browser.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))");
    expect(await browser.value<boolean>(gone)).toBe(true);
  });

  test("a foreign peer is marked as expected in its panel, and no longer", async () => {
    const { nodes } = await get<TopologyResponse>("/status/topology");
    const { id } = nodes.find(({ kind }) => kind === "foreign")!;
    await browser.open(`#/map?node=${encodeURIComponent(id)}`);
    const button = `[...document.querySelectorAll(".panel section button")]`;
    const press = async (label: string) => {
      await browser.until(`${button}.some((item) => item.innerText === ${JSON.stringify(label)})`, label);
      await browser.value(`${button}.find((item) => item.innerText === ${JSON.stringify(label)}).click()`);
    };
    await press("Expect it");
    await browser.until(`document.querySelector(".panel").innerText.includes("its silence is a warning")`, "the mark");
    expect((await get<TopologyResponse>("/status/topology")).nodes.find((node) => node.id === id)!.expected).toBe(true);
    await browser.screenshot("map-foreign-panel");
    await press("Expect no longer");
    await browser.until(`document.querySelector(".panel").innerText.includes("nobody expects it")`, "no mark");
  });

  test("timeline: the slider moves the map, the difference is said", async () => {
    await browser.open("#/timeline?range=1h");
    await browser.until(`document.querySelector(".timeline input[type=range]")`, "the slider");
    await browser.until(`document.querySelector(".split .changes li")`, "events");
    const box = await browser.value<{ x: number; y: number; width: number }>(
      `(() => { const box = document.querySelector(".timeline input[type=range]").getBoundingClientRect(); return { x: box.x, y: box.y + box.height / 2, width: box.width }; })()`,
    );
    // 40 of 60 minutes: eight after the fleet's first report, before the faults.
    await browser.clickAt(box.x + box.width * 0.66, box.y);
    await browser.until(`/at=\\d{13}/.test(location.hash)`, "the moment in the address");
    await browser.until(`document.querySelector(".timeline strong").innerText !== "Now"`, "the moment");
    const at = Number(/at=(\d+)/.exec(await browser.value<string>("location.hash"))![1]);
    const past = await get<TopologyResponse>(`/status/topology?at=${at}`);
    expect(past.nodes.length).toBeGreaterThan(0);
    await browser.until(
      `document.querySelector(".stage canvas").ariaLabel.includes(${JSON.stringify(`and ${past.edges.length} links`)})`,
      "the past on the map",
    );
    await browser.value(
      `(() => { const select = document.querySelector("#compare"); select.value = "now"; for (const name of ["input", "change"]) select.dispatchEvent(new Event(name, { bubbles: true })); })()`,
    );
    await browser.until(`document.querySelector(".diff li")`, "the difference");
    expect(await browser.value<string>(`document.querySelector(".diff").innerText`)).toContain("stale");
    await browser.screenshot("timeline-diff");
  });

  test("timeline: what only the other moment had is on the map, with its sign in the legend", async () => {
    const { nodes, edges, at } = await get<TopologyResponse>("/status/topology");
    // Long before the first report: all there is now is new.
    await browser.open(`#/timeline?at=${at - 86_400_000}&with=${at}`);
    await browser.until(`document.querySelector(".legend")?.textContent.includes("+ new")`, "the sign");
    const all = JSON.stringify(`${nodes.length} nodes and ${edges.length} links`);
    await browser.until(`document.querySelector(".stage canvas").ariaLabel.includes(${all})`, "all of it on the map");
    // As the map draws them: a large segment is a node, not a line for every pair.
    expect(nodes.some(({ kind }) => kind === "segment")).toBe(true);
    const { edges: differing } = await get<TopologyDiff>(`/status/topology/diff?from=${at - 86_400_000}&to=${at}`);
    expect(differing.added.map(({ id }) => id).sort()).toEqual(edges.map(({ id }) => id).sort());
    expect(await browser.value<string>(`document.querySelector(".diff").textContent`)).toContain("+ new link ");
  });

  test("path: typed names, hops both ways, the failing one marked", async () => {
    await browser.open("#/path");
    await browser.click("#path-from");
    await browser.type("hub-fra");
    await browser.click("#path-to");
    await browser.type("web-hel-4");
    await browser.press("Enter");
    await browser.until(`document.querySelectorAll(".hops").length === 2`, "both ways");
    await browser.until(`document.querySelector(".hops .failed")`, "the failing hop");
    expect(await browser.value<string>(`document.querySelector(".hops .failed").innerText`)).toContain("hub-fra");
    expect(await browser.text()).toContain("a link on the way is broken");
    // An address may name hosts as a person does; who is none is told apart from the API's words.
    await browser.open("#/path?from=hub-ams&to=web-hel-4");
    await browser.until(`document.querySelector(".hops")?.innerText.includes("hub-ams")`, "the path of names");
    await browser.open("#/path?from=nosuch&to=web-hel-4");
    await browser.until(
      `document.querySelector("[role=alert]")?.innerText.includes("No agent is called nosuch")`,
      "why",
    );
  });

  test(
    "after the manager's restart it is live again, by itself",
    async () => {
      await browser.open("#/now");
      await manager.stop();
      await browser.until(
        `document.querySelector(".notice.bad")?.innerText.includes("Not live")`,
        "saying so",
        10 * SECOND,
      );
      expect(await browser.text()).toContain("not known now");
      await browser.screenshot("not-live");
      browser.complaints.length = 0; // the refused connections are Chrome's to report
      await manager.start();
      await browser.until(
        `!document.querySelector(".notice.bad") && document.querySelector(".live [role=status]").innerText === "● live"`,
        "coming back",
        20 * SECOND,
      );
      browser.complaints.length = 0;
    },
    60 * SECOND,
  );

  test(
    "every view in light, dark and on a phone: no scroll sideways, nothing complained about",
    async () => {
      const { nodes } = await get<TopologyResponse>("/status/topology");
      const id = (label: string) => nodes.find((node) => node.label === label)!.id;
      const views = {
        now: "#/now",
        map: "#/map",
        node: `#/map?node=${id("hub-ams")}`,
        matrix: "#/matrix",
        agents: "#/agents",
        alarms: "#/alarms",
        resolved: "#/alarms?state=resolved",
        timeline: "#/timeline",
        path: `#/path?from=${id("app-waw-2")}&to=${id("cache-ams-2")}`,
      };
      const phone = await openBrowser(manager.url, 390, 844);
      try {
        for (const [look, page, scheme] of [
          ["light", browser, "light"],
          ["dark", browser, "dark"],
          ["phone", phone, "light"],
        ] as const) {
          await page.theme(scheme);
          for (const [name, hash] of Object.entries(views)) {
            await page.open(hash);
            await Bun.sleep(500);
            await page.screenshot(`${name}-${look}`);
            const wide = await page.value("document.documentElement.scrollWidth <= innerWidth");
            expect({ name, look, wide }).toEqual({ name, look, wide: true });
            if (look !== "phone") continue;
            // Nor inside: but the row of tools, which a finger pushes, and what wg prints.
            const pushed = await page.value(`[...document.querySelectorAll("body *:not(.tools, pre, .hidden-text)")]
              .filter((item) => item.scrollWidth > item.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(item).overflowX))
              .map((item) => item.className || item.tagName)`);
            expect({ name, pushed }).toEqual({ name, pushed: [] });
          }
        }
        expect(phone.complaints).toEqual([]);
      } finally {
        phone.close();
      }
      await browser.theme("light");
      expect(browser.complaints).toEqual([]);
    },
    120 * SECOND,
  );

  test("only the manager was ever asked", () => {
    expect(browser.requests.length).toBeGreaterThan(20);
    const foreign = browser.requests.filter(
      (request) => !request.startsWith(`${manager.url}/`) && !/^(data|blob|about):/.test(request),
    );
    expect(foreign).toEqual([]);
  });

  test("the content security policy holds: neither inline script nor another host", async () => {
    const header = (await fetch(manager.url)).headers.get("content-security-policy")!;
    expect(header).toStartWith("default-src 'self'");
    expect(header).not.toContain("unsafe");
    const ran = await browser.value(`(async () => {
      const script = document.createElement("script");
      script.textContent = "window.inlineRan = true";
      document.body.append(script);
      const fetched = await fetch("http://127.0.0.2:1/").then(() => "fetched", () => "refused");
      return [window.inlineRan ?? false, fetched];
    })()`);
    expect(ran).toEqual([false, "refused"]);
    expect(browser.complaints.some((words) => words.includes("Content Security Policy"))).toBe(true);
  });
});

describeWith(["chromium"], "dashboard, first start and login", () => {
  test(
    "nobody reported: what to run; a token: the login, and nothing of it in the URL",
    async () => {
      const manager = await startRealManager(0, { LOCAL_READ: "token", READ_TOKEN: "r".repeat(40) }).catch(
        (error) => error,
      );
      if (manager instanceof Error) throw manager;
      const browser = await openBrowser(manager.url);
      try {
        await browser.open("#/agents");
        await browser.until(`document.querySelector("#token")`, "the login");
        await browser.click("#token");
        await browser.type("wrong");
        await browser.press("Enter");
        await browser.until(`document.querySelector("[role=alert]")?.innerText.includes("neither")`, "the refusal");
        await browser.screenshot("login");
        await browser.value(`document.querySelector("#token").value = ""`);
        await browser.click("#token");
        await browser.type("r".repeat(40));
        await browser.press("Enter");
        await browser.until(`document.querySelector("thead")`, "the view that was asked for");
        expect(await browser.value<string>("location.href")).toBe(`${manager.url}/#/agents`);
        expect(await browser.value("document.cookie")).toBe("");
        await browser.until(`document.querySelector(".bar")?.innerText.includes("Log out")`, "the way out");
        await browser.view.navigate("about:blank");
        await browser.open("#/agents");
        await browser.until(
          `document.querySelector(".bar")?.innerText.includes("Log out")`,
          "the way out, after a reload",
        );
        await browser.click(".bar .live button");
        await browser.until(`document.querySelector("#token")`, "the login after the session's end");
      } finally {
        browser.close();
        await manager.remove();
      }
    },
    60 * SECOND,
  );
});

// docs/now.png and docs/map.png are these two, copied.
describeWith(["chromium"], "README's pictures", () => {
  test(
    "of the demo's fleet: what is broken, since when, why and on what it rides, within ten seconds of opening the page",
    async () => {
      const manager = await startRealManager(30, {}, false);
      const browser = await openBrowser(manager.url);
      try {
        const watch = stopwatch();
        await browser.open("#/now");
        await browser.until(`document.querySelectorAll(".cause").length > 2`, "the first screen");
        await browser.until(`localStorage.getItem("kattila.positions")`, "the small map");
        expect(watch.ms()).toBeLessThan(10 * SECOND);
        const text = await browser.text();
        expect(text).toContain("cache-ams-2→hub-ams blocked");
        expect(text).toMatch(/since \d\d:\d\d \(\d+ min ago\)/);
        await browser.until(`document.querySelector(".live [role=status]").innerText === "● live"`, "the stream");
        await browser.screenshot("readme-now");
        // The cause's own link leads there.
        await browser.value(`[...document.querySelectorAll(".cause h3 a")]
          .find((link) => link.innerText.includes("cache-ams-2→hub-ams blocked")).click()`);
        await browser.until(
          `/Rides on.* on .*segment of \\d+ hosts/.test(document.querySelector(".panel")?.textContent)`,
          "what it rides on",
        );
        await browser.open("#/map");
        await browser.click(`[aria-label="Zoom"] button:nth-child(2)`);
        await Bun.sleep(300);
        await browser.screenshot("readme-map");
        expect(browser.complaints).toEqual([]);
      } finally {
        browser.close();
        await manager.remove();
      }
    },
    60 * SECOND,
  );
});
