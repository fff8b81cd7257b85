// Owns the small drawing of a link's rates over time: both directions, gaps where nothing is known, with words for those who
// cannot see it.
import type { EdgeHistory } from "../../shared/api.ts";
import { duration, rate } from "./words.ts";

const WIDTH = 400;
const HEIGHT = 64;

type Sample = EdgeHistory["samples"][number];

/** SVG path data of one series within WIDTH × HEIGHT; null values break the line. Pure. */
export function sparkPath(samples: readonly Sample[], of: (sample: Sample) => number | null, top: number): string {
  const first = samples[0]?.at ?? 0;
  const span = Math.max(1, (samples.at(-1)?.at ?? 0) - first);
  let path = "";
  let pen = "M";
  for (const sample of samples) {
    const value = of(sample);
    if (value === null) {
      pen = "M";
      continue;
    }
    const x = ((sample.at - first) / span) * WIDTH;
    const y = HEIGHT - 2 - (value / Math.max(1, top)) * (HEIGHT - 6);
    path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return path;
}

export function Sparkline({ samples, now }: { samples: readonly Sample[]; now: number }) {
  const values = samples.flatMap(({ a_to_b_bps: there, b_to_a_bps: back }) => [there ?? 0, back ?? 0]);
  const top = Math.max(0, ...values);
  if (samples.length < 2) return <p class="muted small">No rates are kept for this time.</p>;
  const from = duration(now - samples[0]!.at);
  return (
    <figure>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        width="100%"
        height={HEIGHT}
        preserveAspectRatio="none"
        role="img"
        aria-label={`Rates over the last ${from}: at most ${rate(top)}`}
      >
        <path d={sparkPath(samples, (sample) => sample.a_to_b_bps, top)} class="spark there" />
        <path d={sparkPath(samples, (sample) => sample.b_to_a_bps, top)} class="spark back" />
      </svg>
      <figcaption class="muted small">
        last {from}, top {rate(top)}; solid is the first direction, dashed the second
      </figcaption>
    </figure>
  );
}
