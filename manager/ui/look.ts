// Owns the tones: which of the few colours a state takes, how its line is broken, and whether two colours are far enough
// apart to read (WCAG 2.2). The colours themselves are the style sheet's variables. Pure.
import type { EdgeState, NodeStatus, Severity } from "../../shared/api.ts";

/** A tone is the CSS variable `--<tone>`. */
export const TONES = ["good", "warn", "bad", "quiet"] as const;
export type Tone = (typeof TONES)[number];

export const STATE_TONE: Record<EdgeState, Tone> = {
  up: "good",
  late: "warn",
  idle: "quiet",
  unused: "quiet",
  stale: "bad",
  never: "bad",
  lossy: "warn",
  down: "bad",
  one_sided: "bad",
  key_mismatch: "bad",
  unknown: "quiet",
};

/** Lengths of stroke and gap in CSS pixels; [] is unbroken. Two states of one tone never share both dash and width. */
export const STATE_DASH: Record<EdgeState, readonly number[]> = {
  up: [],
  late: [9, 3],
  idle: [2, 4],
  unused: [1, 6],
  stale: [6, 4],
  never: [2, 3],
  lossy: [10, 3, 2, 3],
  down: [],
  one_sided: [12, 5],
  key_mismatch: [8, 3, 2, 3],
  unknown: [3, 5],
};

export const STATUS_TONE: Record<NodeStatus, Tone> = { online: "good", late: "warn", down: "bad", unknown: "quiet" };
export const SEVERITY_TONE: Record<Severity, Tone> = { critical: "bad", warning: "warn", info: "quiet" };

/** `#rrggbb` of a colour of the style sheet; a minifier has made `#fff` of `#ffffff`. */
export function sixDigits(colour: string): string {
  return /^#[0-9a-f]{3}$/i.test(colour) ? colour.replace(/[0-9a-f]/gi, "$&$&") : colour;
}

function channel(value: number): number {
  const share = value / 255;
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
}

/** Relative luminance of `#rrggbb`. */
export function luminance(colour: string): number {
  const number = Number.parseInt(colour.slice(1), 16);
  return 0.2126 * channel(number >> 16) + 0.7152 * channel((number >> 8) & 255) + 0.0722 * channel(number & 255);
}

/** Contrast of two colours, 1 to 21: text needs 4.5, lines and signs 3. */
export function contrast(a: string, b: string): number {
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light! + 0.05) / (dark! + 0.05);
}
