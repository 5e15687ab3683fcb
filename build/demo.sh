#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The whole way of a VM pod in plain CRI calls, on real parts: a registry, CNI, libvirt, QEMU.
#
# usage: build/demo.sh up|down
#
#   up     run the demo; with KEEP=1 leave the VM running and say how to play with it
#   down   end what `up` with KEEP=1 left
#
# It touches nothing of the host's: state is under /run/vmlet-demo and /var/lib/vmlet-demo, and everything runs in a
# network namespace of its own. Only where a libvirtd runs already is that used, in the host's network namespace.
# Wants bin/ as `make build tools guest-image` leaves it.
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd -P)
bin=$repo/bin
run=/run/vmlet-demo
lib=/var/lib/vmlet-demo
# A network namespace, held by a mount. Absent where the host's is used.
net=$run/net
bridge=vmlet-demo0
socket=$run/vmlet.sock
config=$run/config.yaml
# Where the logs of a demo that failed are kept.
kept=$repo/out/demo

die() { echo "demo: $*" >&2; exit 1; }

# step TEXT COMMAND... runs a command and prints one line with the time it took; what it printed follows, indented. If
# it fails, so does the demo.
step() {
  local text=$1 begin took out status
  shift
  begin=$(date +%s%N)
  # errexit is off for a command whose status is looked at, and for all that it calls: so look afterwards.
  set +e
  out=$(set -e; "$@" 2>"$run/stderr")
  status=$?
  set -e
  took=$(($(date +%s%N) - begin))
  [ "$status" -eq 0 ] || text="FAILED: $text"
  printf '%7.2f s  %s\n' "$((took / 1000000))e-3" "$text"
  [ -z "$out" ] || indent <<<"$out"
  [ "$status" -ne 0 ] || return 0
  indent <"$run/stderr"
  exit 1
}

indent() { sed 's/^/           /'; }

# in_net COMMAND... runs in the demo's network namespace, if it has one. Not `ip netns exec`: that hides the cgroups.
in_net() { "${enter[@]}" "$@"; }
set_enter() { if [ -e "$net" ]; then enter=(nsenter --net="$net"); else enter=(); fi; }
set_enter

# background NAME COMMAND... starts a process that outlives this script and its terminal.
background() {
  local name=$1
  shift
  setsid "${enter[@]}" "$@" >"$run/$name.log" 2>&1 </dev/null &
  echo $! >"$run/$name.pid"
}

crictl() { in_net "$bin/crictl" -c "$run/crictl.yaml" "$@"; }

# until_ok SECONDS COMMAND... polls: a booting guest sends no event that a CRI client could wait for.
until_ok() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" 2>"$run/last-try"; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      cat "$run/last-try" >&2
      return 1
    fi
    sleep 0.1
  done
}

start_libvirtd() {
  if timeout 5 virsh -q -c qemu:///system version >/dev/null 2>&1; then
    echo qemu:///system >"$run/uri"
    echo "one runs already and is used as it is; what that costs, vmlet doctor says below"
    return
  fi
  touch "$net"
  unshare --net="$net" ip link set lo up
  set_enter
  in_net "$repo/build/libvirtd.sh" start "$run/libvirtd" >"$run/uri"
  echo "a private one, in a network namespace of its own"
}
uri() { cat "$run/uri"; }

# libvirt_dir PRIVATE HOST is a folder of the libvirtd in use.
libvirt_dir() { if [ -d "$run/libvirtd" ]; then echo "$run/libvirtd/$1"; else echo "$2"; fi; }

start_registry() {
  local port
  # Port 0: the kernel chooses a free one, and no registry of somebody else's is written to.
  background registry "$bin/crane" registry serve --address 127.0.0.1:0
  until_ok 10 grep -q 'serving on port' "$run/registry.log"
  port=$(sed -n 's/.*serving on port //p' "$run/registry.log")
  echo "127.0.0.1:$port/tiny:demo" >"$run/image"
  # The containerDisk convention: a disk in the folder /disk of an image's layer.
  mkdir -p "$lib/layer/disk"
  cp "$bin/tiny.qcow2" "$lib/layer/disk/tiny.qcow2"
  tar -C "$lib/layer" -cf "$lib/layer.tar" disk
  in_net "$bin/crane" append --oci-empty-base -f "$lib/layer.tar" -t "$(image)"
  rm -r "$lib/layer" "$lib/layer.tar"
}
image() { cat "$run/image"; }

