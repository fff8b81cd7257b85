// Owns the running of many comparisons, a few at a time, and what they come to together.
import type { Comparison } from "./compare.ts";
import type { Plan } from "./plan.ts";

/** Compares the plans, `parallel` at a time, in their order; `each` hears of one as it ends. */
export async function runNetworks(
  plans: readonly Plan[],
  parallel: number,
  compare: (plan: Plan) => Promise<Comparison>,
  each: (result: Comparison) => unknown = () => {},
): Promise<Comparison[]> {
  const results: Comparison[] = [];
  const waiting = [...plans];
  const worker = async () => {
    for (let plan = waiting.shift(); plan !== undefined; plan = waiting.shift()) {
      const result = await compare(plan);
      results.push(result);
      await each(result);
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  return results;
}

export type Summary = {
  text: string;
  pairs: number;
  disagreements: number;
  /** Share of `unknown` among the networks without a firewall. */
  unknownShare: number;
};

export function summaryOf(results: readonly Comparison[]): Summary {
  const verdicts = new Map<string, number>();
  let [pairs, disagreements, openPairs, openUnknown] = [0, 0, 0, 0];
  for (const result of results) {
    pairs += result.pairs;
    disagreements += result.disagreements.length;
    const isOpen = result.plan.hosts.every(({ nft }) => nft.length === 0);
    if (isOpen) openPairs += result.pairs;
    for (const [name, count] of result.verdicts) {
      verdicts.set(name, (verdicts.get(name) ?? 0) + count);
      if (isOpen && name.startsWith("unknown")) openUnknown += count;
    }
  }
  const percent = (part: number, whole: number) => `${((100 * part) / Math.max(1, whole)).toFixed(2)} %`;
  const unknownShare = openUnknown / Math.max(1, openPairs);
  const lines = [...verdicts]
    .sort((a, b) => b[1] - a[1])
    .map(([name, count]) => `  ${percent(count, pairs).padStart(8)}  ${String(count).padStart(6)}  ${name}`);
  return {
    text: [
      `${results.length} networks, ${pairs} pairs, ${disagreements} disagreements`,
      ...lines,
      `unknown where no firewall is: ${percent(openUnknown, openPairs)} of ${openPairs}`,
    ].join("\n"),
    pairs,
    disagreements,
    unknownShare,
  };
}
