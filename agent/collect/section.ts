// Owns what every collector shares: a section with its status, the wire's limits, and numbers as the kernel prints them.
// Pure.
import { MAX_ITEMS, MAX_STRING_BYTES } from "../../shared/limits.ts";

/** What one collector brings home: null data with "error: …", or data with "ok" or "partial: …". */
export type Section<T> = { data: T | null; status: string; truncated?: boolean };

/** A list within the wire's limit. */
export function cut<T>(items: T[]): { items: T[]; truncated: boolean } {
  return items.length > MAX_ITEMS ? { items: items.slice(0, MAX_ITEMS), truncated: true } : { items, truncated: false };
}

/** A string within the wire's limit of 255 bytes, without NUL, cut between characters. */
export function short(text: string): string {
  const clean = text.replaceAll("\0", "").toWellFormed();
  if (clean.length * 3 <= MAX_STRING_BYTES || Buffer.byteLength(clean) <= MAX_STRING_BYTES) return clean;
  let end = "";
  let size = 0;
  for (const character of clean) {
    size += Buffer.byteLength(character);
    if (size > MAX_STRING_BYTES) break;
    end += character;
  }
  return end;
}

const TWO_TO_53 = 2n ** 53n;

/** A counter in decimal, modulo 2^53 (the wire's limit: a reset, to the reader); null: no number. */
export function counter(text: string): number | null {
  if (!/^[0-9]{1,20}$/.test(text)) return null;
  return text.length <= 15 ? Number(text) : Number(BigInt(text) % TWO_TO_53);
}

/** JSON of a program; null: it printed none. */
export function parseJson<T>(text: string): T | null {
  try {
    return JSON.parse(text) as T;
  } catch {
    return null;
  }
}
