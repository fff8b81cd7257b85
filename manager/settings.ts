// Owns the manager's settings: which there are, their defaults, and what is refused (1-protocol.md, Settings).
import { resolve } from "node:path";
import { type Environment, SettingError, settings } from "../shared/config.ts";
import { readPrivate } from "../shared/files.ts";
import { LOG_LEVELS, type LogLevel } from "../shared/log.ts";
import type { Prefix } from "../shared/net.ts";
import { parseReceivers } from "./notify/receivers.ts";
import { type PskOrigin, pskOrigin } from "../shared/psk_source.ts";

/** Shorter tokens can be guessed (1-protocol.md, Manager API). */
const MIN_TOKEN_CHARACTERS = 32;

export type ManagerSettings = {
  psk: PskOrigin;
  /** null: all addresses. */
  listen: string | null;
  port: number;
  databasePath: string;
  stateDirectory: string;
  /** null: made on first run, in `admin_token`. */
  adminToken: string | null;
  readToken: string | null;
  tls: { certFile: string; keyFile: string } | null;
  /** Whether loopback may read without a token. */
  localRead: "open" | "token";
  trustedProxies: Prefix[];
  retentionDays: number;
  eventRetentionDays: number;
  notifyUrls: string[];
  logLevel: LogLevel;
};

/** @throws SettingError with one line for the operator. */
export function managerSettings(environment: Environment, workingDirectory: string): ManagerSettings {
  const setting = settings(environment);
  const stateDirectory = resolve(
    workingDirectory,
    setting.text("STATE_DIR") ?? setting.text("STATE_DIRECTORY")?.split(":")[0] ?? ".",
  );
  const secret = (name: string) => setting.secret(name, MIN_TOKEN_CHARACTERS, (path) => readPrivate(path, null));
  const readToken = secret("READ_TOKEN");
  const adminToken = secret("ADMIN_TOKEN");
  if (readToken !== null && readToken === adminToken) {
    throw new SettingError("READ_TOKEN", null, "must differ from ADMIN_TOKEN");
  }
  const trustedProxies = setting.prefixes("TRUSTED_PROXIES");
  const localRead = setting.oneOf("LOCAL_READ", ["open", "token"], "open");
  const certFile = setting.text("TLS_CERT_FILE");
  const keyFile = setting.text("TLS_KEY_FILE");
  if ((certFile === null) !== (keyFile === null)) {
    throw new SettingError(
      certFile === null ? "TLS_CERT_FILE" : "TLS_KEY_FILE",
      null,
      "TLS needs both, the certificate and the key",
    );
  }
  const notifyUrls = (setting.text("NOTIFY_URL") ?? "")
    .split(",")
    .map((url) => url.trim())
    .filter((url) => url !== "");
  // Refused here, with the other settings, and not when the first alarm opens.
  parseReceivers(notifyUrls);
  return {
    psk: pskOrigin(setting, stateDirectory, true),
    listen: setting.listenAddress("MANAGER_LISTEN"),
    port: setting.port("MANAGER_PORT", 5086),
    databasePath: resolve(workingDirectory, setting.text("DB_PATH") ?? "kattila_manager.db"),
    stateDirectory,
    adminToken,
    readToken,
    tls: certFile !== null && keyFile !== null ? { certFile, keyFile } : null,
    // A bare reverse proxy on this host looks like loopback: who sets either means that others come through.
    localRead: readToken !== null || trustedProxies.length > 0 ? "token" : localRead,
    trustedProxies,
    retentionDays: setting.wholeNumber("RETENTION_DAYS", 7, 1, 3650, "a whole number of days"),
    eventRetentionDays: setting.wholeNumber("EVENT_RETENTION_DAYS", 400, 1, 36500, "a whole number of days"),
    notifyUrls,
    logLevel: setting.oneOf("LOG_LEVEL", LOG_LEVELS, "info"),
  };
}