write_config() {
  mkdir -p "$run/cni" "$run/state" "$lib/leases"
  # vmlet wants a file system there that a reboot clears.
  [ "$(stat -f -c %T "$run/state")" = tmpfs ] || mount -t tmpfs -o mode=0700,size=8M vmlet-demo "$run/state"
  cat >"$run/cni/10-demo.conflist" <<CONF
{ "cniVersion": "1.1.0", "name": "vmlet-demo", "plugins": [
  { "type": "bridge", "bridge": "$bridge", "isGateway": true, "hairpinMode": true,
    "ipam": { "type": "host-local", "dataDir": "$lib/leases", "ranges": [[{ "subnet": "10.88.77.0/24" }]],
              "routes": [{ "dst": "0.0.0.0/0" }] } },
  { "type": "portmap", "capabilities": { "portMappings": true } } ] }
CONF
  cat >"$config" <<CONF
listen: {socket: $socket}
root: $lib/node
state: $run/state
libvirt:
  uri: "$(uri)"
  logDir: $(libvirt_dir log/qemu /var/log/libvirt/qemu)
  qemuConf: $(libvirt_dir etc /etc/libvirt)/qemu.conf
cni: {confDir: $run/cni, binDirs: [$bin/cni]}
log: {format: console}
metrics: {address: ""}
defaults: {memory: 128MiB}
CONF
  cat >"$run/crictl.yaml" <<CONF
runtime-endpoint: unix://$socket
image-endpoint: unix://$socket
timeout: 120
CONF
  cat >"$run/pod.json" <<POD
{ "metadata": { "name": "demo", "namespace": "default", "uid": "demo-1", "attempt": 0 },
  "hostname": "demo", "log_directory": "$run/logs", "linux": {} }
POD
  cat >"$run/container.json" <<CONTAINER
{ "metadata": { "name": "vm", "attempt": 0 }, "image": { "image": "$(image)" }, "log_path": "vm.log", "linux": {} }
CONTAINER
  cat >"$run/job-pod.json" <<POD
{ "metadata": { "name": "job", "namespace": "default", "uid": "job-1", "attempt": 0 },
  "hostname": "job", "log_directory": "$run/logs", "linux": {} }
POD
  cat >"$run/job.json" <<JOB
{ "metadata": { "name": "job", "attempt": 0 }, "image": { "image": "$(image)" }, "log_path": "job.log", "linux": {},
  "command": ["sh", "-c", "echo \"\$GREETING from \$(hostname), as \$(id -un)\"; exit 7"],
  "envs": [{ "key": "GREETING", "value": "hello" }] }
JOB
}

start_vmlet() {
  background vmlet "$bin/vmlet" --config "$config"
  until_ok 20 crictl info >/dev/null
}

# doctor prints what is not as it should be: a warning is for reading, a failure ends the demo.
doctor() {
  local all
  all=$(in_net "$bin/vmlet" doctor --config "$config") || { echo "$all"; return 1; }
  grep -v '^ok' <<<"$all" || true
}

run_pod() {
  crictl runp "$run/pod.json" >"$run/pod.id"
  crictl create "$(pod)" "$run/container.json" "$run/pod.json" >"$run/container.id"
  crictl start "$(container)" >/dev/null
}

# job runs a pod whose VM does one thing and ends.
job() {
  local pod container
  pod=$(crictl runp "$run/job-pod.json")
  container=$(crictl create "$pod" "$run/job.json" "$run/job-pod.json")
  crictl start "$container" >/dev/null
  until_ok 60 has_exited "$container"
  crictl logs "$container"
  say_exit "$container"
  crictl rmp -f "$pod" >/dev/null
}
has_exited() { [ "$(crictl inspect -o go-template --template '{{.status.state}}' "$1")" = CONTAINER_EXITED ]; }
say_exit() {
  crictl inspect -o go-template --template '{{.status.state}}, exit code {{.status.exitCode}}, {{.status.reason}}' "$1"
}
pod() { cat "$run/pod.id"; }
container() { cat "$run/container.id"; }

pod_ip() { crictl inspectp -o go-template --template '{{.status.network.ip}}' "$(pod)" | tee "$run/ip"; }
page() { in_net curl -sS -f -m 1 "http://$(cat "$run/ip")/"; }
page_answers() { until_ok 60 page; }
no_page() { if page 2>&1; then return 1; fi; }

console() {
  until_ok 30 console_says READY
  crictl logs --tail 3 "$(container)"
}
console_says() { crictl logs "$(container)" | grep -q "$1"; }

exec_in_it() { echo 'hello from the host' | crictl exec -i "$(container)" sh -c 'uname -a; cat'; }

