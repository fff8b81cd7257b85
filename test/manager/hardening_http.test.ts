// The manager against broken and hostile HTTP (5-hardening.md, HTTP), over raw sockets: each refusal by its status, nothing
// stored, nothing leaked, and the next good request works.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Agent, type Ground, ground, registered, type Said, say } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const READ_TOKEN = "read-token-of-this-test-".repeat(2);
const MAX_BODY_BYTES = 4 * 1024 * 1024;

let place: Ground;
let agent: Agent;
beforeAll(async () => {
  place = await ground();
  agent = await registered(place);
});
afterAll(() => place.remove());

const post = (headers: string[], body = "{}", path = "/status/updates") =>
  [`POST ${path} HTTP/1.1`, "Host: localhost", "Content-Type: application/json", ...headers, "", body].join("\r\n");
const get = (path: string, headers: string[] = ["Host: localhost"], method = "GET") =>
  [`${method} ${path} HTTP/1.1`, ...headers, "", ""].join("\r\n");

/** Runs `exchange`; then nothing may be stored, nothing leaked, and a good report is taken. */
async function harmless(exchange: () => Promise<Said>): Promise<Said> {
  const before = place.stored();
  const said = await exchange();
  expect(place.stored()).toEqual(before);
  expect(said.text).not.toMatch(/\n\s+at |\.tsx?\b|node_modules|\/home\/|\/tmp\/|Error:/);
  expect(place.lines.filter((line) => line.includes("request_failed"))).toEqual([]);
  expect((await agent.send()).status).toBe(200);
  return said;
}

/** The code of an error's JSON. */
const errorOf = (said: Said) => (JSON.parse(said.text.split("\r\n\r\n")[1] || "{}") as { error?: string }).error;

const answered = async (text: string) => (await harmless(() => say(place.port, [text]))).status;

describe("framing", () => {
  const FRAMES: [name: string, headers: string[], body?: string][] = [
    [
      "Content-Length, then Transfer-Encoding",
      ["Content-Length: 2", "Transfer-Encoding: chunked"],
      "2\r\n{}\r\n0\r\n\r\n",
    ],
    [
      "Transfer-Encoding, then Content-Length",
      ["Transfer-Encoding: chunked", "Content-Length: 2"],
      "2\r\n{}\r\n0\r\n\r\n",
    ],
    ["two lengths", ["Content-Length: 2", "Content-Length: 3"]],
    ["two equal lengths", ["Content-Length: 2", "Content-Length: 2"]],
    ["two lengths in one header", ["Content-Length: 2, 2"]],
    ["a negative length", ["Content-Length: -2"]],
    ["a signed length", ["Content-Length: +2"]],
    ["a hexadecimal length", ["Content-Length: 0x2"]],
    ["a length with a fraction", ["Content-Length: 2.0"]],
    ["a length with an exponent", ["Content-Length: 1e0"]],
    ["a word as length", ["Content-Length: two"]],
    ["no length in the header", ["Content-Length: "]],
    ["a length beyond 64 bits", ["Content-Length: 99999999999999999999999"]],
    ["a space before the colon", ["Content-Length : 2"]],
    ["a transfer encoding that nobody knows", ["Transfer-Encoding: gzip"]],
    ["two transfer encodings", ["Transfer-Encoding: gzip, chunked"]],
    ["chunked twice", ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], "2\r\n{}\r\n0\r\n\r\n"],
    ["a chunk size that is no number", ["Transfer-Encoding: chunked"], "zz\r\n{}\r\n0\r\n\r\n"],
  ];
  test.each(FRAMES.map(([name, headers, body]) => [name, headers, body ?? "{}"] as const))(
    "%s: 400",
    async (_name, headers, body) => {
      expect(await answered(post([...headers], body))).toBe(400);
    },
  );

  test.each([
    ["no Host", ["X-Nothing: 1"]],
    ["two Hosts", ["Host: localhost", "Host: localhost"]],
    ["a Host that is no name", ["Host: a b"]],
    ["an empty Host", ["Host: "]],
  ])("%s: 400", async (_name, headers) => {
    expect(await answered(get("/status/agents", headers))).toBe(400);
  });

  test("HTTP/1.0 without a Host: 400", async () => {
    expect(await answered("GET /status/agents HTTP/1.0\r\n\r\n")).toBe(400);
  });

  test("TLS on the plain port: 400", async () => {
    expect(await answered("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")).toBe(400);
  });

  test("after ambiguous framing the connection is closed: what follows is no request", async () => {
    const said = await harmless(() =>
      say(place.port, [post(["Content-Length: 2", "Content-Length: 2"]) + get("/status/healthcheck")], {
        untilClosed: true,
      }),
    );
    expect(said.text.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expect(said).toMatchObject({ status: 400, closed: true });
  });
});

