// The manager's settings as an operator meets them: a wrong one is one line on stderr and exit code 2, a database or an
// address that cannot be used is one line and exit code 1, and nothing is touched.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runAgent } from "../agent/support.ts";
import { runManager, spawnManager } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "kattila-settings-"));
  chmodSync(root, 0o755);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

let count = 0;
/** A fresh working directory with these files in it. */
function workplace(files: Record<string, string> = {}): string {
  const directory = join(root, String(count++));
  mkdirSync(directory);
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content, { mode: 0o600 });
  return directory;
}

const CANARY = "Canary";
const TOKEN = "t".repeat(32);
const WRONG: [name: string, environment: Record<string, string>, line: string][] = [
  ["a port that is a word", { MANAGER_PORT: "http" }, 'MANAGER_PORT="http": must be a port from 0 to 65535'],
  ["a port beyond 65535", { MANAGER_PORT: "65536" }, 'MANAGER_PORT="65536": must be a port from 0 to 65535'],
  ["a negative port", { MANAGER_PORT: "-1" }, 'MANAGER_PORT="-1": must be a port from 0 to 65535'],
  ["half a port", { MANAGER_PORT: "1.5" }, 'MANAGER_PORT="1.5": must be a port from 0 to 65535'],
  [
    "a device to listen on",
    { MANAGER_LISTEN: "eth0" },
    'MANAGER_LISTEN="eth0": must be an IP address of this host to listen on, such as 127.0.0.1 or ::',
  ],
  [
    "a prefix to listen on",
    { MANAGER_LISTEN: "10.0.0.0/8" },
    'MANAGER_LISTEN="10.0.0.0/8": must be an IP address of this host to listen on, such as 127.0.0.1 or ::',
  ],
  ["no retention", { RETENTION_DAYS: "0" }, 'RETENTION_DAYS="0": must be a whole number of days from 1 to 3650'],
  [
    "a word as retention",
    { RETENTION_DAYS: "7d" },
    'RETENTION_DAYS="7d": must be a whole number of days from 1 to 3650',
  ],
  [
    "no retention of events",
    { EVENT_RETENTION_DAYS: "0" },
    'EVENT_RETENTION_DAYS="0": must be a whole number of days from 1 to 36500',
  ],
  ["another local reading", { LOCAL_READ: "yes" }, 'LOCAL_READ="yes": must be one of open, token'],
  ["another log level", { LOG_LEVEL: "INFO" }, 'LOG_LEVEL="INFO": must be one of debug, info, warning, error'],
  [
    "a proxy that is a name",
    { TRUSTED_PROXIES: "10.0.0.0/8,proxy.example" },
    'TRUSTED_PROXIES="proxy.example": must be prefixes such as 10.0.0.0/8, comma-separated',
  ],
  ["a domain that is none", { DNS: "a..b" }, 'DNS="a..b": must be a DNS name such as kattila.example.com'],
  [
    "a resolver that is a name",
    { DNS: "kattila.example.com", DNS_SERVERS: "10.0.0.53,dns.example.com" },
    'DNS_SERVERS="dns.example.com": must be IP addresses with optional port, such as 10.0.0.53 or 10.0.0.53:5353',
  ],
  ["a PSK that is too short", { PSK: CANARY }, "PSK: the PSK has 6 bytes; it needs 16 or more (32 recommended)"],
  [
    "a PSK with a control character",
    { PSK: `${CANARY}${"\x07"}${"x".repeat(32)}` },
    "PSK: the PSK holds a control character",
  ],
  ["an admin token that is too short", { ADMIN_TOKEN: CANARY }, "ADMIN_TOKEN: must have 32 characters or more"],
  ["a read token that is too short", { READ_TOKEN: CANARY }, "READ_TOKEN: must have 32 characters or more"],
  ["one token for both", { ADMIN_TOKEN: TOKEN, READ_TOKEN: TOKEN }, "READ_TOKEN: must differ from ADMIN_TOKEN"],
  [
    "a token twice",
    { ADMIN_TOKEN: TOKEN, ADMIN_TOKEN_FILE: "token" },
    "ADMIN_TOKEN: is set beside ADMIN_TOKEN_FILE: choose one",
  ],
  ["no token's file", { READ_TOKEN_FILE: "nowhere" }, 'READ_TOKEN_FILE="nowhere": must name a readable file'],
  [
    "a token's file that is too short",
    { READ_TOKEN_FILE: "short" },
    "READ_TOKEN_FILE: must have 32 characters or more",
  ],
  [
    "a token's file that is a link",
    { ADMIN_TOKEN_FILE: "link" },
    'ADMIN_TOKEN_FILE="link": link is a symbolic link: replace it by the file itself',
  ],
  [
    "a token's file that others can read: it may be anything, and keeps its mode",
    { ADMIN_TOKEN_FILE: "/etc/passwd" },
    'ADMIN_TOKEN_FILE="/etc/passwd": /etc/passwd can be read by others: chmod 600 /etc/passwd',
  ],
  ["half of TLS", { TLS_CERT_FILE: "short" }, "TLS_KEY_FILE: TLS needs both, the certificate and the key"],
  ["the other half of TLS", { TLS_KEY_FILE: "short" }, "TLS_CERT_FILE: TLS needs both, the certificate and the key"],
  [
    "no certificate's file",
    { TLS_CERT_FILE: "nowhere", TLS_KEY_FILE: "short" },
    'TLS_CERT_FILE="nowhere": must name a readable PEM file (ENOENT)',
  ],
  [
    "a certificate that is none",
    { TLS_CERT_FILE: "short", TLS_KEY_FILE: "short" },
    'TLS_CERT_FILE="short": must hold a certificate in PEM',
  ],
  [
    "a receiver without scheme",
    { NOTIFY_URL: `hooks.example/${CANARY}` },
    "NOTIFY_URL: entry 1 has no scheme that is known",
  ],
  [
    "a receiver without topic",
    { NOTIFY_URL: `https://a.example/${CANARY},ntfy://:${CANARY}@ntfy.sh` },
    "NOTIFY_URL: entry 2 has no ntfy topic",
  ],
];