# forward fetches the page through the daemon, from a port of the guest's loopback.
forward() {
  local port
  # Port 0: a free one.
  background forward "$bin/crictl" -c "$run/crictl.yaml" port-forward "$(pod)" 0:80
  until_ok 10 grep -q 'Forwarding from' "$run/forward.log"
  port=$(sed -n 's/.*Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$run/forward.log")
  in_net curl -sS -f -m 5 "http://127.0.0.1:$port/boot-id"
  end forward
}

# crictl clears the screen before its table.
stats() { crictl stats "$(container)" | sed 's/\x1b\[[0-9]*[A-Z]//g'; }

stop_vm() {
  crictl stop --timeout 30 "$(container)" >/dev/null
  say_exit "$(container)"
}

remove_pod() {
  crictl stopp "$(pod)" >/dev/null
  crictl rmp "$(pod)" >/dev/null
}

# prefix WORDS puts them before each line that comes in. It is no error that none comes.
prefix() { sed "s|^|left: $1 |"; }

# leftovers prints all that a pod brings along and that should be gone with it.
leftovers() {
  local short
  short=$(head -c 12 "$run/pod.id")
  { crictl pods -q; crictl ps -aq; } | prefix "record"
  virsh -q -c "$(uri)" list --all --name | { grep -x "vmlet-$short" || true; } | prefix "domain"
  find "$(libvirt_dir log/qemu /var/log/libvirt/qemu)" -name "vmlet-$short*" | prefix "libvirt's"
  { pgrep -af -- "$lib/node/" || true; } | cut -c 1-100 | prefix "process"
  find "$lib/node/sandboxes" "$run/state/netns" -mindepth 1 | prefix "file"
  find "$lib/node/cni" -type f | prefix "CNI's cache"
  find "$lib/leases" -type f -name '[0-9]*' | prefix "lease"
  findmnt -rno TARGET | { grep -F "$run/state/netns/" || true; } | prefix "mount"
  { in_net ip -o link show type tun; in_net ip -o link show master "$bridge"; } | { grep -E ": (vml$short|veth)" || true; } | prefix "link"
  in_net iptables-save 2>/dev/null | { grep -F "$(pod)" || true; } | prefix "iptables rule"
  find /sys/fs/cgroup -depth -type d -name "vmlet-$(pod)*" | prefix "cgroup"
}
nothing_left() {
  local left
  left=$(leftovers)
  [ -z "$left" ] || { echo "$left"; return 1; }
  echo "no record, domain, process, disk, seed, namespace, tap, veth, lease, rule, mount, cgroup or log of libvirt's"
}

play() {
  cat <<HELP

The VM is running. Some things to try, and at the end: make demo-down

  export CRI_CONFIG_FILE=$run/crictl.yaml
  $bin/crictl pods
  $bin/crictl ps
  $bin/crictl logs -f $(container)
  $bin/crictl exec -it $(container) sh
  $bin/crictl attach -it $(container)                # the serial console; ^C leaves it
  $bin/crictl stats $(container)
  $bin/vmletctl --address $socket ps
  ${enter[*]} curl http://$(cat "$run/ip")/
  virsh -c '$(uri)' list --title
HELP
}

up() {
  [ "$(id -u)" -eq 0 ] || die "needs root: libvirt, network namespaces, cgroups"
  if [ -e "$run" ] || [ -e "$lib" ]; then
    die "$run or $lib exists: a demo runs, or one was cut off. End it with: make demo-down"
  fi
  mkdir -m 0711 "$run" "$lib"
  trap fail EXIT
  step "start libvirtd" start_libvirtd
  set_enter
  step "start a registry on loopback and push the tiny guest image" start_registry
  step "write a configuration" write_config
  step "start vmlet" start_vmlet
  step "vmlet doctor: what is not ok" doctor
  step "pull $(image)" crictl pull "$(image)"
  step "run a pod with a VM" run_pod
  step "its IP" pod_ip
  step "its page over HTTP" page_answers
  step "its console log" console
  step "exec in it: uname -a, and cat of what comes from here" exec_in_it
  step "its boot id, through a forwarded port" forward
  step "its stats" stats
  if [ -n "${KEEP:-}" ]; then
    trap - EXIT
    play
    return
  fi
  step "stop it: the guest powers itself off" stop_vm
  step "its page is gone" no_page
  step "remove the pod" remove_pod
  step "a pod whose VM runs one command" job
  step "nothing is left of it" nothing_left
  step "end what the demo started" down
  trap - EXIT
  rm -rf "$run"
  echo "demo: ok"
}

# fail keeps the logs of a demo that did not come to its end, and then ends it.
fail() {
  local status=$?
  trap - EXIT
  set +e
  rm -rf "$kept"
  mkdir -p "$kept"
  cp -r "$run"/*.log "$run/logs" "$run/libvirtd/log" "$kept" 2>/dev/null
  echo "demo: the logs are kept in $kept" >&2
  down >&2
  rm -rf "$run"
  exit $((status ? status : 1))
}

# end NAME ends a background process, if it still is the one that was started.
end() {
  local pid
  pid=$(cat "$run/$1.pid" 2>/dev/null) || return 0
  [[ $(readlink "/proc/$pid/exe") == "$bin/"* ]] || return 0
  kill "$pid"
  until_ok 30 ended "$pid" || echo "$1, process $pid, does not end" >&2
}
# A zombie has no executable.
ended() { [ ! -e "/proc/$1/exe" ]; }

down() {
  if [ -S "$socket" ] && ! crictl rmp -fa >/dev/null 2>&1; then
    echo "not all pods could be removed" >&2
  fi
  end vmlet
  end registry
  if [ -d "$run/libvirtd" ]; then
    "$repo/build/libvirtd.sh" stop "$run/libvirtd"
  elif ip link show "$bridge" >/dev/null 2>&1; then
    ip link del "$bridge"
  fi
  findmnt -rno TARGET | { grep -F "$run/" || true; } | sort -r | xargs -r -n 1 umount
  if [ -d "$lib" ]; then
    # Images are immutable files, so that nothing changes a base that disks stand on.
    chattr -R -f -i "$lib" || true
    rm -rf "$lib"
  fi
}

case ${1:-} in
  up) up ;;
  down) down; rm -rf "$run" ;;
  *) die "usage: build/demo.sh up|down" ;;
esac
