// Owns what can be wrong, or just unusual, with a random network: each fault changes a plan in one place.
import { type Dice, diceOf, type HostPlan, type Plan, SHAPES, type TunnelPlan } from "./plan.ts";

type Fault = { name: string; apply(plan: Plan, dice: Dice): void };

const tunneled = (plan: Plan) => plan.hosts.filter(({ tunnels }) => tunnels.length > 0);
const anyTunnel = (plan: Plan, dice: Dice): [HostPlan, TunnelPlan] => {
  const host = dice.pick(tunneled(plan));
  return [host, dice.pick(host.tunnels)];
};
const withoutLength = (text: string) => text.slice(0, text.lastIndexOf("/"));

/** An address that some host has, or a prefix around it: `[family option, prefix]`. */
function someTarget(plan: Plan, dice: Dice): [string, string] {
  const address = withoutLength(dice.pick(dice.pick(tunneled(plan)).tunnels).addresses[dice.chance(0.7) ? 0 : 1]!);
  if (address.includes(":")) return ["-6 ", `${address}/${dice.pick([128, 128, 64])}`];
  if (plan.segments.length > 1 && dice.chance(0.3)) return ["", `${dice.pick(plan.segments.slice(1))}.0/24`];
  return [
    "",
    dice.chance(0.6) ? `${address}/32` : `${address.split(".").slice(0, 3).join(".")}.0/${dice.pick([24, 25, 28])}`,
  ];
}

/** Peers of the tunnel `far` that stand for `plan.hosts[index]`. */
const peersFor = (far: TunnelPlan, index: number) => far.peers.filter((peer) => peer.host === index);

