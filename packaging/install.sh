#!/bin/sh
# Sets this host up as an agent or the manager from a binary, upgrades it, or takes it away. A second run keeps settings and
# state, and restarts only what changed. No secret is ever an argument or printed: the key comes from a file or stdin.
set -eu
umask 077

usage() {
  cat <<'TEXT'
usage: install.sh agent BINARY --manager-url URL (--dns NAME | --psk-file FILE) [options]
       install.sh manager BINARY [--dns NAME | --psk-file FILE] [options]
       install.sh uninstall agent|manager (--yes | --keep-state) [--root DIR]

  --manager-url URL     where the manager is; several, comma-separated, are ways to the same one
  --manager-key KEY     the manager's public key (it logs manager_key), so that the agent believes no other
  --interval SECONDS    between two reports, 1 to 86400
  --userspace-wireguard give the agent what it needs to read wireguard-go or boringtun (CAP_DAC_OVERRIDE)
  --dns NAME            the fleet's key is the TXT record of NAME
  --dns-servers LIST    resolvers to ask for it: ip[:port], comma-separated
  --psk-file FILE       the fleet's key is copied from FILE (- is stdin) into the state directory
  --no-start            neither enable nor start the service
  --root DIR            put the files below DIR and touch neither users nor systemd
  --yes                 remove settings and state without asking
  --keep-state          keep settings, state and user

Needed at the first run only; later ones change what they name. Other settings: /etc/kattila/agent.env, manager.env.
The last line says installed, upgraded, changed, unchanged or removed. exit: 0 done, 1 failed, 2 wrong usage
TEXT
}

newline='
'
die() {
  printf 'install.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}
wrong() { die "$1; see install.sh --help" 2; }
say() { printf '%s\n' "$*"; }

# matches REGEX VALUE: the whole of one line.
matches() {
  case $2 in *"$newline"*) return 1 ;; esac
  printf '%s\n' "$2" | LC_ALL=C grep -Eqx -e "$1"
}

readable() {
  if [ ! -f "$1" ] || [ ! -r "$1" ]; then die "$1 is no file that can be read"; fi
}

program='' binary='' uninstall='' root='' start=yes consent='' userspace='' psk_file=''
# KEY=VALUE a line, to be put into the env file.
settings=''
url='https?://[][A-Za-z0-9._:-]+(/[A-Za-z0-9._~%/-]*)?'

# setting OPTION KEY VALUE REGEX ALLOWED
setting() {
  matches "$4" "$3" || wrong "$1 must be $5"
  settings="$settings$2=$3$newline"
}

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help | -help) usage && exit 0 ;;
    --no-start) start=no && shift && continue ;;
    --yes | --keep-state)
      [ -z "$consent" ] || [ "$consent" = "$1" ] || wrong 'choose one: --yes or --keep-state'
      consent=$1 && shift && continue
      ;;
    --userspace-wireguard) userspace=yes && shift && continue ;;
    --*)
      [ -n "${2:-}" ] || wrong "$1 needs a value, or is no option"
      case $1 in
        --manager-url) setting "$1" MANAGER_URL "$2" "$url(,$url)*" 'http:// or https:// URLs without user, query or fragment' ;;
        --manager-key) setting "$1" MANAGER_KEY "$2" '[A-Za-z0-9+/]{43}=' 'base64 of 32 bytes' ;;
        --interval) setting "$1" REPORT_INTERVAL "$2" '[1-9][0-9]{0,3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2}|86400' 'a number of seconds from 1 to 86400' ;;
        --dns) setting "$1" DNS "$2" '[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}' 'a DNS name' ;;
        --dns-servers) setting "$1" DNS_SERVERS "$2" '[][0-9a-fA-F.:,]+' 'ip[:port], comma-separated' ;;
        --psk-file) psk_file=$2 ;;
        --root) root=$2 ;;
        *) wrong "unknown option $1" ;;
      esac
      shift 2
      ;;
    uninstall) uninstall=yes && shift ;;
    agent | manager)
      [ -z "$program" ] || wrong "unexpected $1"
      program=$1 && shift
      if [ -z "$uninstall" ] && [ $# -gt 0 ]; then
        case $1 in --*) ;; *) binary=$1 && shift ;; esac
      fi
      ;;
    *) wrong "unexpected $1" ;;
  esac
done

[ -n "$program" ] || wrong 'agent or manager?'
if [ -n "$root" ]; then
  [ -d "$root" ] || wrong "--root $root is no directory"
  root=$(cd "$root" && pwd)
  # "/" is no stage but this host.
  root=${root%/}
