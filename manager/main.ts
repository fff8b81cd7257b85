// Owns the manager's process: command line, settings, signals, and what it prints at its start.
import { readEnvironment } from "../shared/config.ts";
import { createLog, type Log } from "../shared/log.ts";
import { type Print, runProgram } from "../shared/program.ts";
import { VERSION } from "../shared/version.ts";
import { MANAGER_HELP, parseManagerCommand } from "./cli.ts";
import { type ManagerSettings, managerSettings } from "./settings.ts";

await runProgram("manager", async (print, complain) => {
  const command = parseManagerCommand(process.argv.slice(2));
  switch (command.is) {
    case "help":
      print(MANAGER_HELP);
      return 0;
    case "version":
      print(VERSION);
      return 0;
    case "wrong":
      complain(command.message);
      return 2;
  }
  const settings = managerSettings(readEnvironment(process.cwd(), process.env), process.cwd());
  const log = createLog(settings.logLevel);
  switch (command.is) {
    case "verify-log":
      return (await import("./commands.ts")).verifyLogCommand(settings, log, print, complain);
    case "backup":
      return (await import("./commands.ts")).backupCommand(settings, command.path, print);
    case "check-notify":
      return (await import("./commands.ts")).checkNotifyCommand(settings, print, complain);
    case "serve":
      return serve(settings, log, print);
  }
});

async function serve(settings: ManagerSettings, log: Log, print: Print): Promise<number> {
  const { startManager } = await import("./server.ts");
  const signal = new Promise<string>((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => resolve(name));
  });
  const manager = await startManager(settings, log);
  const local = manager.url.replace("[::]", "localhost").replace("0.0.0.0", "localhost");
  print(`kattila manager ${VERSION} serves on ${local}`);
  if (settings.psk.kind === "default") {
    print(`  fleet key (PSK): ${settings.psk.path}${manager.pskCreated ? " (made just now)" : ""}`);
    print(
      "  an agent started in this directory finds it; elsewhere, copy that file (mode 0600) into the agent's state",
    );
    print("  directory, or name it in PSK_FILE, and set MANAGER_URL to this manager");
  }
  if (manager.adminTokenPath !== null) {
    print(`  admin token: in ${manager.adminTokenPath}${manager.adminTokenCreated ? " (made just now)" : ""}`);
  }
  await signal;
  await manager.stop();
  return 0;
}
