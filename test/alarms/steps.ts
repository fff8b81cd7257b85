// Owns tables of timed steps for alarm rules. Every table runs twice: straight on, and with the alarms built anew from the
// stored rows before each step; both must tell the same story.
import { describe, expect, test } from "bun:test";
import { World } from "./world.ts";

/** `pass` seconds after the step before: then `act`, and `open` is what must be open when the step ends. */
export type Step = {
  pass?: number;
  act?: (world: World) => void;
  open?: string[];
  /** What receivers have been told so far, all of it. */
  told?: string[];
  check?: (world: World) => void;
};
export type Table = {
  name: string;
  agents?: string[];
  /** How long before the world's beginning its agents were first seen. */
  seenForMs?: number;
  /** REPORT_INTERVAL of its agents, 30 unless told. */
  intervalS?: number;
  steps: Step[];
};

function run({ agents = ["a", "b", "c"], seenForMs, intervalS, steps }: Table, restarts: boolean): World {
  const world = new World(agents, { restarts, seenForMs, intervalS });
  world.pass(60);
  for (const [place, step] of steps.entries()) {
    step.act?.(world);
    world.pass(step.pass ?? 0);
    if (step.open !== undefined) expect({ step: place, open: world.open() }).toEqual({ step: place, open: step.open });
    if (step.told !== undefined) expect({ step: place, told: world.told() }).toEqual({ step: place, told: step.told });
    step.check?.(world);
  }
  return world;
}

export function tables(name: string, list: Table[]): void {
  describe(name, () => {
    for (const table of list) {
      test(table.name, () => {
        const straight = run(table, false);
        const restarted = run(table, true);
        expect(restarted.history()).toEqual(straight.history());
        expect(restarted.open()).toEqual(straight.open());
      });
    }
  });
}

export function acknowledge(world: World, code: string): void {
  world.do((alarms, now) => alarms.acknowledge(world.row(code).id, now)?.change ?? null);
}
