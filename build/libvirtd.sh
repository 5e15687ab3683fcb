#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A private libvirtd: own configuration, state, logs and socket under DIR, in a mount namespace of its own, under a
# reaper that outlives it. It disturbs neither a system libvirtd nor another private one.
#
# usage: build/libvirtd.sh COMMAND DIR
#
#   start    start it if it does not run, wait until it answers, print its URI
#   stop     destroy its domains, stop it, leave no process and no mount; the files under DIR stay
#   restart  end libvirtd and start it again under the same reaper; VMs keep running
#   kill     kill -9 libvirtd and return when it is gone; VMs keep running, `start` brings it back
#   status   print the URI if it answers, else exit with status 1
#
# libvirtd run by root has its folders compiled in. So DIR/etc, lib, run, log and cache are mounted over them, where only
# this libvirtd and its QEMUs see it. Everything else is the host's own tree, and mounts made on the host later show too.
# What libvirt calls /var/log/libvirt/qemu/NAME.log is DIR/log/qemu/NAME.log outside, and so on. On the host itself, start
# makes sure of three things that systemd and udev see to: the folders exist, mounts propagate, /dev/kvm is QEMU's.
set -euo pipefail

usage() { sed -n '/^# usage/,/^#   status/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
die() { echo "libvirtd.sh: $*" >&2; exit 1; }

[ $# -eq 2 ] || usage
command=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd -P)
repo=$(cd "$(dirname "$0")/.." && pwd -P)

reaper=$repo/bin/reaper
reaper_pid_file=$dir/reaper.pid
libvirtd_pid_file=$dir/libvirtd.pid
log=$dir/log/libvirtd.log
socket=$dir/run/libvirt-sock
uri="qemu+unix:///system?socket=$socket"

# DIR's folder -> the one compiled into libvirt
declare -Ar folders=(
  [etc]=/etc/libvirt [lib]=/var/lib/libvirt [run]=/run/libvirt [log]=/var/log/libvirt [cache]=/var/cache/libvirt
)

# The reaper removes its command's pid file when that ends, so the number is good while the reaper lives.
reaper_pid() {
  local pid
  pid=$(cat "$reaper_pid_file" 2>/dev/null) || return 1
  tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "-pid-file $libvirtd_pid_file " || return 1
  echo "$pid"
}
libvirtd_pid() { reaper_pid >/dev/null && cat "$libvirtd_pid_file" 2>/dev/null; }

answers() { [ -S "$socket" ] && timeout 10 virsh -q -c "$uri" version >/dev/null 2>&1; }

# wait_until SECONDS COMMAND... polls: there is nothing to wait on for a socket that answers, or for a process that is
# not our child.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.03
  done
}
# A zombie has no executable: it is gone, though PID 1 may take its time to reap it.
gone() { [ ! -e "/proc/$1/exe" ]; }
libvirtd_gone() { ! libvirtd_pid >/dev/null; }
answers_or_gone() { answers || gone "$(cat "$reaper_pid_file")"; }

write_config() {
  local folder
  for folder in "${!folders[@]}"; do mkdir -p "$dir/$folder" "${folders[$folder]}"; done
  # The same for every start in DIR; another one than the host's, so that a VM can migrate between two of these.
  [ -s "$dir/host-uuid" ] || cat /proc/sys/kernel/random/uuid >"$dir/host-uuid"
  cat >"$dir/etc/libvirtd.conf" <<CONF
host_uuid = "$(cat "$dir/host-uuid")"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
CONF
  cat >"$dir/etc/qemu.conf" <<CONF
user = "$1"
group = "$2"
security_driver = "none"
# A pod's cgroup has one owner, and that is vmlet.
cgroup_controllers = []
# Console logs are plain files that QEMU appends to; virtlogd is not there, and rotates in mid-line.
stdio_handler = "file"
# No mount namespace per QEMU: devices and files that appear later on the host can be hot-plugged.
namespaces = []
CONF
}

# qemu_account prints the user and the group that QEMU runs as: the distribution's.
qemu_account() {
  local user
  for user in libvirt-qemu qemu; do
    getent passwd "$user" >/dev/null || continue
    if getent group kvm >/dev/null; then echo "$user kvm"; else echo "$user $(id -gn "$user")"; fi
    return
  done
  die "no account for QEMU: run build/install-deps.sh"
}

