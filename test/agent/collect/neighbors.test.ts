// The neighbours collector: the captured host, what counts as an answer, and lines that do not fit.
import { describe, expect, test } from "bun:test";
import { collectNeighbors, parseIpNeigh, parseProcArp } from "../../../agent/collect/neighbors.ts";
import { capturedHost, failed, toldHost } from "../support.ts";

const THREE = { address: "192.168.50.3", mac: "fe:1b:11:60:14:48", interface: "eth0" };
const TWO = { address: "192.168.50.2", mac: "66:be:20:c0:be:95", interface: "eth0" };

describe("the captured host", () => {
  test("by iproute2, both families", async () => {
    expect(await collectNeighbors(capturedHost())).toEqual({
      status: "ok",
      data: [THREE, TWO, { ...TWO, address: "fd50::2" }],
    });
  });

  test("by /proc/net/arp where iproute2 is not there", async () => {
    const host = capturedHost({ programs: { "ip -s -j neigh": { is: "missing" } } });
    expect(await collectNeighbors(host)).toEqual({ status: "ok", data: [THREE, TWO] });
  });
});

describe("ip neigh, hand-written", () => {
  const one = (over: Record<string, unknown>) =>
    parseIpNeigh(
      JSON.stringify([{ dst: "10.0.0.2", dev: "eth0", lladdr: "02:00:00:00:00:02", state: ["STALE"], ...over }]),
    )!.length;
  test.each([
    ["reachable", { state: ["REACHABLE"] }, 1],
    ["stale, confirmed within the hour", { confirmed: 3600 }, 1],
    ["stale, confirmed before", { confirmed: 3601 }, 0],
    ["stale, never confirmed", {}, 0],
    ["failed", { state: ["FAILED"], confirmed: 1 }, 0],
    ["incomplete, without a MAC", { state: ["INCOMPLETE"], lladdr: undefined }, 0],
    ["set by an administrator", { state: ["PERMANENT"], confirmed: 1 }, 0],
    ["of a tunnel without ARP", { state: ["NOARP"], confirmed: 1 }, 0],
    ["reachable, but no MAC", { state: ["REACHABLE"], lladdr: undefined }, 0],
    ["reachable, a MAC of zeros", { state: ["REACHABLE"], lladdr: "00:00:00:00:00:00" }, 0],
    ["reachable, an IPv4 address for a MAC", { state: ["REACHABLE"], lladdr: "192.0.2.1" }, 0],
    ["reachable, no address", { state: ["REACHABLE"], dst: "999.1.1.1" }, 0],
    ["reachable, no device", { state: ["REACHABLE"], dev: undefined }, 0],
    ["link-local, IPv6", { state: ["REACHABLE"], dst: "fe80::1" }, 0],
    ["link-local, IPv4", { state: ["REACHABLE"], dst: "169.254.1.1" }, 0],
  ])("%s", (_name, over, count) => {
    expect(one(over)).toBe(count);
  });

  test.each(["", "[{", "{}", "null", "10.0.0.1 dev eth0"])("prints %p: no JSON", (text) => {
    expect(parseIpNeigh(text)).toBeNull();
  });

  test("prints nothing: none", async () => {
    expect(await collectNeighbors(toldHost({ programs: { "ip -s -j neigh": "\n" } }))).toEqual({
      data: [],
      status: "ok",
    });
  });
});

describe("/proc/net/arp, hand-written", () => {
  const HEAD = "IP address       HW type     Flags       HW address            Mask     Device\n";
  const row = (over: Partial<Record<"address" | "flags" | "mac" | "device", string>> = {}) => {
    const f = { address: "10.0.0.2", flags: "0x2", mac: "02:00:00:00:00:02", device: "eth0", ...over };
    return `${f.address.padEnd(16)} 0x1         ${f.flags.padEnd(11)} ${f.mac.padEnd(21)} *        ${f.device}\n`;
  };

  test.each([
    ["complete", {}, { neighbors: 1, problems: 0 }],
    ["complete and permanent", { flags: "0x6" }, { neighbors: 1, problems: 0 }],
    ["incomplete", { flags: "0x0", mac: "00:00:00:00:00:00" }, { neighbors: 0, problems: 0 }],
    ["a MAC that is none", { mac: "02:00:00" }, { neighbors: 0, problems: 1 }],
    ["an address that is none", { address: "999.1.1.1" }, { neighbors: 0, problems: 1 }],
    ["flags that are none", { flags: "2" }, { neighbors: 0, problems: 1 }],
    ["no device", { device: "" }, { neighbors: 0, problems: 1 }],
  ])("%s", (_name, over, wanted) => {
    const { neighbors, problems } = parseProcArp(HEAD + row(over));
    expect({ neighbors: neighbors.length, problems }).toEqual(wanted);
  });

  test("a name with comma, quote and colon; short and empty lines", () => {
    const text = `${HEAD}${row({ device: 'e,t"h:0' })}\n10.0.0.9\n`;
    expect(parseProcArp(text)).toEqual({
      neighbors: [{ address: "10.0.0.2", mac: "02:00:00:00:00:02", interface: 'e,t"h:0' }],
      problems: 1,
    });
    expect(parseProcArp("")).toEqual({ neighbors: [], problems: 0 });
  });

  test("lines that do not fit are said", async () => {
    const host = toldHost({ proc: { "net/arp": HEAD + row({ mac: "x" }) + row() } });
    const section = await collectNeighbors(host);
    expect([section.data!.length, section.status]).toEqual([1, "partial: 1 lines of /proc/net/arp do not fit"]);
  });

  test("neither iproute2 nor /proc: unknown, not none, and why", async () => {
    expect(await collectNeighbors(toldHost({}))).toEqual({
      data: null,
      status: "error: cannot read /proc/net/arp (ENOENT)",
    });
    expect(await collectNeighbors(toldHost({ programs: { "ip -s -j neigh": failed("no\n", 255) } }))).toEqual({
      data: null,
      status: "error: ip failed (exit 255): no",
    });
  });
});
