import { describe, expect, test } from "bun:test";
import * as net from "../../shared/net.ts";

describe("canonicalAddress", () => {
  // RFC 5952 section 4 and 5
  test.each([
    ["192.0.2.1", "192.0.2.1"],
    ["2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:DB8::AbC", "2001:db8::abc"],
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["::ffff:c000:207", "192.0.2.7"],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
    ["fe80::1", "fe80::1"],
  ])("%s is %s", (text, canonical) => expect(net.canonicalAddress(text)).toBe(canonical));

  test.each([
    "",
    "999.1.1.1",
    "1.2.3",
    "1.2.3.4.5",
    "01.2.3.4",
    "1.2.3.4 ",
    "1:2",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7:8:9",
    "12345::",
    "g::",
    "fe80::1%eth0",
    "1.2.3.-4",
    "::1.2.3",
    "1:2:3:4:5:6:7:8::",
  ])("%j is none", (text) => expect(net.canonicalAddress(text)).toBeNull());
});

describe("prefixes", () => {
  test.each([
    ["10.0.0.7/24", "10.0.0.0/24"],
    ["10.0.0.7", "10.0.0.7/32"],
    ["0.0.0.0/0", "0.0.0.0/0"],
    ["2001:db8::7/64", "2001:db8::/64"],
    ["::ffff:10.0.0.7/120", "10.0.0.0/24"],
    ["::/0", "::/0"],
  ])("%s is %s", (text, canonical) => expect(net.canonicalPrefix(text)).toBe(canonical));
  test.each([
    "10.0.0.0/33",
    "::/129",
    "10.0.0.0/",
    "10.0.0.0/-1",
    "10.0.0.0/08",
    "10.0.0.0/1.5",
    "/24",
    "::ffff:1.2.3.4/95",
  ])("%j is none", (text) => expect(net.canonicalPrefix(text)).toBeNull());
  test("an interface address keeps its host bits", () =>
    expect(net.canonicalInterfaceAddress("10.0.0.7/24")).toBe("10.0.0.7/24"));
  test("the address that a prefix holds alone", () =>
    expect(["10.0.0.7/32", "fd00::7/128", "10.0.0.0/24", "fd00::/32", "0.0.0.0/0"].map(net.onlyAddress)).toEqual([
      "10.0.0.7",
      "fd00::7",
      null,
      null,
      null,
    ]));
  test("covers", () => {
    const prefix = (text: string) => net.parsePrefix(text)!;
    expect(net.covers(prefix("10.0.0.0/8"), prefix("10.1.0.0/16"))).toBe(true);
    expect(net.covers(prefix("10.1.0.0/16"), prefix("10.0.0.0/8"))).toBe(false);
    expect(net.covers(prefix("0.0.0.0/0"), prefix("::/0"))).toBe(false);
  });
});

describe("endpoints", () => {
  test.each([
    ["192.0.2.1:51820", "192.0.2.1:51820"],
    ["[2001:DB8::1]:51820", "[2001:db8::1]:51820"],
    ["[fe80::1%eth0]:51820", "[fe80::1]:51820"],
    ["[::ffff:192.0.2.1]:1", "192.0.2.1:1"],
  ])("%s is %s", (text, canonical) => expect(net.canonicalEndpoint(text)).toBe(canonical));
  test.each(["(none)", "192.0.2.1", "192.0.2.1:65536", "2001:db8::1:51820", "[192.0.2.1]:1", "host:1", ":1"])(
    "%j is none",
    (text) => expect(net.canonicalEndpoint(text)).toBeNull(),
  );
});

test("what no probe may go to", () => {
  const address = (text: string) => net.parseAddress(text)!;
  for (const text of ["127.0.0.1", "127.255.0.1", "::1"]) expect(net.isLoopback(address(text))).toBe(true);
  for (const text of ["169.254.169.254", "fe80::1", "febf::1"]) expect(net.isLinkLocal(address(text))).toBe(true);
  for (const text of ["224.0.0.1", "239.1.1.1", "ff02::1"]) expect(net.isMulticast(address(text))).toBe(true);
  for (const text of ["0.0.0.0", "0.1.2.3", "255.255.255.255", "::"])
    expect(net.isUnspecified(address(text))).toBe(true);
  for (const text of ["10.0.0.1", "fd00::1", "fec0::1"]) {
    expect(
      [net.isLoopback, net.isLinkLocal, net.isMulticast, net.isUnspecified].some((check) => check(address(text))),
    ).toBe(false);
  }
});