# As udev sets it on a normal host. While QEMU's user cannot open an existing /dev/kvm, libvirt takes its cached
# capabilities for stale and probes QEMU again at every start of a domain, which costs 4 s.
open_kvm() {
  [ -c /dev/kvm ] || return 0
  chown "root:$1" /dev/kvm
  chmod 0660 /dev/kvm
}

# As systemd does at boot. Without it a mount made later, under a VM's disk say, would not show in libvirtd's namespace.
propagate_mounts() {
  if grep -qE '^[0-9]+ [0-9]+ [0-9:]+ / / ([^ ]+ )*shared:' /proc/self/mountinfo; then return; fi
  mount --make-rshared /
}

build_reaper() {
  if [ -x "$reaper" ] && [ -z "$(find "$repo/build/reaper" -newer "$reaper" -print -quit)" ]; then return; fi
  (cd "$repo" && CGO_ENABLED=0 go build -o "$reaper" ./build/reaper)
}

# launch starts the reaper, and through it libvirtd, in a session and a mount namespace of their own. exec all the way:
# the background process becomes the reaper.
launch() {
  local mounts="" folder
  for folder in "${!folders[@]}"; do
    mounts+="mount --bind \"\$1/$folder\" \"${folders[$folder]}\"; "
  done
  # shellcheck disable=SC2016  # "$@" belongs to the inner shell
  setsid unshare --mount --propagation slave \
    bash -c "set -e; $mounts"'shift; exec "$@"' launch "$dir" \
    "$reaper" -pid-file "$libvirtd_pid_file" -- "$(command -v libvirtd)" --pid-file /run/libvirt/libvirtd.pid \
    </dev/null >>"$log" 2>&1 9>&- &
  echo $! >"$reaper_pid_file"
}

start() {
  local user group pid
  [ ${#socket} -lt 108 ] || die "$socket is too long for a unix socket: choose a shorter DIR"
  [ "$(id -u)" = 0 ] || die "run as root"
  # A system libvirtd shares no folder with this one, but it does share /dev.
  read -r user group < <(qemu_account)
  open_kvm "$group"
  if ! pid=$(reaper_pid); then
    build_reaper
    write_config "$user" "$group"
    propagate_mounts
    rm -f "$libvirtd_pid_file"
    launch
  elif libvirtd_gone; then
    kill -HUP "$pid"
  fi
  if ! wait_until 60 answers_or_gone || ! answers; then
    tail -n 20 "$log" >&2
    die "libvirtd did not come up, see $log"
  fi
  echo "$uri"
}

destroy_domains() {
  local uuid
  for uuid in $(virsh -q -c "$uri" list --uuid); do virsh -q -c "$uri" destroy "$uuid" || true; done
}

# orphans prints what runs under the reaper beside libvirtd: QEMUs and their helpers.
orphans() { ps -o pid= --ppid "$1" | awk -v libvirtd="$(libvirtd_pid)" '$1 != libvirtd'; }
no_orphans() { [ -z "$(orphans "$1")" ]; }

stop() {
  local pid orphan
  pid=$(reaper_pid) || return 0
  if answers; then destroy_domains; fi
  # Those whose libvirtd was killed.
  for orphan in $(orphans "$pid"); do kill -9 "$orphan" 2>/dev/null || true; done
  wait_until 30 no_orphans "$pid" || die "these do not end: $(orphans "$pid")"
  kill -TERM "$pid"
  wait_until 30 gone "$pid" || die "the reaper, pid $pid, does not end"
  rm -f "$reaper_pid_file"
}

# end_libvirtd SIGNAL ends libvirtd alone.
end_libvirtd() {
  local pid
  pid=$(libvirtd_pid) || return 0
  kill "-$1" "$pid"
  wait_until 30 libvirtd_gone || die "libvirtd, pid $pid, does not end"
}

# One at a time in a DIR.
exec 9>"$dir/lock"
flock 9
case $command in
  start) start ;;
  stop) stop ;;
  restart) end_libvirtd TERM; start ;;
  kill) end_libvirtd KILL ;;
  status) answers || exit 1; echo "$uri" ;;
  *) usage ;;
esac
