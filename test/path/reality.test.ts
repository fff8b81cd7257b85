// Path against reality: fifty random networks of real namespaces and WireGuard; the verdict on every ordered pair is what
// a real ping says, and where no firewall is, hardly anything is unknown. Any number: `bun run test:path --networks N`.
import { expect, test } from "bun:test";
import { describeWith, LAB_NEEDS } from "../support/needs.ts";
import { compare } from "./compare.ts";
import { planOf } from "./faults.ts";
import { runNetworks, summaryOf } from "./run.ts";

const NETWORKS = 50;
const FIRST_SEED = 1;
/** Most of a network's time is spent waiting for pings that nobody answers. */
const AT_ONCE = 4;
/** What the contract allows to be unknown where no firewall is. */
const UNKNOWN_LIMIT = 0.05;

describeWith(LAB_NEEDS, "path against reality", () => {
  test(`${NETWORKS} random networks: no verdict that a ping contradicts`, async () => {
    const plans = Array.from({ length: NETWORKS }, (_, i) => planOf(FIRST_SEED + i));
    const results = await runNetworks(plans, AT_ONCE, compare);
    const summary = summaryOf(results);
    console.log(summary.text);
    const wrong = results.flatMap(({ plan, disagreements }) =>
      disagreements.map(
        ({ from, to, said, answered }) =>
          `seed ${plan.seed} (${plan.shape}): ${from} → ${to}: said ${said}, ping ${answered ? "answered" : "did not answer"}`,
      ),
    );
    expect(wrong).toEqual([]);
    expect(summary.unknownShare).toBeLessThan(UNKNOWN_LIMIT);
  }, 600_000);
});
