// The PSK's sources: files on a real file system, and DNS on a real resolver (dnsmasq on loopback).
import { afterEach, describe, expect, setDefaultTimeout, spyOn, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { Resolver } from "node:dns/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SettingError } from "../../shared/config.ts";
import { createLog } from "../../shared/log.ts";
import { type PskOrigin, PskSource } from "../../shared/psk_source.ts";
import { describeWith } from "../support/needs.ts";
import { stopwatch } from "../support/stopwatch.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const KEYS = ["a", "b", "c", "d"].map((letter) => letter.repeat(32));
const directories: string[] = [];
const sources: PskSource[] = [];
const children: { kill(): void; exited: Promise<number> }[] = [];

afterEach(async () => {
  for (const source of sources.splice(0)) source.stop();
  for (const child of children.splice(0)) {
    child.kill();
    await child.exited;
  }
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

function fresh(): { directory: string; lines: string[]; source(origin: PskOrigin): PskSource } {
  const directory = mkdtempSync(join(tmpdir(), "kattila-psk-"));
  directories.push(directory);
  const lines: string[] = [];
  return {
    directory,
    lines,
    source(origin) {
      const source = new PskSource({
        origin,
        ringPath: join(directory, "manager_psk_ring"),
        log: createLog("debug", (line) => lines.push(line)),
      });
      sources.push(source);
      return source;
    },
  };
}

describe("kattila.psk", () => {
  test("the manager makes it, 0600, 32 random bytes in base64url; the next start finds it", async () => {
    const { directory, source } = fresh();
    const path = join(directory, "kattila.psk");
    const first = source({ kind: "default", path, create: true });
    await first.start();
    expect(first.created).toBe(true);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readFileSync(path, "utf8").trim()).toBe(first.current!);
    expect(Uint8Array.fromBase64(first.current!, { alphabet: "base64url" }).length).toBe(32);
    const second = source({ kind: "default", path, create: true });
    await second.start();
    expect(second.current).toBe(first.current);
    expect(second.created).toBe(false);
  });

  test("an agent never makes it, and says what to do", async () => {
    const { directory, source } = fresh();
    const path = join(directory, "kattila.psk");
    const agent = source({ kind: "default", path, create: false });
    await agent.start();
    expect(agent.psks).toEqual([]);
    expect(agent.status.error?.message).toContain("set PSK_FILE or DNS");
    expect(existsSync(path)).toBe(false);
  });

  test("one that went missing is written anew with the key that the fleet has", async () => {
    const { directory, source } = fresh();
    const path = join(directory, "kattila.psk");
    const manager = source({ kind: "default", path, create: true });
    await manager.start();
    const before = manager.current;
    rmSync(path);
    await manager.refresh();
    expect(readFileSync(path, "utf8").trim()).toBe(before!);
  });

  test("readable by others: mended, and said; a symlink: refused", async () => {
    const { directory, lines, source } = fresh();
    const path = join(directory, "kattila.psk");
    writeFileSync(path, KEYS[0]!, { mode: 0o644 });
    const mended = source({ kind: "default", path, create: true });
    await mended.start();
    expect(mended.current).toBe(KEYS[0]!);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(lines.filter((line) => line.includes('"event":"state_file_mended"'))).toEqual([
      expect.stringContaining(path),
    ]);
    const other = fresh();
    symlinkSync(path, join(other.directory, "kattila.psk"));
    const linked = other.source({ kind: "default", path: join(other.directory, "kattila.psk"), create: true });
    await linked.start();
    expect(linked.current).toBeNull();
    expect(linked.status.error?.message).toContain("symbolic link");
  });
});

describe("PSK_FILE", () => {
  test("is reread; a ring of three is kept, 0600, and outlives the process; an old value moves to the front", async () => {
    const { directory, lines, source } = fresh();
    const path = join(directory, "psk");
    const ring = source({ kind: "file", path });
    for (const key of KEYS) {
      writeFileSync(path, `${key}\n`, { mode: 0o600 });
      await ring.refresh();
    }
    expect(ring.psks).toEqual([KEYS[3]!, KEYS[2]!, KEYS[1]!]);
    expect(statSync(join(directory, "manager_psk_ring")).mode & 0o777).toBe(0o600);
    writeFileSync(path, KEYS[1]!);
    const restarted = source({ kind: "file", path });
    await restarted.start();
    expect(restarted.psks).toEqual([KEYS[1]!, KEYS[3]!, KEYS[2]!]);
    for (const key of KEYS) expect(lines.join("\n")).not.toContain(key);
  });

  test("one that others can read is refused; the ring serves on", async () => {
    const { directory, source } = fresh();
    const path = join(directory, "psk");
    writeFileSync(path, KEYS[0]!, { mode: 0o600 });
    const ring = source({ kind: "file", path });
    await ring.refresh();
    chmodSync(path, 0o644);
    await ring.refresh();
    expect(ring.current).toBe(KEYS[0]!);
    expect(ring.status.error?.message).toContain("chmod 600");
  });

  test.each([
    ["that others can read", (path: string) => writeFileSync(path, KEYS[0]!, { mode: 0o644 }), "chmod 600"],
    ["that is too short", (path: string) => writeFileSync(path, "Canary", { mode: 0o600 }), "the PSK has 6 bytes"],
    [
      "with a control character",
      (path: string) => writeFileSync(path, `Canary\n${KEYS[0]}`, { mode: 0o600 }),
      "control",
    ],
    ["that is a directory", (path: string) => mkdirSync(path), "is not a file"],
  ])("one %s, and no ring: a wrong setting; with a ring that serves: none", async (_name, make, why) => {
    const { directory, lines, source } = fresh();
    const path = join(directory, "psk");
    make(path);
    for (const begin of ["start", "once"] as const) {
      const error: unknown = await source({ kind: "file", path })
        [begin]()
        .catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(SettingError);
      expect((error as Error).message).toStartWith(`PSK_FILE="${path}": ${path}`);
      expect((error as Error).message).toContain(why);
    }
    expect(lines.join("\n")).not.toContain("Canary");
    writeFileSync(join(directory, "manager_psk_ring"), JSON.stringify({ v: 1, psks: [KEYS[1]], changed_at: null }), {
      mode: 0o600,
    });
    const serving = source({ kind: "file", path });
    await serving.start();
    expect([serving.psks, serving.status.error?.reason]).toEqual([[KEYS[1]!], "unusable"]);
  });

  test("one that is not there yet is waited for", async () => {
    const { directory, source } = fresh();
    const path = join(directory, "psk");
    const waiting = source({ kind: "file", path });
    await waiting.start();
    expect([waiting.psks, waiting.status.error?.reason]).toEqual([[], "unavailable"]);
    writeFileSync(path, KEYS[0]!, { mode: 0o600 });
    for (const until = Date.now() + 10_000; waiting.current === null && Date.now() < until;) await Bun.sleep(20);
    expect(waiting.current).toBe(KEYS[0]!);
  });

  test("a ring file that is cut short is set aside, said loudly", async () => {
    const { directory, lines, source } = fresh();
    writeFileSync(join(directory, "manager_psk_ring"), '{"v":1,"psks":["a', { mode: 0o600 });
    const path = join(directory, "psk");
    writeFileSync(path, KEYS[0]!, { mode: 0o600 });
    const ring = source({ kind: "file", path });
    await ring.start();
    expect(ring.psks).toEqual([KEYS[0]!]);
    expect(lines.some((line) => line.includes("psk_ring_broken"))).toBe(true);
  });
});

describe("when it asks", () => {
  const HOUR_MS = 3_600_000;

  test("every hour, give or take a tenth, and not all at the same time", async () => {
    const { directory, source } = fresh();
    const path = join(directory, "psk");
    writeFileSync(path, KEYS[0]!, { mode: 0o600 });
    const delays: number[] = [];
    const timers = spyOn(globalThis, "setTimeout").mockImplementation(((_run: () => void, ms: number) => {
      delays.push(ms);
      return { unref() {} };
    }) as never);
    try {
      for (let i = 0; i < 100; i++) await source({ kind: "file", path }).start();
    } finally {
      timers.mockRestore();
      sources.length = 0; // their timers were none
    }
    expect(delays).toHaveLength(100);
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(0.9 * HOUR_MS);
    expect(Math.max(...delays)).toBeLessThanOrEqual(1.1 * HOUR_MS);
    expect(Math.max(...delays) - Math.min(...delays)).toBeGreaterThan(0.1 * HOUR_MS);
  });

  test("after a MAC that no key verifies: once for all that ask at once, and again after 60 s", async () => {
    const { directory } = fresh();
    const path = join(directory, "psk");
    const clock = { at: 1_795_442_044_000 };
    const ring = new PskSource({
      origin: { kind: "file", path },
      ringPath: join(directory, "manager_psk_ring"),
      log: createLog("error", () => {}),
      now: () => clock.at,
    });
    sources.push(ring);
    writeFileSync(path, KEYS[0]!, { mode: 0o600 });
    await Promise.all([ring.refreshAfterFailure(), ring.refreshAfterFailure()]);
    expect(ring.current).toBe(KEYS[0]!);
    writeFileSync(path, KEYS[1]!);
    clock.at += 59_999;
    await ring.refreshAfterFailure();
    expect(ring.current).toBe(KEYS[0]!);
    clock.at += 1;
    await ring.refreshAfterFailure();
    expect(ring.current).toBe(KEYS[1]!);
    // A clock that was set back by an hour: not an hour of silence.
    writeFileSync(path, KEYS[2]!);
    clock.at -= HOUR_MS;
    await ring.refreshAfterFailure();
    expect(ring.current).toBe(KEYS[2]!);
  });

  test("calls while one is under way share it", async () => {
    const { source } = fresh();
    const port = await freePort();
    let questions = 0;
    const silent = createSocket("udp4");
    silent.on("message", () => questions++);
    await new Promise<void>((resolve) => silent.bind(port, "127.0.0.1", resolve));
    const ring = source({ kind: "dns", name: "kattila.test", servers: [`127.0.0.1:${port}`] });
    const watch = stopwatch();
    await Promise.all(Array.from({ length: 5 }, () => ring.refresh()));
    silent.close();
    // A resolver that swallows every question: two tries of 2 s, and no more.
    expect(questions).toBe(2);
    expect(watch.ms() + watch.stalledMs()).toBeGreaterThan(1900);
    expect(watch.ms()).toBeLessThan(8000);
    expect(ring.status.error?.reason).toBe("unavailable");
  });
});

/** dnsmasq on loopback that serves these TXT strings for kattila.test, and nothing else. */
async function dnsmasq(port: number, directory: string, strings: string[]): Promise<{ stop(): Promise<void> }> {
  const child = Bun.spawn(
    [
      "dnsmasq",
      "--keep-in-foreground",
      "--conf-file=/dev/null",
      `--port=${port}`,
      "--listen-address=127.0.0.1",
      "--bind-interfaces",
      "--no-resolv",
      "--no-hosts",
      "--user=root",
      `--pid-file=${directory}/dnsmasq.pid`,
      "--local=/test/",
      ...strings.map((text) => `--txt-record=kattila.test,"${text}"`),
    ],
    { stdout: "ignore", stderr: "pipe" },
  );
  children.push(child);
  const probe = new Resolver({ timeout: 200, tries: 1 });
  probe.setServers([`127.0.0.1:${port}`]);
  for (let i = 0; i < 50; i++) {
    const code = await probe.resolveTxt("kattila.test").then(
      () => "answered",
      (error: { code?: string }) => error.code,
    );
    if (code === "answered" || code === "ENOTFOUND" || code === "ENODATA") break;
    if (child.exitCode !== null) throw new Error(`dnsmasq ended: ${await new Response(child.stderr).text()}`);
    await Bun.sleep(50);
  }
  return {
    stop: async () => {
      child.kill();
      await child.exited;
    },
  };
}

/**
 * A port that nothing listens on, by UDP and TCP: dnsmasq takes both. Below those that the kernel hands out (32768 on), or
 * another program's socket takes it while nobody listens yet.
 */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const [udp, tcp] = [createSocket("udp4"), createServer()];
    const bound = (socket: typeof udp | typeof tcp, bind: (done: () => void) => void) =>
      new Promise<boolean>((resolve) => {
        socket.once("error", () => resolve(false));
        bind(() => resolve(true));
      });
    const free =
      (await bound(udp, (done) => udp.bind(port, "127.0.0.1", done))) &&
      (await bound(tcp, (done) => tcp.listen(port, "127.0.0.1", done)));
    udp.close();
    tcp.close();
    if (free) return port;
  }
}