describe("size", () => {
  test("a chunked body over the limit: 413, long before it ends", async () => {
    const chunk = Buffer.from(`10000\r\n${" ".repeat(65_536)}\r\n`);
    const chunks = [post(["Transfer-Encoding: chunked"], ""), ...new Array<Buffer>(1024).fill(chunk)]; // 64 MiB
    const ask = () => harmless(() => say(place.port, chunks, { untilClosed: true, patienceMs: 20_000 }));
    let said = await ask();
    // A connection that is closed while the other side still sends is reset, and the reset may overtake the answer.
    for (let i = 0; i < 5 && said.closed && said.status === null; i++) said = await ask();
    expect(said).toMatchObject({ status: 413, closed: true });
    // What the sockets' buffers hold comes on top.
    expect(said.sentBytes).toBeLessThan(4 * MAX_BODY_BYTES);
    expect(errorOf(said)).toBe("too_large");
  });

  test.each([
    ["one byte over the limit", MAX_BODY_BYTES + 1],
    ["far over it", 1_000_000_000_000],
  ])("a length %s: 413 before any of the body, on every path, and the connection is closed", async (_name, length) => {
    for (const path of ["/status/updates", "/status/register", "/status/login", "/status/admin/reset", "/nowhere"]) {
      const request = post([`Content-Length: ${length}`], "", path);
      const said = await harmless(() => say(place.port, [request], { untilClosed: true }));
      expect([path, said.status, errorOf(said), said.closed]).toEqual([path, 413, "too_large", true]);
    }
  });

  test("a body over the limit from who does not look before all is sent: it has its 413, and no reset", async () => {
    for (const path of ["/status/updates", "/status/login", "/nowhere"]) {
      const chunks = new Array<Buffer>(16).fill(Buffer.alloc(1024 * 1024, " "));
      const head = post([`Content-Length: ${4 * MAX_BODY_BYTES}`], "", path);
      const said = await harmless(() => say(place.port, [head, ...chunks], { untilClosed: true }));
      expect([path, said.status, errorOf(said), said.closed]).toEqual([path, 413, "too_large", true]);
      expect(said.sentBytes).toBe(head.length + 4 * MAX_BODY_BYTES);
    }
  });

  test("chunks of another type: 415, without reading them", async () => {
    const chunk = Buffer.from(`10000\r\n${" ".repeat(65_536)}\r\n`);
    const head = post(["Transfer-Encoding: chunked"], "").replace("application/json", "text/plain");
    const chunks = [head, ...new Array<Buffer>(1024).fill(chunk)]; // 64 MiB
    const ask = () => harmless(() => say(place.port, chunks, { untilClosed: true, patienceMs: 20_000 }));
    let said = await ask();
    for (let i = 0; i < 5 && said.closed && said.status === null; i++) said = await ask(); // as above
    expect(said).toMatchObject({ status: 415, closed: true });
    expect(said.sentBytes).toBeLessThan(4 * MAX_BODY_BYTES);
  });

  test("administrators' bodies have a smaller limit", async () => {
    const body = JSON.stringify({ fleet: true, confirm: "x".repeat(70_000) });
    const headers = [`Authorization: Bearer ${place.adminToken}`, `Content-Length: ${body.length}`];
    expect(await answered(post(headers, body, "/status/admin/reset"))).toBe(413);
  });

  test.each([
    ["one header", [`X-Long: ${"a".repeat(20_480)}`]],
    ["many headers", Array.from({ length: 20 }, (_, i) => `X-Long-${i}: ${"a".repeat(1000)}`)],
  ])("20 kB of headers (%s): 431", async (_name, headers) => {
    expect(await answered(get("/status/healthcheck", ["Host: localhost", ...headers]))).toBe(431);
    expect(await answered(post(["Content-Length: 2", ...headers]))).toBe(431);
  });
});

