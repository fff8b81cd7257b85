// The delivery table, each cell by name; that no answer is without a row, and that none but the manager's own word counts
// as a delivery or changes this agent; and what makes an answer the manager's word.
import { describe, expect, test } from "bun:test";
import { type Action, actionFor, type Answer, type Trust } from "../../agent/table.ts";
import { readAnswer } from "../../agent/wire.ts";
import { newNonce, seal, signingKey } from "../../shared/envelope.ts";

type Cell = [name: string, status: number, code: string, trust: Trust, way: Answer["way"], duplicate: boolean, Action];

const cells: Cell[] = [
  // The manager's own word, by either way.
  ["accepted", 200, "accepted", "manager", "direct", false, "delivered"],
  ["accepted through a relay", 200, "accepted", "manager", "relay", false, "delivered"],
  ["registered for the first time", 201, "registered", "manager", "direct", false, "registered"],
  ["registered again", 200, "registered", "manager", "direct", false, "registered"],
  ["registered through a relay", 201, "registered", "manager", "relay", false, "registered"],
  ["registered again, by a relay", 200, "registered", "manager", "relay", false, "registered"],
  ["the ack was lost: it has this very report", 409, "replay", "manager", "direct", true, "delivered"],
  ["the ack was lost at a relay", 409, "replay", "manager", "relay", true, "delivered"],
  ["the tick was another report's", 409, "replay", "manager", "direct", false, "fresh_tick"],
  ["the tick was another report's, by a relay", 409, "replay", "manager", "relay", false, "fresh_tick"],
  ["the tick is too old", 409, "stale_tick", "manager", "direct", false, "fresh_tick"],
  ["the tick is too old, by a relay", 409, "stale_tick", "manager", "relay", false, "fresh_tick"],
  [
    "the tick is too old, and yet a duplicate: only a replay can be one",
    409,
    "stale_tick",
    "manager",
    "direct",
    true,
    "fresh_tick",
  ],
  ["the same, by a relay", 409, "stale_tick", "manager", "relay", true, "fresh_tick"],
  ["the id is another's", 409, "id_conflict", "manager", "direct", false, "adopt_id"],
  ["the id is another's, by a relay", 409, "id_conflict", "manager", "relay", false, "adopt_id"],
  ["a 409 of another kind", 409, "conflict", "manager", "direct", false, "keep"],
  ["a 409 of another kind, by a relay", 409, "conflict", "manager", "relay", false, "keep"],
  ["the clock is off", 401, "clock_skew", "manager", "direct", false, "set_clock"],
  ["the clock is off, by a relay", 401, "clock_skew", "manager", "relay", false, "set_clock"],
  ["it knows another key of this id", 401, "bad_signature", "manager", "direct", false, "register"],
  ["it knows another key of this id, by a relay", 401, "bad_signature", "manager", "relay", false, "register"],
  ["a signed 401 of another kind", 401, "unauthenticated", "manager", "direct", false, "keep"],
  ["a signed 401 of another kind, by a relay", 401, "unauthenticated", "manager", "relay", false, "keep"],
  ["it does not know this id", 404, "unknown_agent", "manager", "direct", false, "register"],
  ["it does not know this id, by a relay", 404, "unknown_agent", "manager", "relay", false, "register"],
  ["a signed 404 of another kind", 404, "not_found", "manager", "direct", false, "keep"],
  ["a signed 404 of another kind, by a relay", 404, "not_found", "manager", "relay", false, "keep"],
  ["it wants a new identity", 410, "reset", "manager", "direct", false, "new_identity"],
  ["it wants a new identity, by a relay", 410, "reset", "manager", "relay", false, "new_identity"],
  ["a 410 of another kind", 410, "gone", "manager", "direct", false, "keep"],
  ["a 410 of another kind, by a relay", 410, "gone", "manager", "relay", false, "keep"],
  ["the report does not fit its schema", 422, "schema", "manager", "direct", false, "set_aside"],
  ["the report does not fit its schema, by a relay", 422, "schema", "manager", "relay", false, "set_aside"],
  ["the report is newer than the manager", 422, "version", "manager", "direct", false, "hold"],
  ["the report is newer than the manager, by a relay", 422, "version", "manager", "relay", false, "hold"],
  ["too many relays", 422, "hop_limit", "manager", "relay", false, "next_way"],
  ["too many relays, of a direct try", 422, "hop_limit", "manager", "direct", false, "next_way"],
  ["a loop of relays", 508, "relay_loop", "manager", "relay", false, "next_way"],
  ["a loop of relays, of a direct try", 508, "relay_loop", "manager", "direct", false, "next_way"],
  ["its database cannot write", 503, "unavailable", "manager", "direct", false, "keep"],
  ["its database cannot write, by a relay", 503, "unavailable", "manager", "relay", false, "keep"],
  ["blocked", 403, "blocked", "manager", "direct", false, "keep"],
  ["blocked, by a relay", 403, "blocked", "manager", "relay", false, "keep"],
  ["sent where another type belongs", 403, "wrong_type", "manager", "direct", false, "keep"],
  ["sent where another type belongs, by a relay", 403, "wrong_type", "manager", "relay", false, "keep"],
  ["too many requests", 429, "slow_down", "manager", "direct", false, "keep"],
  ["too many requests, by a relay", 429, "slow_down", "manager", "relay", false, "keep"],
  ["a bug of the manager", 500, "internal", "manager", "direct", false, "keep"],
  ["a bug of the manager, by a relay", 500, "internal", "manager", "relay", false, "keep"],
  ["a 200 with a code that this agent does not know", 200, "noted", "manager", "direct", false, "keep"],
  ["a 200 with a code that this agent does not know, by a relay", 200, "noted", "manager", "relay", false, "keep"],
  ["accepted, but not as 200", 202, "accepted", "manager", "direct", false, "keep"],
  ["accepted, but not as 200, by a relay", 202, "accepted", "manager", "relay", false, "keep"],
  // The MAC holds, the signature is not by the pinned key: the manager was set up anew, or a relay forges.
  ["another manager key, direct", 200, "accepted", "fleet", "direct", false, "learn_manager"],
  ["another manager key, direct, 404", 404, "unknown_agent", "fleet", "direct", false, "learn_manager"],
  ["another manager key, direct, 401", 401, "clock_skew", "fleet", "direct", false, "learn_manager"],
  ["a relay forges an ack", 200, "accepted", "fleet", "relay", false, "next_way"],
  ["a relay forges a duplicate", 409, "replay", "fleet", "relay", true, "next_way"],
  ["a relay forges a 410", 410, "reset", "fleet", "relay", false, "next_way"],
  ["a relay forges a clock", 401, "clock_skew", "fleet", "relay", false, "next_way"],
  ["a relay forges a conflict", 409, "id_conflict", "fleet", "relay", false, "next_way"],
  ["a relay forges a schema refusal", 422, "schema", "fleet", "relay", false, "next_way"],
  ["a relay says that it has no way itself", 502, "no_route", "fleet", "relay", false, "next_way"],
  ["a relay says that it is on the way already", 508, "relay_loop", "fleet", "relay", false, "next_way"],
  // Unsigned: anybody's.
  ["our PSK is old", 401, "unauthenticated", "nobody", "direct", false, "refresh_psk"],
  ["a relay finds our PSK old", 401, "unauthenticated", "nobody", "relay", false, "refresh_psk"],
  ["a proxy's 401", 401, "", "nobody", "direct", false, "refresh_psk"],
  ["refused, unreachable, timed out, cut off", 0, "", "nobody", "direct", false, "next_way"],
  ["a relay that is gone", 0, "", "nobody", "relay", false, "next_way"],
  ["a captive portal's 200 with HTML", 200, "", "nobody", "direct", false, "next_way"],
  ["a relay's 200 with HTML", 200, "", "nobody", "relay", false, "next_way"],
  ["an unsigned 200 accepted", 200, "accepted", "nobody", "direct", false, "next_way"],
  ["an unsigned duplicate", 409, "replay", "nobody", "direct", true, "next_way"],
  ["an unsigned 410", 410, "reset", "nobody", "direct", false, "next_way"],
  ["an unsigned 422", 422, "schema", "nobody", "direct", false, "next_way"],
  ["a redirect", 307, "", "nobody", "direct", false, "next_way"],
  ["malformed", 400, "malformed", "nobody", "direct", false, "next_way"],
  ["too large", 413, "too_large", "nobody", "direct", false, "next_way"],
  ["the manager has no PSK yet", 503, "no_psk", "nobody", "direct", false, "next_way"],
  ["a proxy's 502", 502, "", "nobody", "direct", false, "next_way"],
  ["a proxy's 504", 504, "", "nobody", "relay", false, "next_way"],
];