// RCODEs (RFC 1035, 4.1.1).
const [SERVFAIL, NXDOMAIN, REFUSED] = [2, 3, 5] as const;

/** A resolver on loopback that gives every question back as an answer with this RCODE. */
async function failingResolver(port: number, code: number): Promise<{ close(): void }> {
  const socket = createSocket("udp4");
  socket.on("message", (question, { port: from, address }) => {
    const answer = Buffer.from(question);
    answer.writeUInt16BE(0x8180 | code, 2);
    socket.send(answer, from, address);
  });
  await new Promise<void>((resolve) => socket.bind(port, "127.0.0.1", resolve));
  return socket;
}

describeWith(["dnsmasq"], "DNS (dnsmasq)", () => {
  test("tagged among other records; rotates; NXDOMAIN, two candidates and silence keep the key", async () => {
    const { directory, source } = fresh();
    const port = await freePort();
    const ring = source({ kind: "dns", name: "kattila.test", servers: [`127.0.0.1:${port}`] });

    let server = await dnsmasq(port, directory, ["v=spf1 -all", `kattila-psk=${KEYS[0]}`]);
    await ring.start();
    expect(ring.current).toBe(KEYS[0]!);
    await server.stop();

    server = await dnsmasq(port, directory, ["v=spf1 -all", KEYS[1]!]);
    await ring.refresh();
    expect(ring.psks).toEqual([KEYS[1]!, KEYS[0]!]);
    await server.stop();

    server = await dnsmasq(port, directory, []);
    await ring.refresh();
    expect(ring.current).toBe(KEYS[1]!);
    expect(ring.status.error?.reason).toBe("none");
    await server.stop();

    server = await dnsmasq(port, directory, [KEYS[2]!, KEYS[3]!]);
    await ring.refresh();
    expect(ring.current).toBe(KEYS[1]!);
    expect(ring.status.error?.reason).toBe("ambiguous");
    await server.stop();

    await ring.refresh(); // nobody listens: refused at once or silent until the time-out
    expect(ring.current).toBe(KEYS[1]!);
    expect(ring.status.error?.reason).toBe("unavailable");
  });

  test("SERVFAIL keeps the key, and is said", async () => {
    const { directory, source } = fresh();
    const port = await freePort();
    const ring = source({ kind: "dns", name: "kattila.test", servers: [`127.0.0.1:${port}`] });
    const server = await dnsmasq(port, directory, [`kattila-psk=${KEYS[0]}`]);
    await ring.start();
    await server.stop();
    const failing = await failingResolver(port, SERVFAIL);
    await ring.refresh();
    failing.close();
    expect(ring.psks).toEqual([KEYS[0]!]);
    expect(ring.status.error?.reason).toBe("unavailable");
  });

  test.each([
    ["SERVFAIL", SERVFAIL],
    ["REFUSED", REFUSED],
  ])(
    "a resolver that says %s does not keep us from the next; one that knows of no such name is believed",
    async (_name, code) => {
      const { directory, source } = fresh();
      const good = await freePort();
      const server = await dnsmasq(good, directory, [`kattila-psk=${KEYS[0]}`]);
      const lame = await freePort(); // another: that one is taken now
      const ring = source({
        kind: "dns",
        name: "kattila.test",
        servers: [`127.0.0.1:${lame}`, `127.0.0.1:${lame}`, `127.0.0.1:${good}`],
      });
      let failing = await failingResolver(lame, code);
      await ring.start();
      await ring.refresh();
      failing.close();
      expect([ring.current, ring.status.error]).toEqual([KEYS[0]!, null]);
      failing = await failingResolver(lame, NXDOMAIN);
      await ring.refresh();
      failing.close();
      expect(ring.status.error?.reason).toBe("none");
      await server.stop();
    },
    30_000,
  );

  test("down at start: the ring serves; with none at all it asks again until there is one", async () => {
    const { directory, source } = fresh();
    const port = await freePort();
    const origin: PskOrigin = { kind: "dns", name: "kattila.test", servers: [`127.0.0.1:${port}`] };
    const ring = source(origin);
    await ring.start();
    expect(ring.current).toBeNull();
    await dnsmasq(port, directory, [KEYS[0]!]);
    for (let i = 0; i < 100 && ring.current === null; i++) await Bun.sleep(100);
    expect(ring.current).toBe(KEYS[0]!);
    await children[0]!.kill();
    const restarted = source(origin);
    await restarted.start();
    expect(restarted.current).toBe(KEYS[0]!);
  });
});
