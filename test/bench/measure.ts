// Owns the measuring: posting bodies with bounded concurrency, percentiles, child processes and their memory.
import { readFileSync } from "node:fs";

export type Load = { seconds: number; perSecond: number; p50Ms: number; p99Ms: number; statuses: Map<number, number> };

export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}

/** Posts every body, `concurrency` at a time, in order of start. */
export async function load(url: string, bodies: readonly string[], concurrency: number): Promise<Load> {
  const times: number[] = [];
  const statuses = new Map<number, number>();
  let next = 0;
  const began = performance.now();
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (next < bodies.length) {
        const body = bodies[next++]!;
        const start = performance.now();
        const response = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body });
        await response.arrayBuffer();
        times.push(performance.now() - start);
        statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
      }
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  times.sort((a, b) => a - b);
  return {
    seconds,
    perSecond: bodies.length / seconds,
    p50Ms: percentile(times, 0.5),
    p99Ms: percentile(times, 0.99),
    statuses,
  };
}

export type Child = { pid: number; firstLine: string; stop(): Promise<void> };

/** Starts a process and waits for its first line on stdout that matches. */
export async function start(
  command: string[],
  options: { cwd?: string; env?: Record<string, string>; until: RegExp },
): Promise<Child> {
  const child = Bun.spawn(command, {
    cwd: options.cwd ?? process.cwd(),
    env: { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? "/", ...options.env },
    stdout: "pipe",
    stderr: "ignore",
  });
  const decoder = new TextDecoder();
  let text = "";
  const reader = child.stdout.getReader();
  const deadline = Date.now() + 30_000;
  for (;;) {
    const { value, done } = await reader.read();
    if (done || Date.now() > deadline) throw new Error(`${command.join(" ")} did not start: ${text}`);
    text += decoder.decode(value);
    const line = text.split("\n").find((candidate) => options.until.test(candidate));
    if (line === undefined) continue;
    void (async () => {
      while (!(await reader.read()).done);
    })();
    return {
      pid: child.pid,
      firstLine: line,
      stop: async () => {
        child.kill("SIGTERM");
        await Promise.race([child.exited, Bun.sleep(12_000).then(() => child.kill("SIGKILL"))]);
      },
    };
  }
}

function megabytesOf(pid: number, field: "VmRSS" | "VmHWM"): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match?.[1] ?? 0) / 1024;
}

/** Resident memory of a process, in MB. */
export const residentMegabytes = (pid: number): number => megabytesOf(pid, "VmRSS");

/** The most that it ever was. */
export const peakMegabytes = (pid: number): number => megabytesOf(pid, "VmHWM");

/** CPU seconds that a process used so far (user and system). */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100; // USER_HZ is 100 on Linux
}
