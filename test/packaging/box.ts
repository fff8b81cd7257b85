// Owns a real systemd for tests: pid 1 of namespaces inside a lab host, over a copy of this machine's files that is gone with it. It
// starts no unit but those that a test installs. Nothing of the machine is changed: its files are the lower layer of
// an overlay, /dev has a few nodes of its own, /proc/sys is read-only, and the cgroup is a new one that is removed.
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Host } from "../lab/host.ts";
import type { RunResult } from "../lab/namespace.ts";
import { eventually } from "../lab/programs.ts";

/** `$1` is an empty directory, `$2` a name for the cgroup, the rest directories of the machine: seen in the box as
 * /mnt/1, /mnt/2, …, for the checkout may be on a disk of its own. */
const BOOT_SCRIPT = `
set -e
work=$1; name=$2; shift 2
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/layer" "$work/root" "$work/cgroup"
mount -t cgroup2 cgroup2 "$work/cgroup"
while IFS=: read -r id _ path; do if [ "$id" = 0 ]; then own=$work/cgroup$path; fi; done < /proc/self/cgroup
mkdir "$own/$name"
echo 0 > "$own/$name/cgroup.procs"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/layer" "$work/root"
cd "$work/root"
place=0
for directory in "$@"; do
  place=$((place + 1))
  mkdir -p "mnt/$place"
  mount --bind "$directory" "mnt/$place"
done
mkdir -p mnt/changed
mount --bind "$work/upper" mnt/changed
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=0755 tmpfs run
mkdir run/wireguard
mount --bind /run/wireguard run/wireguard
mount -t tmpfs -o mode=0755 tmpfs dev
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  IFS=: read -r file major minor <<NODE
$node
NODE
  mknod -m 666 "dev/$file" c "$major" "$minor"
done
ln -s pts/ptmx dev/ptmx
# Units that the machine starts at boot would set sysctls, modules and binary formats of the whole kernel.
rm -rf etc/systemd/system/*.wants usr/lib/systemd/system/*.wants
mkdir -p etc/systemd/system/service.d
# There is no journal. A killed program comes back sooner than an operator would want it to.
cat > etc/systemd/system/service.d/test.conf <<'UNIT'
[Service]
StandardOutput=append:/run/log-%N
StandardError=append:/run/log-%N
RestartSec=200ms
UNIT
mkdir mnt/machine
pivot_root . mnt/machine
cd /
umount -l /mnt/machine
exec unshare --cgroup sh -ec '
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
  /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no'
`;

/** What a container's kernel may refuse even to root: an overlay over all files, and a cgroup of one's own. */
const PROBE_SCRIPT = `
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/layer /mnt/root /mnt/cgroup
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/layer /mnt/root
mount -t cgroup2 cgroup2 /mnt/cgroup
while IFS=: read -r id _ path; do if [ "$id" = 0 ]; then own=/mnt/cgroup$path; fi; done < /proc/self/cgroup
mkdir "$own/kattila-probe-$$"
rmdir "$own/kattila-probe-$$"
`;

/** Whether this machine lets root boot a box at all; null if it does, else why not. */
export function whyNoBox(): string | null {
  const probe = Bun.spawnSync(["unshare", "--mount", "--propagation", "private", "sh", "-c", PROBE_SCRIPT], {
    stdout: "ignore",
    stderr: "pipe",
    timeout: 10_000,
  });
  return probe.exitCode === 0 ? null : probe.stderr.toString().trim();
}

const SWEEP_SCRIPT = `mount -t cgroup2 cgroup2 "$1" && find "$1$2" -depth -type d -exec rmdir {} ';'`;

export class SystemdBox implements AsyncDisposable {
  private constructor(
    private readonly host: Host,
    /** Of systemd, from outside. */
    readonly pid: number,
    private readonly cgroup: string,
  ) {}

  /** Boots it on a lab host, whose network and WireGuard it shares. `directories` are at /mnt/1, /mnt/2, … */
  static async boot(host: Host, directories: string[]): Promise<SystemdBox> {
    const work = join(host.dir, "box");
    mkdirSync(work);
    const name = `kattila-packaging-${crypto.randomUUID()}`;
    const unshared = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--propagation", "private"];
    const process = await host.spawn([...unshared, "sh", "-c", BOOT_SCRIPT, "box", work, name, ...directories], {
      name: "systemd",
    });
    const pid = await eventually("systemd starts", () => {
      if (!host.alive) throw new Error(process.output());
      const child = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, "utf8").trim();
      const program = child === "" ? "" : readFileSync(`/proc/${child}/comm`, "utf8").trim();
      return program === "systemd" ? Number(child) : null;
    }).catch((cause) => {
      throw new Error(`systemd does not start: ${process.output()}`, { cause });
    });
    const path = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, "utf8"))![1]!;
    const box = new SystemdBox(host, pid, path.slice(0, path.indexOf(name) + name.length));
    await eventually("systemd is up", async () => {
      const { stdout } = await box.run(["systemctl", "is-system-running"], { check: false });
      return stdout.trim() === "running";
    });
    return box;
  }

  /** Runs a command beside the services. Throws on a non-zero exit unless `check: false`. */
  async run(command: string[], options: { input?: string; check?: boolean } = {}): Promise<RunResult> {
    const enter = `nsenter -t ${this.pid} --mount --pid --uts --ipc --net --cgroup --wd --`.split(" ");
    const child = Bun.spawn([...enter, ...command], {
      stdin: options.input === undefined ? "ignore" : Buffer.from(options.input),
      stdout: "pipe",
      stderr: "pipe",
      env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
      timeout: 30_000,
    });
    const [stdout, stderr, exitCode] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    if (options.check !== false && exitCode !== 0)
      throw new Error(`${command.join(" ")} exited ${exitCode}: ${stderr}${stdout}`);
    return { stdout, stderr, exitCode };
  }

  /** Where a path of the box is, as seen from outside. */
  path(path: string): string {
    return `/proc/${this.pid}/root${path}`;
  }

  /**
   * What differs from the machine's files, sorted: made, changed and removed ones, directories not. Of the overlay's
   * own layer: what somebody else writes on the machine meanwhile is none of it.
   */
  async changed(): Promise<string[]> {
    const { stdout } = await this.run(["find", "/mnt/changed", "-xdev", "-not", "-type", "d", "-printf", "/%P\\n"]);
    return stdout.trim().split("\n").sort();
  }

  /** A property of a unit, as `systemctl show` prints it. */
  async show(unit: string, property: string): Promise<string> {
    return (await this.run(["systemctl", "show", "--value", "-p", property, unit])).stdout.trim();
  }

  /** What a unit has printed. */
  log(unit: string): string {
    return readFileSync(this.path(`/run/log-${unit}`), "utf8");
  }

  /** The root of a running service's own view of the files, as a path in the box. */
  async view(unit: string): Promise<string> {
    return `/proc/${await this.show(unit, "MainPID")}/root`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host.kill();
    // The kernel leaves an empty cgroup where it is.
    const place = join(this.host.lab.dir, "cgroup");
    mkdirSync(place);
    Bun.spawnSync(["unshare", "--mount", "sh", "-c", SWEEP_SCRIPT, "sweep", place, this.cgroup]);
  }
}
