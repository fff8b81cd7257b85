// The routes and rules collectors: the captured host by iproute2 and by /proc, and lines that do not fit.
import { describe, expect, test } from "bun:test";
import {
  collectRoutes,
  collectRules,
  MAX_ROUTES,
  parseIpRoute,
  parseIpRule,
  parseProcIpv6Route,
  parseProcRoute,
} from "../../../agent/collect/routes.ts";
import { collect } from "../../../agent/report.ts";
import type { Route, Rule } from "../../../shared/report.ts";
import { captured, capturedHost, failed, toldHost } from "../support.ts";

function words({ destination, gateway, interface: name, metric, ...rest }: Route): string {
  const more = Object.entries(rest).map(([key, value]) => ` ${key}=${JSON.stringify(value)}`);
  return `${destination} via ${gateway} dev ${name} metric ${metric}${more.join("")}`;
}

const V6 = [
  "2001:db8:5::/64 via null dev eth0 metric 1024",
  '2001:db8:66::/48 via null dev lo metric 1024 type="unreachable"',
  "fd09::/64 via null dev wg0 metric 256",
  "fd50::/64 via null dev eth0 metric 256",
];

describe("the captured host", () => {
  test("by iproute2: all tables, types, next hops; nothing local, broadcast, multicast or link-local", async () => {
    const section = await collectRoutes(capturedHost());
    expect([section.status, section.routesTruncated]).toEqual(["ok", 0]);
    expect(section.data!.map(words)).toEqual([
      '0.0.0.0/0 via null dev wg0 metric 0 table="51820"',
      "0.0.0.0/0 via 192.168.50.3 dev eth0 metric 0",
      '10.8.0.0/24 via null dev wg1 metric 0 source="10.8.0.1"',
      '10.9.0.0/24 via null dev wg0 metric 0 source="10.9.0.1"',
      '10.66.0.0/16 via null dev null metric 0 type="blackhole"',
      '10.67.0.0/16 via null dev null metric 50 type="unreachable"',
      '10.68.0.0/16 via null dev null metric 0 nexthops=[{"gateway":"192.168.50.2","interface":"eth0","weight":2},{"gateway":"192.168.50.3","interface":"eth0","weight":1}]',
      "10.69.0.0/16 via 192.168.50.2 dev eth0 metric 7 mtu=1300",
      '10.70.0.0/24 via null dev vx7 metric 0 source="10.70.0.1"',
      '10.99.0.0/24 via null dev q,"[x] metric 0 source="10.99.0.1"',
      '172.20.0.0/16 via null dev br0 metric 0 source="172.20.0.1"',
      '192.168.50.0/24 via null dev eth0 metric 0 source="192.168.50.1"',
      ...V6,
    ]);
  });

  test("by /proc, as little-endian hex, where iproute2 is not there", async () => {
    const section = await collectRoutes(
      capturedHost({
        programs: {
          "ip -j -4 route show table all": { is: "missing" },
          "ip -j -6 route show table all": { is: "missing" },
        },
      }),
    );
    expect(section.status).toBe("ok");
    expect(section.data!.map(words)).toEqual([
      "0.0.0.0/0 via 192.168.50.3 dev eth0 metric 0",
      "10.8.0.0/24 via null dev wg1 metric 0",
      "10.9.0.0/24 via null dev wg0 metric 0",
      '10.66.0.0/16 via null dev null metric 0 type="unreachable"',
      '10.67.0.0/16 via null dev null metric 50 type="unreachable"',
      "10.68.0.0/16 via 192.168.50.2 dev eth0 metric 0",
      "10.69.0.0/16 via 192.168.50.2 dev eth0 metric 7",
      "10.70.0.0/24 via null dev vx7 metric 0",
      '10.99.0.0/24 via null dev q,"[x] metric 0',
      "172.20.0.0/16 via null dev br0 metric 0",
      "192.168.50.0/24 via null dev eth0 metric 0",
      ...V6,
    ]);
  });

  test("rules", async () => {
    const section = await collectRules(capturedHost());
    expect(section.status).toBe("ok");
    const row = ({ family, priority, ...rest }: Rule) => {
      const more = Object.entries(rest).filter(([, value]) => value !== null && value !== false);
      return `${family} ${priority}:${more.map(([key, value]) => ` ${key}=${String(value)}`).join("")}`;
    };
    expect(section.data!.map(row)).toEqual([
      "4 0: table=local action=lookup",
      "4 10: src=10.1.0.0/16 action=blackhole",
      "4 11: action=nop",
      "4 12: src=10.2.0.0/16 action=goto",
      "4 100: src=10.8.0.0/24 dst=10.9.0.0/24 fwmark=0x1/0xff iif=br0 table=100 action=lookup",
      "4 101: table=100 action=lookup other=true",
      "4 32764: table=main action=lookup suppress_prefixlen=0",
      "4 32765: not=true fwmark=0xca6c table=51820 action=lookup",
      "4 32766: table=main action=lookup",
      "4 32767: table=default action=lookup",
      "6 0: table=local action=lookup",
      "6 32766: table=main action=lookup",
    ]);
  });
});