describe("body", () => {
  test.each([
    ["gzip", ["Content-Type: application/json", "Content-Encoding: gzip"]],
    ["zstd", ["Content-Type: application/json", "Content-Encoding: zstd"]],
    ["text/plain", ["Content-Type: text/plain"]],
    ["a form", ["Content-Type: application/x-www-form-urlencoded"]],
    ["a type that only begins so", ["Content-Type: application/jsonp"]],
    ["no type", []],
  ])("%s: 415", async (_name, headers) => {
    for (const path of ["/status/updates", "/status/register", "/status/login"]) {
      const request = [`POST ${path} HTTP/1.1`, "Host: localhost", ...headers, "Content-Length: 2", "", "{}"];
      expect([path, await answered(request.join("\r\n"))]).toEqual([path, 415]);
    }
  });

  test.each([
    ["of length 0", ["Content-Length: 0"], ""],
    ["without a length", [], ""],
    ["without a chunk", ["Transfer-Encoding: chunked"], "0\r\n\r\n"],
  ])("empty, %s: 400", async (_name, headers, body) => {
    for (const path of ["/status/updates", "/status/register", "/status/login"]) {
      expect([path, await answered(post(headers, body, path))]).toEqual([path, 400]);
    }
    // What is not there has no type either.
    if (!headers.some((header) => header.startsWith("Transfer-Encoding")))
      expect(await answered(post(headers, body).replace("Content-Type: application/json\r\n", ""))).toBe(400);
  });
});

test.each([
  ["GET", "/status/updates", "POST"],
  ["PUT", "/status/updates", "POST"],
  ["GET", "/status/register", "POST"],
  ["GET", "/status/login", "POST"],
  ["GET", "/status/admin/reset", "POST"],
  ["DELETE", "/status/agents", "GET, HEAD"],
  ["DELETE", "/status/agents/0b0f3f6e-56c1-4f6a-9f43-1a2b3c4d5e6f", "GET, HEAD"],
  ["PATCH", "/status/topology", "GET, HEAD"],
  ["PUT", "/status/topology.json", "GET, HEAD"],
  ["OPTIONS", "/status/agents", "GET, HEAD"],
  ["TRACE", "/", "GET, HEAD"],
  ["POST", "/status/healthcheck", "GET, HEAD"],
  ["POST", "/metrics", "GET, HEAD"],
])("%s %s: 405, Allow: %s", async (method, path, allow) => {
  const said = await harmless(() => say(place.port, [get(path, ["Host: localhost", "Content-Length: 0"], method)]));
  expect(said.status).toBe(405);
  expect(/\r\nAllow: (.*)\r\n/i.exec(said.text)?.[1]).toBe(allow);
});

