// Owns the agent's settings: which there are, their defaults, and what is refused (1-protocol.md, Settings).
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { type Environment, SettingError, settings } from "../shared/config.ts";
import { LOG_LEVELS, type LogLevel } from "../shared/log.ts";
import type { Prefix } from "../shared/net.ts";
import { type PskOrigin, pskOrigin } from "../shared/psk_source.ts";

export type AgentSettings = {
  psk: PskOrigin;
  stateDirectory: string;
  /** Ways to one manager. */
  managerUrls: string[];
  /** Base64 of 32 bytes; null: learned at the first registration. */
  managerKey: string | null;
  intervalSeconds: number;
  /** null: all addresses. */
  listen: string | null;
  port: number;
  allow: Prefix[];
  /** PEM text; null: the system's. */
  tlsCa: string | null;
  logLevel: LogLevel;
};

/** @throws SettingError with one line for the operator. */
export function agentSettings(environment: Environment, workingDirectory: string): AgentSettings {
  const setting = settings(environment);
  const stateDirectory = resolve(
    workingDirectory,
    setting.text("STATE_DIR") ?? setting.text("STATE_DIRECTORY")?.split(":")[0] ?? ".",
  );
  const caFile = setting.text("TLS_CA_FILE");
  let tlsCa: string | null = null;
  if (caFile !== null) {
    try {
      tlsCa = readFileSync(resolve(workingDirectory, caFile), "utf8");
    } catch {
      throw new SettingError("TLS_CA_FILE", caFile, "must name a readable file of PEM certificates");
    }
    try {
      if (!tlsCa.includes("-----BEGIN CERTIFICATE-----")) throw new Error("no certificate begins");
      // Tried here: fetch would take the manager's address for wrong. Loaded by who has the setting.
      process.getBuiltinModule("node:tls").createSecureContext({ ca: tlsCa });
    } catch {
      throw new SettingError("TLS_CA_FILE", caFile, "must hold PEM certificates");
    }
  }
  return {
    psk: pskOrigin(setting, stateDirectory, false),
    stateDirectory,
    managerUrls: setting.baseUrls("MANAGER_URL", "http://127.0.0.1:5086"),
    managerKey: setting.publicKey("MANAGER_KEY"),
    intervalSeconds: setting.wholeNumber("REPORT_INTERVAL", 30, 1, 86_400, "a whole number of seconds"),
    listen: setting.listenAddress("AGENT_LISTEN"),
    port: setting.port("AGENT_PORT", 5087),
    allow: setting.prefixes("AGENT_ALLOW"),
    tlsCa,
    logLevel: setting.oneOf("LOG_LEVEL", LOG_LEVELS, "info"),
  };
}