describe("/proc/net/route, hand-written", () => {
  const HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
  const row = (over: Partial<Record<"name" | "to" | "via" | "flags" | "metric" | "mask", string>> = {}) => {
    const f = { name: "eth0", to: "0000080A", via: "00000000", flags: "0001", metric: "0", mask: "00FFFFFF", ...over };
    return `${f.name}\t${f.to}\t${f.via}\t${f.flags}\t0\t0\t${f.metric}\t${f.mask}\t0\t0\t0   \n`;
  };

  test.each([
    ["the bytes are in the host's order", {}, "10.8.0.0/24 via null dev eth0 metric 0"],
    ["a host's route", { to: "010200C0", mask: "FFFFFFFF" }, "192.0.2.1/32 via null dev eth0 metric 0"],
    ["an address above 127", { to: "0000FEC6", mask: "0000FFFF" }, "198.254.0.0/16 via null dev eth0 metric 0"],
    ["/1", { to: "00000080", mask: "00000080" }, "128.0.0.0/1 via null dev eth0 metric 0"],
    ["/31", { to: "000200C0", mask: "FEFFFFFF" }, "192.0.2.0/31 via null dev eth0 metric 0"],
    [
      "a default with a gateway",
      { to: "00000000", via: "FE32A8C0", flags: "0003", mask: "00000000", metric: "4294967295" },
      "0.0.0.0/0 via 192.168.50.254 dev eth0 metric 4294967295",
    ],
    ["a name with comma, quote and colon", { name: 'e,t"h:0' }, '10.8.0.0/24 via null dev e,t"h:0 metric 0'],
  ])("%s", (_name, over, wanted) => {
    const { routes, problems } = parseProcRoute(HEAD + row(over));
    expect([routes.map(words), problems]).toEqual([[wanted], 0]);
  });

  test("a route that is not up is none", () => {
    expect(parseProcRoute(HEAD + row({ flags: "0000" }))).toEqual({ routes: [], problems: 0 });
  });

  test.each([
    ["a mask with a hole", row({ mask: "00FF00FF" })],
    ["a destination that is no hex", row({ to: "0000080G" })],
    ["a destination of 7 digits", row({ to: "000080A" })],
    ["a gateway that is none", row({ via: "" })],
    ["a metric that is no number", row({ metric: "-1" })],
    ["flags that are none", row({ flags: "" })],
    ["4 fields", "eth0\t0000080A\t00000000\t0001\n"],
    ["one word", "eth0\n"],
  ])("%s: skipped, counted, said", async (_name, text) => {
    expect(parseProcRoute(HEAD + text + row())).toMatchObject({ problems: 1, routes: [{ interface: "eth0" }] });
    const section = await collectRoutes(toldHost({ proc: { "net/route": HEAD + text + row() } }));
    expect(section.status).toBe("partial: 1 lines of /proc/net/route do not fit");
    expect(section.data).toHaveLength(1);
  });

  test("empty, or its head alone: no routes", () => {
    for (const text of ["", HEAD]) expect(parseProcRoute(text)).toEqual({ routes: [], problems: 0 });
  });
});

