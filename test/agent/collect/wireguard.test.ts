// `wg show IF dump` as it was captured, and as it should never look; a `wg` that is missing, refuses or hangs.
import { expect, test } from "bun:test";
import { collectWireguard, parseDump } from "../../../agent/collect/wireguard.ts";
import { createHost } from "../../../agent/host.ts";
import { captured, fakeHost, programs } from "./support.ts";

// The secrets of the captured dumps: a lab's, which ended with the capture.
const PRIVATE_0 = "QA9RYYVfGg5qzJ8diJYPmyFvVpl6shO0kV509St6wn4=";
const PRIVATE_1 = "6BqZFxogl9FAJwSP/P3aHkTPpQjuVvWpp27EDh1yiEo=";
const PRESHARED = "+J7uoFiElMz8hL9El5i3D3340I8ZulR3PFRnuAau5WM=";

// Hand-written keys, of nobody.
const SECRET = `${"S".repeat(42)}A=`;
const SHARED = `${"T".repeat(42)}A=`;
const OWN = `${"O".repeat(42)}A=`;
const PEER = `${"P".repeat(42)}A=`;
const FIRST_LINE = `${SECRET}\t${OWN}\t51820\toff`;
const peerLine = (change: Partial<Record<number, string>> = {}) =>
  [PEER, SHARED, "192.0.2.1:51820", "10.0.0.2/32", "1700000000", "1", "2", "25"]
    .map((field, index) => change[index] ?? field)
    .join("\t");
const GOOD_PEER = {
  public_key: PEER,
  endpoint: "192.0.2.1:51820",
  allowed_ips: ["10.0.0.2/32"],
  latest_handshake_at: 1_700_000_000_000,
  rx_bytes: 1,
  tx_bytes: 2,
  persistent_keepalive_s: 25,
};

const WG0 = {
  interface: "wg0",
  public_key: "cD0OGVosjjTghzBA3BGsfMSSuoFuiW5OWdPqEC+UAkE=",
  listen_port: 51820,
  fwmark: 51820,
  peers: [
    {
      public_key: "a71a3MyPrzjqU115bkhGzs74IU9/L3Po/9+el5C/s2c=",
      endpoint: "192.168.50.3:51820",
      allowed_ips: ["10.9.0.3/32", "fd09::3/128"],
      latest_handshake_at: 1_795_442_044_000,
      rx_bytes: 252,
      tx_bytes: 308,
      persistent_keepalive_s: 25,
    },
    {
      public_key: `${"X".repeat(42)}A=`,
      endpoint: "[fd50::9]:51820",
      allowed_ips: [],
      latest_handshake_at: null,
      rx_bytes: 0,
      tx_bytes: 0,
      persistent_keepalive_s: null,
    },
    {
      public_key: "150a9mf2oQcKAFSMH0+ydr4wTLv2QUi95Kbtqugl2Bc=",
      endpoint: "192.168.50.2:51820",
      allowed_ips: ["10.9.0.2/32", "fd09::2/128"],
      latest_handshake_at: 1_795_442_044_000,
      rx_bytes: 252,
      tx_bytes: 308,
      persistent_keepalive_s: 25,
    },
  ],
  status: "ok",
};
const WG1 = {
  interface: "wg1",
  public_key: "dcFbmfu39niQYm0DCsYuaBilu3Nm5ee4DR7CJZANxyI=",
  listen_port: 51900,
  fwmark: null,
  peers: [],
  status: "ok",
};

test("the captured host: two interfaces, one without peers, and no secret of theirs", async () => {
  const host = fakeHost({
    commands: {
      "wg show interfaces": captured("wg-interfaces.txt"),
      "wg show wg0 dump": captured("wg0.dump"),
      "wg show wg1 dump": captured("wg1.dump"),
    },
  });
  const section = await collectWireguard(host);
  expect(section).toEqual({ data: [WG1, WG0], status: "ok" });
  const text = JSON.stringify(section);
  for (const secret of [PRIVATE_0, PRIVATE_1, PRESHARED]) {
    expect(captured("wg0.dump") + captured("wg1.dump")).toContain(secret);
    expect(text).not.toContain(secret);
  }
});

test("the first line: what is off, none or absurd is null", () => {
  const cases: [line: string, public_key: string | null, listen_port: number | null, fwmark: number | null][] = [
    [`${SECRET}\t${OWN}\t51820\toff`, OWN, 51820, null],
    [`${SECRET}\t${OWN}\t51820\t0xca6c`, OWN, 51820, 0xca6c],
    [`${SECRET}\t${OWN}\t51820\t0xffffffff`, OWN, 51820, 0xffffffff],
    ["(none)\t(none)\t0\toff", null, null, null],
    [`${SECRET}\t${OWN}\t65536\t51820`, OWN, null, null],
    [`${SECRET}\t${OWN}\t-1\t0x1ffffffff`, OWN, null, null],
    [`${SECRET}\tshort=\tport\t`, null, null, null],
  ];
  for (const [line, public_key, listen_port, fwmark] of cases)
    expect([line, parseDump(`${line}\n`)]).toEqual([
      line,
      { interface: { public_key, listen_port, fwmark }, peers: [], problems: [], truncated: false },
    ]);
});

