// An agent up to one point of its loop, as a process of its own that a test kills there:
// `bun test/agent/tick_child.ts taken|kept`, with the agent's settings. Says the tick that it has taken, and waits.
import { openAgent } from "../../agent/agent.ts";
import { createHost } from "../../agent/host.ts";
import { agentSettings } from "../../agent/settings.ts";
import { createLog } from "../../shared/log.ts";

const settings = agentSettings(process.env, process.cwd());
const agent = await openAgent(settings, createHost(), createLog("error"));
const entry = await agent.collect();
if (process.argv[2] === "kept") agent.outbox.push(entry);
console.log(entry.report.tick);
await Bun.sleep(60_000);