describe("/proc/net/ipv6_route, hand-written", () => {
  const ZERO = "0".repeat(32);
  const row = (to: string, length: string, via = ZERO, metric = "00000400", flags = "00000001", name = "eth0") =>
    `${to} ${length} ${ZERO} 00 ${via} ${metric} 00000001 00000000 ${flags} ${name.padStart(8)}\n`;
  const DOCUMENTATION = "20010db8000000000000000000000000";

  test("a default by a gateway", () => {
    const { routes, problems } = parseProcIpv6Route(row(ZERO, "00", `fe80${"0".repeat(27)}1`, "00000400", "00000003"));
    expect([routes.map(words), problems]).toEqual([["::/0 via fe80::1 dev eth0 metric 1024"], 0]);
  });

  test("::ffff:0:0/96, which Red Hat's scripts reject, is no route of IPv4's", () => {
    const text = row(`${"0".repeat(20)}ffff${"0".repeat(8)}`, "60", ZERO, "00000400", "00200201", "lo");
    expect(parseProcIpv6Route(text)).toEqual({ routes: [], problems: 0 });
    const printed = JSON.stringify([
      { type: "unreachable", dst: "::ffff:0.0.0.0/96", dev: "lo", metric: 1024 },
      { type: "unreachable", dst: "::/96", dev: "lo", metric: 1024 },
    ]);
    expect(parseIpRoute(printed, 6)!.map(words)).toEqual(['::/96 via null dev lo metric 1024 type="unreachable"']);
  });

  test.each([
    ["an address of 31 digits", row(DOCUMENTATION.slice(1), "20")],
    ["a length of 129", row(DOCUMENTATION, "81")],
    ["a length that is none", row(DOCUMENTATION, "xx")],
    ["a gateway that is none", row(DOCUMENTATION, "20", "x")],
    ["a metric that is none", row(DOCUMENTATION, "20", ZERO, "xyz")],
    ["flags that are none", row(DOCUMENTATION, "20", ZERO, "00000400", "xyz")],
    ["no name", `${DOCUMENTATION} 20 ${ZERO} 00 ${ZERO} 00000400 00000001 00000000 00000001\n`],
  ])("%s: skipped, counted, said", async (_name, text) => {
    const section = await collectRoutes(
      toldHost({ proc: { "net/route": "", "net/ipv6_route": text + row(DOCUMENTATION, "20") } }),
    );
    expect(section.data!.map(words)).toEqual(["2001:db8::/32 via null dev eth0 metric 1024"]);
    expect(section.status).toBe("partial: 1 lines of /proc/net/ipv6_route do not fit");
  });

  test("a missing file, of a kernel without IPv6: no routes, and no error", async () => {
    const section = await collectRoutes(toldHost({ proc: { "net/route": captured("proc/net/route") } }));
    expect(section.status).toBe("ok");
    expect(section.data!.every(({ destination }) => !destination.includes(":"))).toBe(true);
  });
});

