// The system collector: the captured /proc, and text that does not fit; and what every collector shares of strings and
// numbers.
import { describe, expect, test } from "bun:test";
import { counter, short } from "../../../agent/collect/section.ts";
import {
  bootId,
  collectSystem,
  parseLoadavg,
  parseMeminfo,
  parseSwitch,
  parseUptime,
} from "../../../agent/collect/system.ts";
import { capturedHost, toldHost } from "../support.ts";

describe("the captured host", () => {
  // Hand-written: the capture has none of these.
  const proc = {
    "sys/kernel/hostname": "router\n",
    "sys/kernel/osrelease": "6.18.5\n",
    stat: "cpu  1 2 3\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n",
    "sys/net/ipv4/ip_forward": "1\n",
    "sys/net/ipv6/conf/all/forwarding": "0\n",
  };

  test("all of it", async () => {
    expect(await collectSystem(capturedHost({ proc }))).toEqual({
      status: "ok",
      forwarding: { v4: true, v6: false },
      data: {
        hostname: "router",
        kernel: "6.18.5",
        arch: process.arch,
        uptime_s: 17564.94,
        cpus: 2,
        load: [11.43, 10.26, 5.2],
        memory_total_bytes: 24684092 * 1024,
        memory_available_bytes: 23672160 * 1024,
        ip_forward: true,
        ipv6_forward: false,
      },
    });
  });

  test("what cannot be read is null, and said; a kernel without IPv6 is no error", async () => {
    const host = capturedHost({ proc: { uptime: "", loadavg: "x y z", meminfo: "MemTotal: lots\n" } });
    const section = await collectSystem(host);
    expect(section.status).toBe("partial: cannot read /proc/uptime, /proc/loadavg, /proc/meminfo");
    expect(section.data).toMatchObject({
      hostname: "unknown",
      kernel: null,
      uptime_s: null,
      cpus: null,
      load: null,
      memory_total_bytes: null,
      ip_forward: null,
      ipv6_forward: null,
    });
    expect((await collectSystem(toldHost({}))).data).toMatchObject({ load: null, uptime_s: null });
    expect(await bootId(toldHost({}))).toBe("unknown");
  });
});

test.each([
  ["0.00 0.01 0.05 1/528 101\n", [0, 0.01, 0.05]],
  ["0.00 0.01", null],
  ["-1 0 0", null],
  ["a b c", null],
  ["1 2 Infinity", null],
  ["", null],
])("/proc/loadavg %p", (text, wanted) => expect(parseLoadavg(text)).toEqual(wanted));

test.each([
  ["MemTotal:       100 kB\nMemAvailable:    50 kB\n", { total: 102400, available: 51200 }],
  ["MemTotal:       100 kB\nMemFree: 1 kB\n", { total: 102400, available: null }],
  ["XMemTotal: 100 kB\n", { total: null, available: null }],
  ["MemTotal: 100 MB\nMemAvailable: -1 kB\n", { total: null, available: null }],
  ["MemTotal: 9999999999999 kB\n", { total: null, available: null }],
  ["", { total: null, available: null }],
])("/proc/meminfo %p", (text, wanted) => expect(parseMeminfo(text)).toEqual(wanted));

test.each([
  ["17564.94 33162.26\n", 17564.94],
  ["0.00 0.00\n", 0],
  ["-1 0", null],
  ["x", null],
  ["", null],
  ["\n", null],
])("/proc/uptime %p", (text, wanted) => expect(parseUptime(text)).toBe(wanted));

test.each([
  ["0\n", false],
  ["1\n", true],
  ["2", true],
  ["", null],
  ["on\n", null],
])("a switch %p", (text, wanted) => expect(parseSwitch(text)).toBe(wanted));

test.each([
  ["0", 0],
  ["9007199254740991", 2 ** 53 - 1],
  ["9007199254740992", 0],
  ["18446744073709551615", 2 ** 53 - 1],
  ["", null],
  ["-1", null],
  ["1e3", null],
  ["0x10", null],
  ["100000000000000000000000", null],
])("a counter %p", (text, wanted) => expect(counter(text)).toBe(wanted));

test.each([
  ["eth0", "eth0"],
  ["a\0b", "ab"],
  ["a\ud800b", "a\ufffdb"],
  ["x".repeat(300), "x".repeat(255)],
  ["é".repeat(200), "é".repeat(127)],
  ["😀".repeat(64), "😀".repeat(63)],
])("a string of the wire %p", (text, wanted) => expect(short(text)).toBe(wanted));
