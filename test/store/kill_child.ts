// Feeds the store until it is killed: `bun kill_child.ts DATABASE`. Each report that was acknowledged is one line
// `agent tick` on stdout, written after its commit resolved. Packs and prunes beside it, as the manager does.
import { writeSync } from "node:fs";
import { openStore } from "../../manager/store/sqlite.ts";
import { createLog } from "../../shared/log.ts";
import { AGENT, OTHER, report } from "./support.ts";

const store = await openStore(process.argv[2]!, { log: createLog("error") });
const next = new Map<string, number>();
for (const agent of [AGENT, OTHER]) next.set(agent, ((await store.replayWindow(agent)).highest_tick ?? 0) + 1);
const filling = "x".repeat(6000);

for (;;) {
  await Promise.all(
    Array.from({ length: 10 }, async (_, i) => {
      const agent_id = i % 2 === 0 ? AGENT : OTHER;
      const tick = next.get(agent_id)!;
      next.set(agent_id, tick + 1);
      await store.commit({ reports: [report(tick, { agent_id, data: JSON.stringify({ agent_id, tick, filling }) })] });
      writeSync(1, `${agent_id} ${tick}\n`);
    }),
  );
  await store.maintain(Date.now(), { reportsMs: 1e12, eventsMs: 1e12 });
}
