// The WireGuard collector: the captured host, each way a dump can be malformed, and each way `wg` can fail.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { collectWireguard, parseDump } from "../../../agent/collect/wireguard.ts";
import { createHost } from "../../../agent/host.ts";
import { collect } from "../../../agent/report.ts";
import { captured, capturedHost, failed, ownDirectory, toldHost } from "../support.ts";
import { stopwatch } from "../../support/stopwatch.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const KEY = `${"A".repeat(43)}=`;
const PSK = `${"S".repeat(42)}8=`;
const PRIVATE = `${"P".repeat(42)}0=`;
const OWN = `${PRIVATE}\t${KEY}\t51820\toff`;

/** A peer's line, hand-written, with fields replaced. */
function peer(
  over: Partial<Record<"key" | "psk" | "endpoint" | "allowed" | "handshake" | "rx" | "tx" | "keepalive", string>>,
) {
  const fields = {
    key: KEY,
    psk: PSK,
    endpoint: "192.0.2.1:51820",
    allowed: "10.0.0.2/32",
    handshake: "1795442044",
    rx: "1",
    tx: "2",
    keepalive: "25",
    ...over,
  };
  return Object.values(fields).join("\t");
}
const onePeer = (over: Parameters<typeof peer>[0]) => parseDump(`${OWN}\n${peer(over)}\n`);

describe("the captured host", () => {
  test("both interfaces, all peers, and no secret", async () => {
    const section = await collectWireguard(capturedHost());
    expect(section).toEqual({
      status: "ok",
      data: [
        {
          interface: "wg1",
          public_key: "dcFbmfu39niQYm0DCsYuaBilu3Nm5ee4DR7CJZANxyI=",
          listen_port: 51900,
          fwmark: null,
          peers: [],
          status: "ok",
        },
        {
          interface: "wg0",
          public_key: "cD0OGVosjjTghzBA3BGsfMSSuoFuiW5OWdPqEC+UAkE=",
          listen_port: 51820,
          fwmark: 0xca6c,
          status: "ok",
          peers: [
            {
              public_key: "a71a3MyPrzjqU115bkhGzs74IU9/L3Po/9+el5C/s2c=",
              endpoint: "192.168.50.3:51820",
              allowed_ips: ["10.9.0.3/32", "fd09::3/128"],
              latest_handshake_at: 1795442044000,
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
              latest_handshake_at: 1795442044000,
              rx_bytes: 252,
              tx_bytes: 308,
              persistent_keepalive_s: 25,
            },
          ],
        },
      ],
    });
  });

  test("of the dump's private and preshared keys, nothing is in a collection", async () => {
    const text = JSON.stringify(await collect(capturedHost()));
    const secrets = ["wg0.dump", "wg1.dump"].flatMap((name) => {
      const [own, ...peers] = captured(name).trim().split("\n");
      return [own!.split("\t")[0]!, ...peers.map((line) => line.split("\t")[1]!)].filter((key) => key !== "(none)");
    });
    expect(secrets).toHaveLength(4);
    for (const secret of secrets) expect(text).not.toContain(secret);
  });
});

describe("fields", () => {
  test.each([
    ["no endpoint", { endpoint: "(none)" }, { endpoint: null }],
    ["an IPv6 endpoint", { endpoint: "[::1]:51820" }, { endpoint: "[::1]:51820" }],
    ["an IPv6 endpoint not in canonical text", { endpoint: "[2001:DB8:0:0::1]:1" }, { endpoint: "[2001:db8::1]:1" }],
    ["an endpoint with a zone", { endpoint: "[fe80::1%eth0]:51820" }, { endpoint: "[fe80::1]:51820" }],
    ["no AllowedIPs", { allowed: "(none)" }, { allowed_ips: [] }],
    ["AllowedIPs as an empty field", { allowed: "" }, { allowed_ips: [] }],
    ["host bits in AllowedIPs", { allowed: "10.0.0.7/24,::/0" }, { allowed_ips: ["10.0.0.0/24", "::/0"] }],
    ["no handshake", { handshake: "0" }, { latest_handshake_at: null }],
    ["keepalive off", { keepalive: "off" }, { persistent_keepalive_s: null }],
    ["a counter of 2^53 - 1", { rx: "9007199254740991" }, { rx_bytes: 9007199254740991 }],
    ["a counter of 2^53", { rx: "9007199254740992" }, { rx_bytes: 0 }],
    ["a counter of 2^53 + 5", { tx: "9007199254740997" }, { tx_bytes: 5 }],
    ["a counter of 2^64 - 1", { tx: "18446744073709551615" }, { tx_bytes: 9007199254740991 }],
  ])("%s", (_name, over, wanted) => {
    const { peers, problems } = onePeer(over);
    expect(problems).toEqual([]);
    expect(peers).toHaveLength(1);
    expect(peers[0]).toMatchObject(wanted);
  });

  test.each([
    ["off", "51820", null, 51820],
    ["0x0", "0", 0, null],
    ["0xCA6C", "65535", 0xca6c, 65535],
    ["0xffffffff", "65536", 0xffffffff, null],
    ["51820", "x", null, null],
  ])("fwmark %s, port %s", (mark, port, fwmark, listenPort) => {
    expect(parseDump(`${PRIVATE}\t${KEY}\t${port}\t${mark}\n`).interface).toEqual({
      public_key: KEY,
      listen_port: listenPort,
      fwmark,
    });
  });

  test("an interface without a key yet", () => {
    expect(parseDump("(none)\t(none)\t0\toff\n").interface).toEqual({
      public_key: null,
      listen_port: null,
      fwmark: null,
    });
  });

  test("no peers", () => {
    expect(parseDump(`${OWN}\n`)).toMatchObject({ peers: [], problems: [] });
  });
});