describe("a wrong setting: one line that names it, its value and what is allowed; exit 2", () => {
  test.each(WRONG)("%s", async (_name, environment, line) => {
    const directory = workplace({ short: CANARY, token: TOKEN });
    symlinkSync("token", join(directory, "link"));
    const before = readdirSync(directory);
    const { exitCode, stdout, stderr } = await runManager([], directory, environment);
    expect(stderr).toStartWith(`manager: ${line}`);
    expect(stderr.trimEnd()).not.toContain("\n");
    expect(stderr).not.toContain(CANARY);
    expect([exitCode, stdout]).toEqual([2, ""]);
    expect(readdirSync(directory)).toEqual(before);
  });

  test("a state directory that is a file", async () => {
    const directory = workplace({ state: "" });
    const { exitCode, stderr } = await runManager([], directory, { STATE_DIR: "state" });
    expect(stderr).toBe(
      `manager: STATE_DIR="${join(directory, "state")}": must be a directory, or one that can be made (EEXIST)\n`,
    );
    expect(exitCode).toBe(2);
  });

  test("a PSK's file that is too short, on a first start: also an agent's", async () => {
    const directory = workplace({ short: CANARY });
    const line = 'PSK_FILE="short": short: the PSK has 6 bytes; it needs 16 or more (32 recommended)\n';
    const environment = { PSK_FILE: "short", LOG_LEVEL: "error" };
    expect(await runManager([], directory, environment)).toEqual({
      exitCode: 2,
      stdout: "",
      stderr: `manager: ${line}`,
    });
    for (const flags of [[], ["-once"], ["-dump", "out"]])
      expect(await runAgent(flags, directory, { ...environment, AGENT_LISTEN: "127.0.0.1", AGENT_PORT: "0" })).toEqual({
        exitCode: 2,
        stdout: "",
        stderr: `agent: ${line}`,
      });
  });

  test("from .env alike; and an .env that cannot be read", async () => {
    const directory = workplace({ ".env": "LOG_LEVEL=loud\n", ".env.local": "LOG_LEVEL=error\n" });
    expect(await runManager([], directory)).toMatchObject({
      exitCode: 2,
      stderr: 'manager: LOG_LEVEL="loud": must be one of debug, info, warning, error\n',
    });
    const other = workplace();
    mkdirSync(join(other, ".env"));
    expect(await runManager([], other)).toMatchObject({
      exitCode: 2,
      stderr: "manager: .env: cannot be read (EISDIR)\n",
    });
  });
});

