// Owns what is done with a body that is refused for its declared length: to answer and close while it still comes is a reset,
// which takes the answer from a sender that has not looked yet (RFC 9112, 9.6).
import { MAX_BODY_BYTES } from "./limits.ts";

/** A longer body is not waited for. */
const LINGER_BYTES = 4 * MAX_BODY_BYTES;
/** So long in all, and so long without a byte: who sends headers alone has the answer soon. */
const LINGER_MS = 2000;
const LINGER_SILENCE_MS = 300;

/** Reads the body of a request that will be refused and forgets it, where it is not far too long; never throws. */
export async function forgetBody({ headers, body }: Request): Promise<void> {
  if (body === null || !(Number(headers.get("content-length") ?? Number.NaN) <= LINGER_BYTES)) return;
  const end = performance.now() + LINGER_MS;
  try {
    const reader = body.getReader();
    for (;;) {
      const wait = Math.min(LINGER_SILENCE_MS, end - performance.now());
      const next = wait > 0 ? await Promise.race([reader.read(), Bun.sleep(wait).then(() => null)]) : null;
      if (next === null || next.done) break;
    }
    await reader.cancel();
  } catch {
    // The sender went: nobody waits for the answer.
  }
}
