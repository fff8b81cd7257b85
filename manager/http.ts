// Owns what every route shares: bounded bodies, error answers, query parameters, and the routes' table that makes 405 and
// default-deny access possible.
import type { ErrorResponse } from "../shared/api.ts";
import { BODY_RETRY_AFTER_S, type BodySpace, SMALL_BODY_BYTES } from "../shared/body_space.ts";
import { type JsonObject, parseObject } from "../shared/json.ts";
import { forgetBody } from "../shared/linger.ts";

/** An answer other than success: a status, a code and a remedy. The one error type of the routes. */
export class HttpError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly headers: Record<string, string> = {},
  ) {
    super(message);
    this.name = "HttpError";
  }
}

/** Of answers that are data: nobody keeps them, and no browser takes a host's name in them for markup. */
export const NO_PAGE = { "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff" } as const;

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "Content-Type": "application/json; charset=utf-8", ...NO_PAGE, ...headers },
  });
}

/** Items of a long list that are written in one turn of the event loop: at about 10 µs each, and 1 kB. */
const ITEMS_PER_TURN = 1000;

/** As `json`, of an object whose last field is a long list: written piece by piece, as fast as the reader takes it. */
export function jsonList(head: object, name: string, items: Iterable<unknown>): Response {
  const encoder = new TextEncoder();
  const iterator = items[Symbol.iterator]();
  let before = `${JSON.stringify(head).slice(0, -1)},${JSON.stringify(name)}:[`;
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        // Let reports be taken between two pieces.
        await new Promise((resolve) => setImmediate(resolve));
        let text = "";
        for (let i = 0; i < ITEMS_PER_TURN; i++) {
          const { value, done } = iterator.next();
          if (done === true) {
            controller.enqueue(encoder.encode(`${text}${before.endsWith("[") ? before : ""}]}`));
            controller.close();
            return;
          }
          text += before + JSON.stringify(value);
          before = ",";
        }
        controller.enqueue(encoder.encode(text));
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, { headers: { "Content-Type": "application/json; charset=utf-8", ...NO_PAGE } });
}

export function errorResponse(error: HttpError): Response {
  const body: ErrorResponse = { error: error.code, message: error.message };
  return json(error.status, body, error.headers);
}

/** Ends the connection: what still comes of the body is not read. */
function tooLarge(limit: number): HttpError {
  return new HttpError(413, "too_large", `the body may have at most ${limit} bytes`, { Connection: "close" });
}

/** Refuses a body that declares itself longer than `limit` bytes. @throws HttpError 413 */
export async function refuseDeclared(request: Request, limit: number): Promise<void> {
  if (!(Number(request.headers.get("content-length")) > limit)) return;
  await forgetBody(request);
  throw tooLarge(limit);
}

/**
 * Reads a JSON request's body, at most `limit` bytes, and of large ones together what `space` has.
 * @throws HttpError 413 (declared or seen), 400 (empty or broken off), 415 (another type, or compressed), 503 (no space now).
 */
export async function readBody(request: Request, limit: number, space: BodySpace): Promise<Uint8Array> {
  const empty = () => new HttpError(400, "malformed", "the body is empty");
  const declared = request.headers.get("content-length");
  await refuseDeclared(request, limit);
  // What is not there has no type.
  if (request.body === null || Number(declared ?? 1) === 0) throw empty();
  // Chunks have no end that anybody promised.
  const unread: Record<string, string> = declared === null ? { Connection: "close" } : {};
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new HttpError(415, "unsupported_media_type", "send Content-Type: application/json", unread);
  }
  const encoding = request.headers.get("content-encoding");
  if (encoding !== null && encoding.toLowerCase() !== "identity") {
    throw new HttpError(415, "unsupported_media_type", "send the body uncompressed", unread);
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  if (declared !== null && Number(declared) <= SMALL_BODY_BYTES) {
    // The declared length holds: the server reads no further. At once is cheaper than by a stream.
    try {
      const body = await request.bytes();
      size = body.byteLength;
      chunks.push(body);
    } catch {
      throw new HttpError(400, "malformed", "the body broke off");
    }
  } else {
    const own = space.open();
    try {
      for await (const chunk of request.body as unknown as AsyncIterable<Uint8Array>) {
        size += chunk.byteLength;
        if (size > limit) throw tooLarge(limit);
        if (!own.grow(chunk.byteLength)) {
          throw new HttpError(503, "busy", "too many large bodies are on their way: try again", {
            Connection: "close",
            "Retry-After": String(BODY_RETRY_AFTER_S),
          });
        }
        chunks.push(chunk);
      }
    } catch (error) {
      if (error instanceof HttpError) throw error;
      throw new HttpError(400, "malformed", "the body broke off");
    } finally {
      own.close();
    }
  }
  if (size === 0) throw empty();
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size);
}

/** The JSON object that a body is. @throws HttpError 400: not UTF-8, or what parseObject refuses. */
export function readObject(body: Uint8Array): JsonObject {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    throw new HttpError(400, "malformed", "the body is not valid UTF-8");
  }
  const parsed = parseObject(text);
  if (!parsed.ok) throw new HttpError(400, "malformed", parsed.message);
  return parsed.value;
}

/** Query parameters, each checked. Absent is null. @throws HttpError 400 that names the parameter. */
export function query(url: URL) {
  const raw = (name: string): string | null => {
    const values = url.searchParams.getAll(name);
    if (values.length > 1) throw new HttpError(400, "malformed", `${name}: give it once`);
    return values[0] ?? null;
  };
  return {
    text: raw,
    wholeNumber(name: string, minimum: number, maximum: number): number | null {
      const value = raw(name);
      if (value === null) return null;
      const number = Number(value);
      if (!/^[0-9]{1,16}$/.test(value) || number < minimum || number > maximum) {
        throw new HttpError(400, "malformed", `${name}: must be a whole number from ${minimum} to ${maximum}`);
      }
      return number;
    },
    /** A moment in Unix milliseconds. */
    instant(name: string): number | null {
      return this.wholeNumber(name, 0, 8.64e15);
    },
    oneOf<T extends string>(name: string, allowed: readonly T[]): T | null {
      const value = raw(name);
      if (value === null) return null;
      if (!(allowed as readonly string[]).includes(value)) {
        throw new HttpError(400, "malformed", `${name}: must be one of ${allowed.join(", ")}`);
      }
      return value as T;
    },
  };
}