describe("who may read", () => {
  const secret = () => agent.id; // what /status/agents would tell

  const SPELLINGS = [
    "/status/agents",
    "//status/agents",
    "/status//agents",
    "/status/agents/",
    "/status/%61gents",
    "/%73tatus/agents",
    "/x/../status/agents",
    "/x/%2e%2e/status/agents",
    "/status/./agents",
    "/status\\agents",
    "/status%2fagents",
    "/STATUS/agents",
    "/status/agents%00",
    "/status/agents;x",
    "/status/agents?",
    "http://localhost/status/agents",
    "/status/agents#x",
  ];

  test.each(SPELLINGS)("%s shows nothing to a stranger", async (path) => {
    for (const headers of [
      ["Host: status.example"],
      ["Host: localhost", "X-Forwarded-For: 127.0.0.1"],
      ["Host: localhost", "Authorization: Bearer wrong-wrong-wrong-wrong-wrong-wrong"],
    ]) {
      const said = await harmless(() => say(place.port, [get(path, headers)]));
      expect([400, 401, 404, 421]).toContain(said.status!);
      expect(said.text).not.toContain(secret());
    }
  });

  test("and each spelling that is served to who may read is the plain path's page", async () => {
    const served: string[] = [];
    for (const path of SPELLINGS) {
      const said = await say(place.port, [get(path)]);
      if (said.status !== 200) continue;
      expect(said.text).toContain(secret());
      served.push(path);
    }
    expect(served).toContain("/status/agents");
    expect(served).toContain("/status/%61gents");
    expect(served).not.toContain("//status/agents");
  });

  const READ_PATHS = [
    "/status/agents",
    "/status/agents/0b0f3f6e-56c1-4f6a-9f43-1a2b3c4d5e6f",
    "/status/topology",
    "/status/topology.json",
    "/status/topology.dot",
    "/status/topology.mmd",
    "/status/topology/diff?from=0",
    "/status/edges/x/history",
    "/status/path?from=x&to=y",
    "/status/alarms",
    "/status/alarms/x",
    "/status/events",
    "/status/silences",
    "/status/stream",
    "/metrics",
  ];

  test.each(READ_PATHS)("%s: 421 for a foreign Host, 401 for a forwarded request", async (path) => {
    for (const host of ["status.example", "localhost.status.example", "10.0.0.1:5086", "127.0.0.1.status.example"]) {
      expect([host, await answered(get(path, [`Host: ${host}`]))]).toEqual([host, 421]);
    }
    for (const header of [
      "X-Forwarded-For: 127.0.0.1",
      "X-Forwarded-For: 10.1.2.3",
      "X-Forwarded-Host: localhost",
      "X-Real-IP: 127.0.0.1",
      "Forwarded: for=127.0.0.1",
      "Via: 1.1 proxy",
      "X-Cluster-Client-IP: 10.1.2.3",
      "CDN-Loop: cdn.example",
    ]) {
      expect([header, await answered(get(path, ["Host: localhost", header]))]).toEqual([header, 401]);
    }
  });

  test("what is data is kept by nobody and taken for a page by no browser", async () => {
    for (const path of [...READ_PATHS, "/status/healthcheck", "/nowhere"]) {
      const { text } = await say(place.port, [get(path, ["Host: localhost"], "HEAD")]);
      expect([path, /^x-content-type-options: nosniff\r$/im.test(text)]).toEqual([path, true]);
      expect([path, /^cache-control: no-store\r$/im.test(text)]).toEqual([path, true]);
    }
  });

  test("healthcheck and the dashboard's files are open to all", async () => {
    expect(await answered(get("/status/healthcheck", ["Host: status.example"]))).toBe(200);
    expect(await answered(get("/", ["Host: status.example"]))).toBe(200);
  });

  test.each(["/status/admin/reset", "/status/admin/silence", "/status/admin/expect", "/status/alarms/x/ack"])(
    "%s needs the admin token also on loopback",
    async (path) => {
      expect(await answered(post(["Content-Length: 2"], "{}", path))).toBe(401);
      expect(await answered(post(["Content-Length: 2", `Authorization: Bearer ${"x".repeat(40)}`], "{}", path))).toBe(
        401,
      );
    },
  );
});

test("behind a trusted proxy its word names whom to blame, and grants nothing", async () => {
  const proxied = await ground({ TRUSTED_PROXIES: "127.0.0.0/8", READ_TOKEN });
  try {
    const status = async (headers: string[]) => (await say(proxied.port, [get("/status/agents", headers)])).status;
    expect(await status(["Host: localhost"])).toBe(401);
    expect(await status(["Host: localhost", "X-Forwarded-For: 127.0.0.1"])).toBe(401);
    expect(await status(["Host: status.example", "X-Forwarded-For: 10.1.2.3"])).toBe(401);
    expect(
      await status(["Host: status.example", "X-Forwarded-For: 10.1.2.3", `Authorization: Bearer ${READ_TOKEN}`]),
    ).toBe(200);
    // Wrong logins are counted by whom the proxy names: one client's guesses do not lock out another.
    const login = async (client: string) => {
      const body = JSON.stringify({ token: "wrong".repeat(8) });
      const headers = [`X-Forwarded-For: 127.0.0.1, ${client}`, `Content-Length: ${body.length}`];
      return (await say(proxied.port, [post(headers, body, "/status/login")])).status;
    };
    for (let i = 0; i < 10; i++) expect(await login("10.1.2.3")).toBe(401);
    expect(await login("10.1.2.3")).toBe(429);
    expect(await login("10.1.2.4")).toBe(401);
  } finally {
    await proxied.remove();
  }
});

test("HEAD of the stream is answered and leaves no listener behind", async () => {
  const head = get("/status/stream", ["Host: localhost", "Connection: close"], "HEAD");
  for (let i = 0; i < 3; i++) expect((await say(place.port, [head])).text).toContain("text/event-stream");
  const { text } = await say(place.port, [get("/metrics")]);
  expect(/kattila_stream_clients ([0-9]+)/.exec(text)?.[1]).toBe("0");
});

