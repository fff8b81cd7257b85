// Owns the limits of the wire (1-protocol.md, Conventions): apart from the schemas, so that who only sends need not load
// them.

/** The version of `data` that this code writes and the highest that it reads. */
export const DATA_VERSION = 1;
/** At most this many items in a list; an agent cuts there and sets `truncated` (1-protocol.md, Conventions). */
export const MAX_ITEMS = 4096;
/** At most this many UTF-8 bytes in a string. */
export const MAX_STRING_BYTES = 255;
/** At most this many bytes of a report's `data`. */
export const MAX_REPORT_BYTES = 1024 * 1024;
/** At most this many bytes of a request body. */
export const MAX_BODY_BYTES = 4 * 1024 * 1024;
/** For Bun.serve, whose own 413 has no body to say why: both servers count, and answer, themselves. */
export const NO_BODY_LIMIT = Number.MAX_SAFE_INTEGER;