test("a good certificate and its key: https, also for an agent that has its CA; another's key: refused by name", async () => {
  const directory = workplace();
  for (const name of ["a", "b"]) {
    const made = Bun.spawnSync(
      ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"].concat(
        ["-keyout", `${name}.key`, "-out", `${name}.crt`, "-days", "2", "-subj", "/CN=localhost"],
        ["-addext", "subjectAltName=IP:127.0.0.1"],
      ),
      { cwd: directory },
    );
    expect(made.exitCode).toBe(0);
  }
  expect(await runManager([], directory, { TLS_CERT_FILE: "a.crt", TLS_KEY_FILE: "b.key" })).toMatchObject({
    exitCode: 2,
    stderr: 'manager: TLS_KEY_FILE="b.key": must hold the private key, in PEM, of TLS_CERT_FILE\n',
  });
  const manager = await spawnManager(directory, { TLS_CERT_FILE: "a.crt", TLS_KEY_FILE: "a.key" });
  try {
    const url = `https://127.0.0.1:${manager.port}/status/healthcheck`;
    const ca = readFileSync(join(directory, "a.crt"), "utf8");
    expect((await fetch(url, { tls: { ca } })).status).toBe(200);
    await expect(fetch(url)).rejects.toThrow();
    const once = (more: Record<string, string>) =>
      runAgent(["-once"], directory, {
        PSK: manager.psk,
        STATE_DIR: join(directory, "agent"),
        MANAGER_URL: `https://127.0.0.1:${manager.port}`,
        ...more,
      });
    // The certificate of nobody whom it trusts: nothing is said to such a manager.
    for (const more of [{}, { TLS_CA_FILE: "b.crt" }] as Record<string, string>[])
      expect(await once(more)).toMatchObject({
        exitCode: 1,
        stdout: "",
        stderr: expect.stringContaining("nobody whom this host trusts vouches for its certificate"),
      });
    expect(await (await fetch(url.replace("healthcheck", "agents"), { tls: { ca } })).json()).toMatchObject({
      agents: [],
    });
    expect(await once({ TLS_CA_FILE: "a.crt" })).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(/^delivered 3 reports/),
    });
  } finally {
    await manager.kill("SIGTERM");
  }
});

describe("where it cannot listen: one line, exit 1", () => {
  test("a port in use", async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    expect(await runManager([], workplace(), { MANAGER_PORT: String(port), LOG_LEVEL: "error" })).toEqual({
      exitCode: 1,
      stdout: "",
      stderr: `manager: cannot listen on 127.0.0.1, port ${port}: another program does: end it, or set MANAGER_PORT\n`,
    });
    server.close();
  });

  test("a port that another manager serves, also under another address", async () => {
    const first = await spawnManager(workplace(), { MANAGER_LISTEN: "" });
    try {
      for (const listen of ["", "127.0.0.1", "0.0.0.0"]) {
        const environment = { MANAGER_LISTEN: listen, MANAGER_PORT: String(first.port), LOG_LEVEL: "error" };
        const { exitCode, stderr } = await runManager([], workplace(), environment);
        const place = listen === "" ? "all addresses" : listen;
        expect([exitCode, stderr]).toEqual([
          1,
          `manager: cannot listen on ${place}, port ${first.port}: another program does: end it, or set MANAGER_PORT\n`,
        ]);
      }
    } finally {
      await first.kill("SIGTERM");
    }
  });

  test("an address that this host has not", async () => {
    // 192.0.2.0/24 is for documentation (RFC 5737).
    expect(await runManager([], workplace(), { MANAGER_LISTEN: "192.0.2.1", LOG_LEVEL: "error" })).toMatchObject({
      exitCode: 1,
      stderr:
        "manager: cannot listen on 192.0.2.1, port 0: this host has no such address: set MANAGER_LISTEN to one it has\n",
    });
  });
});

