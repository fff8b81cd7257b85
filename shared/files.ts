// Owns private state files: read without following links, write by fsync and rename, and locks that a kill -9 frees.
import { dlopen } from "bun:ffi";
import * as fs from "node:fs";
import { dirname } from "node:path";
import { SettingError } from "./config.ts";

/** A state file or directory that cannot be used; the message is one line with the remedy. */
export class StateError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "StateError";
  }
}

const { O_RDONLY, O_NOFOLLOW, O_CREAT, O_EXCL, O_WRONLY, O_RDWR } = fs.constants;

function code(error: unknown): string {
  return (error as { code?: string }).code ?? "";
}

/**
 * Reads a file of our own that only its owner may read. A symlink is refused; a file that others can read is mended to 0600
 * (and `onMended` told), or refused where `onMended` is null: it may be anything that somebody named by mistake. Absent is
 * null.
 * @throws StateError on a symlink, a non-file, an unreadable file.
 */
export function readPrivate(path: string, onMended: ((path: string) => void) | null = () => {}): string | null {
  let descriptor: number;
  try {
    descriptor = fs.openSync(path, O_RDONLY | O_NOFOLLOW);
  } catch (cause) {
    if (code(cause) === "ENOENT") return null;
    if (code(cause) === "ELOOP")
      throw new StateError(`${path} is a symbolic link: replace it by the file itself`, { cause });
    throw new StateError(`cannot read ${path} (${code(cause)}): check its owner and mode`, { cause });
  }
  try {
    const stat = fs.fstatSync(descriptor);
    if (!stat.isFile()) throw new StateError(`${path} is not a regular file`);
    if ((stat.mode & 0o077) !== 0) {
      if (onMended === null) throw new StateError(`${path} can be read by others: chmod 600 ${path}`);
      try {
        fs.fchmodSync(descriptor, 0o600);
      } catch (cause) {
        throw new StateError(`${path} can be read by others: chmod 600 ${path}`, { cause });
      }
      onMended(path);
    }
    return fs.readFileSync(descriptor, "utf8");
  } finally {
    fs.closeSync(descriptor);
  }
}

/**
 * Replaces a file atomically: new file 0600 beside it, fsync, rename, fsync of the directory.
 * @throws StateError when the directory cannot be written, or `path` is a symlink.
 */
export function writePrivate(path: string, content: string | Uint8Array): void {
  const temporary = `${path}.${process.pid}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  try {
    if (fs.lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true) {
      throw new StateError(`${path} is a symbolic link: replace it by the file itself`);
    }
    const descriptor = fs.openSync(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      fs.writeFileSync(descriptor, content);
      fs.fsyncSync(descriptor);
    } finally {
      fs.closeSync(descriptor);
    }
    fs.renameSync(temporary, path);
    syncDirectory(dirname(path));
  } catch (cause) {
    fs.rmSync(temporary, { force: true });
    if (cause instanceof StateError) throw cause;
    throw new StateError(`cannot write ${path} (${code(cause)}): check the directory's owner, mode and free space`, {
      cause,
    });
  }
}

/** Makes a rename or unlink in `directory` durable. */
export function syncDirectory(directory: string): void {
  const descriptor = fs.openSync(directory, O_RDONLY);
  try {
    fs.fsyncSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

/** The directory that STATE_DIR names, made 0700 where absent. @throws SettingError */
export function makeStateDirectory(path: string): void {
  try {
    fs.mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new SettingError("STATE_DIR", path, `must be a directory, or one that can be made (${code(cause)})`);
  }
}

/** Moves a broken file aside (`<path>.broken-<time>`), so that nothing is lost. Returns where it is now. */
export function setAside(path: string, now: number): string {
  const aside = `${path}.broken-${now}`;
  fs.renameSync(path, aside);
  return aside;
}

export type Lock = { release(): void };

const LOCK_EX = 2;
const LOCK_NB = 4;
let flock: ((descriptor: number, operation: number) => number) | null = null;

/**
 * Takes the exclusive flock(2) of a file (made 0600 where absent) or of a directory. The kernel frees it when the
 * process ends, however it ends. Null: somebody else holds it.
 */
export function tryLock(path: string): Lock | null {
  flock ??= dlopen("libc.so.6", { flock: { args: ["int", "int"], returns: "int" } }).symbols.flock;
  let descriptor: number;
  try {
    const directory = fs.statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
    descriptor = fs.openSync(path, directory ? O_RDONLY : O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
  } catch (cause) {
    const remedy = "check owner and mode of it and of its directory";
    throw new StateError(`cannot open ${path} to lock it (${code(cause)}): ${remedy}`, { cause });
  }
  if (flock(descriptor, LOCK_EX | LOCK_NB) !== 0) {
    fs.closeSync(descriptor);
    return null;
  }
  return { release: () => fs.closeSync(descriptor) };
}

/** As tryLock, but waits for a short lock up to `timeoutMs`. */
export async function waitLock(path: string, timeoutMs: number): Promise<Lock | null> {
  for (let waited = 0; ; waited += 10) {
    const lock = tryLock(path);
    if (lock !== null || waited >= timeoutMs) return lock;
    await Bun.sleep(10);
  }
}
