// Owns the live stream: who listens, and what each is sent (server-sent events). A reader that does not keep up is cut:
// it comes back and fetches anew.
import type { StreamEvents } from "../shared/api.ts";

/** Dashboards open at once; more get 503. */
const MAX_LISTENERS = 200;
/** Bytes that may wait for one slow reader. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;
/** A comment now and then keeps proxies from closing a quiet stream. */
const HEARTBEAT_MS = 15_000;

type Listener = { controller: ReadableStreamDefaultController<Uint8Array>; may(): boolean; close(): void };

export class Stream {
  #listeners = new Set<Listener>();
  #sequence = 0;
  #heartbeat: Timer | null = null;
  readonly #encoder = new TextEncoder();

  get listeners(): number {
    return this.#listeners.size;
  }

  /**
   * A new listener's body, begun with `hello`; null: too many listen already. `may`: whether it may still read, asked
   * with each heartbeat and by `recheck`.
   */
  open(hello: StreamEvents["hello"], may: () => boolean): ReadableStream<Uint8Array> | null {
    if (this.#listeners.size >= MAX_LISTENERS) return null;
    let listener: Listener | null = null;
    const stream = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          listener = {
            controller,
            may,
            close: () => {
              this.#listeners.delete(listener!);
              try {
                controller.close();
              } catch {
                // closed by the reader already
              }
            },
          };
          this.#listeners.add(listener);
          // The browser comes back by itself: after 2 s, not at once.
          this.#write(listener, "retry: 2000\n\n");
          this.#write(listener, this.#frame("hello", hello));
        },
        cancel: () => {
          if (listener !== null) this.#listeners.delete(listener);
        },
      },
      { highWaterMark: MAX_WAITING_BYTES, size: (chunk) => chunk?.byteLength ?? 0 },
    );
    this.#heartbeat ??= setInterval(() => {
      this.recheck();
      this.#toAll(": \n\n");
    }, HEARTBEAT_MS);
    return stream;
  }

  send<Name extends keyof StreamEvents>(name: Name, data: StreamEvents[Name]): void {
    if (this.#listeners.size > 0) this.#toAll(this.#frame(name, data));
  }

  /** Ends the streams of those who may read no more: their session ended. */
  recheck(): void {
    for (const listener of [...this.#listeners]) if (!listener.may()) listener.close();
  }

  /** Ends every stream: at shutdown. */
  close(): void {
    if (this.#heartbeat !== null) clearInterval(this.#heartbeat);
    this.#heartbeat = null;
    for (const listener of [...this.#listeners]) listener.close();
  }

  #frame(name: string, data: unknown): string {
    return `id: ${++this.#sequence}\nevent: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
  }

  #toAll(text: string): void {
    for (const listener of [...this.#listeners]) this.#write(listener, text);
  }

  #write(listener: Listener, text: string): void {
    try {
      listener.controller.enqueue(this.#encoder.encode(text));
      if ((listener.controller.desiredSize ?? 0) <= 0) listener.close();
    } catch {
      this.#listeners.delete(listener);
    }
  }
}