describe("a database that cannot be used: one line, exit 1, the file untouched", () => {
  const database = (make: (database: Database) => void) => (path: string) => {
    using made = new Database(path);
    make(made);
  };
  const CASES: [name: string, make: (path: string) => void, why: string][] = [
    ["no database", (path) => writeFileSync(path, "these are my notes\n"), "is not a database"],
    ["another program's", database((made) => made.run("CREATE TABLE notes (text)")), "is another program's database"],
    [
      "a newer manager's",
      database((made) => {
        made.run("CREATE TABLE agents (id)");
        made.run(`PRAGMA application_id = ${0x6b617474}`);
        made.run("PRAGMA user_version = 999");
      }),
      "was written by a newer manager (schema 999",
    ],
    ["a directory", (path) => mkdirSync(path), "is not a file"],
  ];
  test.each(CASES)("%s", async (_name, make, why) => {
    const directory = workplace();
    const path = join(directory, "data.db");
    make(path);
    const look = () => {
      const { mode, mtimeMs, size, ino } = statSync(path);
      const content = statSync(path).isFile() ? readFileSync(path).toString("hex") : readdirSync(path);
      return { mode, mtimeMs, size, ino, content };
    };
    const before = look();
    for (const flags of [[], ["-verify-log"], ["-backup", "copy.db"]]) {
      const { exitCode, stdout, stderr } = await runManager(flags, directory, { DB_PATH: "data.db" });
      expect([exitCode, stdout]).toEqual([1, ""]);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
      if (flags.length === 0) expect(stderr).toStartWith(`manager: ${path} ${why}`);
      expect(look()).toEqual(before);
    }
    expect(readdirSync(directory).filter((file) => /wal|shm|copy/.test(file))).toEqual([]);
  });

  test("a directory that is read-only to its user", async () => {
    const directory = workplace();
    const state = join(directory, "state");
    mkdirSync(state, { mode: 0o700 });
    // Root may write everywhere: then somebody else tries.
    const nobody = process.getuid?.() === 0 ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] : [];
    if (nobody.length > 0) chownSync(state, 65534, 65534);
    chmodSync(directory, 0o555);
    const environment = { DB_PATH: "data.db", STATE_DIR: state };
    const { exitCode, stdout, stderr } = await runManager([], directory, environment, nobody);
    chmodSync(directory, 0o755);
    expect(stderr).toStartWith(`manager: cannot open the database ${join(directory, "data.db")}: `);
    expect(stderr).toContain("cannot be written: check owner, mode and mount, or set DB_PATH");
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect([exitCode, stdout, readdirSync(directory)]).toEqual([1, "", ["state"]]);
  });

  // `sudo -u kattila-manager kattila-manager -backup …`, typed in root's home.
  test.skipIf(process.getuid?.() !== 0)(
    "a working directory closed to its user has no .env; one that it cannot read is refused",
    async () => {
      const directory = workplace();
      writeFileSync(join(directory, ".env"), "RETENTION_DAYS=wrong\n", { mode: 0o600 });
      const backup = () =>
        runManager(["-backup", "copy"], directory, { DB_PATH: "/nonexistent/data.db" }, [
          "setpriv",
          "--reuid=65534",
          "--regid=65534",
          "--clear-groups",
        ]);
      chmodSync(directory, 0o700);
      expect(await backup()).toEqual({
        exitCode: 1,
        stdout: "",
        stderr: "manager: there is no database /nonexistent/data.db: set DB_PATH\n",
      });
      chmodSync(directory, 0o755);
      expect(await backup()).toEqual({ exitCode: 2, stdout: "", stderr: "manager: .env: cannot be read (EACCES)\n" });
    },
  );

  test("a second manager on one database: refused; the first goes on", async () => {
    const directory = workplace();
    const first = await spawnManager(directory);
    try {
      const before = readFileSync(join(directory, "kattila_manager.db")).toString("hex");
      expect(await runManager([], directory)).toEqual({
        exitCode: 1,
        stdout: "",
        stderr: `manager: ${join(directory, "kattila_manager.db")} is in use by another manager: end that one, or set DB_PATH to another file\n`,
      });
      expect(readFileSync(join(directory, "kattila_manager.db")).toString("hex")).toBe(before);
      expect((await fetch(`${first.url}/status/healthcheck`)).status).toBe(200);
      // Its lock goes with it, however it ends.
      await first.kill("SIGKILL");
      const second = await spawnManager(directory);
      expect(await second.kill("SIGTERM")).toBe(0);
    } finally {
      await first.kill("SIGKILL");
    }
  });
});

test("the bare machine: no settings at all; what is made is private, and is said", async () => {
  const directory = workplace();
  const manager = await spawnManager(directory);
  try {
    expect(manager.stdout()).toContain(`fleet key (PSK): ${join(directory, "kattila.psk")} (made just now)`);
    expect(manager.stdout()).toContain(`admin token: in ${join(directory, "admin_token")} (made just now)`);
    const secrets = ["kattila.psk", "admin_token", "manager_key", "manager_psk_ring"];
    for (const name of [...secrets, "kattila_manager.db"]) {
      expect([name, statSync(join(directory, name)).mode & 0o777]).toEqual([name, 0o600]);
    }
    for (const name of secrets.slice(0, 3)) {
      const secret = readFileSync(join(directory, name), "utf8").trim();
      expect(manager.stdout() + manager.stderr()).not.toContain(secret);
    }
    for (const line of manager.stderr().trimEnd().split("\n")) expect(() => JSON.parse(line)).not.toThrow();
    expect(await manager.kill("SIGTERM")).toBe(0);
    const again = await spawnManager(directory);
    expect(again.psk).toBe(manager.psk);
    expect(again.stdout()).not.toContain("made just now");
    expect(await again.kill("SIGTERM")).toBe(0);
  } finally {
    await manager.kill("SIGKILL");
  }
});
