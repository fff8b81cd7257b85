// Owns the agent's process: command line, settings, signals, and which command runs.
import { readEnvironment } from "../shared/config.ts";
import { createLog } from "../shared/log.ts";
import { runProgram } from "../shared/program.ts";
import { VERSION } from "../shared/version.ts";
import { AGENT_HELP, parseAgentCommand } from "./cli.ts";
import { createHost } from "./host.ts";
import { agentSettings } from "./settings.ts";

await runProgram("agent", async (print, complain) => {
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
  const settings = agentSettings(readEnvironment(process.cwd(), process.env), process.cwd());
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
});
