// Owns the manager's own secrets on disk: its Ed25519 key and the admin token that it makes on first run.
import { join } from "node:path";
import { type SigningKey, signingKey } from "../shared/envelope.ts";
import { readPrivate, setAside, StateError, writePrivate } from "../shared/files.ts";
import type { Log } from "../shared/log.ts";

const mended = (log: Log) => (path: string) => log.warning("state_file_mended", { path, mode: "0600" });

/** `manager_key`: base64 of the 32-byte seed. A broken one is set aside and made anew, said loudly: agents pin it. */
export async function loadManagerKey(directory: string, log: Log, now: number): Promise<SigningKey> {
  const path = join(directory, "manager_key");
  const text = readPrivate(path, mended(log));
  if (text !== null) {
    try {
      return await signingKey(text.trim());
    } catch {
      log.error("manager_key_broken", {
        path,
        moved_to: setAside(path, now),
        effect:
          "a new key is made: agents learn it at their next direct delivery, unless MANAGER_KEY fixes the old one",
      });
    }
  }
  const key = await signingKey();
  writePrivate(path, `${key.seed}\n`);
  return key;
}

/** `admin_token`, made where there is none. `created` says so once. */
export function loadAdminToken(directory: string, log: Log): { token: string; path: string; created: boolean } {
  const path = join(directory, "admin_token");
  const text = readPrivate(path, mended(log))?.trim();
  if (text !== undefined && text !== "") {
    if (text.length < 32)
      throw new StateError(`${path} holds fewer than 32 characters: remove it, and a new one is made`);
    return { token: text, path, created: false };
  }
  const token = crypto.getRandomValues(new Uint8Array(32)).toBase64({ alphabet: "base64url", omitPadding: true });
  writePrivate(path, `${token}\n`);
  return { token, path, created: true };
}