export const FAULTS: readonly Fault[] = [
  {
    name: "AllowedIPs lack an entry",
    apply(plan, dice) {
      const [, tunnel] = anyTunnel(plan, dice);
      const peer = dice.pick(tunnel.peers);
      peer.allowedIps.splice(dice.below(peer.allowedIps.length), 1);
    },
  },
  {
    name: "AllowedIPs of two peers are swapped",
    apply(plan, dice) {
      const [, tunnel] = anyTunnel(plan, dice);
      const [one, two] = [dice.pick(tunnel.peers), dice.pick(tunnel.peers)];
      [one.allowedIps, two.allowedIps] = [two.allowedIps, one.allowedIps];
    },
  },
  {
    name: "a more specific entry on another peer",
    apply(plan, dice) {
      const [, tunnel] = anyTunnel(plan, dice);
      const [, target] = someTarget(plan, dice);
      dice.pick(tunnel.peers).allowedIps.push(target);
    },
  },
  {
    name: "the far end filters the source",
    apply(plan, dice) {
      const host = dice.pick(tunneled(plan));
      const index = plan.hosts.indexOf(host);
      const far = dice.pick(dice.pick(host.tunnels).peers);
      for (const peer of peersFor(
        plan.hosts[far.host]!.tunnels.find(({ name }) => name === far.interface)!,
        index,
      ))
        peer.allowedIps = peer.allowedIps.map((text) => (text.includes(":") ? "fd99::1/128" : "10.99.0.1/32"));
    },
  },
  {
    name: "a missing route",
    apply(plan, dice) {
      const host = dice.pick(plan.hosts);
      const tunnel = host.tunnels.length === 0 ? null : dice.pick(host.tunnels);
      if (tunnel === null) host.lines.push("route del default");
      else {
        const routed = tunnel.peers.flatMap(({ allowedIps }) => allowedIps);
        const lost = dice.pick([...routed, `10.${tunnel.addresses[0]!.split(".")[1]}.0.0/24`]);
        host.lines.push(`route del ${lost} dev ${tunnel.name}`);
      }
    },
  },
  {
    name: "a loop",
    apply(plan, dice) {
      const host = dice.pick(tunneled(plan));
      const tunnel = dice.pick(host.tunnels);
      const peer = dice.pick(tunnel.peers);
      const other = plan.hosts[peer.host]!;
      const back = other.tunnels.find(({ name }) => name === peer.interface)!;
      const answer = peersFor(back, plan.hosts.indexOf(host))[0];
      if (answer === undefined) return;
      // Both hosts take each other for the way to what a third has.
      const [family, target] = someTarget(plan, dice);
      const anything = family === "" ? "0.0.0.0/0" : "::/0";
      peer.allowedIps.push(target, anything);
      answer.allowedIps.push(target, anything);
      host.forward = other.forward = true;
      host.lines.push(`${family}route replace ${target} dev ${tunnel.name} metric 1`);
      other.lines.push(`${family}route replace ${target} dev ${back.name} metric 1`);
    },
  },
  ...(["blackhole", "prohibit", "unreachable", "throw"] as const).map((type) => ({
    name: `a ${type} route`,
    apply(plan: Plan, dice: Dice) {
      const [family, target] = someTarget(plan, dice);
      dice.pick(plan.hosts).lines.push(`${family}route add ${type} ${target}${dice.chance(0.5) ? " metric 50" : ""}`);
    },
  })),
  {
    name: "forwarding off",
    apply(plan, dice) {
      const routers = plan.hosts.filter(({ forward }) => forward);
      if (routers.length > 0) dice.pick(routers).forward = false;
    },
  },
  ...([1, 2] as const).map((mode) => ({
    name: `rp_filter ${mode === 1 ? "strict" : "loose"}`,
    apply(plan: Plan, dice: Dice) {
      for (const host of plan.hosts) if (dice.chance(0.6)) host.sysctl["net.ipv4.conf.all.rp_filter"] = String(mode);
    },
  })),
  {
    name: "a tunnel's interface is down",
    apply(plan, dice) {
      const [host, tunnel] = anyTunnel(plan, dice);
      host.lines.push(`link set ${tunnel.name} down`);
    },
  },
  {
    name: "one side lacks a peer",
    apply(plan, dice) {
      const [, tunnel] = anyTunnel(plan, dice);
      if (tunnel.peers.length > 1) tunnel.peers.splice(dice.below(tunnel.peers.length), 1);
    },
  },
  {
    name: "a policy rule with a table",
    apply(plan, dice) {
      const [host, tunnel] = anyTunnel(plan, dice);
      const [family, target] = someTarget(plan, dice);
      const [, from] = someTarget(plan, dice);
      const [, name] = [0, dice.pick([...host.tunnels.map((item) => item.name), "eth0", "lo"])];
      const sameFamily = from.includes(":") === (family !== "");
      const selector = dice.pick([
        `to ${target}`,
        `iif ${name}`,
        `not to ${target}`,
        "fwmark 0x7",
        "not fwmark 0x7",
        "fwmark 0x0/0xff",
        sameFamily ? `from ${from}` : `to ${target}`,
        sameFamily ? `not from ${from}` : `iif ${name}`,
      ]);
      host.lines.push(
        `${family}rule add ${selector} lookup 77 priority ${dice.pick([50, 1000, 40000])}`,
        `${family}route add ${dice.pick([target, "default"])} dev ${tunnel.name} table 77`,
      );
      if (dice.chance(0.3)) host.lines.push(`${family}route add throw ${target} table 77 metric 1`);
    },
  },
  {
    name: "a policy rule that refuses",
    apply(plan, dice) {
      const host = dice.pick(plan.hosts);
      const [family, target] = someTarget(plan, dice);
      const action = dice.pick(["blackhole", "prohibit", "unreachable"]);
      host.lines.push(`${family}rule add ${dice.pick(["to", "from"])} ${target} ${action} priority 70`);
    },
  },
  {
    name: "a rule that suppresses prefixes",
    apply(plan, dice) {
      const [host, tunnel] = anyTunnel(plan, dice);
      host.lines.push(
        `rule add table main suppress_prefixlength ${dice.pick([0, 8, 24, 28])} priority 90`,
        `rule add to ${someTarget(plan, dice)[1].replace(/.*:.*/, "10.1.0.0/24")} lookup 78 priority 91`,
        `route add default dev ${tunnel.name} table 78`,
      );
    },
  },
  {
    name: "a second address",
    apply(plan, dice) {
      const [host, tunnel] = anyTunnel(plan, dice);
      const place = plan.hosts.indexOf(host);
      host.lines.push(
        dice.pick([
          `addr add 10.88.0.${place + 1}/24 dev ${tunnel.name}`,
          `addr add 10.1.0.${place + 101}/24 dev ${tunnel.name}`,
          `addr add fd88::${place + 1}/64 dev ${tunnel.name} nodad`,
        ]),
      );
    },
  },
  {
    name: "a tunnel without address",
    apply(plan, dice) {
      const [host, tunnel] = anyTunnel(plan, dice);
      const nets = tunnel.peers.flatMap(({ allowedIps }) => allowedIps).filter((text) => !text.endsWith("/0"));
      host.lines.push(
        `addr del ${tunnel.addresses[0]} dev ${tunnel.name}`,
        ...nets.map((net) => `route replace ${net} dev ${tunnel.name}`),
      );
    },
  },
  {
    name: "a route with a source",
    apply(plan, dice) {
      const [host, tunnel] = anyTunnel(plan, dice);
      const [family, target] = someTarget(plan, dice);
      const own = host.tunnels.map(({ addresses }) => withoutLength(addresses[family === "" ? 0 : 1]!));
      host.lines.push(`${family}route add ${target} dev ${tunnel.name} src ${dice.pick(own)} metric 5`);
    },
  },
  {
    name: "a route by another way",
    apply(plan, dice) {
      const host = dice.pick(plan.hosts);
      const [family, target] = someTarget(plan, dice);
      const neighbour = family === "" ? `192.168.50.${1 + dice.below(4)}` : `fd50:0::${1 + dice.below(4)}`;
      host.lines.push(`${family}route add ${target} via ${neighbour} metric ${dice.pick([0, 5, 2000])}`);
    },
  },
  {
    name: "a multipath route",
    apply(plan, dice) {
      const [host, tunnel] = anyTunnel(plan, dice);
      const [family, target] = someTarget(plan, dice);
      const via = family === "" ? `192.168.50.${1 + dice.below(4)}` : `fd50:0::${1 + dice.below(4)}`;
      const second = host.tunnels.find(({ name }) => name !== tunnel.name);
      const other = second === undefined || dice.chance(0.5) ? `via ${via}` : `dev ${second.name}`;
      host.lines.push(`${family}route add ${target} nexthop dev ${tunnel.name} nexthop ${other}`);
    },
  },
];