fi
if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then die 'run it as root (or stage the files with --root DIR)'; fi

name=kattila-$program
here=$(cd "$(dirname "$0")" && pwd)
target=$root/usr/local/bin/$name
unit=$root/etc/systemd/system/$name.service
drop_ins=$unit.d
config=$root/etc/kattila
env_file=$config/$program.env
state=$root/var/lib/$name
key=$state/kattila.psk

# Whether there is a systemd to talk to, as sd_booted(3) asks.
systemd_runs() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

if [ -n "$uninstall" ]; then
  [ -z "$settings$psk_file$userspace" ] || wrong 'uninstall takes --yes, --keep-state and --root'
  if [ -z "$consent" ]; then
    [ -t 0 ] || wrong "say what becomes of $state and $env_file: --yes removes them, --keep-state keeps them"
    printf 'Remove %s and %s for good? [y/N] ' "$state" "$env_file"
    read -r answer || answer=''
    case $answer in y | Y | yes) consent=--yes ;; *) die 'nothing was removed' ;; esac
  fi
  if systemd_runs && [ -e "$unit" ]; then
    systemctl disable --quiet --now "$name.service" || die "systemctl cannot stop $name: nothing was removed"
  fi
  database=''
  if [ -f "$env_file" ]; then database=$(sed -n 's/^DB_PATH=//p' "$env_file"); fi
  # The drop-in makes it where there is none; a WireGuard that runs has its socket there, and then it stays.
  if [ -f "$drop_ins/userspace-wireguard.conf" ]; then rmdir "$root/run/wireguard" 2>/dev/null || :; fi
  rm -rf "$drop_ins"
  rm -f "$unit" "$target" "$root/etc/systemd/system/multi-user.target.wants/$name.service"
  if systemd_runs; then
    systemctl daemon-reload
    systemctl reset-failed "$name.service" 2>/dev/null || :
  fi
  if [ "$consent" = --keep-state ]; then
    say "kept: $state, $env_file and the user $name"
  else
    rm -f "$env_file"
    rm -rf "$state"
    if [ -z "$root" ] && id "$name" >/dev/null 2>&1; then
      userdel "$name" || die "the user $name could not be removed: end its processes, then userdel $name"
    fi
    case $database in
      '' | "/var/lib/$name"/*) ;;
      /*) say "left where DB_PATH said: $database" ;;
    esac
  fi
  if [ -d "$config" ]; then rmdir "$config" 2>/dev/null || say "left, for other files are there: $config"; fi
  say "$name: removed"
  exit 0
fi

# --- install. Everything is checked before anything is changed.

[ -z "$consent" ] || wrong '--yes and --keep-state are for uninstall'
[ -n "$binary" ] || wrong "$program needs the path of its binary"
readable "$binary"
for file in "$name.service" $([ -z "$userspace" ] || echo userspace-wireguard.conf); do
  [ -f "$here/$file" ] || die "$here/$file is missing: keep it beside install.sh"
done

# has KEY: whether it is named now, or was before.
has() {
  case $newline$settings in *"$newline$1="*) return 0 ;; esac
  [ -f "$env_file" ] && grep -q "^$1=." "$env_file"
}
named() { case $newline$settings in *"$newline$1="*) return 0 ;; *) return 1 ;; esac; }

if [ "$program" = manager ]; then
  for option in MANAGER_URL MANAGER_KEY REPORT_INTERVAL; do
    ! named "$option" || wrong "$option is a setting of the agent"
  done
  [ -z "$userspace" ] || wrong '--userspace-wireguard is for the agent'
else
  has MANAGER_URL || wrong 'an agent needs --manager-url URL'
  if ! has DNS && ! has PSK_FILE && ! has PSK && [ -z "$psk_file" ] && [ ! -f "$key" ]; then
    wrong 'an agent needs the key: --dns NAME or --psk-file FILE'
  fi
fi
if named DNS && [ -n "$psk_file" ]; then wrong 'choose one: --dns or --psk-file'; fi
if named DNS_SERVERS && ! has DNS; then wrong '--dns-servers goes with --dns'; fi

work=$(mktemp -d)
candidate=$target.new
trap 'rm -rf "$work" "$candidate"' EXIT
trap 'exit 130' HUP INT TERM

if [ -n "$psk_file" ]; then
  if [ "$psk_file" = - ]; then
    head -c 4096 >"$work/psk"
  else
    readable "$psk_file"
    head -c 4096 "$psk_file" >"$work/psk"
  fi
  # The rule of the programs themselves: 16 bytes or more, on one line.
  if [ "$(tr -d '[:space:]' <"$work/psk" | wc -c)" -lt 16 ] || [ "$(grep -c . "$work/psk")" != 1 ]; then
    die "the key in $psk_file must be one line of 16 bytes or more"
  fi
fi

# The env file as it will be: what was there, with what is named now. A key that is named replaces its other sources.
if [ -f "$env_file" ]; then
  cat "$env_file" >"$work/env"
else
  say "# Settings of $name, read by systemd: NAME=value a line. README lists them. After a change: systemctl restart $name" >"$work/env"
fi
drop() {
  sed "/^$1=/d" "$work/env" >"$work/env.next"
  mv "$work/env.next" "$work/env"
}
if [ -n "$psk_file" ]; then drop DNS && drop DNS_SERVERS; fi
if [ -n "$psk_file" ] || named DNS; then drop PSK && drop PSK_FILE; fi
set -f # no value has a space; one may have brackets
for line in $settings; do
  if [ "$(grep "^${line%%=*}=" "$work/env")" = "$line" ]; then continue; fi
  drop "${line%%=*}"
  printf '%s\n' "$line" >>"$work/env"
done
set +f

# The binary is tried where it will lie, beside the old one, which it replaces only if it answers as what it should be.
install -d -m 755 "$root/usr/local/bin"
install -m 755 "$binary" "$candidate"
# From a directory that is there, whatever became of this one.
try() (
  cd /
  timeout 20 env -i PATH="$PATH" "$candidate" "$1" </dev/null 2>/dev/null || :
)
version=$(try -version)
matches '[0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.+-]*' "$version" ||
  die "$binary does not run here, or is no kattila program (it does not answer -version): nothing was changed"
case $(try -help) in
  "kattila $program:"*) ;;
  *) die "$binary is not the $program: nothing was changed" ;;
esac

outcome=unchanged
# put MODE FROM TO: replaces TO at once and as a whole, if it differs.
put() {
  if [ -f "$3" ] && [ ! -L "$3" ] && cmp -s "$2" "$3"; then
    chmod "$1" "$3"
    return
  fi
  install -m "$1" "$2" "$3.new"
  mv -f "$3.new" "$3"
  if [ "$outcome" = unchanged ]; then outcome=changed; fi
}

if [ -z "$root" ] && ! id "$name" >/dev/null 2>&1; then
  useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$name" ||
    die "the user $name could not be made"
fi
if [ ! -f "$target" ]; then outcome=installed; elif ! cmp -s "$candidate" "$target"; then outcome=upgraded; fi
if [ "$outcome" != unchanged ]; then mv -f "$candidate" "$target"; fi
install -d -m 755 "$root/etc/systemd/system" "$config"
put 600 "$work/env" "$env_file"
put 644 "$here/$name.service" "$unit"
if [ -n "$userspace" ]; then
  install -d -m 755 "$drop_ins"
  put 644 "$here/userspace-wireguard.conf" "$drop_ins/userspace-wireguard.conf"
fi
if [ -n "$psk_file" ]; then
  # systemd would make it too; a staged one it gives to the user.
  install -d -m 700 "$state"
  put 600 "$work/psk" "$key"
  # The directory is the user's, who may have put a link there meanwhile: what it names stays whose it is.
  [ -n "$root" ] || chown -h "$name:$name" "$state" "$key"
fi

if [ -n "$root" ]; then
  say "staged below $root; there: make the user (useradd --system --user-group $name), then systemctl enable --now $name"
elif ! systemd_runs; then
  say "systemd does not run here: start it as the user $name with the settings in $env_file and STATE_DIR=/var/lib/$name"
else
  systemctl daemon-reload
  if [ "$start" = yes ]; then
    systemctl enable --quiet "$name.service"
    if [ "$outcome" = unchanged ]; then systemctl start "$name.service"; else systemctl restart "$name.service"; fi ||
      die "$name did not start: journalctl -u $name"
    # Wrong settings end it at once.
    sleep 1
    systemctl --quiet is-active "$name.service" || die "$name ended again: journalctl -u $name"
  fi
  if [ "$program" = agent ] && [ ! -d "$drop_ins" ] && ls /run/wireguard/*.sock >/dev/null 2>&1; then
    say 'a userspace WireGuard runs here: the agent reads it only with --userspace-wireguard'
  fi
fi
say "$name $version: $outcome"
