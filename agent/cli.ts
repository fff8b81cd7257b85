// Owns the agent's command line: which flags there are and what --help says. Pure.

export type AgentCommand =
  | { is: "daemon" | "sysinfo" | "once" | "reset" | "version" | "help" }
  | { is: "discover"; json: boolean }
  | { is: "dump"; path: string }
  | { is: "wrong"; message: string };

export const AGENT_HELP = `kattila agent: collects what this host knows of its networks, and reports it to the manager, signed

usage: agent [flag]
  (none)            run until SIGTERM or SIGINT
  -sysinfo          print everything that a report would carry, as JSON; needs neither PSK nor network
  -dump FILE        write the signed report that would be sent now to FILE (0600)
  -discover [-json] ask the mesh's agents which manager they reach, and print a table (or JSON)
  -once             send what waits and one report, and say what the manager answered
  -reset            forget this agent's identity, key, tick and outbox, and take a new id
  -version          print the version
  -help             print this

Each flag may have two dashes. Settings come from .env in the working directory, overridden by the environment:
  MANAGER_URL (http://127.0.0.1:5086), MANAGER_KEY, PSK, PSK_FILE, DNS, DNS_SERVERS, STATE_DIR (working directory),
  REPORT_INTERVAL (30), AGENT_LISTEN, AGENT_PORT (5087), AGENT_ALLOW, TLS_CA_FILE, LOG_LEVEL (info)
exit: 0 done, 1 failed, 2 wrong usage or setting
`;

export function parseAgentCommand(argv: readonly string[]): AgentCommand {
  const wrong = (message: string): AgentCommand => ({ is: "wrong", message: `${message}; see -help` });
  const [first, ...rest] = argv;
  if (first === undefined) return { is: "daemon" };
  if (!/^--?[a-z]/.test(first)) return wrong(`unexpected ${JSON.stringify(first)}`);
  const flag = first.replace(/^--?/, "");
  switch (flag) {
    case "sysinfo":
    case "once":
    case "reset":
    case "version":
    case "help":
      return rest.length > 0 ? wrong(`-${flag} takes no argument`) : { is: flag };
    case "h":
      return { is: "help" };
    case "dump": {
      const [path, ...more] = rest;
      return path === undefined || path === "" || more.length > 0
        ? wrong("-dump takes one FILE")
        : { is: "dump", path };
    }
    case "discover": {
      if (rest.length === 0) return { is: "discover", json: false };
      return rest.length === 1 && /^--?json$/.test(rest[0]!)
        ? { is: "discover", json: true }
        : wrong("-discover takes -json or nothing");
    }
    case "json": {
      // The other way round is meant the same.
      return rest.length === 1 && /^--?discover$/.test(rest[0]!)
        ? { is: "discover", json: true }
        : wrong("-json goes with -discover");
    }
    default:
      return wrong(`unknown flag ${JSON.stringify(first)}`);
  }
}
