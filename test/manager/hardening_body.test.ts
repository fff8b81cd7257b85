// The manager against wrong and forged messages (5-hardening.md, JSON, Crypto, Meaning): each by status, code and, where
// the issue names it, the field; nothing is stored, and the next good report works.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHash, createHmac } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { newNonce, seal, signingKey } from "../../shared/envelope.ts";
import type { Ack, Envelope } from "../../shared/report.ts";
import { post, relayed } from "../fleet/sender.ts";
import {
  type Agent,
  type Data,
  type Ground,
  ground,
  publicKeyOf,
  registered,
  reportData,
  spawnManager,
} from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const UPDATES = "/status/updates";
const REGISTER = "/status/register";
/** Takes JSON without an envelope. */
const LOGIN = "/status/login";
const RELAYS = [1, 2, 3, 4].map((n) => `0000000${n}-0000-4000-8000-000000000000`);

let place: Ground;
let agent: Agent;
let other: Agent;
beforeAll(async () => {
  place = await ground();
  agent = await registered(place, "hel-1");
  other = await registered(place, "hel-2");
  await agent.send();
});
afterAll(() => place.remove());

type Outcome = { status: number; code: string; field?: string; ack: Ack | null; message: string };

async function sendTo(path: string, body: unknown, at: { url: string } = place): Promise<Outcome> {
  const { status, ack, body: text } = await post(at.url, path, body);
  const plain = JSON.parse(text) as { error?: string; message?: string };
  const code = ack?.code ?? plain.error!;
  return {
    status,
    code,
    ...(ack?.field === undefined ? {} : { field: ack.field }),
    ack,
    message: ack?.message ?? plain.message!,
  };
}

/** Sends; then nothing may be stored, and a good report is taken. */
async function refused(path: string, body: unknown): Promise<Outcome> {
  const before = place.stored();
  const outcome = await sendTo(path, body);
  expect(place.stored()).toEqual(before);
  expect((await agent.send()).status).toBe(200);
  return outcome;
}

const registerData = (over: Data = {}): Data => ({
  v: 1,
  type: "register",
  agent_id: crypto.randomUUID(),
  nonce: newNonce(),
  sent_at: place.now(),
  hostname: "hel-3",
  agent_version: "0.1.0",
  public_key: agent.key.publicKey,
  ...over,
});
const relayData = (over: Data = {}): Data => ({
  v: 1,
  type: "relay",
  agent_id: other.id,
  nonce: newNonce(),
  sent_at: place.now(),
  relay_path: [other.id],
  envelope: { v: 1, data: "{}", hmac: "0".repeat(64) },
  ...over,
});
const nextReport = (over: Data = {}): Data => reportData(agent.id, ++agent.tick, place.now(), over);
const sealed = (data: Data | string, key = agent.key) =>
  seal(typeof data === "string" ? data : JSON.stringify(data), place.psk, key);

/** A number that JSON.stringify cannot write stands in the text as it is given here. */
const literal = (text: string) => `@literal:${text}@`;
const written = (data: Data) => JSON.stringify(data).replace(/"@literal:([^@]*)@"/g, "$1");

/** Puts `value` at `path` (`wireguard[0].listen_port`); undefined removes it. */
function put(data: Data, path: string, value: unknown): Data {
  const keys = path.split(/[.[\]]+/).filter((key) => key !== "");
  let at: Record<string, unknown> = data;
  for (const key of keys.slice(0, -1)) at = at[key] as Record<string, unknown>;
  if (value === undefined) delete at[keys.at(-1)!];
  else at[keys.at(-1)!] = value;
  return data;
}

