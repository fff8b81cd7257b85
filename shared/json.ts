// Owns the reading of JSON that a stranger wrote: what 5-hardening.md refuses before any schema looks at it. Pure.

/** Deeper nesting than this is refused; a report needs 5. */
const MAX_JSON_DEPTH = 32;

export type JsonObject = { [key: string]: unknown };
export type JsonResult = { ok: true; value: JsonObject } | { ok: false; message: string };

function depthWithin(text: string, limit: number): boolean {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 34) {
      // Jump over the string: its end is the next quote behind an even number of backslashes.
      for (;;) {
        i = text.indexOf('"', i + 1);
        if (i < 0) return true; // unterminated: JSON.parse says so
        let backslashes = 0;
        while (text.charCodeAt(i - 1 - backslashes) === 92) backslashes++;
        if (backslashes % 2 === 0) break;
      }
    } else if (c === 123 || c === 91) {
      if (++depth > limit) return false;
    } else if (c === 125 || c === 93) depth--;
  }
  return true;
}

/** First of the things that only an escape can smuggle in: a lone surrogate, or a `__proto__` key. */
function smuggled(value: unknown): string | null {
  if (typeof value === "string") return value.isWellFormed() ? null : "a string holds a lone surrogate";
  if (typeof value !== "object" || value === null) return null;
  if (Array.isArray(value)) {
    for (const item of value) {
      const found = smuggled(item);
      if (found !== null) return found;
    }
    return null;
  }
  for (const key of Object.keys(value)) {
    if (key === "__proto__") return "__proto__ is no field name";
    if (!key.isWellFormed()) return "a field name holds a lone surrogate";
    const found = smuggled((value as JsonObject)[key]);
    if (found !== null) return found;
  }
  return null;
}

/**
 * Parses a JSON object. Refuses anything but an object at the root, nesting over `MAX_JSON_DEPTH`, a BOM, lone
 * surrogates and `__proto__` keys; never throws.
 */
export function parseObject(text: string): JsonResult {
  if (text === "") return { ok: false, message: "the body is empty" };
  if (text.charCodeAt(0) === 0xfeff) return { ok: false, message: "JSON must not begin with a byte order mark" };
  if (!depthWithin(text, MAX_JSON_DEPTH)) return { ok: false, message: `JSON nests deeper than ${MAX_JSON_DEPTH}` };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { ok: false, message: "the text is not valid JSON" };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { ok: false, message: "the root must be a JSON object" };
  }
  // Without an escape neither can be there: the bytes were valid UTF-8.
  if (text.includes("\\u") || text.includes("__proto__")) {
    const found = smuggled(value);
    if (found !== null) return { ok: false, message: found };
  }
  return { ok: true, value: value as JsonObject };
}

/** The first complaint of a zod error as `{ field, message }`; field is a path such as `wireguard[0].listen_port`. */
export function firstIssue(error: { issues: readonly { path: PropertyKey[]; message: string }[] }): {
  field: string;
  message: string;
} {
  const issue = error.issues[0];
  if (issue === undefined) return { field: "", message: "does not fit the schema" };
  let field = "";
  for (const part of issue.path) {
    if (typeof part === "number") field += `[${part}]`;
    else field += field === "" ? String(part) : `.${String(part)}`;
  }
  return { field, message: issue.message };
}
