// The pack codec: whatever goes in comes out, byte for byte.
import { expect, test } from "bun:test";
import type { StoredReport } from "../../manager/model.ts";
import { decodePack, encodePack } from "../../manager/store/pack.ts";
import { reportRows } from "../bench/storage.ts";
import { AGENT, OTHER, report } from "./support.ts";

const stored = (rows: Parameters<typeof report>[]): StoredReport[] =>
  rows.map(([tick, over], i) => ({ id: 7 * i + 3, ...report(tick, over) }));

test("real-shaped reports, and single ones by id", () => {
  const rows: StoredReport[] = [];
  for (const row of reportRows("busy")) if (rows.push({ id: rows.length * 300, ...row }) === 120) break;
  const pack = encodePack(rows);
  expect(decodePack(pack)).toEqual(rows);
  expect(decodePack(pack, (id) => id === 300 * 77)).toEqual([rows[77]!]);
  expect(decodePack(pack, () => false)).toEqual([]);
  const raw = rows.reduce((sum, { data }) => sum + data.length, 0);
  expect(pack.length).toBeLessThan(raw / 15);
});

const NONCE = "0123456789abcdef0123456789abcdef";
const CASES: [what: string, rows: Parameters<typeof report>[]][] = [
  ["one report", [[0]]],
  [
    "numbers with leading zeros, exponents, signs, decimals",
    [
      [1, { data: `[0,00,007,-5,1.05,0.050,1e400,1E-07,-0]` }],
      [2, { data: `[1,01,107,-6,1.50,0.500,2e400,1E-08,-1]` }],
    ],
  ],
  [
    "numbers of 15, 16, 17 and 40 digits",
    [
      [1, { data: `[999999999999999,9007199254740991,12345678901234567,${"9".repeat(40)}]` }],
      [2, { data: `[0,0,0,0]` }],
    ],
  ],
  [
    "numbers that fall and jump",
    [
      [9, { data: "[5]" }],
      [3, { data: "[900719925474099]" }],
      [4, { data: "[0]" }],
    ],
  ],
  ["ticks at the ends of what is safe", [[0], [Number.MAX_SAFE_INTEGER], [Number.MAX_SAFE_INTEGER - 1]]],
  [
    "text that holds the codec's own marks",
    [
      [1, { data: '["\u0000",5,"\u0001"]' }],
      [2, { data: '["\\u0000",5]' }],
    ],
  ],
  [
    "a nonce twice, a nonce that is not in the text, `$&` beside it",
    [
      [1, { nonce: NONCE, data: `["${NONCE}","${NONCE}",1]` }],
      [2, { nonce: NONCE, data: `[1]` }],
      [3, { nonce: NONCE, data: `["$&$1$$","${NONCE}"]` }],
    ],
  ],
  [
    "nonce, MAC and signature of other shapes",
    [
      [1, { nonce: "", hmac: "", sig: "" }],
      [2, { nonce: NONCE.toUpperCase(), hmac: "zz", sig: "not base64 !" }],
      [3, { nonce: "$&", hmac: "ab".repeat(31), sig: new Uint8Array(63).toBase64() }],
      [4, { sig: `${"A".repeat(85)}B==` }], // 64 bytes, but not the way to write them: the last bits are not zero
    ],
  ],
  [
    "hostile names, other scripts, no numbers, empty",
    [
      [1, { data: `{"name":"<b>&\\"x","网络":"ñ\\ud83d\\ude00😀"}` }],
      [2, { data: "" }],
      [3, { data: "5" }],
      [4, { data: ":5" }],
    ],
  ],
  [
    "other boots, paths and clocks",
    [
      [1, { boot_id: "a", relay_path: [OTHER, AGENT], collected_at: 0, observed_at: 0 }],
      [2, { boot_id: "", relay_path: [], collected_at: 8.64e15, received_at: 0, observed_at: 8.64e15 }],
      [3, { boot_id: "a", relay_path: [OTHER] }],
    ],
  ],
];

for (const [what, rows] of CASES) {
  test(what, () => {
    const reports = stored(rows);
    expect(decodePack(encodePack(reports))).toEqual(reports);
  });
}

test("random texts with random numbers", () => {
  const pieces = [
    "[",
    "]",
    ",",
    ":",
    "-",
    ".",
    "e",
    '"',
    "a",
    "0",
    "00",
    "1",
    "99",
    "123456789012345678",
    NONCE,
    "ü",
    "\u0001",
  ];
  for (let round = 0; round < 200; round++) {
    const text = () =>
      Array.from({ length: Math.random() * 30 }, () => pieces[Math.floor(Math.random() * pieces.length)]).join("");
    const reports = stored(Array.from({ length: 1 + (round % 9) }, (_, i) => [i, { data: text(), nonce: NONCE }]));
    expect(decodePack(encodePack(reports))).toEqual(reports);
  }
});

test("a damaged or newer pack is an error, never other bytes", () => {
  const pack = encodePack(stored([[1], [2], [3]]));
  expect(() => decodePack(pack.subarray(0, 200))).toThrow();
  expect(() => decodePack(pack.subarray(0, pack.length - 5))).toThrow();
  expect(() => decodePack(Uint8Array.from([2, ...pack.subarray(1)]))).toThrow("newer manager");
});
