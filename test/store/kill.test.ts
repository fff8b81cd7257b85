// kill -9 in the middle of ingest: every commit that resolved is there exactly once, and the database is sound.
// `KILLS=200 bun test test/store/kill.test.ts` is the whole fault of 5-hardening.md.
import { Database } from "bun:sqlite";
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { collect, place } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const KILLS = Number(process.env["KILLS"] ?? 20);

test(
  `killed ${KILLS} times`,
  async () => {
    using at = place();
    const acknowledged = new Set<string>();
    let packsSeen = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const child = Bun.spawn(["bun", join(import.meta.dir, "kill_child.ts"), at.path], {
        stdout: "pipe",
        stderr: "inherit",
      });
      let text = "";
      let killer: Timer | null = null;
      for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
        text += chunk;
        // From the first acknowledgement on, so that each life commits something, then at any moment.
        killer ??= setTimeout(() => child.kill("SIGKILL"), Math.random() * 150);
      }
      if (killer !== null) clearTimeout(killer);
      expect(await child.exited).toBe(137);
      for (const line of text.split("\n").slice(0, -1)) {
        expect(acknowledged.has(line), line).toBe(false);
        acknowledged.add(line);
      }
      if (kill % 5 !== 4 && kill !== KILLS - 1) continue;

      const store = await at.open(); // the lock died with its holder
      const found = (await collect(store.allReports())).map(({ agent_id, tick, data }) => {
        expect(JSON.parse(data)).toMatchObject({ agent_id, tick });
        return `${agent_id} ${tick}`;
      });
      expect(new Set(found).size).toBe(found.length);
      expect(acknowledged.difference(new Set(found)).size).toBe(0);
      expect((await store.figures()).reports).toBe(found.length);
      await store.close();
      const database = new Database(at.path, { readonly: true });
      expect(database.query("PRAGMA integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
      expect(database.query("SELECT count(*) AS n FROM reports").get()).toEqual({ n: found.length });
      packsSeen = (database.query("SELECT count(*) AS n FROM packs").get() as { n: number }).n;
      database.close();
    }
    expect(acknowledged.size).toBeGreaterThan(KILLS);
    expect(packsSeen).toBeGreaterThan(0);
  },
  KILLS * 5_000,
);
