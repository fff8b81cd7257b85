// Which addresses may be asked whether they relay, and in which order; and whose questions are answered.
import { describe, expect, test } from "bun:test";
import { candidates, probeFilter, trustedPrefixes } from "../../agent/candidates.ts";
import { formatPrefix } from "../../shared/net.ts";
import type { Interface, Report } from "../../shared/report.ts";
import { tunnel } from "./support.ts";

type Kernel = Pick<Report, "wireguard" | "interfaces">;

/** Hand-written: WireGuard wg0 with these peers, `AllowedIPs → handshake`, and interfaces with these addresses. */
function kernel(peers: [allowed: string[], handshakeAt: number | null][], own: Record<string, string[]> = {}): Kernel {
  const interfaces = Object.entries({ lo: ["127.0.0.1/8", "::1/128"], ...own }).map(([name, addresses]): Interface => ({
    name,
    kind: name.startsWith("wg") ? "wireguard" : "physical",
    mac: null,
    mtu: null,
    up: true,
    carrier: true,
    addresses,
    rx_bytes: 0,
    tx_bytes: 0,
    speed_mbps: null,
    parent: null,
    master: null,
    tunnel: null,
  }));
  const list = peers.map(([allowed, at]) => ({ allowed_ips: allowed, latest_handshake_at: at }));
  return { interfaces, wireguard: [tunnel(list)] };
}
const addresses = (state: Kernel, named: string[] = []) => candidates(state, named).map(({ address }) => address);

describe("order", () => {
  test("peers by /32 and /128, the freshest handshake first; who never shook hands is not left out", () => {
    const state = kernel([
      [["10.0.0.2/32"], 100],
      [["10.0.0.3/32", "fd00::3/128"], 300],
      [["10.0.0.4/32"], null],
      [["fd00::5/128"], 200],
    ]);
    expect(candidates(state, [])).toEqual([
      { address: "10.0.0.3", handshakeAt: 300 },
      { address: "fd00::3", handshakeAt: 300 },
      { address: "fd00::5", handshakeAt: 200 },
      { address: "10.0.0.2", handshakeAt: 100 },
      { address: "10.0.0.4", handshakeAt: null },
    ]);
  });

  test("then what they named, then the lowest 32 of the interface's own subnet; each once", () => {
    const state = kernel(
      [
        [["10.0.0.40/32"], 5],
        [["10.0.0.0/24", "10.1.0.0/16"], 9],
      ],
      { wg0: ["10.0.0.1/24"], eth0: ["192.168.1.5/24"] },
    );
    const found = addresses(state, ["10.1.2.3", "10.0.0.40", "10.0.0.7"]);
    expect(found.slice(0, 3)).toEqual(["10.0.0.40", "10.1.2.3", "10.0.0.7"]);
    const lowest = Array.from({ length: 31 }, (_, i) => `10.0.0.${i + 2}`).filter((text) => text !== "10.0.0.7");
    expect(found.slice(3)).toEqual(lowest);
  });

  test("of a /30 there is no more than is in it; of a /32 or /128 nothing", () => {
    const within: [string[], null][] = [[["10.0.0.0/8", "fd00::/16"], null]];
    expect(addresses(kernel(within, { wg0: ["10.0.0.5/30"] }))).toEqual(["10.0.0.6", "10.0.0.7"]);
    expect(addresses(kernel(within, { wg0: ["10.0.0.5/32", "fd00::5/128"] }))).toEqual([]);
    expect(addresses(kernel(within, { wg0: ["fd00::1/126"] }))).toEqual(["fd00::2", "fd00::3"]);
  });

  test("an address in several peers' AllowedIPs has the freshest of their handshakes", () => {
    const state = kernel([
      [["10.0.0.2/32"], 100],
      [["10.0.0.0/24"], 300],
    ]);
    expect(candidates(state, [])).toEqual([{ address: "10.0.0.2", handshakeAt: 300 }]);
  });
});