test.each(cells)("%s", (_name, status, code, trust, way, duplicate, action) => {
  expect(actionFor({ status, code, trust, way, duplicate })).toBe(action);
});

describe("every answer", () => {
  const statuses = [0, ...new Set(cells.map(([, status]) => status)), 418, 999];
  const codes = [...new Set(cells.map(([, , code]) => code)), "__proto__"];
  const ways = ["direct", "relay"] as const;
  /** Of the manager's words, those that are more than "keep", by either way. */
  const managers = new Map<string, Action>([
    ["200 accepted", "delivered"],
    ["200 registered", "registered"],
    ["201 registered", "registered"],
    ["401 bad_signature", "register"],
    ["401 clock_skew", "set_clock"],
    ["404 unknown_agent", "register"],
    ["409 id_conflict", "adopt_id"],
    ["409 stale_tick", "fresh_tick"],
    ["410 reset", "new_identity"],
    ["422 hop_limit", "next_way"],
    ["422 schema", "set_aside"],
    ["422 version", "hold"],
    ["508 relay_loop", "next_way"],
  ]);
  const expected = ({ status, code, trust, way, duplicate }: Answer): Action => {
    if (trust === "nobody") return status === 401 ? "refresh_psk" : "next_way";
    if (trust === "fleet") return way === "direct" ? "learn_manager" : "next_way";
    if (status === 409 && code === "replay") return duplicate ? "delivered" : "fresh_tick";
    return managers.get(`${status} ${code}`) ?? "keep";
  };

  test("does what the table says; who is not the manager can make an agent try elsewhere, and nothing else", () => {
    const wrong: [Answer, Action][] = [];
    for (const status of statuses)
      for (const code of codes)
        for (const trust of ["manager", "fleet", "nobody"] as const)
          for (const way of ways)
            for (const duplicate of [true, false]) {
              const answer = { status, code, trust, way, duplicate };
              if (actionFor(answer) !== expected(answer)) wrong.push([answer, actionFor(answer)]);
            }
    expect(wrong).toEqual([]);
  });
});

