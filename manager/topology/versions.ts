// Owns the comparison of what is so with what history has, by a hash: whole bodies in memory would double it. Pure.

/** cyrb53 of the JSON text: 53 bits, so that two versions of one thing never look alike by chance. */
export function hashOf(body: unknown): number {
  const text = JSON.stringify(body);
  let one = 0xdeadbeef;
  let two = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    one = Math.imul(one ^ c, 2654435761);
    two = Math.imul(two ^ c, 1597334677);
  }
  one = Math.imul(one ^ (one >>> 16), 2246822507) ^ Math.imul(two ^ (two >>> 13), 3266489909);
  two = Math.imul(two ^ (two >>> 16), 2246822507) ^ Math.imul(one ^ (one >>> 13), 3266489909);
  return 4294967296 * (2097151 & two) + (one >>> 0);
}
