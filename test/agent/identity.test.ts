// Who the agent is, on disk: made once, kept over restarts, private; a tick that is durable before it is used and never
// repeats; truncated files are set aside, links refused; another machine's state, and an older one of this machine.
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { openAgent } from "../../agent/agent.ts";
import { createHost } from "../../agent/host.ts";
import { Identity } from "../../agent/identity.ts";
import { agentSettings } from "../../agent/settings.ts";
import { signingKey, verifySignature } from "../../shared/envelope.ts";
import { createLog } from "../../shared/log.ts";
import { ground } from "../manager/support.ts";
import { keptLog, ownDirectory } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const UUID_V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const NOW = 1_795_442_044_000;
const MANAGER = `${"M".repeat(42)}A=`;
const OTHER = `${"O".repeat(42)}A=`;

let own: ReturnType<typeof ownDirectory>;
let lines: string[];
let machineIdPath: string;
/** Whether the last `open` found another machine's state. */
let movedHere: boolean;
beforeEach(() => {
  own = ownDirectory();
  machineIdPath = join(own.path, "machine-id");
  fs.writeFileSync(machineIdPath, "4c7ff6a40a3b4a538f001a2b3c4d5e6f\n");
});
afterEach(() => own[Symbol.dispose]());

function open(fixedManagerKey: string | null = null): Promise<Identity> {
  const kept = keptLog();
  lines = kept.lines;
  movedHere = false;
  const onMoved = () => void (movedHere = true);
  return Identity.open({ directory: own.path, fixedManagerKey, log: kept.log, onMoved, machineIdPath, now: () => NOW });
}
const events = () => lines.map((line) => (JSON.parse(line) as { event: string }).event);
const file = (name: string) => join(own.path, name);
const read = (name: string) => fs.readFileSync(file(name), "utf8");
/** A whole agent, outbox and all, on this machine. */
const startAgent = () =>
  openAgent(
    agentSettings({ PSK: "identity-test-key-0123456789abcdef", STATE_DIR: file("state") }, own.path),
    createHost(),
    createLog("error", () => {}),
    { machineIdPath },
  );
