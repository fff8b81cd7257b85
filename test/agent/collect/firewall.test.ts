// The firewall collector: the captured host, the old iptables' tables, and nft that is missing, forbidden or strange.
import { expect, test } from "bun:test";
import { collectFirewall, parseNftChains, parseTableNames } from "../../../agent/collect/firewall.ts";
import { collect } from "../../../agent/report.ts";
import { capturedHost, failed, toldHost } from "../support.ts";

const INPUT = { family: "inet", hook: "input", type: "filter", policy: "drop" };

test("the captured host: base chains alone", async () => {
  expect(await collectFirewall(capturedHost())).toEqual({ data: [INPUT], status: "ok" });
});

test("tables of the old iptables are told without a hook", async () => {
  const host = capturedHost({ proc: { "net/ip_tables_names": "nat\nfilter\n", "net/ip6_tables_names": "\n" } });
  expect((await collectFirewall(host)).data).toEqual([
    INPUT,
    { family: "ip", hook: null, type: "nat", policy: null },
    { family: "ip", hook: null, type: "filter", policy: null },
  ]);
  expect(parseTableNames("", "ip6")).toEqual([]);
});

test("no chains is none; nft missing is unknown", async () => {
  expect(await collectFirewall(toldHost({ programs: { "nft -j list chains": '{"nftables": []}' } }))).toEqual({
    data: [],
    status: "ok",
  });
  expect(await collectFirewall(toldHost({}))).toEqual({ data: null, status: "ok" });
});

test("more chains than the wire allows are cut, and the report says so", async () => {
  const nftables = Array.from({ length: 4097 }, () => ({ chain: INPUT }));
  const sections = await collect(toldHost({ programs: { "nft -j list chains": JSON.stringify({ nftables }) } }));
  expect([sections.firewall!.length, sections.truncated]).toEqual([4096, true]);
});

test.each([
  [
    "denied",
    { is: "denied", stderr: "Operation not permitted" } as const,
    "nft: not permitted (run as root, or grant CAP_NET_ADMIN)",
  ],
  ["hanging", { is: "timeout" } as const, "nft did not answer within 5 s and was killed"],
  [
    "failing",
    failed("netlink: Error: cache initialization failed\n"),
    "nft failed (exit 1): netlink: Error: cache initialization failed",
  ],
  ["without JSON", "table inet filter {\n", "nft printed no JSON"],
])("nft %s: unknown, and said", async (_name, answer, problem) => {
  const host = toldHost({ programs: { "nft -j list chains": answer } });
  expect(await collectFirewall(host)).toEqual({ data: null, status: `error: ${problem}` });
});

test.each([
  ["", null],
  ["[]", null],
  ["null", null],
  ['{"nftables": {}}', null],
  [
    '{"nftables": [{}, {"chain": {}}, {"chain": {"hook": "forward"}}]}',
    [{ family: "ip", hook: "forward", type: "filter", policy: null }],
  ],
])("parsed: %p", (text, wanted) => {
  expect(parseNftChains(text)).toEqual(wanted);
});
