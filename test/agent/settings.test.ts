// The agent's settings: defaults, every setting's right value, and for every wrong one a line that names the variable, the
// value (never a secret's) and what is allowed, with exit code 2.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type AgentSettings, agentSettings } from "../../agent/settings.ts";
import { readEnvironment, SettingError } from "../../shared/config.ts";
import { formatPrefix } from "../../shared/net.ts";
import { ownDirectory, runAgent } from "./support.ts";

const CANARY = "Canary-that-no-message-may-hold";
const PSK = "settings-test-key-0123456789abcdef";
const KEY = `${"A".repeat(43)}=`;
// openssl req -x509 -newkey ed25519 -nodes -subj /CN=t -days 36500
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBLjCB4aADAgECAhRHhjYZcpBGZ2j9AdA4xe0PlYiXGjAFBgMrZXAwDDEKMAgG
A1UEAwwBdDAgFw0yNjExMjYxNDI5MTlaGA8yMTI2MTEwMjE0MjkxOVowDDEKMAgG
A1UEAwwBdDAqMAUGAytlcAMhAPIC9nF8itPjEV8axzVVmqgoC30TNYb5nRpM16w2
KQOmo1MwUTAdBgNVHQ4EFgQUx72W9NsE80rluBPpUkTs/Cj3IzwwHwYDVR0jBBgw
FoAUx72W9NsE80rluBPpUkTs/Cj3IzwwDwYDVR0TAQH/BAUwAwEB/zAFBgMrZXAD
QQCetqYLnTkjxTIHfLkFXd1sMQeh5Bpr5mtgaM/SEZzsPsmmL8aBNYuLasDATNPZ
PlbJPumiEItEN348SKl1x4MI
-----END CERTIFICATE-----
`;

let own: ReturnType<typeof ownDirectory>;
beforeAll(() => {
  own = ownDirectory();
  writeFileSync(join(own.path, "ca.pem"), CERTIFICATE);
  writeFileSync(join(own.path, "empty.pem"), "");
  writeFileSync(join(own.path, "broken.pem"), CERTIFICATE.replace("MIIBLjCB", "MIIBLjCA"));
  mkdirSync(join(own.path, "directory"));
});
afterAll(() => own[Symbol.dispose]());

const read = (environment: Record<string, string>) => agentSettings(environment, own.path);

test("nothing set: the defaults", () => {
  expect(read({})).toEqual({
    psk: { kind: "default", path: join(own.path, "kattila.psk"), create: false },
    stateDirectory: own.path,
    managerUrls: ["http://127.0.0.1:5086"],
    managerKey: null,
    intervalSeconds: 30,
    listen: null,
    port: 5087,
    allow: [],
    tlsCa: null,
    logLevel: "info",
  });
});

test.each<[Record<string, string>, (settings: AgentSettings) => unknown, unknown]>([
  [{ PSK: ` "${PSK}" ` }, (s) => s.psk, { kind: "value", psk: PSK }],
  [{ PSK_FILE: "/etc/kattila/psk" }, (s) => s.psk, { kind: "file", path: "/etc/kattila/psk" }],
  [{ DNS: "kattila.example.com" }, (s) => s.psk, { kind: "dns", name: "kattila.example.com", servers: null }],
  [
    { DNS: "_psk.example.com.", DNS_SERVERS: "10.0.0.53, 10.0.0.54:5353,[2001:db8::1]:53, 2001:db8::2" },
    (s) => s.psk,
    {
      kind: "dns",
      name: "_psk.example.com.",
      servers: ["10.0.0.53", "10.0.0.54:5353", "[2001:db8::1]:53", "2001:db8::2"],
    },
  ],
  [{ PSK, PSK_FILE: "/x", DNS: "a.b" }, (s) => s.psk.kind, "value"],
  [{ PSK_FILE: "/x", DNS: "a.b" }, (s) => s.psk.kind, "file"],
  [{ STATE_DIR: "/var/lib/a" }, (s) => s.stateDirectory, "/var/lib/a"],
  [{ STATE_DIRECTORY: "/var/lib/b:/var/lib/c" }, (s) => s.stateDirectory, "/var/lib/b"],
  [{ STATE_DIR: "/var/lib/a", STATE_DIRECTORY: "/var/lib/b" }, (s) => s.stateDirectory, "/var/lib/a"],
  [{ MANAGER_URL: "https://m.example.com/" }, (s) => s.managerUrls, ["https://m.example.com"]],
  [
    { MANAGER_URL: "http://10.0.0.1:5086, http://[2001:db8::1]:5086/kattila/ ,," },
    (s) => s.managerUrls,
    ["http://10.0.0.1:5086", "http://[2001:db8::1]:5086/kattila"],
  ],
  [{ MANAGER_KEY: KEY }, (s) => s.managerKey, KEY],
  [{ REPORT_INTERVAL: "1" }, (s) => s.intervalSeconds, 1],
  [{ REPORT_INTERVAL: "86400" }, (s) => s.intervalSeconds, 86_400],
  [{ REPORT_INTERVAL: "  " }, (s) => s.intervalSeconds, 30],
  [{ AGENT_LISTEN: "::1" }, (s) => s.listen, "::1"],
  [{ AGENT_PORT: "0" }, (s) => s.port, 0],
  [{ AGENT_PORT: "65535" }, (s) => s.port, 65_535],
  [
    { AGENT_ALLOW: "10.0.0.7/8,192.0.2.1, 2001:db8::/32" },
    (s) => s.allow.map(formatPrefix),
    ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"],
  ],
  [{ TLS_CA_FILE: "ca.pem" }, (s) => s.tlsCa, CERTIFICATE],
  [{ LOG_LEVEL: "debug" }, (s) => s.logLevel, "debug"],
])("%o", (environment, pick, wanted) => {
  expect(pick(read(environment))).toEqual(wanted);
});

const URLS = "must be http:// or https:// URLs such as http://10.0.0.1:5086, comma-separated";
const LISTEN = "must be an IP address of this host to listen on, such as 127.0.0.1 or ::";
const PREFIXES = "must be prefixes such as 10.0.0.0/8, comma-separated";
const RESOLVERS = "must be IP addresses with optional port, such as 10.0.0.53 or 10.0.0.53:5353";
const NAME = "must be a DNS name such as kattila.example.com";
const INTERVAL = "must be a whole number of seconds from 1 to 86400";

const WRONG: [environment: Record<string, string>, line: string][] = [
  [{ PSK: "Canary-short" }, "PSK: the PSK has 12 bytes; it needs 16 or more (32 recommended)"],
  [{ PSK: `${CANARY}\u0007` }, "PSK: the PSK holds a control character"],
  [{ DNS: "-x.example.com" }, `DNS="-x.example.com": ${NAME}`],
  [{ DNS: "a..b" }, `DNS="a..b": ${NAME}`],
  [{ DNS: "http://a.b" }, `DNS="http://a.b": ${NAME}`],
  // What wg-quick's DNS= takes.
  [{ DNS: "10.0.0.53" }, `DNS="10.0.0.53": ${NAME}; a resolver's address goes into DNS_SERVERS`],
  // Wrong also where another source goes first: it would be wrong on the day that one is taken away.
  [{ PSK, DNS: "a..b" }, `DNS="a..b": ${NAME}`],
  [{ PSK, DNS_SERVERS: "dns.example.com" }, `DNS_SERVERS="dns.example.com": ${RESOLVERS}`],
  [{ PSK_FILE: "/x", DNS: "a..b" }, `DNS="a..b": ${NAME}`],
  [{ PSK_FILE: "/x", DNS_SERVERS: "dns.example.com" }, `DNS_SERVERS="dns.example.com": ${RESOLVERS}`],
  [{ DNS: "a.b", DNS_SERVERS: "dns.example.com" }, `DNS_SERVERS="dns.example.com": ${RESOLVERS}`],
  [{ DNS: "a.b", DNS_SERVERS: "10.0.0.53:99999" }, `DNS_SERVERS="10.0.0.53:99999": ${RESOLVERS}`],
  [{ DNS: "a.b", DNS_SERVERS: "10.0.0.53:0" }, `DNS_SERVERS="10.0.0.53:0": ${RESOLVERS}`],
  [{ MANAGER_URL: "10.0.0.1:5086" }, `MANAGER_URL="10.0.0.1:5086": ${URLS}`],
  [{ MANAGER_URL: "ftp://10.0.0.1" }, `MANAGER_URL="ftp://10.0.0.1": ${URLS}`],
  [{ MANAGER_URL: "http://10.0.0.1,http://" }, `MANAGER_URL="http://": ${URLS}`],
  [{ MANAGER_URL: `http://10.0.0.1/?token=${CANARY}` }, `MANAGER_URL: ${URLS}, without query or fragment`],
  [{ MANAGER_URL: "http://10.0.0.1/#x" }, `MANAGER_URL="http://10.0.0.1/#x": ${URLS}, without query or fragment`],
  [{ MANAGER_URL: `me:${CANARY}@10.0.0.1` }, `MANAGER_URL: ${URLS}`],
  [{ MANAGER_URL: `http://me:${CANARY}@10.0.0.1` }, `MANAGER_URL: ${URLS}, without user or password`],
  [{ MANAGER_URL: `http//me:${CANARY}@10.0.0.1` }, `MANAGER_URL: ${URLS}`],
  [{ MANAGER_URL: `ftp://me:${CANARY}@10.0.0.1` }, `MANAGER_URL: ${URLS}, without user or password`],
  [{ MANAGER_KEY: "abc" }, 'MANAGER_KEY="abc": must be a public key: base64 of 32 bytes'],
  // The last digit of 32 bytes has two bits: no key reads so.
  [{ MANAGER_KEY: `${"B".repeat(43)}=` }, `MANAGER_KEY="${"B".repeat(43)}=": must be a public key: base64 of 32 bytes`],
  [{ REPORT_INTERVAL: "0" }, `REPORT_INTERVAL="0": ${INTERVAL}`],
  [{ REPORT_INTERVAL: "86401" }, `REPORT_INTERVAL="86401": ${INTERVAL}`],
  [{ REPORT_INTERVAL: "30s" }, `REPORT_INTERVAL="30s": ${INTERVAL}`],
  [{ REPORT_INTERVAL: "1.5" }, `REPORT_INTERVAL="1.5": ${INTERVAL}`],
  [{ REPORT_INTERVAL: "-1" }, `REPORT_INTERVAL="-1": ${INTERVAL}`],
  [{ REPORT_INTERVAL: "1e3" }, `REPORT_INTERVAL="1e3": ${INTERVAL}`],
  [{ AGENT_LISTEN: "eth0" }, `AGENT_LISTEN="eth0": ${LISTEN}`],
  [{ AGENT_LISTEN: "10.0.0.0/8" }, `AGENT_LISTEN="10.0.0.0/8": ${LISTEN}`],
  [{ AGENT_PORT: "65536" }, 'AGENT_PORT="65536": must be a port from 0 to 65535'],
  [{ AGENT_PORT: "http" }, 'AGENT_PORT="http": must be a port from 0 to 65535'],
  [{ AGENT_ALLOW: "10.0.0.0/33" }, `AGENT_ALLOW="10.0.0.0/33": ${PREFIXES}`],
  [{ AGENT_ALLOW: "10.0.0.0/8,mine" }, `AGENT_ALLOW="mine": ${PREFIXES}`],
  [{ AGENT_ALLOW: "999.1.1.1" }, `AGENT_ALLOW="999.1.1.1": ${PREFIXES}`],
  [{ TLS_CA_FILE: "nowhere.pem" }, 'TLS_CA_FILE="nowhere.pem": must name a readable file of PEM certificates'],
  [{ TLS_CA_FILE: "directory" }, 'TLS_CA_FILE="directory": must name a readable file of PEM certificates'],
  [{ TLS_CA_FILE: "empty.pem" }, 'TLS_CA_FILE="empty.pem": must hold PEM certificates'],
  [{ TLS_CA_FILE: "broken.pem" }, 'TLS_CA_FILE="broken.pem": must hold PEM certificates'],
  [{ LOG_LEVEL: "loud" }, 'LOG_LEVEL="loud": must be one of debug, info, warning, error'],
];

