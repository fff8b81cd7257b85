// Owns `bun run test:path --networks N --seed S`: random networks of real namespaces and WireGuard, where every verdict
// of path is compared with a ping. Prints the verdicts' shares; exits 1 on a disagreement or too many `unknown`.
import { parseArgs } from "node:util";
import { type Comparison, compare } from "../test/path/compare.ts";
import { planOf } from "../test/path/faults.ts";
import { runNetworks, summaryOf } from "../test/path/run.ts";
import { hint, LAB_NEEDS, missing } from "../test/support/needs.ts";

const { values } = parseArgs({
  options: {
    networks: { type: "string", default: "50" },
    seed: { type: "string", default: "1" },
    /** Networks at a time: most of a network's time is spent waiting for pings that nobody answers. */
    parallel: { type: "string", default: "4" },
    /** Where to write the collected sections of networks with a disagreement. */
    dump: { type: "string" },
  },
});

const lacking = missing(LAB_NEEDS);
if (lacking.length > 0) {
  console.error(`test:path needs ${lacking.join(", ")}: ${hint(lacking)}`);
  process.exit(2);
}

const [networks, first, parallel] = [values.networks, values.seed, values.parallel].map(Number) as [
  number,
  number,
  number,
];
const results: Comparison[] = await runNetworks(
  Array.from({ length: networks }, (_, i) => planOf(first + i)),
  parallel,
  compare,
  async (result) => {
    const { plan, pairs, disagreements } = result;
    console.log(`${plan.seed}  ${plan.shape}  ${pairs} pairs  ${plan.faults.join(", ") || "no fault"}`);
    for (const { from, to, said, answered, path } of disagreements)
      console.log(
        `  ${from} → ${to}: said ${said}, ping ${answered ? "answered" : "did not answer"}\n` +
          `    there: ${path.verdict} ${path.reason ?? ""}\n    back:  ${path.back.verdict} ${path.back.reason ?? ""}`,
      );
    if (disagreements.length > 0 && values.dump !== undefined)
      await Bun.write(`${values.dump}/network-${plan.seed}.json`, JSON.stringify(result, null, 1));
  },
);
const summary = summaryOf(results);
console.log(summary.text);
process.exit(summary.disagreements === 0 && summary.unknownShare < 0.05 ? 0 : 1);
