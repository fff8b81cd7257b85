// Owns the gate of tests that need more than Bun: root with namespaces, or programs of Debian's. Outside CI such tests
// skip and say what to install; under CI=true a missing program is a failure, so that no test is lost unnoticed.
import { describe, test } from "bun:test";
import { existsSync } from "node:fs";

/** Program → the Debian package that has it. */
const PACKAGES = {
  "wireguard-go": "wireguard-go",
  wg: "wireguard-tools",
  ip: "iproute2",
  tc: "iproute2",
  bridge: "iproute2",
  ping: "iputils-ping",
  nft: "nftables",
  dnsmasq: "dnsmasq-base",
  chromium: "chromium",
  promtool: "prometheus",
  "prometheus-alertmanager": "prometheus-alertmanager",
  amtool: "prometheus-alertmanager",
  dot: "graphviz",
  faketime: "faketime",
  "qemu-aarch64-static": "qemu-user-static",
  shellcheck: "shellcheck",
  strace: "strace",
  "systemd-analyze": "systemd",
} as const;

/** A program by name, or `root`: uid 0 that may make network, mount, pid and uts namespaces and open TUN devices. */
export type Need = keyof typeof PACKAGES | "root";

/** What the lab itself uses. */
export const LAB_NEEDS = ["root", "wireguard-go", "wg", "ip", "tc", "ping", "nft"] as const satisfies readonly Need[];

let rootWorks: boolean | null = null;
function isRoot(): boolean {
  rootWorks ??=
    process.getuid?.() === 0 &&
    existsSync("/dev/net/tun") &&
    Bun.spawnSync(["unshare", "-n", "-m", "-p", "-u", "--kill-child", "true"], { timeout: 10_000 }).exitCode === 0;
  return rootWorks;
}

/** Those of `needs` that this machine lacks. */
export function missing(needs: readonly Need[]): Need[] {
  return needs.filter((need) => (need === "root" ? !isRoot() : Bun.which(need) === null));
}

/** What to do about missing needs, in one line. */
export function hint(lacking: readonly Need[]): string {
  const packages = new Set(lacking.flatMap((need) => (need === "root" ? [] : [PACKAGES[need]])));
  const steps: string[] = [];
  if (packages.size > 0) steps.push(`apt-get install --no-install-recommends ${[...packages].join(" ")}`);
  if (lacking.includes("root")) steps.push("run as root where namespaces can be made and /dev/net/tun is there");
  return steps.join("; ");
}

/** Whether everything is there. Says once what to install where it is not; under CI=true it throws instead. */
export function needs(...wanted: Need[]): boolean {
  const lacking = missing(wanted);
  if (lacking.length === 0) return true;
  const line = `needs ${lacking.join(", ")}: ${hint(lacking)}`;
  if (process.env["CI"] === "true") throw new Error(line);
  console.log(`skipped, ${line}`);
  return false;
}

/** `describe` that runs only where everything in `wanted` is there: else it skips, or fails under CI=true. */
export function describeWith(wanted: readonly Need[], name: string, body: () => void): void {
  const lacking = missing(wanted);
  if (lacking.length === 0) return void describe(name, body);
  const line = `${name} needs ${lacking.join(", ")}: ${hint(lacking)}`;
  if (process.env["CI"] === "true") {
    test(name, () => {
      throw new Error(line);
    });
    return;
  }
  console.log(`skipped, ${line}`);
  describe.skip(name, body);
}
