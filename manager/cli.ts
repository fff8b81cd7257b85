// Owns the manager's command line: which flags there are and what --help says. Pure.

export type ManagerCommand =
  | { is: "serve" | "verify-log" | "check-notify" | "version" | "help" }
  | { is: "backup"; path: string }
  | { is: "wrong"; message: string };

export const MANAGER_HELP = `kattila manager: takes the agents' reports, infers the network, serves the dashboard and the API

usage: manager [flag]
  (none)          serve, until SIGTERM or SIGINT
  -verify-log     verify MAC and signature of every report in the audit log, and say what could not be verified and why
  -check-notify   send a test message to every receiver in NOTIFY_URL, and say what came back
  -backup FILE    write a consistent copy of the database to FILE (a running manager may go on)
  -version        print the version
  -help           print this

Each flag may have two dashes. Settings come from .env in the working directory, overridden by the environment:
  MANAGER_LISTEN, MANAGER_PORT (5086), DB_PATH (kattila_manager.db), STATE_DIR (working directory),
  PSK, PSK_FILE, DNS, DNS_SERVERS, ADMIN_TOKEN[_FILE], READ_TOKEN[_FILE], LOCAL_READ (open, token), TRUSTED_PROXIES,
  TLS_CERT_FILE, TLS_KEY_FILE, RETENTION_DAYS (7), EVENT_RETENTION_DAYS (400), NOTIFY_URL, LOG_LEVEL (info)
exit: 0 done, 1 failed, 2 wrong usage or setting
`;

export function parseManagerCommand(argv: readonly string[]): ManagerCommand {
  const [first, ...rest] = argv;
  if (first === undefined) return { is: "serve" };
  const flag = first.replace(/^--?/, "");
  const wrong = (message: string): ManagerCommand => ({ is: "wrong", message: `${message}; see -help` });
  if (!first.startsWith("-")) return wrong(`unexpected ${JSON.stringify(first)}`);
  switch (flag) {
    case "verify-log":
    case "check-notify":
    case "version":
    case "help":
      return rest.length > 0 ? wrong(`-${flag} takes no argument`) : { is: flag };
    case "h":
      return { is: "help" };
    case "backup": {
      const [path, ...more] = rest;
      if (path === undefined || path === "" || more.length > 0) return wrong("-backup takes one FILE");
      return { is: "backup", path };
    }
    default:
      return wrong(`unknown flag ${JSON.stringify(first)}`);
  }
}