describe("what makes an answer the manager's word", async () => {
  const PSK = "delivery-table-test-key-0123456789abcdef";
  const OLD = "delivery-table-test-old-0123456789abcdef";
  const manager = await signingKey();
  const other = await signingKey();
  const nonce = newNonce();
  const ack = (over: Record<string, unknown> = {}) =>
    JSON.stringify({
      v: 1,
      type: "ack",
      code: "accepted",
      message: "",
      nonce,
      agent_id: null,
      tick: 1,
      server_time_at: 0,
      ...over,
    });
  const bytes = (value: unknown) => new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
  const sealed = async (data: string, psk = PSK, key: typeof manager | null = manager) =>
    bytes(await seal(data, psk, key));
  const read = async (body: Uint8Array, managerKey: string | null = manager.publicKey) => {
    const { trust, code } = await readAnswer(body, nonce, [PSK, OLD], managerKey);
    return [trust, code];
  };

  test("MAC, signature and nonce", async () => {
    expect(await read(await sealed(ack()))).toEqual(["manager", "accepted"]);
    expect(await read(await sealed(ack(), OLD))).toEqual(["manager", "accepted"]);
  });
  test("another signature, or none: the fleet's", async () => {
    expect(await read(await sealed(ack(), PSK, other))).toEqual(["fleet", "accepted"]);
    expect(await read(await sealed(ack(), PSK, null))).toEqual(["fleet", "accepted"]);
  });
  test("an ack that brings a key of its own is believed only where none is pinned", async () => {
    const forged = await sealed(ack({ manager_key: other.publicKey }), PSK, other);
    expect(await read(forged)).toEqual(["fleet", "accepted"]);
    expect(await read(forged, null)).toEqual(["manager", "accepted"]);
    expect(await read(await sealed(ack({ manager_key: other.publicKey })), null)).toEqual(["fleet", "accepted"]);
    expect(await read(await sealed(ack({ manager_key: "x" })), null)).toEqual(["fleet", "accepted"]);
  });
  test("a PSK that is not the fleet's", async () => {
    expect(await read(await sealed(ack(), "somebody-elses-key-0123456789"))).toEqual(["nobody", ""]);
  });
  test("another message's ack", async () => {
    expect(await read(await sealed(ack({ nonce: newNonce() })))).toEqual(["nobody", ""]);
    expect(await read(await sealed(ack({ nonce: null })))).toEqual(["nobody", ""]);
  });
  test("our own report sent back", async () => {
    expect(await read(await sealed(ack({ type: "report" })))).toEqual(["nobody", ""]);
  });
  test("one byte of the ack changed", async () => {
    const body = new TextDecoder().decode(await sealed(ack())).replace("accepted", "acceptee");
    expect(await read(bytes(body))).toEqual(["nobody", ""]);
  });
  test.each([
    ["HTML", "<html>welcome</html>", ""],
    ["nothing", "", ""],
    ["an error", '{"error":"unauthenticated","message":"no"}', "unauthenticated"],
    ["an error that is no text", '{"error":5}', ""],
    ["an array", "[]", ""],
    ["null", "null", ""],
    ["an envelope of version 2", '{"v":2,"data":"{}","hmac":""}', ""],
  ])("%s", async (_name, text, code) => {
    expect(await read(bytes(text))).toEqual(["nobody", code]);
  });
  test("data that is no object, or has no code, though its MAC holds", async () => {
    for (const data of ["[]", "5", "x", ack({ code: 5 })])
      expect(await read(await sealed(data))).toEqual(["nobody", ""]);
  });
  test("bytes that are no text", async () => {
    expect(await read(new Uint8Array([0xff, 0xfe, 0x00]))).toEqual(["nobody", ""]);
  });
});
