// The interfaces collector: the captured host; the kinds that its kernel lacks; /sys/class/net where iproute2 is not there
// or does not answer.
import { describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { collectInterfaces, parseFdbRemotes, parseIpAddr } from "../../../agent/collect/interfaces.ts";
import { createHost } from "../../../agent/host.ts";
import { collect } from "../../../agent/report.ts";
import type { Interface } from "../../../shared/report.ts";
import { captured, capturedHost, failed, ownDirectory, toldHost } from "../support.ts";

/** An interface in a line: all that is not null or zero. */
function words(item: Interface): string {
  const { name, kind, mac, mtu, up, carrier, addresses, rx_bytes: rx, tx_bytes: tx, ...rest } = item;
  const more = Object.entries(rest).filter(([, value]) => value !== null && value !== 0);
  const state = `${up ? "up" : "down"}${carrier === true ? " carrier" : carrier === false ? " no-carrier" : ""}`;
  const told = more.map(([key, value]) => ` ${key}=${JSON.stringify(value)}`).join("");
  return `${name} ${kind} ${mac} ${mtu} ${state} [${addresses.join(" ")}] ${rx}/${tx}${told}`;
}

test("the captured host", async () => {
  const section = await collectInterfaces(
    capturedHost({
      proc: { "sys/net/ipv4/conf/all/rp_filter": "1\n", "sys/net/ipv4/conf/eth0/rp_filter": "2\n" },
    }),
  );
  expect([section.status, section.veths, section.truncated]).toEqual(["ok", 0, undefined]);
  expect(section.data!.map(words)).toEqual([
    "lo loopback null 65536 up carrier [127.0.0.1/8 ::1/128] 0/0",
    "eth0 veth aa:2c:18:94:b6:d7 1500 up carrier [192.168.50.1/24 fd50::1/64 fe80::a82c:18ff:fe94:b6d7/64] 2282/1564 rp_filter=2",
    // wireguard-go's are tuns to the kernel; report.ts knows better by `wg`.
    "wg0 tun null 1420 up carrier [10.9.0.1/24 fd09::1/64 fe80::da93:e887:95f:fef4/64] 168/168",
    "wg1 tun null 1420 up carrier [10.8.0.1/24 fe80::e738:6a71:af67:4668/64] 0/0",
    'br0 bridge 82:94:2f:62:61:00 1500 up carrier [172.20.0.1/16 fe80::8094:2fff:fe62:6100/64] 152/274 ports={"veth":1,"tap":0,"other":0}',
    "vb veth da:5e:17:51:79:ac 1500 up carrier [fe80::d85e:17ff:fe51:79ac/64] 454/180",
    'va veth 82:94:2f:62:61:00 1500 up carrier [fe80::8094:2fff:fe62:6100/64] 180/454 master="br0"',
    'vx7 vxlan d6:3b:49:59:1a:74 1450 up carrier [10.70.0.1/24 fe80::d43b:49ff:fe59:1a74/64] 0/0 parent="eth0" tunnel={"local":"192.168.50.1","remote":null,"id":7,"port":4789} remotes=["192.168.50.2","192.168.50.3"]',
    "tap0 tap 02:2e:eb:88:a7:62 1500 down [] 0/0",
    "tun0 tun null 1500 down [] 0/0",
    // Its `group` is not one remote.
    'vx8 vxlan 4a:ab:8e:44:ce:c7 1450 down [] 0/0 parent="eth0" tunnel={"local":null,"remote":null,"id":8,"port":4789}',
    'q,"[x] bridge 7e:2a:be:84:51:d3 1500 up carrier [10.99.0.1/24 fe80::7c2a:beff:fe84:51d3/64] 0/274 ports={"veth":0,"tap":0,"other":0}',
  ]);
});

test("what wg lists is WireGuard, whatever the kernel calls it", async () => {
  const { interfaces } = await collect(capturedHost());
  const kinds = Object.fromEntries(interfaces!.map(({ name, kind }) => [name, kind]));
  expect([kinds["wg0"], kinds["wg1"], kinds["tun0"]]).toEqual(["wireguard", "wireguard", "tun"]);
});

test("/proc/net/dev, where a name and its first counter may be glued (`eth0:123`), is not read at all", async () => {
  const told = capturedHost();
  await collect(told);
  const without = capturedHost({ programs: { "ip -j -d -s addr": { is: "missing" } } });
  await collect(without);
  expect([...told.asked, ...without.asked].filter((asked) => asked === "/proc/net/dev")).toEqual([]);
});

// Hand-written after what iproute2 6.1 prints (ip/ipaddress.c print_linkinfo; ip/link_gre.c, link_iptnl.c, iplink_geneve.c,
// iplink_vlan.c, iplink_bond.c, iplink_vrf.c): this kernel has none of these.
describe("kinds that the captured kernel lacks", () => {
  const up = { flags: ["UP", "LOWER_UP"], mtu: 1476 };
  const one = (item: Record<string, unknown>) => {
    const parsed = parseIpAddr(JSON.stringify([{ ...up, ...item }]));
    expect(parsed?.interfaces).toHaveLength(1);
    return parsed!.interfaces[0]!;
  };
  test.each<[string, Record<string, unknown>, Partial<Interface>]>([
    [
      "gre with a key",
      {
        ifname: "gre1",
        link: null,
        link_type: "gre",
        address: "192.0.2.1",
        linkinfo: {
          info_kind: "gre",
          info_data: { remote: "198.51.100.2", local: "192.0.2.1", ttl: 255, ikey: "0.0.1.44", okey: "0.0.1.44" },
        },
      },
      {
        kind: "gre",
        mac: null,
        parent: null,
        tunnel: { local: "192.0.2.1", remote: "198.51.100.2", id: 300, port: null },
      },
    ],
    [
      "gretap on a device, to anybody, with a key above 2^31",
      {
        ifname: "gt1",
        link: "eth0",
        link_type: "ether",
        address: "02:00:00:00:00:09",
        linkinfo: { info_kind: "gretap", info_data: { remote: "any", local: "any", ikey: "255.0.0.1" } },
      },
      {
        kind: "gre",
        mac: "02:00:00:00:00:09",
        parent: "eth0",
        tunnel: { local: null, remote: null, id: 0xff000001, port: null },
      },
    ],
    [
      "ip6gre",
      {
        ifname: "g6",
        link: null,
        link_type: "gre6",
        linkinfo: { info_kind: "ip6gre", info_data: { remote: "2001:db8::2", local: "2001:db8::1" } },
      },
      { kind: "gre", tunnel: { local: "2001:db8::1", remote: "2001:db8::2", id: null, port: null } },
    ],
    [
      "ipip",
      {
        ifname: "ipip1",
        link: "eth0",
        link_type: "ipip",
        address: "192.0.2.1",
        linkinfo: {
          info_kind: "ipip",
          info_data: { proto: "ipip", remote: "198.51.100.2", local: "192.0.2.1", ttl: 0 },
        },
      },
      {
        kind: "ipip",
        mac: null,
        parent: "eth0",
        tunnel: { local: "192.0.2.1", remote: "198.51.100.2", id: null, port: null },
      },
    ],
    [
      "sit as the kernel makes it by itself: 0.0.0.0 is nobody",
      {
        ifname: "sit0",
        link: null,
        link_type: "sit",
        address: "0.0.0.0",
        linkinfo: { info_kind: "sit", info_data: { proto: "ip6ip", remote: "any", local: "0.0.0.0", ttl: 64 } },
      },
      { kind: "sit", mac: null, tunnel: { local: null, remote: null, id: null, port: null } },
    ],
    [
      "geneve over IPv6",
      {
        ifname: "gnv0",
        link_type: "ether",
        address: "02:00:00:00:00:08",
        linkinfo: { info_kind: "geneve", info_data: { id: 77, remote6: "2001:db8::9", ttl: 0, port: 6081 } },
      },
      { kind: "geneve", tunnel: { local: null, remote: "2001:db8::9", id: 77, port: 6081 } },
    ],
    [
      "vlan",
      {
        ifname: "eth0.5",
        link: "eth0",
        link_type: "ether",
        address: "02:00:00:00:00:01",
        linkinfo: { info_kind: "vlan", info_data: { protocol: "802.1Q", id: 5, flags: ["REORDER_HDR"] } },
      },
      { kind: "vlan", parent: "eth0", tunnel: null },
    ],
    [
      "bond",
      {
        ifname: "bond0",
        link_type: "ether",
        address: "02:00:00:00:00:02",
        linkinfo: { info_kind: "bond", info_data: { mode: "active-backup", miimon: 100 } },
      },
      { kind: "bond", parent: null, master: null, tunnel: null },
    ],
    [
      "a card in the bond",
      {
        ifname: "eno1",
        master: "bond0",
        link_type: "ether",
        address: "02:00:00:00:00:02",
        linkinfo: { info_slave_kind: "bond", info_slave_data: { state: "ACTIVE" } },
      },
      { kind: "physical", master: "bond0" },
    ],
    [
      "vrf",
      { ifname: "blue", link_type: "ether", linkinfo: { info_kind: "vrf", info_data: { table: 10 } } },
      { kind: "virtual", tunnel: null },
    ],
    [
      "an interface in the vrf",
      {
        ifname: "wg5",
        master: "blue",
        link_type: "none",
        linkinfo: { info_kind: "wireguard", info_slave_kind: "vrf", info_slave_data: { table: 10 } },
      },
      { kind: "wireguard", mac: null, master: "blue", tunnel: null },
    ],
    ["a modem without a kind", { ifname: "ppp0", link_type: "ppp" }, { kind: "virtual" }],
    [
      "a cable that is out",
      { ifname: "eth9", link_type: "ether", flags: ["NO-CARRIER", "BROADCAST", "UP"] },
      { kind: "physical", up: true, carrier: false },
    ],
    [
      "counters over 2^53",
      { ifname: "eth0", link_type: "ether", stats64: { rx: { bytes: 2 ** 53 + 4096, errors: 1 }, tx: { bytes: 7 } } },
      { rx_bytes: 4096, tx_bytes: 7, rx_errors: 1, tx_errors: null },
    ],
  ])("%s", (_name, item, wanted) => {
    expect(one(item)).toMatchObject(wanted);
  });

  test("a name with comma, quote and colon", () => {
    const name = 'e,t"h:0';
    expect(one({ ifname: name, link_type: "ether" }).name).toBe(name);
  });

  test("::ffff:a.b.c.d is a.b.c.d, with what is left of its length; what the wire cannot say is left out", () => {
    const addresses = ["128", "120", "96", "95", "64"].map((length) => ({
      family: "inet6",
      local: "::ffff:10.9.9.9",
      prefixlen: Number(length),
    }));
    expect(one({ ifname: "lo", addr_info: [...addresses, { local: "2001:db8::1", prefixlen: 64 }] }).addresses).toEqual(
      ["10.9.9.9/32", "10.9.9.9/24", "10.9.9.9/0", "2001:db8::1/64"],
    );
  });

  test("veths without an address are a number; a bridge counts its ports by kind", () => {
    const veth = (ifname: string, more = {}) => ({
      ...up,
      ifname,
      link_type: "ether",
      linkinfo: { info_kind: "veth" },
      ...more,
    });
    const parsed = parseIpAddr(
      JSON.stringify([
        { ...up, ifname: "br0", link_type: "ether", linkinfo: { info_kind: "bridge" } },
        veth("v1", { master: "br0" }),
        veth("v2", { master: "br0" }),
        veth("v3", { addr_info: [{}, { local: "10.0.0.1", prefixlen: 24 }] }),
        { ...up, ifname: "tap1", master: "br0", linkinfo: { info_kind: "tun", info_data: { type: "tap" } } },
        { ...up, ifname: "eth1", master: "br0", link_type: "ether" },
      ]),
    )!;
    expect(parsed.veths).toBe(2);
    expect(parsed.interfaces.map(({ name }) => name)).toEqual(["br0", "v3", "tap1", "eth1"]);
    expect(parsed.interfaces[0]!.ports).toEqual({ veth: 2, tap: 1, other: 1 });
    expect(parsed.interfaces[1]!.addresses).toEqual(["10.0.0.1/24"]);
  });
});

describe("malformed", () => {
  test.each([
    ["nothing", "", null],
    ["cut off", captured("addr.out").slice(0, -20), null],
    ["an object", "{}", null],
    ["null", "null", null],
    ["no interfaces", "[]", { interfaces: [], veths: 0 }],
    ["entries without a name", '[{},{"ifname":5},null]', { interfaces: [], veths: 0 }],
  ])("ip addr prints %s", (_name, text, wanted) => {
    expect(parseIpAddr(text)).toEqual(wanted);
  });

  test.each([
    ["nothing", "", []],
    ["cut off", "[{", []],
    ["an object", "{}", []],
    [
      "entries of learned MACs, without dst, with none",
      '[{"mac":"02:00:00:00:00:01","dst":"10.0.0.9"},{"mac":"00:00:00:00:00:00"},{"mac":"00:00:00:00:00:00","dst":"x"},{}]',
      [],
    ],
    [
      "one remote twice",
      '[{"mac":"00:00:00:00:00:00","dst":"2001:DB8::1"},{"mac":"00:00:00:00:00:00","dst":"2001:db8::1"}]',
      ["2001:db8::1"],
    ],
  ])("bridge fdb prints %s", (_name, text, wanted) => {
    expect(parseFdbRemotes(text)).toEqual(wanted);
  });

  test("more interfaces than the wire allows are cut, and it is said", async () => {
    const many = Array.from({ length: 4100 }, (_, i) => ({ ifname: `d${i}`, linkinfo: { info_kind: "dummy" } }));
    const section = await collectInterfaces(toldHost({ programs: { "ip -j -d -s addr": JSON.stringify(many) } }));
    expect([section.data!.length, section.truncated]).toEqual([4096, true]);
  });

  test.each([
    [4096, undefined],
    [4097, true],
  ])("of %i addresses or remotes of one at most 4,096 stay, and a cut is said", async (count, truncated) => {
    const addresses = Array.from({ length: count }, (_, i) => `10.0.${i >> 8}.${i & 255}`);
    const addressed = {
      ifname: "d0",
      linkinfo: { info_kind: "dummy" },
      addr_info: addresses.map((local) => ({ local, prefixlen: 32 })),
    };
    const vxlan = { ifname: "vx0", linkinfo: { info_kind: "vxlan" } };
    const remotes = addresses.map((dst) => ({ mac: "00:00:00:00:00:00", dst }));
    const collected = (item: object) =>
      collectInterfaces(
        toldHost({
          programs: {
            "ip -j -d -s addr": JSON.stringify([item]),
            "bridge -j fdb show dev vx0": JSON.stringify(remotes),
          },
        }),
      );
    const [first, second] = [await collected(addressed), await collected(vxlan)];
    expect([first.data![0]!.addresses.length, first.truncated]).toEqual([4096, truncated]);
    expect([second.data![0]!.remotes!.length, second.truncated]).toEqual([4096, truncated]);
  });

  test("a reverse-path filter that is no number is not known", async () => {
    const host = (own: string) =>
      capturedHost({ proc: { "sys/net/ipv4/conf/all/rp_filter": "1\n", "sys/net/ipv4/conf/eth0/rp_filter": own } });
    const filter = async (own: string) => (await collectInterfaces(host(own))).data![1]!.rp_filter;
    expect([await filter("2\n"), await filter("0\n"), await filter("x\n"), await filter("")]).toEqual([
      2,
      1,
      undefined,
      undefined,
    ]);
  });
});

describe("without iproute2", () => {
  /** A /sys of interfaces that this machine does not have, but for lo. */
  function sysRoot(directory: string, files: Record<string, string>): string {
    for (const [path, text] of Object.entries(files)) {
      const at = join(directory, "class/net", path);
      mkdirSync(dirname(at), { recursive: true });
      writeFileSync(at, text);
    }
    return directory;
  }
  const ether = (name: string, over: Record<string, string> = {}) => {
    const files: Record<string, string> = {
      mtu: "1500\n",
      flags: "0x1003\n",
      address: "02:00:00:00:00:01\n",
      type: "1\n",
      carrier: "1\n",
      iflink: "2\n",
      ifindex: "2\n",
      "statistics/rx_bytes": "18446744073709551615\n",
      "statistics/tx_bytes": "12\n",
      uevent: `INTERFACE=${name}\nIFINDEX=2\n`,
      ...over,
    };
    return Object.fromEntries(Object.entries(files).map(([file, text]) => [`${name}/${file}`, text]));
  };

  test("/sys/class/net tells names, kinds, state and counters", async () => {
    using directory = ownDirectory();
    const root = sysRoot(directory.path, {
      ...ether("kt-card", { "device/vendor": "0x8086\n", speed: "1000\n" }),
      ...ether("kt-unplugged", { "device/vendor": "0x8086\n", carrier: "0\n", speed: "-1\n" }),
      ...ether("kt-br", { uevent: "DEVTYPE=bridge\nINTERFACE=kt-br\n" }),
      ...ether("kt-tun", { tun_flags: "0x1001\n", type: "65534\n", address: "\n" }),
      ...ether("kt-tap", { tun_flags: "0x1002\n" }),
      ...ether("kt-veth", { iflink: "9\n" }),
      ...ether('kt,"x', { flags: "0x1002\n" }),
    });
    const section = await collectInterfaces(createHost({ sysRoot: root, procRoot: root, path: root }));
    expect(section.status).toBe("ok");
    expect(section.veths).toBe(1);
    const rows = section.data!.map(words);
    const max = 2 ** 53 - 1;
    expect(rows).toEqual([
      `kt,"x virtual 02:00:00:00:00:01 1500 down carrier [] ${max}/12`,
      `kt-br bridge 02:00:00:00:00:01 1500 up carrier [] ${max}/12`,
      `kt-card physical 02:00:00:00:00:01 1500 up carrier [] ${max}/12 speed_mbps=1000`,
      `kt-tap tap 02:00:00:00:00:01 1500 up carrier [] ${max}/12`,
      `kt-tun tun null 1500 up carrier [] ${max}/12`,
      `kt-unplugged physical 02:00:00:00:00:01 1500 up no-carrier [] ${max}/12`,
    ]);
  });

  test("node:os tells the addresses of this machine's own", async () => {
    const sys = { "class/net/lo/flags": "0x9\n", "class/net/lo/type": "772\n" };
    const { data } = await collectInterfaces(toldHost({ sys }));
    expect(data).toMatchObject([{ name: "lo", kind: "loopback", mac: null, up: true }]);
    expect(data![0]!.addresses).toContain("127.0.0.1/8");
  });

  test("one that vanishes mid-read is left out, or has nulls for what went; the others stay", async () => {
    using directory = ownDirectory();
    const root = sysRoot(directory.path, {
      ...ether("kt-stays"),
      "kt-gone/mtu": "1500\n", // flags went already
      "kt-going/flags": "0x1003\n", // all else went since
      bonding_masters: "\n", // no interface
    });
    const section = await collectInterfaces(createHost({ sysRoot: root, procRoot: root, path: root }));
    expect(section.status).toBe("ok");
    expect(section.data!.map(words)).toEqual([
      "kt-going virtual null null up [] null/null",
      `kt-stays virtual 02:00:00:00:00:01 1500 up carrier [] ${2 ** 53 - 1}/12`,
    ]);
  });

  test("an `ip` that does not do what it should: read from /sys, and said", async () => {
    const sys = { "class/net/kt-a/flags": "0x1003\n" };
    const with_ = (answer: Parameters<typeof toldHost>[0]["programs"]) =>
      collectInterfaces(toldHost({ programs: answer!, sys }));
    // busybox
    expect(await with_({ "ip -j -d -s addr": failed("ip: invalid option -- j\n", 1) })).toMatchObject({
      status: "partial: ip failed (exit 1): ip: invalid option -- j; read from /sys/class/net",
      data: [{ name: "kt-a" }],
    });
    expect((await with_({ "ip -j -d -s addr": { is: "timeout" } })).status).toBe(
      "partial: ip did not answer within 5 s and was killed; read from /sys/class/net",
    );
    expect(await with_({ "ip -j -d -s addr": "1: lo: <LOOPBACK>\n" })).toMatchObject({ data: [{ name: "kt-a" }] });
  });

  test("nor /sys: unknown, not none", async () => {
    expect(await collectInterfaces(toldHost({}))).toEqual({
      data: null,
      status: "error: neither ip nor /sys/class/net says what interfaces there are",
      veths: 0,
    });
  });
});
