import { describe, expect, test } from "bun:test";
import { computeMac, readEnvelope, seal, signingKey, verifyMac, verifySignature } from "../../shared/envelope.ts";

const PSK = "a fleet key of more than 32 bytes, for tests";
const bytes = (text: string) => new TextEncoder().encode(text);

describe("known answers", () => {
  // RFC 4231, test cases 1, 2, 4 (keys that are text or ASCII-safe), 6 (a key longer than the block)
  test.each([
    ["\x0b".repeat(20), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"],
    ["Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"],
  ])("HMAC-SHA256 of RFC 4231 (key %j)", async (key, data, expected) => {
    expect(await computeMac(key, data)).toBe(expected);
  });

  test("Ed25519 of RFC 8032, test 2", async () => {
    const key = await signingKey(
      Uint8Array.fromHex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").toBase64(),
    );
    expect(Uint8Array.fromBase64(key.publicKey).toHex()).toBe(
      "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    );
    expect(Uint8Array.fromBase64(await key.sign("r")).toHex()).toBe(
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    );
  });

  test("an envelope of ours, byte for byte", async () => {
    const key = await signingKey(new Uint8Array(32).fill(7).toBase64());
    const envelope = await seal('{"v":1,"type":"report","name":"käse 🧀"}', PSK, key);
    expect(envelope).toEqual({
      v: 1,
      data: '{"v":1,"type":"report","name":"käse 🧀"}',
      hmac: new Bun.CryptoHasher("sha256", PSK).update(envelope.data).digest("hex"),
      sig: await key.sign(envelope.data),
    });
  });
});

describe("MAC", () => {
  test("says which key of the ring made it", async () => {
    const envelope = await seal("{}", PSK, null);
    expect(await verifyMac(envelope, ["another key of sixteen", PSK])).toBe(1);
    expect(await verifyMac(envelope, ["another key of sixteen"])).toBe(-1);
    expect(await verifyMac(envelope, [])).toBe(-1);
  });

  test("one bit off anywhere in data, or in the MAC, does not hold", async () => {
    const envelope = await seal('{"tick":41}', PSK, null);
    for (let i = 0; i < envelope.data.length; i++) {
      const data =
        envelope.data.slice(0, i) + String.fromCharCode(envelope.data.charCodeAt(i) ^ 1) + envelope.data.slice(i + 1);
      expect(await verifyMac({ ...envelope, data }, [PSK])).toBe(-1);
    }
    for (let i = 0; i < 64; i++) {
      const digit = (parseInt(envelope.hmac[i]!, 16) ^ 1).toString(16);
      expect(
        await verifyMac({ ...envelope, hmac: envelope.hmac.slice(0, i) + digit + envelope.hmac.slice(i + 1) }, [PSK]),
      ).toBe(-1);
    }
  });

  test("a plain SHA-256, and the empty key, are no MAC", async () => {
    const sha = new Bun.CryptoHasher("sha256").update("{}").digest("hex");
    const empty = new Bun.CryptoHasher("sha256", "").update("{}").digest("hex");
    expect(await verifyMac({ v: 1, data: "{}", hmac: sha }, [PSK])).toBe(-1);
    expect(await verifyMac({ v: 1, data: "{}", hmac: empty }, [PSK])).toBe(-1);
    expect(() => computeMac("", "{}")).toThrow();
  });
});

describe("signature", () => {
  test("holds for its key and bytes alone; anything else is false, never a throw", async () => {
    const [key, other] = [await signingKey(), await signingKey()];
    const sig = await key.sign("data");
    expect(await verifySignature(key.publicKey, "data", sig)).toBe(true);
    expect(await verifySignature(key.publicKey, "dat4", sig)).toBe(false);
    expect(await verifySignature(other.publicKey, "data", sig)).toBe(false);
    for (const bad of [null, undefined, "", "x", `${sig.slice(0, -2)}!!`, sig.slice(4), "A".repeat(88)]) {
      expect(await verifySignature(key.publicKey, "data", bad)).toBe(false);
    }
    expect(await verifySignature("bm90IGEga2V5", "data", sig)).toBe(false);
  });

  test("a seed gives the same key again", async () => {
    const key = await signingKey();
    expect((await signingKey(key.seed)).publicKey).toBe(key.publicKey);
  });
});

describe("readEnvelope refuses", () => {
  const good = { v: 1, data: "{}", hmac: "0".repeat(64), sig: "" };
  test.each([
    ["nothing", ""],
    ["no JSON", "{"],
    ["an array", "[]"],
    ["null", "null"],
    ["a number", "1"],
    ["another version", JSON.stringify({ ...good, v: 2 })],
    ["data that is no string", JSON.stringify({ ...good, data: {} })],
    ["no hmac", JSON.stringify({ v: 1, data: "{}" })],
    ["a short hmac", JSON.stringify({ ...good, hmac: "0".repeat(63) })],
    ["a long hmac", JSON.stringify({ ...good, hmac: "0".repeat(65) })],
    ["an uppercase hmac", JSON.stringify({ ...good, hmac: "A".repeat(64) })],
    ["a hmac that is not hex", JSON.stringify({ ...good, hmac: "g".repeat(64) })],
    ["a sig that is no string", JSON.stringify({ ...good, sig: 1 })],
    ["__proto__", `{"v":1,"data":"{}","hmac":"${"0".repeat(64)}","__proto__":{}}`],
    ["an escaped __proto__", `{"v":1,"data":"{}","hmac":"${"0".repeat(64)}","\\u005f_proto__":{}}`],
    ["depth 33", `{"v":1,"data":"{}","hmac":"${"0".repeat(64)}","x":${"[".repeat(32)}${"]".repeat(32)}}`],
    ["a byte order mark", `\ufeff${JSON.stringify(good)}`],
    ["a lone surrogate", `{"v":1,"data":"\\ud800","hmac":"${"0".repeat(64)}"}`],
  ])("%s", (_name, body) => {
    expect(readEnvelope(bytes(body))).toMatchObject({ ok: false });
  });

  test("invalid UTF-8", () => {
    expect(readEnvelope(Uint8Array.of(0x7b, 0xff, 0x7d))).toMatchObject({ ok: false });
  });

  test("but ignores fields that it does not know, and takes depth 32", () => {
    const body = `{"v":1,"data":"{}","hmac":"${"0".repeat(64)}","new":${"[".repeat(31)}${"]".repeat(31)}}`;
    expect(readEnvelope(bytes(body))).toEqual({ ok: true, envelope: { v: 1, data: "{}", hmac: "0".repeat(64) } });
  });
});
