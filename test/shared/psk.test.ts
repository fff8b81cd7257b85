import { describe, expect, test } from "bun:test";
import { checkPsk, selectPsk, withPsk } from "../../shared/psk.ts";

const KEY = "0123456789abcdef0123456789abcdef";

describe("checkPsk", () => {
  test.each([
    [`  "${KEY}"\n`, KEY],
    [`'${KEY}'`, KEY],
    [`""${KEY}""`, `"${KEY}"`],
    [KEY, KEY],
  ])("%j", (raw, psk) => expect(checkPsk(raw)).toEqual({ ok: true, psk, weak: false }));
  test("16 bytes is weak, 15 refused; bytes count, not characters", () => {
    expect(checkPsk("x".repeat(16))).toEqual({ ok: true, psk: "x".repeat(16), weak: true });
    expect(checkPsk("x".repeat(15))).toMatchObject({ ok: false });
    expect(checkPsk("ä".repeat(8))).toMatchObject({ ok: true });
  });
  test.each(["\u0000", "\n", "\u007f", "\u0085"])("a control character is refused: %j", (character) =>
    expect(checkPsk(`${KEY}${character}${KEY}`)).toMatchObject({ ok: false }),
  );
  test("bytes that are no UTF-8 are refused: a decoder makes one and the same key of them all", () => {
    const text = new TextDecoder().decode(new Uint8Array(40).fill(0xff));
    expect(checkPsk(text)).toMatchObject({ ok: false });
    expect(selectPsk([text])).toMatchObject({ ok: false, reason: "unusable" });
  });
});

describe("selectPsk", () => {
  const others = [
    "v=spf1 include:_spf.example.com -all",
    "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEB",
    "k=rsa; p=MIGfMA0GCSqGSIb3DQEB",
    "v=DMARC1; p=none",
    "google-site-verification=abcdefghijklmnopqrstuvwxyz",
    "facebook-domain-verification=abcdefghijklmnop",
    "MS=ms12345678",
  ];
  test("the one tagged", () => {
    expect(selectPsk([...others, "some other string of mine", `kattila-psk=${KEY}`])).toMatchObject({
      ok: true,
      psk: KEY,
    });
  });
  test("quoted as a whole, or its value", () => {
    for (const text of [`"kattila-psk=${KEY}"`, `kattila-psk="${KEY}"`])
      expect(selectPsk([text])).toMatchObject({ ok: true, psk: KEY });
  });
  test("else the one untagged that is nothing else", () =>
    expect(selectPsk([...others, KEY])).toMatchObject({ ok: true, psk: KEY }));
  test("none", () => {
    expect(selectPsk(others)).toMatchObject({ ok: false, reason: "none" });
    expect(selectPsk([])).toMatchObject({ ok: false, reason: "none" });
  });
  test("two candidates are ambiguous, also tagged ones; the same twice is one", () => {
    expect(selectPsk([KEY, `${KEY}x`])).toMatchObject({ ok: false, reason: "ambiguous" });
    expect(selectPsk([`kattila-psk=${KEY}`, `kattila-psk=${KEY}x`])).toMatchObject({ ok: false, reason: "ambiguous" });
    expect(selectPsk([KEY, KEY])).toMatchObject({ ok: true });
  });
  test("halves are never joined", () =>
    expect(selectPsk([KEY.slice(0, 20), KEY.slice(20)])).toMatchObject({ ok: false, reason: "ambiguous" }));
  test("a tagged key that is too short does not fall back to another", () =>
    expect(selectPsk(["kattila-psk=short", KEY])).toMatchObject({ ok: false, reason: "unusable" }));
  test("no message shows the key", () => {
    for (const result of [selectPsk([KEY, `${KEY}x`]), selectPsk(["kattila-psk=secretshort"])]) {
      expect(JSON.stringify(result)).not.toContain("secretshort");
      expect(JSON.stringify(result)).not.toContain(KEY);
    }
  });
});

test("the ring holds the current and two previous; one seen before moves to the front", () => {
  expect(withPsk([], "a")).toEqual(["a"]);
  expect(withPsk(["c", "b", "a"], "d")).toEqual(["d", "c", "b"]);
  expect(withPsk(["c", "b", "a"], "a")).toEqual(["a", "c", "b"]);
});