describe("lines that do not fit are skipped, counted and said, without what is in them", () => {
  const good = peer({});
  const withFields = (count: number) => [...good.split("\t"), "x", PSK].slice(0, count).join("\t");
  test.each([4, 6, 7, 9, 10])("a peer's line with %i fields", async (count) => {
    const text = `${OWN}\n${withFields(count)}\n${good}\n`;
    expect(parseDump(text).peers).toHaveLength(1);
    const { data, status } = await collectWireguard(
      toldHost({ programs: { "wg show interfaces": "wg0\n", "wg show wg0 dump": text } }),
    );
    expect(data![0]!.peers).toHaveLength(1);
    expect(data![0]!.status).toBe(`partial: 1 skipped (line 2 has ${count} fields, not 8)`);
    expect(status).toBe(`partial: wg0: 1 skipped, line 2 has ${count} fields, not 8`);
  });

  test.each([1, 3, 6, 8, 10])(
    "the interface's line with %i fields: the interface is unread, not empty",
    async (count) => {
      const text = `${Array.from({ length: count }, () => PRIVATE).join("\t")}\n${good}\n`;
      const { data, status } = await collectWireguard(
        toldHost({ programs: { "wg show interfaces": "wg0\n", "wg show wg0 dump": text } }),
      );
      expect(data![0]).toMatchObject({ peers: null, status: `error: line 1 has ${count} fields, not 4` });
      expect(status).toStartWith("error: wg0: line 1 has");
      expect(JSON.stringify({ data, status })).not.toContain(PRIVATE);
    },
  );

  test.each([
    ["a key that is none", { key: "x" }, "line 2: its public key is none"],
    ["a key whose last character cannot be", { key: `${"A".repeat(42)}B=` }, "line 2: its public key is none"],
    ["a negative counter", { rx: "-1" }, "line 2: a counter is no number"],
    ["a counter of 21 digits", { tx: "1".repeat(21) }, "line 2: a counter is no number"],
    ["a handshake with a point", { handshake: "1.5" }, "line 2: a counter is no number"],
    ["a handshake beyond what a Date holds", { handshake: "9000000000000" }, "line 2: a counter is no number"],
    ["a prefix of /33", { allowed: "10.0.0.0/33" }, "line 2: an AllowedIP is no prefix"],
    ["an address that is none", { allowed: "999.1.1.1/32" }, "line 2: an AllowedIP is no prefix"],
    ["an endpoint without port", { endpoint: "192.0.2.1" }, "line 2: its endpoint is none"],
    ["an endpoint with port 65536", { endpoint: "192.0.2.1:65536" }, "line 2: its endpoint is none"],
  ])("%s", (_name, over, problem) => {
    expect(onePeer(over)).toMatchObject({ peers: [], problems: [problem] });
  });

  test("nothing at all", async () => {
    expect(parseDump("")).toEqual({ interface: null, peers: [], problems: [], truncated: false });
    const host = toldHost({ programs: { "wg show interfaces": "wg0\n", "wg show wg0 dump": "" } });
    expect((await collectWireguard(host)).status).toBe("error: wg0: wg printed nothing");
  });

  test("more peers than the wire allows are cut, and it is said", async () => {
    const text = `${OWN}\n${`${good}\n`.repeat(4097)}`;
    const section = await collectWireguard(
      toldHost({ programs: { "wg show interfaces": "wg0\n", "wg show wg0 dump": text } }),
    );
    expect(section.truncated).toBe(true);
    expect(section.data![0]!.peers).toHaveLength(4096);
  });

  test.each([
    [4096, undefined],
    [4097, true],
  ])("of %i AllowedIPs of one peer at most 4,096 stay, and a cut is said", async (count, truncated) => {
    const allowed = Array.from({ length: count }, (_, index) => `10.${index >> 8}.${index & 255}.0/24`).join(",");
    const section = await collectWireguard(
      toldHost({
        programs: { "wg show interfaces": "wg0\n", "wg show wg0 dump": `${OWN}\n${peer({ allowed })}\n${good}\n` },
      }),
    );
    expect(section.data![0]!.peers!.map((item) => item.allowed_ips.length)).toEqual([4096, 1]);
    expect(section.truncated).toBe(truncated);
  });
});

