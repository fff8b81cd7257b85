// Owns the killing of a manager in the middle of ingest, over real HTTP: what was acknowledged is in the database exactly
// once, and what was cut off in between may be sent again.
import { Database } from "bun:sqlite";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Agent, registered, spawnManager } from "../manager/support.ts";

const AGENTS = 8;
/** From the first acknowledgement of a life to its end, at most. */
const LIFE_MS = 300;

export type KillFigures = {
  kills: number;
  acknowledged: number;
  /** Sent, and the manager died before it answered. */
  cut: number;
  /** Of those, stored all the same: their answer was lost after the commit. */
  answersLost: number;
};

/** Kills a manager `kills` times under load. @throws when the invariant does not hold. */
export async function killManager(kills: number): Promise<KillFigures> {
  const directory = mkdtempSync(join(tmpdir(), "kattila-kills-"));
  const figures: KillFigures = { kills, acknowledged: 0, cut: 0, answersLost: 0 };
  try {
    let manager = await spawnManager(directory);
    const environment = { MANAGER_PORT: String(manager.port) };
    const agents = await Promise.all(Array.from({ length: AGENTS }, (_, i) => registered(manager, `host-${i}`)));
    const expected = new Map<string, Set<number>>(agents.map((agent) => [agent.id, new Set()]));
    const send = async (agent: Agent, body: string, tick: number): Promise<"stored" | "cut"> => {
      let response: Response;
      let text: string;
      try {
        response = await fetch(`${manager.url}/status/updates`, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body,
          signal: AbortSignal.timeout(10_000),
        });
        text = await response.text();
      } catch {
        return "cut";
      }
      const duplicate = response.status === 409 && text.includes('\\"duplicate\\":true');
      if (response.status !== 200 && !duplicate) throw new Error(`tick ${tick}: ${response.status} ${text}`);
      if (duplicate) figures.answersLost++;
      expected.get(agent.id)!.add(tick);
      figures.acknowledged++;
      return "stored";
    };
    /** Per agent: the report that nobody answered, with its bytes. */
    const open = new Map<Agent, { body: string; tick: number }>();
    for (let kill = 0; kill < kills; kill++) {
      let dead = false;
      let killer: Promise<unknown> | null = null;
      const arm = () =>
        (killer ??= Bun.sleep(Math.random() * LIFE_MS).then(() => {
          dead = true;
          return manager.kill("SIGKILL");
        }));
      await Promise.all(
        agents.map(async (agent) => {
          while (!dead) {
            const waiting = open.get(agent) ?? {
              body: JSON.stringify(await agent.report()),
              tick: agent.tick,
            };
            open.set(agent, waiting);
            if ((await send(agent, waiting.body, waiting.tick)) === "cut") {
              figures.cut++;
              return;
            }
            open.delete(agent);
            void arm();
          }
        }),
      );
      await killer;
      manager = await spawnManager(directory, environment);
    }
    for (const [agent, { body, tick }] of open) {
      if ((await send(agent, body, tick)) !== "stored")
        throw new Error("a manager that was left alone does not answer");
    }
    if ((await manager.kill("SIGTERM")) !== 0) throw new Error("SIGTERM did not end the manager with 0");
    using database = new Database(join(directory, "kattila_manager.db"), { readonly: true });
    const [[sound]] = database.query("PRAGMA integrity_check").values() as [[string]];
    if (sound !== "ok") throw new Error(`integrity_check: ${sound}`);
    for (const [agentId, ticks] of expected) {
      const stored = (
        database.query("SELECT tick FROM reports WHERE agent_id = ? ORDER BY tick").values(agentId) as [number][]
      ).map(([tick]) => tick);
      const wanted = [...ticks].sort((a, b) => a - b);
      if (JSON.stringify(stored) !== JSON.stringify(wanted))
        throw new Error(`${agentId}: stored ${stored.length} ticks, acknowledged ${wanted.length}`);
    }
    return figures;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