test("a peer's line: every field that may be none, and counters over 2^53-1", () => {
  const cases: [change: Partial<Record<number, string>>, peer: Partial<typeof GOOD_PEER> | Record<string, unknown>][] =
    [
      [{}, {}],
      [{ 1: "(none)" }, {}],
      [{ 2: "(none)" }, { endpoint: null }],
      [{ 2: "[::1]:51820" }, { endpoint: "[::1]:51820" }],
      [{ 2: "[fe80::1%eth0]:51820" }, { endpoint: "[fe80::1]:51820" }],
      [{ 2: "[::ffff:192.0.2.9]:1" }, { endpoint: "192.0.2.9:1" }],
      [{ 3: "(none)" }, { allowed_ips: [] }],
      [{ 3: "" }, { allowed_ips: [] }],
      [{ 3: "10.0.0.9/24,FD00:0::1/64,0.0.0.0/0" }, { allowed_ips: ["10.0.0.0/24", "fd00::/64", "0.0.0.0/0"] }],
      [{ 4: "0" }, { latest_handshake_at: null }],
      [{ 5: "9007199254740991" }, { rx_bytes: 9007199254740991 }],
      [{ 5: "9007199254740992" }, { rx_bytes: 0 }],
      [
        { 5: "9007199254740993", 6: "18446744073709551615" },
        { rx_bytes: 1, tx_bytes: 9007199254740991 },
      ],
      [{ 7: "off" }, { persistent_keepalive_s: null }],
      [{ 7: "65535" }, { persistent_keepalive_s: 65535 }],
    ];
  for (const [change, expected] of cases)
    expect([change, parseDump(`${FIRST_LINE}\n${peerLine(change)}\n`)]).toEqual([
      change,
      {
        interface: { public_key: OWN, listen_port: 51820, fwmark: null },
        peers: [{ ...GOOD_PEER, ...expected }] as never,
        problems: [],
        truncated: false,
      },
    ]);
});

test("a line that does not fit is skipped and told of by number; its neighbours stay; no key is quoted", () => {
  const cases: [line: string, problem: string][] = [
    [peerLine().split("\t").slice(0, 4).join("\t"), "line 3 has 4 fields, not 8"],
    [peerLine().split("\t").slice(0, 6).join("\t"), "line 3 has 6 fields, not 8"],
    [`${peerLine()}\tx\ty`, "line 3 has 10 fields, not 8"],
    [`wg0\t${peerLine()}`, "line 3 has 9 fields, not 8"],
    [peerLine().replaceAll("\t", " "), "line 3 has 1 fields, not 8"],
    [peerLine({ 0: "(none)" }), "line 3: its public key is none"],
    [peerLine({ 0: SHARED.slice(1) }), "line 3: its public key is none"],
    [peerLine({ 2: "192.0.2.1" }), "line 3: its endpoint is none"],
    [peerLine({ 2: "::1:51820" }), "line 3: its endpoint is none"],
    [peerLine({ 2: "999.0.2.1:1" }), "line 3: its endpoint is none"],
    [peerLine({ 2: "192.0.2.1:65536" }), "line 3: its endpoint is none"],
    [peerLine({ 3: "10.0.0.0/33" }), "line 3: an AllowedIP is no prefix"],
    [peerLine({ 3: "10.0.0.0/8,,10.1.0.0/16" }), "line 3: an AllowedIP is no prefix"],
    [peerLine({ 4: "-1" }), "line 3: a counter is no number"],
    [peerLine({ 5: "1.5" }), "line 3: a counter is no number"],
    [peerLine({ 5: "" }), "line 3: a counter is no number"],
    [peerLine({ 6: "123456789012345678901" }), "line 3: a counter is no number"],
  ];
  for (const [line, problem] of cases) {
    const result = parseDump([FIRST_LINE, peerLine(), line, peerLine(), ""].join("\n"));
    expect([line, result]).toEqual([
      line,
      {
        interface: { public_key: OWN, listen_port: 51820, fwmark: null },
        peers: [GOOD_PEER, GOOD_PEER],
        problems: [problem],
        truncated: false,
      },
    ]);
    expect(JSON.stringify(result)).not.toMatch(/S{20}|T{20}/);
  }
});

