// Owns the agent's process: command line, settings, exit codes, signals, and what it prints.
import { type Environment, readEnvironment, SettingError } from "../shared/config.ts";
import { createLog, reason } from "../shared/log.ts";
import { VERSION } from "../shared/version.ts";
import { AGENT_HELP, parseAgentCommand } from "./cli.ts";
import { createHost } from "./host.ts";
import { type AgentSettings, agentSettings } from "./settings.ts";

const print = (text: string) => void process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
const complain = (text: string) => void process.stderr.write(`agent: ${text}\n`);

async function main(environment: Environment): Promise<number> {
  const command = parseAgentCommand(process.argv.slice(2));
  switch (command.is) {
    case "help":
      print(AGENT_HELP);
      return 0;
    case "version":
      print(VERSION);
      return 0;
    case "wrong":
      complain(command.message);
      return 2;
    case "sysinfo": {
      const { sysinfo } = await import("./sysinfo.ts");
      print(JSON.stringify(await sysinfo(createHost()), null, 2));
      return 0;
    }
  }
  let settings: AgentSettings;
  try {
    settings = agentSettings(readEnvironment(process.cwd(), environment), process.cwd());
  } catch (error) {
    if (!(error instanceof SettingError)) throw error;
    complain(error.message);
    return 2;
  }
  const log = createLog(settings.logLevel);
  if (command.is === "daemon") {
    const ended = new Promise<string>((resolve) => {
      for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => resolve(name));
    });
    const { lockState, openAgent } = await import("./agent.ts");
    const lock = lockState(settings.stateDirectory);
    if (lock === null) {
      complain(`an agent runs on ${settings.stateDirectory} already: end it, or set STATE_DIR`);
      return 1;
    }
    const { runDaemon } = await import("./daemon.ts");
    await runDaemon(await openAgent(settings, createHost(), log), settings, log, ended);
    lock.release();
    return 0;
  }
  const commands = await import("./commands.ts");
  switch (command.is) {
    case "dump":
      return commands.dumpCommand(settings, command.path, log, print, complain);
    case "once":
      return commands.onceCommand(settings, log, print, complain);
    case "discover":
      return commands.discoverCommand(settings, command.json, log, print);
    case "reset":
      return commands.resetCommand(settings, log, print, complain);
  }
}

try {
  process.exit(await main(process.env));
} catch (error) {
  complain(reason(error));
  process.exit(error instanceof SettingError ? 2 : 1);
}
