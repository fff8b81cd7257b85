import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readEnvironment, SettingError, settings } from "../../shared/config.ts";
import { managerSettings } from "../../manager/settings.ts";

const directory = mkdtempSync(join(tmpdir(), "kattila-config-"));
afterAll(() => rmSync(directory, { recursive: true }));

test(".env is overridden by the environment; nothing is expanded", () => {
  writeFileSync(join(directory, ".env"), 'A=file\nB=file\nSECRET="a$B${A}c"\n# comment\n');
  expect(readEnvironment(directory, { B: "environment", EMPTY: "" })).toMatchObject({
    A: "file",
    B: "environment",
    SECRET: "a$B${A}c",
  });
  expect(readEnvironment("/nonexistent", { A: "x" })).toEqual({ A: "x" });
});

const TOKEN = "t".repeat(32);

describe("every wrong value gets one line that names the variable, the value and what is allowed", () => {
  test.each([
    ["MANAGER_PORT", "abc", /^MANAGER_PORT="abc": must be a port from 0 to 65535$/],
    ["MANAGER_PORT", "65536", /^MANAGER_PORT="65536": /],
    ["MANAGER_PORT", "-1", /^MANAGER_PORT="-1": /],
    ["MANAGER_PORT", "1e3", /^MANAGER_PORT="1e3": /],
    ["MANAGER_LISTEN", "eth0", /^MANAGER_LISTEN="eth0": must be an IP address/],
    ["LOCAL_READ", "yes", /^LOCAL_READ="yes": must be one of open, token$/],
    ["LOG_LEVEL", "verbose", /^LOG_LEVEL="verbose": must be one of debug, info, warning, error$/],
    ["TRUSTED_PROXIES", "10.0.0.0/33", /^TRUSTED_PROXIES="10.0.0.0\/33": must be prefixes/],
    ["RETENTION_DAYS", "0", /^RETENTION_DAYS="0": must be a whole number of days from 1/],
    ["EVENT_RETENTION_DAYS", "x", /^EVENT_RETENTION_DAYS="x": /],
    ["DNS", "not a name", /^DNS="not a name": must be a DNS name/],
    ["DNS_SERVERS", "dns.example.com", /^DNS_SERVERS="dns.example.com": must be IP addresses/],
    ["TLS_CERT_FILE", "/x", /^TLS_KEY_FILE: TLS needs both/],
    ["TLS_KEY_FILE", "/x", /^TLS_CERT_FILE: TLS needs both/],
    ["ADMIN_TOKEN_FILE", "/nonexistent", /^ADMIN_TOKEN_FILE="\/nonexistent": must name a readable file$/],
  ])("%s=%s", (name, value, line) => {
    const read = () => managerSettings({ [name]: value }, directory);
    expect(read).toThrow(SettingError);
    expect(read).toThrow(line);
  });

  test.each([
    ["PSK", "tooshort-canary", /^PSK: the PSK has 15 bytes/],
    ["ADMIN_TOKEN", "short-canary", /^ADMIN_TOKEN: must have 32 characters or more$/],
    ["READ_TOKEN", "short-canary", /^READ_TOKEN: must have 32 characters or more$/],
  ])("%s, a secret, is named but not shown", (name, value, line) => {
    const read = () => managerSettings({ [name]: value }, directory);
    expect(read).toThrow(line);
    try {
      read();
    } catch (error) {
      expect(String(error)).not.toContain("canary");
    }
  });

  test("both ways to a secret, and one token for two roles", () => {
    expect(() => managerSettings({ ADMIN_TOKEN: TOKEN, ADMIN_TOKEN_FILE: "/x" }, directory)).toThrow(/choose one/);
    expect(() => managerSettings({ ADMIN_TOKEN: TOKEN, READ_TOKEN: TOKEN }, directory)).toThrow(/must differ/);
  });

  test("a URL's password is not shown", () => {
    const read = () => settings({ MANAGER_URL: "http://me:canary@host" }).baseUrls("MANAGER_URL", "http://127.0.0.1");
    expect(read).toThrow(SettingError);
    try {
      read();
    } catch (error) {
      expect(String(error)).not.toContain("canary");
    }
  });
});

describe("defaults", () => {
  test("of the manager", () => {
    expect(managerSettings({}, directory)).toEqual({
      psk: { kind: "default", path: join(directory, "kattila.psk"), create: true },
      listen: null,
      port: 5086,
      databasePath: join(directory, "kattila_manager.db"),
      stateDirectory: directory,
      adminToken: null,
      readToken: null,
      tls: null,
      localRead: "open",
      trustedProxies: [],
      retentionDays: 7,
      eventRetentionDays: 400,
      notifyUrls: [],
      logLevel: "info",
    });
  });
  test("a read token or a trusted proxy ends the loopback's open read", () => {
    expect(managerSettings({ READ_TOKEN: TOKEN }, directory).localRead).toBe("token");
    expect(managerSettings({ TRUSTED_PROXIES: "10.0.0.0/8" }, directory).localRead).toBe("token");
    expect(managerSettings({ READ_TOKEN: TOKEN, LOCAL_READ: "open" }, directory).localRead).toBe("token");
  });
  test("systemd's STATE_DIRECTORY, unless STATE_DIR is set", () => {
    expect(managerSettings({ STATE_DIRECTORY: "/var/lib/kattila" }, directory).stateDirectory).toBe("/var/lib/kattila");
    expect(managerSettings({ STATE_DIRECTORY: "/a", STATE_DIR: "/b" }, directory).stateDirectory).toBe("/b");
  });
  test("the PSK comes from the first that is set", () => {
    const kind = (environment: Record<string, string>) => managerSettings(environment, directory).psk.kind;
    const all = { PSK: "p".repeat(32), PSK_FILE: "/x", DNS: "kattila.example.com" };
    expect(kind(all)).toBe("value");
    expect(kind({ ...all, PSK: "" })).toBe("file");
    expect(kind({ DNS: all.DNS })).toBe("dns");
    expect(kind({})).toBe("default");
  });
});