describe("wg itself", () => {
  test("no interfaces is none, and no error", async () => {
    expect(await collectWireguard(toldHost({ programs: { "wg show interfaces": "\n" } }))).toEqual({
      data: [],
      status: "ok",
    });
  });

  test("missing, and no WireGuard interface: none", async () => {
    const sys = { "class/net/eth0/uevent": "INTERFACE=eth0\nIFINDEX=2\n" };
    expect(await collectWireguard(toldHost({ sys }))).toEqual({ data: [], status: "ok" });
  });

  test("missing, but the kernel has an interface: unknown, and what to do", async () => {
    const sys = { "class/net/wg7/uevent": "DEVTYPE=wireguard\nINTERFACE=wg7\n" };
    expect(await collectWireguard(toldHost({ sys }))).toEqual({
      data: null,
      status: "error: wg is not installed, and wg7 is there: install wireguard-tools",
    });
  });

  test("an interface that vanishes between list and dump does not blind the other", async () => {
    const { data, status } = await collectWireguard(
      capturedHost({
        programs: { "wg show wg1 dump": failed("Unable to access interface: No such device\n") },
      }),
    );
    expect(data!.map((item) => item.peers?.length ?? null)).toEqual([null, 3]);
    expect(status).toBe("partial: wg1: wg failed (exit 1): Unable to access interface: No such device");
  });

  test("a key in what it complains of is not passed on", async () => {
    const host = toldHost({ programs: { "wg show interfaces": failed(`bad key ${PRIVATE}\n`) } });
    expect((await collectWireguard(host)).status).toBe("error: wg failed (exit 1): bad key (key)");
  });

  /** A `wg` that is this shell script, alone on the PATH. */
  const scripted = (directory: string, script: string) => {
    writeFileSync(join(directory, "wg"), `#!/bin/sh\n${script}\n`);
    chmodSync(join(directory, "wg"), 0o755);
    return createHost({ path: directory });
  };

  test("without permission: the report goes out and says so", async () => {
    using directory = ownDirectory();
    const host = scripted(directory.path, "echo 'Unable to access interface wg0: Operation not permitted' >&2; exit 1");
    const sections = await collect(host);
    expect(sections.wireguard).toBeNull();
    expect(sections.collectors["wireguard"]).toBe("error: wg: not permitted (run as root, or grant CAP_NET_ADMIN)");
    expect(sections.collectors["system"]).toBe("ok");
  });

  test("not executable is as good as not installed", async () => {
    using directory = ownDirectory();
    const host = scripted(directory.path, "exit 0");
    chmodSync(join(directory.path, "wg"), 0o644);
    expect(await host.run(["wg", "show", "interfaces"])).toEqual({ is: "missing" });
  });

  test("hanging, also by a child that keeps its pipes: killed at 5 s, alone; the report goes out and says so", async () => {
    using directory = ownDirectory();
    using other = ownDirectory();
    const pidFile = join(directory.path, "pid");
    const host = scripted(directory.path, `echo $$ > ${pidFile}; trap '' TERM; /bin/sleep 7`);
    const watch = stopwatch();
    const oneHangs = scripted(
      other.path,
      `case "$*" in
        "show interfaces") echo wg0 wg1 ;;
        "show wg0 dump") exec /bin/sleep 7 ;;
        "show wg1 dump") printf '%s\\t%s\\t51820\\toff\\n' '${PRIVATE}' '${KEY}' ;;
      esac`,
    );
    const [sections, partly] = await Promise.all([collect(host), collectWireguard(oneHangs)]);
    expect(watch.ms() + watch.stalledMs()).toBeGreaterThan(4900);
    expect(watch.ms()).toBeLessThan(8000);
    expect(sections.wireguard).toBeNull();
    expect(sections.collectors["wireguard"]).toBe("error: wg did not answer within 5 s and was killed");
    expect(sections.collectors["system"]).toBe("ok");
    expect(partly.data!.map(({ interface: name, peers, status }) => [name, peers, status])).toEqual([
      ["wg0", null, "error: wg did not answer within 5 s and was killed"],
      ["wg1", [], "ok"],
    ]);
    expect(partly.status).toBe("partial: wg0: wg did not answer within 5 s and was killed");
    const pid = Number(await Bun.file(pidFile).text());
    expect(() => process.kill(pid, 0)).toThrow("ESRCH");
  });

  test("one that prints without end is stopped at the limit of its output", async () => {
    using directory = ownDirectory();
    const host = scripted(directory.path, "exec /usr/bin/head -c 70000000 /dev/zero");
    expect(await host.run(["wg", "show", "interfaces"])).toEqual({ is: "too_large" });
  });
});
