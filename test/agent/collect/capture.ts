// Owns how test/fixtures/debian-12-lab came to be: a host of the lab with a bit of everything that this kernel has, and
// what its programs and /proc printed. `bun test/agent/collect/capture.ts` captures anew (root, the lab's programs).
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createLab } from "../../lab/lab.ts";
import type { Host } from "../../lab/host.ts";
import { generateKeyPair } from "../../lab/wireguard.ts";

const DIRECTORY = join(import.meta.dir, "../../fixtures/debian-12-lab");

/** File of the fixture → the command that the agent runs, on `router`. */
const COMMANDS: Record<string, string[]> = {
  "wg-interfaces.txt": ["wg", "show", "interfaces"],
  "wg0.dump": ["wg", "show", "wg0", "dump"],
  "wg1.dump": ["wg", "show", "wg1", "dump"],
  "addr.out": ["ip", "-j", "-d", "-s", "addr"],
  "route4.out": ["ip", "-j", "-4", "route", "show", "table", "all"],
  "route6.out": ["ip", "-j", "-6", "route", "show", "table", "all"],
  "rule4.out": ["ip", "-j", "-4", "rule"],
  "rule6.out": ["ip", "-j", "-6", "rule"],
  "neigh.out": ["ip", "-s", "-j", "neigh"],
  "fdb.out": ["bridge", "-j", "fdb", "show", "dev", "vx7"],
  "nft.out": ["nft", "-j", "list", "chains"],
};

const PROC_FILES = ["net/route", "net/ipv6_route", "net/arp", "net/dev", "loadavg", "meminfo", "uptime"];

export const ODD_NAME = 'q,"[x]';

/** Two peers, one of them a hub's; a second WireGuard interface without peers; a bridge, VXLAN, veths, a tun. */
export async function furnish(router: Host, peers: readonly Host[]): Promise<void> {
  const [first, second] = peers as [Host, Host];
  await router.wireguard("wg1", { port: 51900, addresses: ["10.8.0.1/24"], peers: [] });
  await router.ip(
    "link add br0 type bridge",
    "link add va type veth peer name vb",
    "link set va master br0",
    "link set br0 up",
    "link set va up",
    "link set vb up",
    "addr add 172.20.0.1/16 dev br0",
    `link add vx7 type vxlan id 7 dstport 4789 local ${router.address} dev eth0 nolearning`,
    "addr add 10.70.0.1/24 dev vx7",
    "link set vx7 up",
    "tuntap add tap0 mode tap",
    "tuntap add tun0 mode tun",
    "route add blackhole 10.66.0.0/16",
    "route add unreachable 10.67.0.0/16 metric 50",
    `route add 10.68.0.0/16 nexthop via ${first.address} weight 2 nexthop via ${second.address}`,
    `route add 10.69.0.0/16 via ${first.address} mtu 1300 metric 7`,
    `route add default via ${second.address}`,
    "route add default dev wg0 table 51820",
    "rule add not fwmark 0xca6c table 51820 priority 32765",
    "rule add table main suppress_prefixlength 0 priority 32764",
    "rule add from 10.8.0.0/24 to 10.9.0.0/24 fwmark 0x1/0xff iif br0 table 100 priority 100",
    "rule add from 10.1.0.0/16 blackhole priority 10",
    "rule add nop priority 11",
    "rule add goto 32766 from 10.2.0.0/16 priority 12",
    "rule add ipproto tcp dport 443 table 100 priority 101",
    "route add 2001:db8:5::/64 dev eth0",
    "route add unreachable 2001:db8:66::/48",
    "link add vx8 type vxlan id 8 dstport 4789 group 239.1.1.1 dev eth0",
  );
  // The kernel refuses blanks, slashes and colons in a name, nothing else.
  await router.run(["ip", "link", "add", ODD_NAME, "type", "bridge"]);
  await router.run(["ip", "addr", "add", "10.99.0.1/24", "dev", ODD_NAME]);
  await router.run(["ip", "link", "set", ODD_NAME, "up"]);
  for (const host of peers)
    await router.run(["bridge", "fdb", "append", "0:0:0:0:0:0", "dev", "vx7", "dst", host.address]);
  await router.run(["nft", "-f", "-"], {
    input: `table inet filter {
      chain input { type filter hook input priority 0; policy drop; iif lo accept; accept; }
      chain helper { accept; }
    }\n`,
  });
}

async function capture(): Promise<void> {
  await using lab = await createLab("capture");
  const [router, a, b] = (await Promise.all(["router", "a", "b"].map((name) => lab.host(name)))) as [Host, Host, Host];
  const [own] = await lab.mesh([router, a, b], {
    prefix6: "fd09::",
    keepalive: 25,
    presharedKey: generateKeyPair().privateKey,
    pairs: [
      [0, 1],
      [0, 2],
    ],
  });
  await furnish(router, [a, b]);
  // One more peer, never heard of, whose AllowedIPs went elsewhere, with an IPv6 endpoint.
  await router.run(["wg", "set", "wg0", "peer", "X".repeat(42) + "A=", "endpoint", "[fd50:0::9]:51820"]);
  await router.run(["wg", "set", "wg0", "fwmark", "0xca6c"]);
  for (const address of ["10.9.0.2", "10.9.0.3", a.address, a.nics[0]!.address6]) await router.pingUntil(address);
  const file = (name: string, text: string) => {
    mkdirSync(dirname(join(DIRECTORY, name)), { recursive: true });
    writeFileSync(join(DIRECTORY, name), text);
  };
  file(
    "README",
    "Captured by test/agent/collect/capture.ts: Debian 12, Linux 6.18, iproute2 6.1, wireguard-tools 1.0.20210914, wireguard-go.\nThe keys are those of a lab that ended with the capture.\n",
  );
  for (const [name, command] of Object.entries(COMMANDS)) file(name, (await router.run(command)).stdout);
  for (const path of PROC_FILES) file(`proc/${path}`, (await router.run(["cat", `/proc/${path}`])).stdout);
  const endpoints = [a.address, b.address, "fd50:0::9", "203.0.113.9"];
  const gets = await router.run(["ip", "-force", "-j", "-batch", "-"], {
    input: endpoints.map((address) => `route get ${address} mark 51820\n`).join(""),
    check: false,
  });
  file("route-get.out", gets.stdout);
  console.log(`captured on ${own!.name} of ${router.name}`);
}

if (import.meta.main) await capture();