const chain = (text: string) => `table inet lab { chain c { ${text} }; }`;

/** The tunnels' own packets are left alone: what is rewritten are the pings and their answers. */
const PINGS = "meta l4proto { icmp, ipv6-icmp }";
/** Gives what leaves a host the address of the card that it leaves by. */
export const MASQUERADE = chain(`type nat hook postrouting priority 100; ${PINGS} masquerade;`);
/** Keeps what comes to a host, whoever it is for. */
export const REDIRECT = chain(`type nat hook prerouting priority -100; ${PINGS} redirect;`);

/** What makes a verdict uncertain by its nature: apart, so that the share of `unknown` without it can be told. */
const FIREWALLS: readonly Fault[] = [
  {
    name: "a firewall",
    apply(plan, dice) {
      const hook = dice.pick(["input", "forward", "output"]);
      const policy = dice.pick(["accept", "drop"]);
      dice.pick(plan.hosts).nft.push(chain(`type filter hook ${hook} priority 0; policy ${policy};`));
    },
  },
  ...[
    {
      name: "a nat chain that does nothing",
      texts: ["prerouting", "postrouting"].map((hook) => chain(`type nat hook ${hook} priority 0;`)),
    },
    { name: "masquerading", texts: [MASQUERADE] },
    { name: "a redirection", texts: [REDIRECT] },
  ].map(({ name, texts }) => ({
    name,
    apply(plan: Plan, dice: Dice) {
      dice.pick(plan.hosts).nft.push(dice.pick(texts));
    },
  })),
];

/** The network of a seed: a shape with up to three faults, one in five with a firewall or a NAT. */
export function planOf(seed: number): Plan {
  const dice = diceOf(seed);
  const plan: Plan = { ...dice.pick(SHAPES)(dice), seed, faults: [] };
  for (let i = 0, count = dice.below(4); i < count; i++) {
    const fault = dice.pick(FAULTS);
    fault.apply(plan, dice);
    plan.faults.push(fault.name);
  }
  if (dice.chance(0.2)) {
    const fault = dice.pick(FIREWALLS);
    fault.apply(plan, dice);
    plan.faults.push(fault.name);
  }
  return plan;
}