describe("never", () => {
  const everything = kernel(
    [
      [
        ["10.0.0.0/8", "169.254.0.0/16", "127.0.0.0/8", "224.0.0.0/4", "fd00::/8", "fe80::/10", "ff00::/8", "::1/128"],
        1,
      ],
    ],
    {
      wg0: ["10.0.0.1/32", "fd00::1/128"],
      eth0: ["10.9.9.9/24", "192.168.1.5/24"],
    },
  );
  test.each([
    ["the cloud's metadata", "169.254.169.254"],
    ["the same, mapped", "::ffff:169.254.169.254"],
    ["loopback", "127.0.0.1"],
    ["all of loopback", "127.8.8.8"],
    ["IPv6 loopback", "::1"],
    ["loopback, mapped", "::ffff:127.0.0.1"],
    ["nowhere", "0.0.0.0"],
    ["nowhere, IPv6", "::"],
    ["everybody", "255.255.255.255"],
    ["multicast", "224.0.0.1"],
    ["IPv6 multicast", "ff02::1"],
    ["IPv6 link-local", "fe80::1"],
    ["the own address of the tunnel", "10.0.0.1"],
    ["the own address, written otherwise", "FD00:0::1"],
    ["the own address of a card", "10.9.9.9"],
    ["an address in nobody's AllowedIPs", "192.168.1.6"],
    ["a public address", "198.51.100.1"],
    ["a name", "relay.example.com"],
    ["a prefix", "10.0.0.0/24"],
    ["an address and a port", "10.0.0.2:22"],
    ["a zone", "fd00::2%eth0"],
    ["a URL", "http://10.0.0.2/"],
    ["octal", "010.0.0.2"],
    ["an integer", "167772162"],
    ["nothing", ""],
  ])("%s", (_name, address) => {
    expect(probeFilter(everything)(address)).toBeNull();
    expect(addresses(everything, [address])).toEqual([]);
  });

  test("but what lies within: as canonical text", () => {
    expect(addresses(everything, ["10.0.0.2", "FD00:0:0::2", "::ffff:10.0.0.2"])).toEqual(["10.0.0.2", "fd00::2"]);
  });

  test("a default route's AllowedIPs let nobody in: not the internet, not the local network", () => {
    const gateway = kernel([[["0.0.0.0/0", "::/0"], 1]], { wg0: ["10.0.0.2/24"], eth0: ["192.168.1.5/24"] });
    expect(addresses(gateway, ["198.51.100.1", "192.168.1.1", "10.0.0.1", "2001:db8::1"])).toEqual([]);
  });

  test("nor do its halves, nor what is left of it without the private ranges", () => {
    for (const world of ["0.0.0.0/1", "128.0.0.0/1", "8.0.0.0/7", "::/1", "8000::/1", "2000::/3"]) {
      const state = kernel([[[world], 1]], { wg0: ["10.0.0.2/24", "2001:db8::2/64"] });
      expect([world, addresses(state, ["10.0.0.1", "198.51.100.1", "9.9.9.9", "2001:db8::1"])]).toEqual([world, []]);
    }
    expect(addresses(kernel([[["10.0.0.0/8", "fc00::/7"], 1]]), ["10.0.0.1", "fd00::1"])).toEqual([
      "10.0.0.1",
      "fd00::1",
    ]);
  });

  test("a peer whose AllowedIP is the metadata's /32", () => {
    expect(addresses(kernel([[["169.254.169.254/32", "127.0.0.1/32", "224.0.0.5/32", "10.0.0.9/32"], 1]]))).toEqual([
      "10.0.0.9",
    ]);
  });

  test("a /16 is no candidate by itself: it lets in what lies in it", () => {
    const state = kernel([[["10.5.0.0/16"], 1]]);
    expect(addresses(state)).toEqual([]);
    expect(addresses(state, ["10.5.255.255", "10.6.0.0"])).toEqual(["10.5.255.255"]);
  });

  test("nothing known: nobody", () => {
    for (const state of [
      { wireguard: null, interfaces: null },
      { wireguard: [], interfaces: [] },
    ])
      expect(candidates(state, ["10.0.0.1"])).toEqual([]);
    const unread = kernel([]);
    unread.wireguard![0]!.peers = null;
    expect(candidates(unread, ["10.0.0.1"])).toEqual([]);
  });
});

test("trusted are AllowedIPs of /8 or longer, IPv6 of /32 or longer", () => {
  const state = kernel([
    [["0.0.0.0/0", "::/0", "0.0.0.0/1", "10.0.0.0/7", "2001:db8::/31"], 1],
    [["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32", "fd00::1/128"], null],
  ]);
  expect(trustedPrefixes(state).map(formatPrefix)).toEqual([
    "10.0.0.0/8",
    "2001:db8::/32",
    "192.0.2.1/32",
    "fd00::1/128",
  ]);
});
