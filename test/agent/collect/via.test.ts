// What peers' packets leave by: the captured batch, what is asked with which mark, and `ip` that fails.
import { describe, expect, test } from "bun:test";
import { addVia, parseRouteGets } from "../../../agent/collect/via.ts";
import type { Wireguard } from "../../../shared/report.ts";
import type { RunResult } from "../../../agent/host.ts";
import { captured, capturedHost, failed, toldHost, tunnel } from "../support.ts";

const ASK = "ip -force -j -batch -";

const to = (endpoints: (string | null)[], name = "wg0", fwmark: number | null = null) =>
  tunnel(
    endpoints.map((endpoint) => ({ endpoint })),
    name,
    fwmark,
  );
const vias = (item: Wireguard) => item.peers!.map(({ via }) => via);

test("the captured answers, by address", () => {
  expect(Object.fromEntries(parseRouteGets(captured("route-get.out")))).toEqual({
    "192.168.50.2": { interface: "eth0", source: "192.168.50.1" },
    "192.168.50.3": { interface: "eth0", source: "192.168.50.1" },
    "fd50::9": { interface: "eth0", source: "fd50::1" },
    "203.0.113.9": { interface: "eth0", source: "192.168.50.1" },
  });
});

test("each mark is asked once, each address of it once; who has no endpoint is not asked for", async () => {
  const host = capturedHost();
  const marked = to(["192.168.50.2:1", "192.168.50.2:2", "[fd50::9]:3", null, "198.51.100.1:4"], "wg0", 51820);
  const plain = to(["203.0.113.9:5"], "wg1");
  await addVia(host, [marked, plain]);
  expect(host.stdin).toEqual([
    "route get 192.168.50.2 mark 51820\nroute get fd50::9 mark 51820\nroute get 198.51.100.1 mark 51820\n",
    "route get 203.0.113.9 mark 0\n",
  ]);
  const eth0 = { interface: "eth0", source: "192.168.50.1" };
  // null: there is no way to it. Absent: it was not asked.
  expect(vias(marked)).toEqual([eth0, eth0, { interface: "eth0", source: "fd50::1" }, undefined, null]);
  expect(vias(plain)).toEqual([eth0]);
});

test("nobody to ask for: nothing is run", async () => {
  const host = capturedHost();
  await addVia(host, [to([null]), { ...to([], "wg1"), peers: null }]);
  expect(host.asked).toEqual([]);
});

describe("ip", () => {
  const answered = async (answer: RunResult | undefined) => {
    const item = to(["192.168.50.2:1", "192.0.2.9:2"]);
    await addVia(toldHost({ programs: answer === undefined ? {} : { [ASK]: answer } }), [item]);
    return vias(item);
  };
  const first = captured("route-get.out").split("\n")[0]!;

  test("that ends with 1 after an unreachable one told the others", async () => {
    expect(await answered(failed("RTNETLINK answers: Network is unreachable\nCommand failed -:2\n", 1, first))).toEqual(
      [{ interface: "eth0", source: "192.168.50.1" }, null],
    );
  });

  test.each<[string, RunResult | undefined]>([
    ["is missing", undefined],
    ["knows no -j", failed('Option "-j" is unknown, try "ip -help".\n', 255)],
    ["is busybox's", failed("ip: unrecognized option: j\nUsage: ip\n", 1)],
    ["hangs", { is: "timeout" }],
    ["is forbidden", { is: "denied", stderr: "" }],
  ])("that %s leaves it unknown", async (_name, answer) => {
    expect(await answered(answer)).toEqual([undefined, undefined]);
  });

  test.each([
    ["no JSON", "x\n"],
    ["an object", "{}\n"],
    ["entries that are none", '[null,{},{"dst":5,"dev":"eth0"},{"dst":"192.168.50.2"},{"dst":"x","dev":"eth0"}]\n'],
  ])("that prints %s told nothing", (_name, text) => {
    expect(parseRouteGets(text).size).toBe(0);
  });

  test("hand-written: a name with quote, comma and colon; a source that is none", () => {
    const text = '[{"dst":"2001:DB8::1","dev":"e,t\\"h:0","prefsrc":"x"}]\n';
    expect(parseRouteGets(text).get("2001:db8::1")).toEqual({ interface: 'e,t"h:0', source: null });
  });
});
