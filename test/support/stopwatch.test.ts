// The stopwatch: real time, also while the event loop is held up; none while the process stands still.
import { expect, test } from "bun:test";
import { join } from "node:path";

test("runs while the event loop is held up, and stands still while the process does", async () => {
  const script = `
    const { stopwatch } = await import(${JSON.stringify(join(import.meta.dir, "stopwatch.ts"))});
    const [watch, began] = [stopwatch(), performance.now()];
    for (const until = performance.now() + 500; performance.now() < until;);
    const held = watch.ms();
    console.log("held");
    for await (const _ of Bun.stdin.stream()) break;
    console.log(JSON.stringify([held, watch.ms(), watch.stalledMs(), performance.now() - began]));`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  const reader = child.stdout.getReader();
  await reader.read();
  child.kill("SIGSTOP");
  await Bun.sleep(1000);
  child.kill("SIGCONT");
  child.stdin.write("on\n");
  child.stdin.end();
  const { value } = await reader.read();
  const [held, ran, stalled, whole] = JSON.parse(Buffer.from(value!).toString()) as [number, number, number, number];
  expect(await child.exited).toBe(0);
  expect(held).toBeGreaterThan(490);
  expect(stalled).toBeGreaterThan(900);
  expect(Math.abs(ran + stalled - whole)).toBeLessThan(5);
}, 60_000);