test("skipped lines are counted in the status; an interface whose own line is unreadable is an error of its own", async () => {
  const section = await collectWireguard(
    fakeHost({
      commands: {
        "wg show interfaces": "wg0 wg1 wg2\n",
        "wg show wg0 dump": `${FIRST_LINE}\n${peerLine()}\tx\n${peerLine()}\n${peerLine({ 5: "x" })}\n`,
        "wg show wg1 dump": `${FIRST_LINE}\tx\n${peerLine()}\n`,
        "wg show wg2 dump": "",
      },
    }),
  );
  const unread = { public_key: null, listen_port: null, fwmark: null, peers: null };
  expect(section).toEqual({
    data: [
      {
        interface: "wg0",
        public_key: OWN,
        listen_port: 51820,
        fwmark: null,
        peers: [GOOD_PEER],
        status: "partial: 2 skipped (line 2 has 9 fields, not 8)",
      },
      { interface: "wg1", ...unread, status: "error: line 1 has 5 fields, not 4" },
      { interface: "wg2", ...unread, status: "error: wg printed nothing" },
    ],
    status:
      "partial: wg0: 2 skipped, line 2 has 9 fields, not 8; wg1: line 1 has 5 fields, not 4; wg2: wg printed nothing",
  });
  expect(JSON.stringify(section)).not.toMatch(/S{20}|T{20}/);
});

test("no interface at all is none, not an error", async () => {
  expect(await collectWireguard(fakeHost({ commands: { "wg show interfaces": "\n" } }))).toEqual({
    data: [],
    status: "ok",
  });
});

test("without wg: none where the kernel has none, an error where it has one", async () => {
  const eth0 = { "class/net/eth0/uevent": "INTERFACE=eth0\nIFINDEX=2\n" };
  expect(await collectWireguard(fakeHost({ sys: eth0 }))).toEqual({ data: [], status: "ok" });
  expect(
    await collectWireguard(
      fakeHost({ sys: { ...eth0, "class/net/wg0/uevent": "DEVTYPE=wireguard\nINTERFACE=wg0\nIFINDEX=3\n" } }),
    ),
  ).toEqual({ data: null, status: "error: wg is not installed, and wg0 is there: install wireguard-tools" });
});

test("at most 4,096 peers, and at most 4,096 AllowedIPs of one; a cut is told", async () => {
  const dump = async (lines: string[]) => {
    const section = await collectWireguard(
      fakeHost({ commands: { "wg show interfaces": "wg0\n", "wg show wg0 dump": [FIRST_LINE, ...lines].join("\n") } }),
    );
    const peers = section.data![0]!.peers!;
    return [peers.length, peers[0]!.allowed_ips.length, section.truncated ?? false];
  };
  const prefixes = (count: number) =>
    Array.from({ length: count }, (_, index) => `10.${index >> 8}.${index & 255}.0/24`).join(",");
  expect(await dump(Array.from({ length: 4096 }, () => peerLine()))).toEqual([4096, 1, false]);
  expect(await dump(Array.from({ length: 4097 }, () => peerLine()))).toEqual([4096, 1, true]);
  expect(await dump([peerLine({ 3: prefixes(4096) })])).toEqual([1, 4096, false]);
  expect(await dump([peerLine({ 3: prefixes(4097) })])).toEqual([1, 4096, true]);
});

test("a wg that may not look says so; what it prints of keys goes nowhere", async () => {
  using denied = programs({ wg: `echo "Unable to access interface: Operation not permitted" >&2; exit 1` });
  expect(await collectWireguard(createHost({ path: denied.path }))).toEqual({
    data: null,
    status: "error: wg: not permitted (run as root, or grant CAP_NET_ADMIN)",
  });
  using broken = programs({ wg: `echo "Key is not the correct length or format: \\\`${SECRET}'" >&2; exit 3` });
  expect(await collectWireguard(createHost({ path: broken.path }))).toEqual({
    data: null,
    status: "error: wg failed (exit 3): Key is not the correct length or format: `(key)'",
  });
});

test("a wg that hangs is killed at 5 s, with its interface alone", async () => {
  // `exec`: what is killed is what sleeps. The second leaves a child that holds the pipe.
  using one = programs({
    wg: `case "$*" in
      "show interfaces") echo "wg0 wg1" ;;
      "show wg0 dump") exec /bin/sleep 20 ;;
      *) printf '${FIRST_LINE.replaceAll("\t", "\\t")}\\n' ;;
    esac`,
  });
  using all = programs({ wg: `/bin/sleep 8 & wait` });
  const started = performance.now();
  const [partly, wholly] = await Promise.all(
    [one, all].map(({ path }) => collectWireguard(createHost({ path: `${path}:/nonexistent` }))),
  );
  const took = performance.now() - started;
  const problem = "wg did not answer within 5 s and was killed";
  expect(partly).toEqual({
    data: [
      {
        interface: "wg0",
        public_key: null,
        listen_port: null,
        fwmark: null,
        peers: null,
        status: `error: ${problem}`,
      },
      { interface: "wg1", public_key: OWN, listen_port: 51820, fwmark: null, peers: [], status: "ok" },
    ],
    status: `partial: wg0: ${problem}`,
  });
  expect(wholly).toEqual({ data: null, status: `error: ${problem}` });
  expect(took).toBeGreaterThan(4900);
  expect(took).toBeLessThan(8000);
}, 12_000);