test("a logout without a session writes nothing", async () => {
  const commits = async () => /commits_total ([0-9]+)/.exec((await say(place.port, [get("/metrics")])).text)![1];
  const before = await commits();
  for (const headers of [["Content-Length: 2"], ["Content-Length: 2", "Cookie: kattila_session=0123456789abcdef"]])
    expect((await say(place.port, [post(headers, "{}", "/status/logout")])).status).toBe(200);
  expect(await commits()).toBe(before);
});

test("a stream ends with its session; others go on", async () => {
  const token = "r".repeat(32);
  const guarded = await ground({ READ_TOKEN: token });
  try {
    const json = { "Content-Type": "application/json", Origin: guarded.url };
    const login = await fetch(`${guarded.url}/status/login`, {
      method: "POST",
      headers: json,
      body: JSON.stringify({ token }),
    });
    expect(login.status).toBe(200);
    const cookie = login.headers.get("set-cookie")!.split(";")[0]!;
    const listen = async (headers: Record<string, string>) => {
      const response = await fetch(`${guarded.url}/status/stream`, { headers });
      expect(response.status).toBe(200);
      const reader = response.body!.getReader();
      const state = { ended: false, close: () => reader.cancel() };
      void (async () => {
        while (!(await reader.read()).done) {}
        state.ended = true;
      })();
      return state;
    };
    const [mine, other] = [await listen({ Cookie: cookie }), await listen({ Authorization: `Bearer ${token}` })];
    await Bun.sleep(200);
    expect([mine.ended, other.ended]).toEqual([false, false]);
    const logout = await fetch(`${guarded.url}/status/logout`, {
      method: "POST",
      headers: { ...json, Cookie: cookie },
      body: "{}",
    });
    expect(logout.status).toBe(200);
    const until = performance.now() + 10_000;
    while (!mine.ended && performance.now() < until) await Bun.sleep(20);
    expect([mine.ended, other.ended]).toEqual([true, false]);
    await other.close();
  } finally {
    await guarded.remove();
  }
});

test("wrong tokens are counted also when they are sent at once and arrive late", async () => {
  const guarded = await ground();
  try {
    const body = JSON.stringify({ token: "wrong".repeat(8) });
    const head = post([`Content-Length: ${body.length}`], "", "/status/login");
    const said = await Promise.all(
      Array.from({ length: 15 }, () => say(guarded.port, [head, body.slice(0, 5), body.slice(5)], { gapMs: 100 })),
    );
    const statuses = said.map(({ status }) => status).sort();
    expect(statuses).toEqual([...new Array<number>(10).fill(401), ...new Array<number>(5).fill(429)]);
  } finally {
    await guarded.remove();
  }
});

test("who is slow is cut off within 20 s, silent or dripping", async () => {
  const dripping = (head: string, drop: string) => [head, ...new Array<string>(40).fill(drop)];
  const cases: [string, string[]][] = [
    ["says nothing", []],
    ["half a header", ["POST /status/updates HTTP/1.1\r\nHost: local"]],
    ["a header that drips", dripping("POST /status/updates HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", "a")],
    ["headers that drip", dripping("GET /status/healthcheck HTTP/1.1\r\nHost: localhost\r\n", "X-Slow: a\r\n")],
    ["a body that never comes", [post(["Content-Length: 100"], "")]],
    ["half a body", [post(["Content-Length: 100"], "{")]],
    ["a body that drips", dripping(post(["Content-Length: 100"], "{"), " ")],
    ["chunks that drip", dripping(post(["Transfer-Encoding: chunked"], ""), "1\r\n \r\n")],
    [
      "a body where none belongs, dripping",
      dripping(get("/status/healthcheck", ["Host: localhost", "Content-Length: 100"]), " "),
    ],
    ["a connection kept open for nothing", [get("/status/healthcheck")]],
  ];
  const before = place.stored();
  const outcomes = await Promise.all(
    cases.map(async ([name, chunks]) => {
      const { closed, afterMs } = await say(place.port, chunks, { gapMs: 1000, patienceMs: 40_000, untilClosed: true });
      return { name, closed, inTime: afterMs < 20_000 };
    }),
  );
  expect(outcomes).toEqual(cases.map(([name]) => ({ name, closed: true, inTime: true })));
  expect(place.stored()).toEqual(before);
  expect((await agent.send()).status).toBe(200);
}, 60_000);
