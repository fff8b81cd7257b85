// Owns the driving of a simulated network's agents against a manager: each registers once and reports on its interval.
import { collectHost, type SimHost, type SimNetwork } from "./network.ts";
import { createSender, post, relayed, type Sender } from "./sender.ts";

export type Driver = {
  /** Sends the report of every host whose time has come by `now`; resolves with how many were accepted and refused. */
  step(now: number): Promise<{ accepted: number; refused: number }>;
};

/** Registers every host with an agent, spread over one interval. */
export async function createDriver(
  network: SimNetwork,
  url: string,
  psk: string,
  now: number,
  intervalSeconds: number,
): Promise<Driver> {
  const agents: { host: SimHost; sender: Sender; nextAt: number }[] = [];
  for (const host of network.hosts) {
    if (!host.hasAgent) continue;
    const sender = await createSender(url, psk, host.id);
    const registered = await sender.register(host.hostname, now);
    if (registered.ack === null || registered.status >= 300)
      throw new Error(`registering ${host.hostname}: ${registered.status}`);
    agents.push({ host, sender, nextAt: now + network.random() * intervalSeconds * 1000 });
  }
  return {
    async step(at) {
      const due = agents.filter((agent) => agent.nextAt <= at);
      const statuses = await Promise.all(
        due.map(async ({ host, sender }, index) => {
          const agent = due[index]!;
          while (agent.nextAt <= at) agent.nextAt += intervalSeconds * 1000;
          if (host.down) return 0;
          host.tick++;
          const envelope = await sender.report(collectHost(network, host, at, intervalSeconds), at);
          const via = host.relayedBy;
          const sent = via === null ? envelope : await relayed(envelope, [via.id], psk, at);
          return (await post(url, "/status/updates", sent)).status;
        }),
      );
      return {
        accepted: statuses.filter((status) => status === 200).length,
        refused: statuses.filter((status) => status !== 200 && status !== 0).length,
      };
    },
  };
}