/** Does it as a process that is killed before its `steps + 1`st change of the disk. Returns whether it came to its end. */
async function killedAfter(steps: number, run: () => Promise<unknown>): Promise<boolean> {
  const killed = new Error("killed");
  let left = steps;
  const spies = (["rmSync", "renameSync"] as const).map((name) => {
    const original = fs[name] as (...parameters: unknown[]) => void;
    return spyOn(fs, name).mockImplementation(((...parameters: unknown[]) => {
      if (left-- <= 0) throw killed;
      original(...parameters);
    }) as never);
  });
  try {
    await run();
    return true;
  } catch (error) {
    expect(error).toBe(killed);
    return false;
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}
const asides = () => fs.readdirSync(own.path).filter((name) => name.includes(".broken-"));

describe("made and kept", () => {
  test("an id and a key, made once, private", async () => {
    const first = await open();
    expect(first.agentId).toMatch(UUID_V4);
    await first.nextTick();
    first.pinManager(MANAGER);
    for (const name of ["agent_id.txt", "agent_key", "agent_tick", "manager_key.pub"])
      expect([name, fs.statSync(file(name)).mode & 0o777]).toEqual([name, 0o600]);
    const again = await open();
    expect([again.agentId, again.key.publicKey, again.managerKey, movedHere]).toEqual([
      first.agentId,
      first.key.publicKey,
      MANAGER,
      false,
    ]);
    expect(await verifySignature(first.key.publicKey, "x", await again.key.sign("x"))).toBe(true);
    expect(events()).toEqual([]);
  });

  test("agent_id.txt holds the id alone; the machine stands with the key, as a hash", async () => {
    const { agentId, key } = await open();
    expect(read("agent_id.txt")).toBe(`${agentId}\n`);
    expect(read("agent_key")).toMatch(/^[A-Za-z0-9+/]{43}=\nmachine [0-9a-f]{64}\n$/);
    expect(read("agent_key")).toStartWith(key.seed);
    expect(read("agent_key")).not.toContain("4c7ff6a40a3b4a538f001a2b3c4d5e6f");
  });

  test("state of 0.1.0, with the machine beside the id: is taken over, and checked", async () => {
    const first = await open();
    const older = (id: string) => {
      const [seed, machine] = read("agent_key").split("\n");
      fs.writeFileSync(file("agent_key"), `${seed}\n`);
      fs.writeFileSync(file("agent_id.txt"), `${id}\n${machine}\n`);
    };
    const files = () => [read("agent_id.txt"), read("agent_key")];
    const before = files();
    older(first.agentId);
    const again = await open();
    expect([again.agentId, again.key.publicKey, movedHere]).toEqual([first.agentId, first.key.publicKey, false]);
    expect(files()).toEqual(before);
    older(first.agentId);
    fs.writeFileSync(machineIdPath, "00000000000000000000000000000001\n");
    const moved = await open();
    expect([movedHere, moved.agentId === first.agentId]).toEqual([true, false]);
  });

  test("no log tells the key", async () => {
    const first = await open();
    fs.truncateSync(file("agent_id.txt"), 5);
    await open();
    await (await open()).renew();
    expect(lines.join("\n")).not.toContain(first.key.seed);
  });
});

describe("the tick", () => {
  test("begins at 1 and counts on over restarts", async () => {
    const first = await open();
    expect([first.lastTick, await first.nextTick(), await first.nextTick(), first.lastTick]).toEqual([0, 1, 2, 2]);
    const again = await open();
    expect([again.lastTick, await again.nextTick(), await again.nextTick(1000), await again.nextTick(5)]).toEqual([
      2, 3, 1001, 1002,
    ]);
  });

  test("is on the disk by fsync, then rename, then fsync of the directory, before it is used", async () => {
    const identity = await open();
    const done: string[] = [];
    const spies = [
      spyOn(fs, "fsyncSync").mockImplementation((descriptor) => {
        done.push(
          `fsync ${fs.readlinkSync(`/proc/self/fd/${descriptor}`).replace(/\.[0-9]+\.[0-9a-f]+\.tmp$/, ".tmp")}`,
        );
      }),
    ];
    const rename = fs.renameSync;
    spies.push(
      spyOn(fs, "renameSync").mockImplementation((from, to) => {
        done.push(`rename to ${String(to)}`);
        rename(from, to);
      }) as never,
    );
    try {
      expect(await identity.nextTick()).toBe(1);
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
    const directory = fs.realpathSync(own.path);
    expect(done).toEqual([
      `fsync ${directory}/agent_tick.tmp`,
      `rename to ${own.path}/agent_tick`,
      `fsync ${directory}`,
    ]);
    expect(read("agent_tick")).toBe("1\n");
  });

  test("that cannot be written is not used", async () => {
    const identity = await open();
    await identity.nextTick();
    const spy = spyOn(fs, "fsyncSync").mockImplementation(() => {
      throw Object.assign(new Error("no space"), { code: "ENOSPC" });
    });
    try {
      await expect(identity.nextTick()).rejects.toThrow(/^cannot write .*agent_tick \(ENOSPC\): check/);
    } finally {
      spy.mockRestore();
    }
    expect(identity.lastTick).toBe(1);
    expect(fs.readdirSync(own.path).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("of two processes that take them at once, and are killed, none repeats", async () => {
    await open();
    const script = join(own.path, "take.ts");
    fs.writeFileSync(
      script,
      `import { writeSync } from "node:fs";
       import { Identity } from ${JSON.stringify(join(import.meta.dir, "../../agent/identity.ts"))};
       import { createLog } from ${JSON.stringify(join(import.meta.dir, "../../shared/log.ts"))};
       const identity = await Identity.open({ directory: ${JSON.stringify(own.path)}, fixedManagerKey: null,
         log: createLog("error"), machineIdPath: ${JSON.stringify(machineIdPath)} });
       for (;;) writeSync(1, (await identity.nextTick()) + "\\n");`,
    );
    const used: number[] = [];
    for (let round = 0; round < 2; round++) {
      const children = [0, 1].map(() =>
        Bun.spawn([process.execPath, "--no-env-file", script], { stdout: "pipe", stderr: "inherit" }),
      );
      const texts = children.map(() => "");
      const ended = children.map(async (child, i) => {
        for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) texts[i] += chunk;
      });
      // Until both take some, beside each other, however long they take to start.
      const until = performance.now() + 10_000;
      while (texts.some((text) => text.split("\n").length < 10) && performance.now() < until) await Bun.sleep(10);
      for (const child of children) child.kill("SIGKILL");
      await Promise.all(ended);
      for (const text of texts) {
        const own = text.trim().split("\n").filter(Boolean).map(Number);
        expect(own).toEqual([...own].sort((a, b) => a - b));
        used.push(...own);
      }
    }
    expect(used.length).toBeGreaterThan(10);
    expect(new Set(used).size).toBe(used.length);
    expect(await (await open()).nextTick()).toBeGreaterThan(Math.max(...used));
  });

  test.each([
    ["empty", ""],
    ["a word", "x\n"],
    ["negative", "-5\n"],
    ["with a point", "1.5\n"],
    ["of 16 digits", "1234567890123456\n"],
  ])("%s: set aside, said, and counted on from the seconds since 1970", async (_name, text) => {
    await (await open()).nextTick();
    fs.writeFileSync(file("agent_tick"), text);
    const again = await open();
    expect(await again.nextTick()).toBe(NOW / 1000 + 1);
    expect(events()).toEqual(["state_file_broken"]);
    expect(fs.readFileSync(file(`agent_tick.broken-${NOW}`), "utf8")).toBe(text);
  });

  test("begins at 1 also where one start made the identity and the next collects", async () => {
    await open();
    expect(await (await open()).nextTick()).toBe(1);
    await (await open()).renew();
    expect(await (await open()).nextTick()).toBe(1);
  });

  test("gone, with a key that used some: counted on from the seconds since 1970", async () => {
    await (await open()).nextTick();
    fs.rmSync(file("agent_tick"));
    expect(await (await open()).nextTick()).toBe(NOW / 1000 + 1);
  });
});

describe("files that are broken", () => {
  test.each([
    ["agent_id.txt", 10],
    ["agent_id.txt", 0],
    ["agent_key", 10],
    ["agent_key", 60],
    ["agent_key", 0],
  ])("%s cut off at %i bytes: set aside, a new identity, said loudly", async (name, bytes) => {
    const first = await open();
    await first.nextTick();
    fs.truncateSync(file(name), bytes);
    const again = await open();
    expect(again.agentId).toMatch(UUID_V4);
    expect(again.agentId).not.toBe(first.agentId);
    expect(again.key.publicKey).not.toBe(first.key.publicKey);
    expect(await again.nextTick()).toBe(1);
    expect(asides()).toEqual([`${name}.broken-${NOW}`]);
    expect(JSON.parse(lines[0]!)).toMatchObject({
      level: "error",
      event: "state_file_broken",
      effect: "this agent takes a new identity",
    });
    const third = await open();
    expect([third.agentId, third.key.publicKey, events()]).toEqual([again.agentId, again.key.publicKey, []]);
  });

  test("a key that is gone takes its id with it", async () => {
    const first = await open();
    fs.rmSync(file("agent_key"));
    expect((await open()).agentId).not.toBe(first.agentId);
  });

  test("an id that is a path", async () => {
    await open();
    fs.writeFileSync(file("agent_id.txt"), "../../x\n");
    expect((await open()).agentId).toMatch(UUID_V4);
    expect(asides()).toEqual([`agent_id.txt.broken-${NOW}`]);
  });

  test("the manager's key cut off: learned anew, the identity stays", async () => {
    const first = await open();
    first.pinManager(MANAGER);
    fs.truncateSync(file("manager_key.pub"), 12);
    const again = await open();
    expect([again.managerKey, again.agentId]).toEqual([null, first.agentId]);
    expect(events()).toEqual(["state_file_broken"]);
  });

  test.each(["agent_id.txt", "agent_key", "agent_tick", "manager_key.pub"])(
    "%s that others can read is mended, and said",
    async (name) => {
      const first = await open();
      await first.nextTick();
      first.pinManager(MANAGER);
      fs.chmodSync(file(name), 0o644);
      const again = await open();
      expect([again.agentId, again.lastTick]).toEqual([first.agentId, 1]);
      expect(fs.statSync(file(name)).mode & 0o777).toBe(0o600);
      expect(events()).toEqual(["state_file_mended"]);
    },
  );

  test.each(["agent_id.txt", "agent_key", "manager_key.pub"])("%s as a symbolic link: refused", async (name) => {
    const first = await open();
    first.pinManager(MANAGER);
    fs.renameSync(file(name), file("elsewhere"));
    fs.symlinkSync(file("elsewhere"), file(name));
    const before = read("elsewhere");
    await expect(open()).rejects.toThrow(`${file(name)} is a symbolic link: replace it by the file itself`);
    expect(read("elsewhere")).toBe(before);
  });

  test("a tick, or a file about to be made, as a symbolic link: refused, and nothing is written through it", async () => {
    const identity = await open();
    fs.writeFileSync(file("elsewhere"), "7\n");
    fs.rmSync(file("agent_tick"));
    fs.symlinkSync(file("elsewhere"), file("agent_tick"));
    await expect(identity.nextTick()).rejects.toThrow("is a symbolic link");
    fs.symlinkSync(file("elsewhere"), file("manager_key.pub"));
    expect(() => identity.pinManager(MANAGER)).toThrow("is a symbolic link");
    expect(read("elsewhere")).toBe("7\n");
  });

  test("a directory in a file's place: refused", async () => {
    fs.mkdirSync(file("agent_id.txt"));
    await expect(open()).rejects.toThrow(`${file("agent_id.txt")} is not a regular file`);
  });
});

describe("the machine", () => {
  test("another: a new identity, said loudly", async () => {
    const first = await open();
    await first.nextTick();
    fs.writeFileSync(machineIdPath, "00000000000000000000000000000001\n");
    const moved = await open();
    expect([movedHere, moved.agentId === first.agentId, moved.key.publicKey === first.key.publicKey]).toEqual([
      true,
      false,
      false,
    ]);
    expect(await moved.nextTick()).toBe(1);
    expect(JSON.parse(lines[0]!)).toMatchObject({
      level: "error",
      event: "machine_changed",
      old_agent_id: first.agentId,
    });
    const again = await open();
    expect([movedHere, again.agentId]).toEqual([false, moved.agentId]);
  });

  test.each([
    ["none, before or now", null, null],
    ["none before", null, "1\n"],
    ["none now", "1\n", null],
    ["empty now", "1\n", "\n"],
  ])("%s: no check", async (_name, before, now) => {
    const set = (text: string | null) =>
      text === null ? fs.rmSync(machineIdPath, { force: true }) : fs.writeFileSync(machineIdPath, text);
    set(before);
    const first = await open();
    set(now);
    const again = await open();
    expect([again.agentId, movedHere]).toEqual([first.agentId, false]);
  });

  test("another: the outbox is not its, and is emptied", async () => {
    const first = await startAgent();
    first.outbox.push(await first.collect());
    expect((await startAgent()).outbox.length).toBe(1);
    fs.writeFileSync(machineIdPath, "00000000000000000000000000000001\n");
    expect((await startAgent()).outbox.length).toBe(0);
  });

  test("another, and killed at any step of taking the new identity: the outbox is nobody's", async () => {
    const outcomes: string[] = [];
    for (let steps = 0; ; steps++) {
      fs.rmSync(file("state"), { recursive: true, force: true });
      fs.writeFileSync(machineIdPath, "00000000000000000000000000000000\n");
      const first = await startAgent();
      for (let i = 0; i < 2; i++) first.outbox.push(await first.collect());
      fs.writeFileSync(machineIdPath, "00000000000000000000000000000001\n");
      const whole = await killedAfter(steps, startAgent);
      const { identity, outbox } = await startAgent();
      // The old id with a new key would be a clone to the manager.
      expect([steps, identity.agentId === first.identity.agentId]).toEqual([steps, false]);
      outcomes.push(`killed at step ${steps}: ${outbox.length} wait`);
      if (whole) break;
    }
    expect(outcomes.filter((outcome) => !outcome.endsWith(" 0 wait"))).toEqual([]);
    // Two reports; the key and its tick; an id, a tick and a key.
    expect(outcomes).toHaveLength(8);
  });
});

describe("changes", () => {
  test("an id that the manager gives is kept, with the key and the tick; one that is none is not", async () => {
    const identity = await open();
    await identity.nextTick();
    const given = crypto.randomUUID();
    identity.adopt(given);
    for (const bad of ["../../x", "", given.toUpperCase(), "00000000-0000-1000-8000-000000000000"]) identity.adopt(bad);
    const again = await open();
    expect([again.agentId, again.key.publicKey, again.lastTick]).toEqual([given, identity.key.publicKey, 1]);
  });

  test("a new identity has a new id and key, counts from 1, and keeps the manager's key", async () => {
    const identity = await open();
    const before = [identity.agentId, identity.key.publicKey];
    await identity.nextTick();
    identity.pinManager(MANAGER);
    await identity.renew();
    expect([identity.agentId, identity.key.publicKey].filter((value) => before.includes(value))).toEqual([]);
    const again = await open();
    expect([again.agentId, again.key.publicKey, again.managerKey]).toEqual([
      identity.agentId,
      identity.key.publicKey,
      MANAGER,
    ]);
    expect([await identity.nextTick(), await (await open()).nextTick()]).toEqual([1, 2]);
  });

  test("a new identity, killed at any step of taking it: never the id of one with the key of another", async () => {
    const outcomes: boolean[] = [];
    for (let whole = false; !whole;) {
      const first = await open();
      const [id, key] = [first.agentId, first.key.publicKey];
      whole = await killedAfter(outcomes.length, () => first.renew());
      const again = await open();
      outcomes.push((again.agentId === id) === (again.key.publicKey === key));
      expect(await again.nextTick()).toBe(1);
    }
    expect(outcomes).toEqual(new Array<boolean>(6).fill(true));
  });

  test("another key of the manager is taken, and said loudly; MANAGER_KEY forbids it", async () => {
    const identity = await open();
    expect([identity.pinManager("x"), identity.pinManager(MANAGER), identity.pinManager(MANAGER)]).toEqual([
      false,
      true,
      true,
    ]);
    expect(identity.pinManager(OTHER)).toBe(true);
    expect(events()).toEqual(["manager_key_learned", "manager_key_changed"]);
    const fixed = await open(MANAGER);
    expect([fixed.managerKey, fixed.pinManager(OTHER), fixed.pinManager(MANAGER)]).toEqual([MANAGER, false, true]);
    expect(read("manager_key.pub")).toBe(`${OTHER}\n`);
  });
});

test("a state directory restored from a snapshot: its ticks were used, and its next report arrives nevertheless", async () => {
  const manager = await ground();
  try {
    const state = file("state");
    const settings = agentSettings({ PSK: manager.psk, MANAGER_URL: manager.url, STATE_DIR: state }, own.path);
    const send = async (count: number) => {
      const agent = await openAgent(
        settings,
        createHost({ path: own.path }),
        createLog("error", () => {}),
        {
          machineIdPath,
        },
      );
      await agent.psk.once();
      for (let i = 0; i < count; i++) expect(await agent.delivery.flush(await agent.collect())).toBe(true);
      return agent.identity;
    };
    const before = await send(1);
    fs.cpSync(state, file("snapshot"), { recursive: true });
    expect((await send(4)).lastTick).toBe(5);
    fs.rmSync(state, { recursive: true });
    fs.cpSync(file("snapshot"), state, { recursive: true });
    const restored = await send(2);
    expect([restored.agentId, restored.lastTick]).toEqual([before.agentId, 7]);
    expect(manager.stored()).toMatchObject({ agents: 1, reports: 7 });
  } finally {
    await manager.remove();
  }
});

test("a seed of 31 bytes is no key", async () => {
  await expect(signingKey(new Uint8Array(31).toBase64())).rejects.toThrow("32 bytes");
});