test.each(WRONG)("%o", (environment, line) => {
  let said: unknown;
  try {
    read(environment);
  } catch (error) {
    said = error;
  }
  expect(said).toBeInstanceOf(SettingError);
  expect((said as Error).message).toBe(line);
  expect(line).not.toContain("Canary");
});

test("a value with a line break stays one line", () => {
  expect(() => read({ LOG_LEVEL: "a\nb" })).toThrow('LOG_LEVEL="a\\nb": must be one of');
});

describe("the process", () => {
  test.each(["-once", "-discover", "-reset", "-dump"])("%s with a wrong setting: the line, exit 2", async (flag) => {
    const flags = flag === "-dump" ? [flag, "out"] : [flag];
    const result = await runAgent(flags, own.path, { STATE_DIR: join(own.path, "untouched"), AGENT_PORT: "x" });
    expect(result).toEqual({
      exitCode: 2,
      stdout: "",
      stderr: 'agent: AGENT_PORT="x": must be a port from 0 to 65535\n',
    });
  });

  test("the daemon with a wrong PSK: exit 2, and neither message nor log holds it", async () => {
    const result = await runAgent([], own.path, { PSK: "Canary-short" });
    expect(result).toEqual({
      exitCode: 2,
      stdout: "",
      stderr: "agent: PSK: the PSK has 12 bytes; it needs 16 or more (32 recommended)\n",
    });
  });

  test(".env is read, and the environment is above it; .env.local is not; `$` is a character", async () => {
    const directory = join(own.path, "env");
    mkdirSync(directory);
    writeFileSync(join(directory, ".env"), "PSK=pa$HOME-${HOME}-0123456789\nLOG_LEVEL=error\nAGENT_PORT=1\n");
    writeFileSync(join(directory, ".env.local"), "LOG_LEVEL=debug\n");
    const merged = readEnvironment(directory, { AGENT_PORT: "2", LOG_LEVEL: "" });
    expect(merged).toEqual({ PSK: "pa$HOME-${HOME}-0123456789", LOG_LEVEL: "error", AGENT_PORT: "2" });
    writeFileSync(join(directory, ".env"), "LOG_LEVEL=loud\n");
    writeFileSync(join(directory, ".env.local"), "LOG_LEVEL=debug\n");
    expect((await runAgent(["-once"], directory, {})).stderr).toBe(
      'agent: LOG_LEVEL="loud": must be one of debug, info, warning, error\n',
    );
  });

  test("an .env that cannot be read: said", () => {
    const directory = join(own.path, "unreadable");
    mkdirSync(join(directory, ".env"), { recursive: true });
    expect(() => readEnvironment(directory, {})).toThrow(".env: cannot be read (EISDIR)");
  });
});
