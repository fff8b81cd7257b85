// Owns the way from text to typed settings: `.env` of the working directory, overridden by the environment; and the one
// line that a wrong value gets.
import { lstatSync, readFileSync } from "node:fs";
import { canonicalPrefix, parseAddress, parseEndpoint, parsePrefix, type Prefix } from "./net.ts";

export type Environment = { [name: string]: string | undefined };

/** A wrong setting: one line that names the variable, its value (never a secret's) and what is allowed. Exit 2. */
export class SettingError extends Error {
  constructor(name: string, value: string | null, allowed: string) {
    super(`${name}${value === null ? "" : `=${JSON.stringify(value)}`}: ${allowed}`);
    this.name = "SettingError";
  }
}

/** Whether this user cannot even look into `directory`: `sudo -u kattila-agent …` while root is at home. */
function isClosed(directory: string): boolean {
  try {
    lstatSync(`${directory}/.env`);
    return false;
  } catch (cause) {
    return (cause as { code?: string }).code === "EACCES";
  }
}

/**
 * `.env` in `directory` (absent, or in a directory that is closed to this user: nothing), overridden by `environment`.
 * Set but empty is as unset.
 * @throws SettingError where it is there and cannot be read.
 */
export function readEnvironment(directory: string, environment: Environment): Environment {
  let file: Environment = {};
  try {
    const text = readFileSync(`${directory}/.env`, "utf8");
    // Loaded by who has the file: agents as services have none.
    file = process.getBuiltinModule("node:util").parseEnv(text);
  } catch (cause) {
    const { code } = cause as { code?: string };
    if (code !== "ENOENT" && code !== "ENOTDIR" && !isClosed(directory))
      throw new SettingError(".env", null, `cannot be read (${code})`);
  }
  const merged: Environment = { ...file };
  for (const [name, value] of Object.entries(environment))
    if (value !== undefined && value !== "") merged[name] = value;
  return merged;
}

/** Typed access to an environment. Every method throws SettingError on a value that is not allowed. */
export function settings(environment: Environment) {
  const raw = (name: string): string | null => {
    const value = environment[name]?.trim();
    return value === undefined || value === "" ? null : value;
  };
  const wholeNumber = (name: string, fallback: number, minimum: number, maximum: number, what: string): number => {
    const value = raw(name);
    if (value === null) return fallback;
    const number = Number(value);
    if (!/^[0-9]+$/.test(value) || number < minimum || number > maximum) {
      throw new SettingError(name, value, `must be ${what} from ${minimum} to ${maximum}`);
    }
    return number;
  };
  const items = (name: string): string[] | null => {
    const list = raw(name)
      ?.split(",")
      .map((item) => item.trim())
      .filter((item) => item !== "");
    return list === undefined || list.length === 0 ? null : list;
  };
  return {
    text: raw,
    wholeNumber,
    port: (name: string, fallback: number) => wholeNumber(name, fallback, 0, 65535, "a port"),
    oneOf<T extends string>(name: string, allowed: readonly T[], fallback: T): T {
      const value = raw(name);
      if (value === null) return fallback;
      if ((allowed as readonly string[]).includes(value)) return value as T;
      throw new SettingError(name, value, `must be one of ${allowed.join(", ")}`);
    },
    /** An IP address to listen on; null: all. */
    listenAddress(name: string): string | null {
      const value = raw(name);
      if (value === null) return null;
      if (parseAddress(value) === null && value !== "localhost") {
        throw new SettingError(name, value, "must be an IP address of this host to listen on, such as 127.0.0.1 or ::");
      }
      return value;
    },
    prefixes(name: string): Prefix[] {
      return (items(name) ?? []).map((item) => {
        const prefix = canonicalPrefix(item);
        if (prefix === null) throw new SettingError(name, item, "must be prefixes such as 10.0.0.0/8, comma-separated");
        return parsePrefix(prefix)!;
      });
    },
    /** `ip` or `ip:port` each, as node:dns takes them; null: the system's resolvers. */
    resolvers(name: string): string[] | null {
      return (
        items(name)?.map((item) => {
          if (parseAddress(item) !== null || (parseEndpoint(item)?.port ?? 0) > 0) return item;
          throw new SettingError(
            name,
            item,
            "must be IP addresses with optional port, such as 10.0.0.53 or 10.0.0.53:5353",
          );
        }) ?? null
      );
    },
    /** A DNS name to look up; null: unset. */
    hostname(name: string): string | null {
      const value = raw(name);
      if (value === null) return null;
      if (value.length > 253 || !/^(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?$/.test(value)) {
        throw new SettingError(name, value, "must be a DNS name such as kattila.example.com");
      }
      if (parseAddress(value) !== null) {
        throw new SettingError(
          name,
          value,
          "must be a DNS name such as kattila.example.com; a resolver's address goes into DNS_SERVERS",
        );
      }
      return value;
    },
    /** http or https base URLs without credentials, query or fragment; trailing slashes dropped. */
    baseUrls(name: string, fallback: string): string[] {
      return (items(name) ?? [fallback]).map((item) => {
        const allowed = "must be http:// or https:// URLs such as http://10.0.0.1:5086, comma-separated";
        // Behind either sign there may be a password or a token.
        const shown = /[@?]/.test(item) ? null : item;
        let url: URL;
        try {
          url = new URL(item);
        } catch {
          throw new SettingError(name, shown, allowed);
        }
        if (url.username !== "" || url.password !== "")
          throw new SettingError(name, null, `${allowed}, without user or password`);
        if (url.protocol !== "http:" && url.protocol !== "https:") throw new SettingError(name, shown, allowed);
        if (url.search !== "" || url.hash !== "")
          throw new SettingError(name, shown, `${allowed}, without query or fragment`);
        return url.href.replace(/\/+$/, "");
      });
    },
    /** Base64 of 32 bytes; null: unset. */
    publicKey(name: string): string | null {
      const value = raw(name);
      if (value === null) return null;
      if (!/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/.test(value))
        throw new SettingError(name, value, "must be a public key: base64 of 32 bytes");
      return value;
    },
    /** A secret of `minimum` characters or more, from NAME or the file that NAME_FILE names (its last newline dropped). */
    secret(name: string, minimum: number, readFile: (path: string) => string | null): string | null {
      const direct = raw(name);
      const path = raw(`${name}_FILE`);
      if (direct !== null && path !== null)
        throw new SettingError(name, null, `is set beside ${name}_FILE: choose one`);
      let value = direct;
      if (path !== null) {
        try {
          value = readFile(path)?.trim() ?? null;
        } catch (cause) {
          throw new SettingError(`${name}_FILE`, path, (cause as Error).message);
        }
        if (value === null) throw new SettingError(`${name}_FILE`, path, "must name a readable file");
      }
      if (value !== null && value.length < minimum) {
        throw new SettingError(path === null ? name : `${name}_FILE`, null, `must have ${minimum} characters or more`);
      }
      return value;
    },
  };
}

export type Settings = ReturnType<typeof settings>;