describe("iproute2", () => {
  test.each([
    ["nothing", ""],
    ["cut off", captured("route4.out").slice(0, -2)],
    ["an object", "{}"],
    ["null", "null"],
  ])("prints %s: no JSON", (_name, text) => {
    expect(parseIpRoute(text, 4)).toBeNull();
    expect(parseIpRule(text, 4)).toBeNull();
  });

  test("prints nothing at all for a family without routes: none", async () => {
    const section = await collectRoutes(
      toldHost({ programs: { "ip -j -4 route show table all": "", "ip -j -6 route show table all": " \n" } }),
    );
    expect([section.data, section.status]).toEqual([[], "ok"]);
  });

  test("hand-written: a gateway of the other family, a destination that is none, a type nobody asks for", () => {
    const routes = parseIpRoute(
      JSON.stringify([
        { dst: "10.0.0.0/8", via: { family: "inet6", host: "fe80::1" }, dev: "eth0" },
        { dst: "999.0.0.0/8", dev: "eth0" },
        { type: "multicast", dst: "224.0.0.0/4", dev: "eth0" },
        { type: "prohibit", dst: "default", metric: 4278198272 },
        { dst: "10.1.0.5", dev: "wg0", metric: 3 },
      ]),
      4,
    );
    expect(routes!.map(words)).toEqual([
      "10.0.0.0/8 via fe80::1 dev eth0 metric 0",
      '0.0.0.0/0 via null dev null metric 4278198272 type="prohibit"',
      "10.1.0.5/32 via null dev wg0 metric 3",
    ]);
  });

  test("fails: read from /proc, and said", async () => {
    const section = await collectRoutes(
      capturedHost({ programs: { "ip -j -4 route show table all": failed("ip: invalid option -- j\n") } }),
    );
    expect(section.status).toBe("partial: ip failed (exit 1): ip: invalid option -- j");
    expect(section.data!.length).toBeGreaterThan(10);
  });

  test("fails for IPv6 alone: read from /proc, and said; without that file, the kernel has no IPv6", async () => {
    const programs = { "ip -j -6 route show table all": { is: "timeout" } as const };
    const section = await collectRoutes(capturedHost({ programs }));
    expect(section.status).toBe("partial: ip did not answer within 5 s and was killed");
    expect(section.data!.map(words).slice(-V6.length)).toEqual(V6);
    const four = await collectRoutes(
      toldHost({ programs: { "ip -j -4 route show table all": "[]", ...programs }, proc: { "net/route": "" } }),
    );
    expect([four.status, four.data]).toEqual(["ok", []]);
  });

  test("neither iproute2 nor /proc: unknown, not none", async () => {
    expect(await collectRoutes(toldHost({}))).toEqual({
      data: null,
      status: "error: cannot read /proc/net/route (ENOENT)",
      routesTruncated: 0,
    });
  });

  test("of a BGP host's table the first are kept, and how many are not is said", async () => {
    const many = Array.from({ length: 2500 }, (_, i) => ({ dst: `10.${i >> 8}.${i & 255}.0/24`, dev: "eth0" }));
    const section = await collectRoutes(
      toldHost({ programs: { "ip -j -4 route show table all": JSON.stringify(many) } }),
    );
    expect([section.data!.length, section.routesTruncated]).toEqual([MAX_ROUTES, 500]);
  });

  test("rules: missing is unknown; failed, and no JSON, are errors; IPv4's stand where IPv6 has none", async () => {
    expect(await collectRules(toldHost({}))).toEqual({ data: null, status: "ok" });
    const with4 = (four: string | ReturnType<typeof failed>) =>
      collectRules(toldHost({ programs: { "ip -j -4 rule": four } }));
    expect(await with4(failed("no\n", 2))).toEqual({ data: null, status: "error: ip failed (exit 2): no" });
    expect(await with4("0: from all lookup local\n")).toEqual({
      data: null,
      status: "error: ip rule printed no JSON",
    });
    expect((await with4(captured("rule4.out"))).data).toHaveLength(10);
  });

  test("more rules than the wire allows are cut, and the report says so", async () => {
    const many = Array.from({ length: 4097 }, (_, priority) => ({ priority, src: "all", table: "main" }));
    const sections = await collect(toldHost({ programs: { "ip -j -4 rule": JSON.stringify(many) } }));
    expect([sections.rules!.length, sections.truncated]).toEqual([4096, true]);
  });
});
