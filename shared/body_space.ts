// Owns the bound on what is held of request bodies that are still arriving: strangers send those too, slowly or never to the
// end, and one body may be 4 MiB. Pure.

/** Up to this size a body is always read: most reports are a tenth of it, and nobody's large bodies keep them out. */
export const SMALL_BODY_BYTES = 64 * 1024;
/** What who finds no space is to wait: bodies that stall are cut off after 15 s. */
export const BODY_RETRY_AFTER_S = 10;

/** The space that all bodies larger than `SMALL_BODY_BYTES` share while they arrive. */
export class BodySpace {
  #heldBytes = 0;

  constructor(private readonly mostBytes: number) {}

  /** For one body: `grow` counts what came, and is false where there is no space for it; `close` gives all of it back. */
  open(): { grow(bytes: number): boolean; close(): void } {
    let size = 0;
    let held = 0;
    return {
      grow: (bytes) => {
        size += bytes;
        if (size <= SMALL_BODY_BYTES) return true;
        const more = size - held;
        if (this.#heldBytes + more > this.mostBytes) return false;
        this.#heldBytes += more;
        held = size;
        return true;
      },
      close: () => {
        this.#heldBytes -= held;
        held = 0;
      },
    };
  }
}
