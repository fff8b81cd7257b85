// Owns the system collector: load, memory, uptime, forwarding, from /proc.
import type { Report, System } from "../../shared/report.ts";
import type { Host } from "../host.ts";
import { type Section, short } from "./section.ts";

/** Parses /proc/loadavg: three averages; null: no such text. */
export function parseLoadavg(text: string): number[] | null {
  const values = text.trim().split(/\s+/).slice(0, 3).map(Number);
  return values.length === 3 && values.every((value) => Number.isFinite(value) && value >= 0) ? values : null;
}

/** Parses /proc/meminfo: total and available bytes; null where a line is missing (MemAvailable: before Linux 3.14). */
export function parseMeminfo(text: string): { total: number | null; available: number | null } {
  const bytes = (name: string) => {
    const match = new RegExp(`^${name}:\\s+([0-9]{1,12}) kB$`, "m").exec(text);
    return match === null ? null : Number(match[1]) * 1024;
  };
  return { total: bytes("MemTotal"), available: bytes("MemAvailable") };
}

/** Parses /proc/uptime: seconds since boot; null: no such text. */
export function parseUptime(text: string): number | null {
  const seconds = Number(text.trim().split(/\s+/)[0]);
  return text.trim() !== "" && Number.isFinite(seconds) && seconds >= 0 ? seconds : null;
}

/** Parses a sysctl that is 0 or not. */
export function parseSwitch(text: string): boolean | null {
  return /^[0-9]+\s*$/.test(text) ? Number(text) !== 0 : null;
}

function cpusOf(text: string): number | null {
  const count = text.match(/^cpu[0-9]+ /gm)?.length ?? 0;
  return count === 0 ? null : count;
}

export async function uptimeSeconds(host: Host): Promise<number | null> {
  const text = await host.proc("uptime");
  return text.ok ? parseUptime(text.text) : null;
}

/** The kernel's id of this boot; "unknown" where /proc does not say. */
export async function bootId(host: Host): Promise<string> {
  const text = await host.proc("sys/kernel/random/boot_id");
  return text.ok ? short(text.text.trim()) : "unknown";
}

export async function hostname(host: Host): Promise<string> {
  const text = await host.proc("sys/kernel/hostname");
  return text.ok ? short(text.text.trim()) : "unknown";
}

export async function collectSystem(host: Host): Promise<Section<System> & { forwarding: Report["forwarding"] }> {
  const read = async <T>(path: string, parse: (text: string) => T): Promise<T | null> => {
    const text = await host.proc(path);
    return text.ok ? parse(text.text) : null;
  };
  const [name, kernel, uptime, load, memory, cpus, v4, v6] = await Promise.all([
    hostname(host),
    read("sys/kernel/osrelease", (text) => short(text.trim())),
    uptimeSeconds(host),
    read("loadavg", parseLoadavg),
    read("meminfo", parseMeminfo),
    read("stat", cpusOf),
    read("sys/net/ipv4/ip_forward", parseSwitch),
    read("sys/net/ipv6/conf/all/forwarding", parseSwitch),
  ]);
  const missing = [
    ["uptime", uptime],
    ["loadavg", load],
    ["meminfo", memory?.total ?? null],
  ].filter(([, value]) => value === null);
  return {
    data: {
      hostname: name,
      kernel,
      arch: process.arch,
      uptime_s: uptime,
      cpus,
      load,
      memory_total_bytes: memory?.total ?? null,
      memory_available_bytes: memory?.available ?? null,
      ip_forward: v4,
      ipv6_forward: v6,
    },
    status:
      missing.length === 0
        ? "ok"
        : `partial: cannot read ${missing.map(([file]) => `/proc/${String(file)}`).join(", ")}`,
    forwarding: { v4, v6 },
  };
}