describe("JSON that is refused before any schema", () => {
  const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
  const MALFORMED: [name: string, text: string][] = [
    ["truncated", '{"v":1,"type":"report"'],
    ["text behind it", '{"v":1} {}'],
    ["an array", '[{"v":1}]'],
    ["a number", "1"],
    ["null", "null"],
    ["a string", '"report"'],
    ["no JSON at all", "<html></html>"],
    ["__proto__", '{"v":1,"__proto__":{"type":"report"}}'],
    ["__proto__ inside", '{"v":1,"system":{"__proto__":{}}}'],
    ["__proto__ by escapes", '{"v":1,"\\u005f\\u005fproto__":{}}'],
    ["depth 33", `{"v":1,"x":${nested(32)}}`],
    ["depth 100,000", `{"v":1,"x":${nested(100_000)}}`],
    ["a byte order mark", '\ufeff{"v":1}'],
    ["a lone surrogate", '{"v":1,"type":"\\ud800"}'],
    ["a lone surrogate in a name", '{"v":1,"\\udc00":1}'],
    ["surrogates in the wrong order", '{"v":1,"type":"\\udc00\\ud800"}'],
    ["a raw control character in a string", '{"v":1,"type":"a\nb"}'],
    ["a single quote", "{'v':1}"],
    ["NaN", '{"v":NaN}'],
    ["a comment", '{"v":1 /* one */}'],
    ["a comma too many", '{"v":1,}'],
    ["nothing", ""],
  ];

  for (const path of [UPDATES, REGISTER, LOGIN]) {
    // A login's body may have 4 KiB, and is not read further.
    const fitting = path === LOGIN ? MALFORMED.filter(([, text]) => text.length <= 4096) : MALFORMED;
    test.each(fitting)(`%s as the body of ${path}: 400, unsigned`, async (_name, text) => {
      expect(await refused(path, text)).toMatchObject({ status: 400, code: "malformed", ack: null });
    });
  }
  for (const path of [UPDATES, REGISTER]) {
    test.each(MALFORMED)(`%s as the data of ${path}: 400`, async (_name, text) => {
      expect(await refused(path, await sealed(text))).toMatchObject({
        status: 400,
        code: "malformed",
        ack: { type: "ack", nonce: null },
      });
    });
  }

  test.each([
    ["a lone continuation byte", [0x80]],
    ["a byte that UTF-8 never has", [0xff]],
    ["an overlong slash", [0xc0, 0xaf]],
    ["a surrogate as bytes", [0xed, 0xa0, 0x80]],
    ["a character that breaks off", [0xe2, 0x82]],
    ["beyond U+10FFFF", [0xf4, 0x90, 0x80, 0x80]],
  ])("invalid UTF-8 (%s): 400", async (_name, bytes) => {
    const envelope = Buffer.from(JSON.stringify(await sealed(nextReport())));
    const at = envelope.indexOf("hel-1");
    const body = Buffer.concat([envelope.subarray(0, at), Buffer.from(bytes), envelope.subarray(at)]);
    for (const path of [UPDATES, REGISTER, LOGIN]) {
      const response = await fetch(`${place.url}${path}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body,
      });
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ error: "malformed" });
    }
  });

  test("depth 32 and names that only look like __proto__ are read", async () => {
    const data = nextReport({
      unknown: JSON.parse(nested(31)),
      proto__: 1,
      constructor: 1,
      prototype: { toString: 1 },
    });
    expect(await sendTo(UPDATES, await sealed(data))).toMatchObject({ status: 200, code: "accepted" });
  });

  test.each([
    ["v 2", { v: 2 }],
    ["v 0", { v: 0 }],
    ["v as text", { v: "1" }],
    ["no v", { v: undefined }],
    ["data that is no string", { data: { v: 1 } }],
    ["no data", { data: undefined }],
    ["sig that is no string", { sig: 5 }],
  ])("an envelope with %s: 400, unsigned", async (_name, over) => {
    const envelope = { ...(await sealed(nextReport())), ...over };
    expect(await refused(UPDATES, envelope)).toMatchObject({ status: 400, code: "malformed", ack: null });
    expect(await refused(REGISTER, envelope)).toMatchObject({ status: 400, code: "malformed", ack: null });
  });
});

describe("JSON that the schema refuses: 422 that names the field", () => {
  const items = (n: number, item: unknown) => Array.from({ length: n }, () => structuredClone(item));
  const sample = reportData(RELAYS[0]!, 1, 0);
  const first = <T>(list: unknown) => (list as T[])[0]!;
  const wireguard = first<{ peers: unknown[] }>(sample["wireguard"]);

  const FIELDS: [field: string, value: unknown][] = [
    // NUL in a string
    ["boot_id", "a\0b"],
    ["agent_version", "\0"],
    ["system.hostname", "hel\0"],
    ["interfaces[1].name", "wg\0"],
    ["wireguard[0].interface", "wg\0"],
    // Numbers that are none of ours
    ["tick", literal("1e400")],
    ["tick", literal("9007199254740993")],
    ["tick", 1.5],
    ["tick", "5"],
    ["tick", -1],
    ["tick", null],
    ["tick", true],
    ["sent_at", literal("1e400")],
    ["sent_at", -1],
    ["collected_at", literal("9007199254740993")],
    ["age_ms", 0.5],
    ["dropped", -1],
    ["interval_s", literal("1e400")],
    ["interval_s", 0],
    ["interval_s", 86_401],
    ["system.uptime_s", literal("1e400")],
    ["system.load", [0.1, 0.2]],
    ["system.load[1]", literal("-1e400")],
    ["interfaces[0].rx_bytes", literal("9007199254740993")],
    ["wireguard[0].peers[0].rx_bytes", literal("1e400")],
    ["wireguard[0].peers[0].tx_bytes", -1],
    ["wireguard[0].peers[0].latest_handshake_at", "never"],
    ["wireguard[0].listen_port", 65_536],
    // Too many
    ["interfaces", items(10_000, first(sample["interfaces"]))],
    ["interfaces[0].addresses", items(4097, "192.168.50.1/24")],
    ["routes", items(10_000, first(sample["routes"]))],
    ["neighbors", items(10_000, first(sample["neighbors"]))],
    ["wireguard", items(4097, { ...wireguard, peers: [] })],
    ["wireguard[0].peers", items(4097, wireguard.peers[0])],
    ["wireguard[0].peers[0].allowed_ips", items(10_000, "10.99.0.2/32")],
    // Too long: bytes of UTF-8, not characters
    ["system.hostname", "a".repeat(256)],
    ["system.hostname", "é".repeat(128)],
    ["interfaces[0].name", "a".repeat(256)],
    ["boot_id", "😀".repeat(64)],
    // No address
    ["routes[0].gateway", "999.1.1.1"],
    ["routes[0].gateway", "1.2.3"],
    ["routes[0].destination", "10.0.0.0/33"],
    ["routes[0].destination", "2001:db8::/129"],
    ["neighbors[0].address", "999.1.1.1"],
    ["neighbors[0].mac", "02:00:00:00:00"],
    ["interfaces[0].addresses[0]", "192.168.50.1/33"],
    ["wireguard[0].peers[0].allowed_ips[0]", "10.99.0.2/33"],
    ["wireguard[0].peers[0].endpoint", "999.1.1.1:51820"],
    ["wireguard[0].peers[0].endpoint", "192.168.50.2:65536"],
    // No identity
    ["agent_id", "../../x"],
    ["agent_id", "0B0F3F6E-56C1-4F6A-9F43-1A2B3C4D5E6F"],
    ["agent_id", 5],
    ["nonce", "0".repeat(31)],
    ["nonce", "A".repeat(32)],
    ["wireguard[0].public_key", "AAAA"],
    ["wireguard[0].peers[0].public_key", `${publicKeyOf(2).slice(0, 42)}B=`],
    // Another shape
    ["v", 0],
    ["v", "1"],
    ["interfaces", {}],
    ["interfaces[0]", null],
    ["interfaces[0].kind", "starship"],
    ["interfaces[0].up", "yes"],
    ["collectors", []],
    ["collectors", Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`c${i}`, "error: x"]))],
    ["system", "hel-1"],
  ];
  test.each(FIELDS)("%s", async (field, value) => {
    const outcome = await refused(UPDATES, await sealed(written(put(nextReport(), field, value))));
    expect(outcome).toMatchObject({ status: 422, code: "schema", field });
    expect(outcome.message).toStartWith(`${field}: `);
  });

  const optional = new Set(["type", "age_ms"]); // a message without a type is of the wrong type: 403
  test.each(Object.keys(sample).filter((field) => !optional.has(field)))("a report without %s", async (field) => {
    expect(await refused(UPDATES, await sealed(put(nextReport(), field, undefined)))).toMatchObject({
      status: 422,
      code: "schema",
      field,
    });
  });

  test.each([
    ["agent_id", "../../x"],
    ["agent_id", undefined],
    ["nonce", "x"],
    ["sent_at", 1.5],
    ["hostname", "a\0b"],
    ["hostname", "a".repeat(256)],
    ["hostname", undefined],
    ["agent_version", 1],
    ["public_key", "short"],
    ["public_key", `${"A".repeat(42)}==`],
    ["public_key", undefined],
  ] as [string, unknown][])("registering: %s", async (field, value) => {
    expect(await refused(REGISTER, await sealed(put(registerData(), field, value)))).toMatchObject({
      status: 422,
      code: "schema",
      field,
    });
  });

  test.each([
    ["agent_id", "../../x"],
    ["relay_path", null],
    ["relay_path[0]", "../../x"],
    ["envelope", null],
    ["envelope.v", 2],
    ["envelope.data", 5],
    ["envelope.hmac", "A".repeat(64)],
    ["envelope.sig", "A".repeat(256)],
  ] as [string, unknown][])("relaying: %s", async (field, value) => {
    expect(await refused(UPDATES, await sealed(put(relayData(), field, value)))).toMatchObject({
      status: 422,
      code: "schema",
      field,
    });
  });

  test("data of a version to come: 422 version, on both endpoints", async () => {
    const version = { status: 422, code: "version", field: "v" };
    expect(await refused(UPDATES, await sealed(nextReport({ v: 2, tick: "of another shape" })))).toMatchObject(version);
    expect(await refused(UPDATES, await sealed(relayData({ v: 2 })))).toMatchObject(version);
    expect(await refused(REGISTER, await sealed(registerData({ v: 99 })))).toMatchObject(version);
  });

  test("a report that fits the schema and is over 1 MiB: 413, signed", async () => {
    const name = "é".repeat(127); // 254 bytes
    const neighbor = { ...first<Data>(sample["neighbors"]), interface: name };
    const outcome = await refused(UPDATES, await sealed(nextReport({ neighbors: items(4096, neighbor) })));
    expect(outcome).toMatchObject({ status: 413, code: "too_large", ack: { type: "ack" } });
  });
});

test("unknown fields are ignored, at every depth, and stay in the stored bytes", async () => {
  const data = nextReport({ unknown: { a: [1] } });
  for (const at of ["system.", "interfaces[0].", "routes[0].", "wireguard[0].", "wireguard[0].peers[0]."]) {
    put(data, `${at}unknown`, { deep: [null] });
  }
  expect(await sendTo(UPDATES, await sealed(data))).toMatchObject({ status: 200, code: "accepted" });
  const key = await signingKey();
  const register = registerData({ public_key: key.publicKey, unknown: 1 });
  expect(await sendTo(REGISTER, await sealed(register, key))).toMatchObject({ status: 201, code: "registered" });
});

describe("MAC and signature", () => {
  test.each([
    ["none", undefined, 400],
    ["null", null, 400],
    ["a number", 5, 400],
    ["empty", "", 400],
    ["short", "a".repeat(62), 400],
    ["odd", "a".repeat(63), 400],
    ["long", "a".repeat(66), 400],
    ["twice as long", "a".repeat(128), 400],
    ["with a line's end", `${"a".repeat(64)}\n`, 400],
    ["no hex", "g".repeat(64), 400],
    ["another's", "a".repeat(64), 401],
    ["zero", "0".repeat(64), 401],
  ])("hmac %s: refused, unsigned", async (_name, hmac, status) => {
    for (const [path, data] of [
      [UPDATES, nextReport()],
      [UPDATES, relayData()],
      [REGISTER, registerData()],
    ] as const) {
      expect(await refused(path, { ...(await sealed(data)), hmac })).toMatchObject({ status, ack: null });
    }
  });

  test("hmac in upper case: 400, though its bytes are right", async () => {
    const envelope = await sealed(nextReport());
    const upper = { ...envelope, hmac: envelope.hmac.toUpperCase() };
    expect(upper.hmac).not.toBe(envelope.hmac);
    expect(await refused(UPDATES, upper)).toMatchObject({ status: 400, ack: null });
  });

  test("hashes that need no PSK: 401", async () => {
    const data = JSON.stringify(nextReport());
    const sig = await agent.key.sign(data);
    for (const hmac of [
      createHash("sha256").update(data).digest("hex"),
      createHash("sha256").update("").digest("hex"),
      createHmac("sha256", "").update(data).digest("hex"),
      createHmac("sha256", "\0").update(data).digest("hex"),
      createHmac("sha256", agent.key.publicKey).update(data).digest("hex"),
      createHash("sha256")
        .update(place.psk + data)
        .digest("hex"),
    ]) {
      expect(await refused(UPDATES, { v: 1, data, hmac, sig })).toMatchObject({
        status: 401,
        code: "unauthenticated",
        ack: null,
      });
    }
  });

  test("one bit off anywhere in data, hmac or sig: 401", async () => {
    const envelope = await sealed(nextReport());
    const before = place.stored();
    const flipped = (text: string, at: number, bit: number) =>
      text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ (1 << bit)) + text.slice(at + 1);
    const forged: Envelope[] = [];
    // Every second byte, its bits in turn; JSON.stringify escapes what is no plain text any more.
    for (let at = 0; at < envelope.data.length; at += 2) {
      forged.push({ ...envelope, data: flipped(envelope.data, at, (at / 2) % 7) });
    }
    for (let at = 0; at < 64; at++) {
      const digit = (Number.parseInt(envelope.hmac[at]!, 16) ^ (1 << (at % 4))).toString(16);
      forged.push({ ...envelope, hmac: envelope.hmac.slice(0, at) + digit + envelope.hmac.slice(at + 1) });
    }
    const unsigned = forged.length;
    const sig = Uint8Array.fromBase64(envelope.sig!);
    for (let at = 0; at < 64; at++) {
      const wrong = Uint8Array.from(sig, (byte, i) => (i === at ? byte ^ (1 << (at % 8)) : byte));
      forged.push({ ...envelope, sig: wrong.toBase64() });
    }
    expect(unsigned).toBeGreaterThan(500);
    const outcomes: Outcome[] = [];
    for (let i = 0; i < forged.length; i += 50) {
      outcomes.push(...(await Promise.all(forged.slice(i, i + 50).map((body) => sendTo(UPDATES, body)))));
    }
    expect(outcomes.filter(({ status }) => status !== 401)).toEqual([]);
    expect(new Set(outcomes.slice(0, unsigned).map(({ code }) => code))).toEqual(new Set(["unauthenticated"]));
    expect(new Set(outcomes.slice(unsigned).map(({ code }) => code))).toEqual(new Set(["bad_signature"]));
    expect(place.stored()).toEqual(before);
    // The very message, untouched, is still good: no forgery used up its tick or nonce.
    expect(await sendTo(UPDATES, envelope)).toMatchObject({ status: 200, code: "accepted" });
  });

  test("data is not parsed before its MAC holds: 401 also for what is no JSON", async () => {
    for (const data of ["", "{", "null", JSON.stringify({ type: "ack" }), `{"v":99}`]) {
      for (const path of [UPDATES, REGISTER]) {
        expect(await refused(path, { v: 1, data, hmac: "a".repeat(64) })).toMatchObject({ status: 401, ack: null });
      }
    }
  });

  test("a report without its own agent's signature: 401", async () => {
    const data = JSON.stringify(nextReport());
    const good = await seal(data, place.psk, agent.key);
    const bad = { status: 401, code: "bad_signature", ack: { type: "ack" } };
    expect(await refused(UPDATES, await seal(data, place.psk, other.key))).toMatchObject(bad);
    expect(await refused(UPDATES, await seal(data, place.psk, null))).toMatchObject(bad);
    for (const sig of [null, "", "x", good.sig!.slice(0, -4), `${good.sig}AAAA`, new Uint8Array(64).toBase64()]) {
      expect(await refused(UPDATES, { ...good, sig })).toMatchObject(bad);
    }
    const another = await agent.key.sign(JSON.stringify(nextReport()));
    expect(await refused(UPDATES, { ...good, sig: another })).toMatchObject(bad);
    const inside = await relayed(await seal(data, place.psk, other.key), [other.id], place.psk, place.now());
    expect(await refused(UPDATES, inside)).toMatchObject(bad);
  });

  test("registering with a signature by another key than the one registered: 401", async () => {
    const key = await signingKey();
    const data = JSON.stringify(registerData({ public_key: key.publicKey }));
    const bad = { status: 401, code: "bad_signature" };
    expect(await refused(REGISTER, await seal(data, place.psk, agent.key))).toMatchObject(bad);
    expect(await refused(REGISTER, await seal(data, place.psk, null))).toMatchObject(bad);
    // A key that is no point of the curve verifies nothing.
    const nobody = JSON.stringify(registerData({ public_key: new Uint8Array(32).fill(0xff).toBase64() }));
    expect((await refused(REGISTER, await seal(nobody, place.psk, agent.key))).status).toBeOneOf([401, 422]);
  });

  test("one type where another belongs: 403", async () => {
    const reset = { v: 1, type: "reset", agent_id: agent.id, nonce: newNonce(), sent_at: place.now() };
    const { ack } = await agent.send();
    const wrong = { status: 403, code: "wrong_type", ack: { type: "ack" } };
    const cases: [string, Envelope][] = [
      [UPDATES, await sealed(registerData())],
      [UPDATES, await sealed(reset)],
      [UPDATES, await sealed(ack as unknown as Data)],
      [UPDATES, await sealed(nextReport({ type: "Report" }))],
      [UPDATES, await sealed(nextReport({ type: undefined }))],
      [UPDATES, await sealed(nextReport({ type: ["report"] }))],
      [REGISTER, await sealed(nextReport())],
      [REGISTER, await sealed(relayData())],
      [REGISTER, await sealed(reset)],
      [REGISTER, await sealed(ack as unknown as Data)],
      // Inside a relay: neither a relay nor an ack.
      [UPDATES, await relayed(await sealed(relayData()), [other.id], place.psk, place.now())],
      [UPDATES, await relayed(await sealed(ack as unknown as Data), [other.id], place.psk, place.now())],
    ];
    for (const [path, envelope] of cases) expect(await refused(path, envelope)).toMatchObject(wrong);
  });

  test("an ack of the manager's own, and a report, are nothing to its reset", async () => {
    const response = await post(place.url, UPDATES, await agent.report());
    expect(await refused(UPDATES, response.body)).toMatchObject({ status: 403, code: "wrong_type" });
    const report = JSON.stringify(await agent.report());
    for (const [authorization, status] of [
      [{}, 401],
      [{ Authorization: `Bearer ${place.adminToken}` }, 422],
    ] as const) {
      const reset = await fetch(`${place.url}/status/admin/reset`, {
        method: "POST",
        headers: { "Content-Type": "application/json", ...authorization },
        body: report,
      });
      expect(reset.status).toBe(status);
    }
    expect(await sendTo(UPDATES, report)).toMatchObject({ status: 200 });
  });
});

describe("rotation of the PSK", () => {
  const PSKS = ["first", "second", "third", "fourth"].map((word) => `${word}-psk-of-this-test-`.repeat(2));

  test("current, previous and the one before: 200; older: 401; over restarts", async () => {
    const own = await ground({ PSK: PSKS[0]! });
    try {
      const sender = await registered(own);
      const file = join(own.directory, "psk");
      const with_ = async (psk: string) => {
        const data = JSON.stringify(reportData(sender.id, ++sender.tick, own.now()));
        const { status, code } = await sendTo(UPDATES, await seal(data, psk, sender.key), own);
        return [status, code];
      };
      const accepted = [200, "accepted"];
      const unknown = [401, "unauthenticated"];
      expect(await Promise.all(PSKS.map(with_))).toEqual([accepted, unknown, unknown, unknown]);

      // The source moves on, first unnoticed: a MAC that no key verifies starts the refresh, and its 401 goes out at once.
      await own.stop();
      writeFileSync(file, `${PSKS[0]}\n`, { mode: 0o600 });
      await own.start({ PSK: "", PSK_FILE: file });
      writeFileSync(file, `${PSKS[1]}\n`);
      expect(await with_(PSKS[1]!)).toEqual(unknown);
      for (const until = Date.now() + 5000; (await with_(PSKS[1]!))[0] !== 200;) {
        if (Date.now() > until) throw new Error("the new PSK was not fetched");
        await Bun.sleep(20);
      }
      expect(await with_(PSKS[0]!)).toEqual(accepted);
      expect(await with_(PSKS[2]!)).toEqual(unknown);

      for (const [newest, expected] of [
        [2, [accepted, accepted, accepted, unknown]],
        [3, [unknown, accepted, accepted, accepted]],
        // Seen again: to the front, and nobody is lost.
        [1, [unknown, accepted, accepted, accepted]],
        // The oldest comes back as a new one.
        [0, [accepted, accepted, unknown, accepted]],
      ] as const) {
        await own.stop();
        writeFileSync(file, `${PSKS[newest]}\n`);
        await own.start({ PSK: "", PSK_FILE: file });
        const outcomes = [];
        for (const psk of PSKS) outcomes.push(await with_(psk));
        expect(outcomes).toEqual(expected as unknown as typeof outcomes);
      }
    } finally {
      await own.remove();
    }
  });
});

test("psk_old is about agents that proved who they are: not whom the holder of an old key names, nor who was forgotten", async () => {
  const [old, current] = ["old", "current"].map((word) => `${word}-psk-of-this-test-`.repeat(2)) as [string, string];
  const own = await ground({ PSK: old });
  try {
    const [slow, named] = [await registered(own, "slow"), await registered(own, "named")];
    await own.stop();
    await own.start({ PSK: current });
    own.clock.at = Date.now() + 3 * 3_600_000;
    const stranger = await signingKey();
    for (const id of [named.id, crypto.randomUUID(), "anything at all"]) {
      const data = JSON.stringify(reportData(id, 1, own.now()));
      expect((await sendTo(UPDATES, await seal(data, old, stranger), own)).status).not.toBe(200);
      expect((await sendTo(REGISTER, await seal(data, old, stranger), own)).status).not.toBe(201);
    }
    const data = JSON.stringify(reportData(slow.id, 1, own.now()));
    expect((await sendTo(UPDATES, await seal(data, old, slow.key), own)).status).toBe(200);
    const about = async () => {
      await own.advance();
      const { alarms } = (await (await fetch(`${own.url}/status/alarms`)).json()) as {
        alarms: Record<string, string>[];
      };
      return alarms.filter(({ code }) => code === "psk_old").map(({ agent_id: id }) => id);
    };
    expect(await about()).toEqual([slow.id]);
    const forgotten = await fetch(`${own.url}/status/admin/reset`, {
      method: "POST",
      headers: { Authorization: `Bearer ${own.adminToken}`, "Content-Type": "application/json" },
      body: JSON.stringify({ agent_id: slow.id }),
    });
    expect(forgotten.status).toBe(200);
    expect(await about()).toEqual([]);
  } finally {
    await own.remove();
  }
});

describe("time", () => {
  // A clock that stands still, so that the edge is exact.
  beforeAll(() => {
    place.clock.at = Date.now();
  });
  afterAll(() => {
    place.clock.at = null;
  });
  const now = () => place.now();

  test.each([599_000, -599_000, 600_000, -600_000])("sent_at %i ms off: 200", async (offset) => {
    expect(await sendTo(UPDATES, await sealed(nextReport({ sent_at: now() + offset })))).toMatchObject({ status: 200 });
    const inner = await sealed(nextReport());
    const relay = relayData({ sent_at: now() + offset, envelope: inner });
    expect(await sendTo(UPDATES, await sealed(relay))).toMatchObject({ status: 200 });
    expect(await sendTo(REGISTER, await sealed(registerData({ sent_at: now() + offset })))).toMatchObject({
      status: 200,
    });
  });

  // The last: a sender whose clock began in 1970.
  test.each([601_000, -601_000, 600_001, -600_001, -(Date.now() - 60_000)])(
    "sent_at %i ms off: 401 clock_skew, with the manager's clock",
    async (offset) => {
      const skewed = { status: 401, code: "clock_skew", ack: { server_time_at: now() } };
      const sent_at = now() + offset;
      expect(await refused(UPDATES, await sealed(nextReport({ sent_at })))).toMatchObject(skewed);
      expect(await refused(REGISTER, await sealed(registerData({ sent_at })))).toMatchObject(skewed);
      // The hop's own time, and the time of the message inside.
      expect(
        await refused(UPDATES, await sealed(relayData({ sent_at, envelope: await sealed(nextReport()) }))),
      ).toMatchObject(skewed);
      expect(
        await refused(UPDATES, await sealed(relayData({ envelope: await sealed(nextReport({ sent_at })) }))),
      ).toMatchObject(skewed);
    },
  );

  test("an age is never refused, however high; a negative one counts as 0", async () => {
    for (const age_ms of [0, 86_400_000, 400 * 86_400_000, Number.MAX_SAFE_INTEGER, -5000, null]) {
      expect(await sendTo(UPDATES, await sealed(nextReport({ age_ms })))).toMatchObject({ status: 200 });
    }
    expect(await sendTo(UPDATES, await sealed(nextReport({ collected_at: 0, age_ms: undefined })))).toMatchObject({
      status: 200,
    });
  });
});

const verdictOf = ({ status, code, ack }: Outcome) => [status, code, ack?.duplicate];

describe("replay", () => {
  test("a report that comes again, byte for byte or stamped anew: 409, duplicate: true", async () => {
    const data = nextReport();
    const envelope = await sealed(data);
    expect((await sendTo(UPDATES, envelope)).status).toBe(200);
    const again = [409, "replay", true];
    expect(verdictOf(await refused(UPDATES, envelope))).toEqual(again);
    const anew = { ...data, nonce: newNonce(), sent_at: place.now(), age_ms: 5000 };
    expect(verdictOf(await refused(UPDATES, await sealed(anew)))).toEqual(again);
    const relay = await relayed(await sealed(anew), [other.id], place.psk, place.now());
    expect(verdictOf(await refused(UPDATES, relay))).toEqual(again);
  });

  test.each(["boot_id", "collected_at"])(
    "a tick that another report (by %s) used: 409, duplicate: false",
    async (field) => {
      const data = nextReport();
      expect((await sendTo(UPDATES, await sealed(data))).status).toBe(200);
      const another = { ...data, nonce: newNonce(), [field]: field === "boot_id" ? "another boot" : place.now() - 77 };
      const outcome = await refused(UPDATES, await sealed(another));
      expect(verdictOf(outcome)).toEqual([409, "replay", false]);
      expect(outcome.ack?.highest_tick).toBe(data["tick"] as number);
    },
  );

  test("a used nonce on a new tick: 409, duplicate: false; 120 are remembered", async () => {
    const own = await registered(place, "hel-4");
    const nonces: string[] = [];
    const send = async (nonce: string) => verdictOf(await sendTo(UPDATES, await own.report({ nonce })));
    for (let i = 0; i < 120; i++) {
      nonces.push(newNonce());
      expect((await send(nonces[i]!))[0]).toBe(200);
    }
    for (const nonce of [nonces[0]!, nonces[60]!, nonces[119]!])
      expect(await send(nonce)).toEqual([409, "replay", false]);
    expect((await send(newNonce()))[0]).toBe(200);
    expect((await send(nonces[0]!))[0]).toBe(200);
    // The two since then pushed out the two oldest, and no more.
    expect(await send(nonces[2]!)).toEqual([409, "replay", false]);
    expect((await send(nonces[1]!))[0]).toBe(200);
  });

  /** An agent of its own that has sent tick 1 and tick 1000, on a manager of its own. */
  async function spread(at: Ground): Promise<{ own: Agent; send(tick: number, over?: Data): Promise<Outcome> }> {
    const own = await registered(at, "hel-5");
    const send = async (tick: number, over: Data = {}) =>
      sendTo(UPDATES, await seal(JSON.stringify(reportData(own.id, tick, at.now(), over)), at.psk, own.key), at);
    expect((await send(1)).status).toBe(200);
    expect((await send(1000)).status).toBe(200);
    return { own, send };
  }

  test("tick at highest − 119, unseen: 200; at − 120: 409 stale_tick, and 200 under a fresh tick", async () => {
    const { send } = await spread(place);
    const stale = reportData("", 0, place.now() - 60_000);
    const over = { boot_id: stale["boot_id"], collected_at: stale["collected_at"] };
    const refusedStale = await send(880, over);
    expect(verdictOf(refusedStale)).toEqual([409, "stale_tick", false]);
    expect(refusedStale.ack).toMatchObject({ highest_tick: 1000, tick: 880 });
    expect(verdictOf(await send(2, over))).toEqual([409, "stale_tick", false]);
    expect(await send(881)).toMatchObject({ status: 200 });
    // Collected at another moment; of the clock alone both may be of one millisecond.
    expect(verdictOf(await send(881, { collected_at: place.now() - 500 }))).toEqual([409, "replay", false]);
    expect(await send(1001, over)).toMatchObject({ status: 200 });
    expect(verdictOf(await send(1001, over))).toEqual([409, "replay", true]);
  });

  test("a report below the window that was stored is a duplicate", async () => {
    const own = await registered(place, "hel-6");
    const envelope = await own.report();
    expect((await sendTo(UPDATES, envelope)).status).toBe(200);
    own.tick = 5000;
    expect((await own.send()).status).toBe(200);
    const outcome = await sendTo(UPDATES, envelope);
    expect(verdictOf(outcome)).toEqual([409, "replay", true]);
    expect(outcome.ack?.highest_tick).toBe(5001);
  });

  test("all of it holds over a restart", async () => {
    const own = await ground();
    try {
      const { own: sender, send } = await spread(own);
      const nonce = newNonce();
      sender.tick = 1001;
      const envelope = await sender.report({ nonce }); // 1002
      expect((await sendTo(UPDATES, envelope, own)).status).toBe(200);
      await own.stop();
      await own.start();
      expect(verdictOf(await sendTo(UPDATES, envelope, own))).toEqual([409, "replay", true]);
      expect(verdictOf(await send(1003, { nonce }))).toEqual([409, "replay", false]);
      expect(verdictOf(await send(1000))).toEqual([409, "replay", false]);
      expect(verdictOf(await send(882))).toEqual([409, "stale_tick", false]);
      expect(await send(883)).toMatchObject({ status: 200 });
      expect(await send(1001)).toMatchObject({ status: 200 });
      expect(own.stored()).toMatchObject({ agents: 1, reports: 5 });
    } finally {
      await own.remove();
    }
  });
});

test("killed (-9) while it takes reports: what it acknowledged is stored, once, and is known as a duplicate", async () => {
  const directory = mkdtempSync(join(tmpdir(), "kattila-kill-"));
  const acknowledged: Envelope[] = [];
  let sender: Agent | null = null;
  let manager = await spawnManager(directory);
  try {
    for (let round = 0; round < 3; round++) {
      sender ??= await registered(manager, "hel-7");
      const { url } = manager;
      let killed = false;
      const senders = Array.from({ length: 8 }, async () => {
        while (!killed) {
          const envelope = await seal(
            JSON.stringify(reportData(sender!.id, ++sender!.tick, Date.now())),
            manager.psk,
            sender!.key,
          );
          const answer = await post(url, UPDATES, envelope).catch(() => null);
          if (answer?.status === 200) acknowledged.push(envelope);
        }
      });
      const before = acknowledged.length;
      while (acknowledged.length < before + 20) await Bun.sleep(5);
      await manager.kill("SIGKILL");
      killed = true;
      await Promise.all(senders);
      manager = await spawnManager(directory);
      // The last ones are within the window, the first are below it: both are found.
      for (const envelope of [...acknowledged.slice(0, 3), ...acknowledged.slice(before)]) {
        expect(verdictOf(await sendTo(UPDATES, envelope, manager))).toEqual([409, "replay", true]);
      }
    }
    expect(await manager.kill("SIGTERM")).toBe(0);
    using database = new Database(join(directory, "kattila_manager.db"), { readonly: true });
    expect(database.query("PRAGMA integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
    const ticks = database.query("SELECT tick FROM reports").all() as { tick: number }[];
    const stored = new Set(ticks.map(({ tick }) => tick));
    expect(stored.size).toBe(ticks.length);
    const lost = acknowledged
      .map(({ data }) => (JSON.parse(data) as { tick: number }).tick)
      .filter((tick) => !stored.has(tick));
    expect(lost).toEqual([]);
  } finally {
    await manager.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
  }
}, 60_000);

describe("relay path", () => {
  const path = (ids: string[], envelope: Envelope) => sealed(relayData({ relay_path: ids, envelope }));

  test("up to three relays: 200; four and more: 422 hop_limit", async () => {
    for (let hops = 0; hops <= 3; hops++) {
      expect(await sendTo(UPDATES, await path(RELAYS.slice(0, hops), await sealed(nextReport())))).toMatchObject({
        status: 200,
      });
    }
    const many = Array.from({ length: 40 }, () => crypto.randomUUID());
    for (const ids of [RELAYS, many])
      expect(await refused(UPDATES, await path(ids, await sealed(nextReport())))).toMatchObject({
        status: 422,
        code: "hop_limit",
      });
  });

  test("its own id in the path: 508; for reports and registrations", async () => {
    const loop = { status: 508, code: "relay_loop" };
    for (const ids of [[agent.id], [RELAYS[0]!, agent.id], [agent.id, RELAYS[0]!]]) {
      expect(await refused(UPDATES, await path(ids, await sealed(nextReport())))).toMatchObject(loop);
    }
    const register = registerData();
    expect(await refused(UPDATES, await path([register["agent_id"] as string], await sealed(register)))).toMatchObject(
      loop,
    );
  });

  test("an id twice: 400", async () => {
    const twice = await path([RELAYS[0]!, RELAYS[1]!, RELAYS[0]!], await sealed(nextReport()));
    expect(await refused(UPDATES, twice)).toMatchObject({ status: 400, code: "malformed" });
  });

  test("the message inside has checks of its own", async () => {
    const inner = await sealed(nextReport());
    expect(await refused(UPDATES, await path([other.id], { ...inner, hmac: "a".repeat(64) }))).toMatchObject({
      status: 401,
      code: "unauthenticated",
      ack: null,
    });
    expect(await refused(UPDATES, await path([other.id], await sealed("[1]")))).toMatchObject({ status: 400 });
    expect(
      await refused(UPDATES, await path([other.id], await sealed(put(nextReport(), "interfaces[0].mtu", -1)))),
    ).toMatchObject({ status: 422, code: "schema", field: "interfaces[0].mtu" });
  });
});

test("hostile names are stored and told as they are", async () => {
  const hostname = `<img src=x onerror="alert(1)">'; DROP TABLE reports; --\u202e\r\n{{7*7}}`;
  const name = `a,b"c:d\\ \t<b>`;
  const own = await registered(place, hostname);
  expect((await own.send({ interfaces: [], wireguard: [], collectors: { [name]: name } })).status).toBe(200);
  const detail = async () => (await fetch(`${place.url}/status/agents/${own.id}`)).json() as Promise<Data>;
  const data = reportData(own.id, ++own.tick, place.now());
  put(data, "system.hostname", hostname);
  put(data, "interfaces[0].name", name);
  put(data, "routes[0].interface", name);
  expect((await sendTo(UPDATES, await sealed(data, own.key))).status).toBe(200);
  expect(await detail()).toMatchObject({
    hostname,
    report: { system: { hostname }, routes: [{ interface: name }], interfaces: [{ name }, {}] },
  });
  for (const path of ["agents", "topology", "topology.json", "topology.dot", "topology.mmd", "alarms", "events"]) {
    expect([path, (await fetch(`${place.url}/status/${path}`)).status]).toEqual([path, 200]);
  }
  expect((await fetch(`${place.url}/metrics`)).status).toBe(200);
  // A name cannot forge a line of the log.
  for (const line of place.lines) expect(() => JSON.parse(line)).not.toThrow();
});
