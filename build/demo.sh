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
netns=vmlet-demo
socket=$run/vmlet.sock
registry=127.0.0.1:5000
image=$registry/tiny:demo

die() { echo "demo: $*" >&2; exit 1; }

# step TEXT COMMAND... runs a command and prints one line with the time it took; what it prints follows, indented, and
# its stderr too if it fails.
step() {
  local text=$1 begin end out status=0
  shift
  begin=$(date +%s%N)
  out=$("$@" 2>"$run/stderr") || status=$?
  end=$(date +%s%N)
  printf '%7.2f s  %s\n' "$(((end - begin) / 1000000))e-3" "$text"
  [ -z "$out" ] || awk '{ print "             " $0 }' <<<"$out"
  [ "$status" -eq 0 ] && return
  cat "$run/stderr" >&2
  tail -n 5 "$run/vmlet.log" >&2 2>/dev/null || true
  die "failed: $text"
}

# in_net COMMAND... runs in the demo's network namespace, if it has one. Not `ip netns exec`: that hides the cgroups.
in_net() {
  if [ -e "/run/netns/$netns" ]; then nsenter --net="/run/netns/$netns" "$@"; else "$@"; fi
}

crictl() { in_net "$bin/crictl" -c "$run/crictl.yaml" "$@"; }

# until_ok SECONDS COMMAND... polls: a booting guest sends no event that a CRI client could wait for.
until_ok() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" 2>/dev/null; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

start_libvirtd() {
  if timeout 5 virsh -q -c qemu:///system version >/dev/null 2>&1; then
    echo qemu:///system >"$run/uri"
    echo "a libvirtd runs already and is used as it is; \`vmlet doctor\` below says what that costs"
    return
  fi
  ip netns add "$netns"
  ip -n "$netns" link set lo up
  in_net "$repo/build/libvirtd.sh" start "$run/libvirtd" >"$run/uri"
  cat "$run/uri"
}

# libvirt_file PATH is where the demo sees a file that its libvirtd knows as /etc/libvirt/... or /var/log/libvirt/...
libvirt_file() {
  if [ -e "/run/netns/$netns" ]; then echo "$run/libvirtd/$1"; else echo "$2"; fi
}

write_config() {
  mkdir -p "$run/cni" "$lib/leases"
  cat >"$run/cni/10-demo.conflist" <<CONF
{ "cniVersion": "1.1.0", "name": "vmlet-demo", "plugins": [
  { "type": "bridge", "bridge": "vmlet-demo0", "isGateway": true, "hairpinMode": true,
    "ipam": { "type": "host-local", "dataDir": "$lib/leases", "ranges": [[{ "subnet": "10.88.77.0/24" }]],
              "routes": [{ "dst": "0.0.0.0/0" }] } },
  { "type": "portmap", "capabilities": { "portMappings": true } } ] }
CONF
  cat >"$run/config.yaml" <<CONF
listen: {socket: $socket}
root: $lib/node
state: $run/state
libvirt:
  uri: "$(cat "$run/uri")"
  logDir: $(libvirt_file log/qemu /var/log/libvirt/qemu)
  qemuConf: $(libvirt_file etc/qemu.conf /etc/libvirt/qemu.conf)
cni: {confDir: $run/cni, binDirs: [$bin/cni]}
log: {level: debug, format: console}
metrics: {address: ""}
defaults: {memory: 128MiB}
CONF
  printf 'runtime-endpoint: unix://%s\nimage-endpoint: unix://%s\ntimeout: 120\n' "$socket" "$socket" >"$run/crictl.yaml"
  cat >"$run/pod.json" <<POD
{ "metadata": { "name": "demo", "namespace": "default", "uid": "demo-1", "attempt": 0 },
  "hostname": "demo", "log_directory": "$run/logs", "linux": {} }
POD
  cat >"$run/container.json" <<CONTAINER
{ "metadata": { "name": "vm", "attempt": 0 }, "image": { "image": "$image" }, "log_path": "vm.log", "linux": {} }
CONTAINER
}

start_registry() {
  in_net "$bin/crane" registry serve --address "$registry" >"$run/registry.log" 2>&1 &
  echo $! >"$run/registry.pid"
  # The containerDisk convention: a disk in the folder /disk of an image's layer.
  mkdir -p "$run/layer/disk"
  cp "$bin/tiny.qcow2" "$run/layer/disk/tiny.qcow2"
  tar -C "$run/layer" -cf "$run/layer.tar" disk
  until_ok 10 in_net "$bin/crane" catalog "$registry" >/dev/null
  in_net "$bin/crane" append -q --oci-empty-base -f "$run/layer.tar" -t "$image" >/dev/null
  rm -rf "$run/layer" "$run/layer.tar"
}

start_vmlet() {
  in_net "$bin/vmlet" --config "$run/config.yaml" >"$run/vmlet.log" 2>&1 &
  echo $! >"$run/vmlet.pid"
  until_ok 20 crictl info >/dev/null
}

# doctor prints what is not as it should be. Warnings are for reading; only a failure ends the demo.
doctor() {
  in_net "$bin/vmlet" doctor --config "$run/config.yaml" | grep -v '^ok' || [ "${PIPESTATUS[0]}" -eq 0 ]
}

run_pod() {
  pod=$(crictl runp "$run/pod.json")
  container=$(crictl create "$pod" "$run/container.json" "$run/pod.json")
  crictl start "$container" >/dev/null
  echo "$pod" >"$run/pod.id"
  echo "$container" >"$run/container.id"
}
ids() { pod=$(cat "$run/pod.id") container=$(cat "$run/container.id"); }
pod_ip() { crictl inspectp -o go-template --template '{{.status.network.ip}}' "$pod"; }
page() { in_net curl -sf -m 2 "http://$ip/"; }
no_page() { ! page; }

# leftovers prints everything that a pod brings along and that should be gone with it.
leftovers() {
  virsh -q -c "$(cat "$run/uri")" list --all --name | sed -n '/^vmlet-/s/^/domain /p'
  find "$run/state/netns" "$lib/node/sandboxes" "$lib/node/cni" -mindepth 1 -type f -o -mindepth 1 -type d -empty \
    -path "$lib/node/sandboxes/*" 2>/dev/null | sed 's/^/file /'
  find "$lib/leases" -type f -name '[0-9]*' | sed 's/^/lease /'
  in_net ip -o link show type tun | sed 's/^/tap /'
  in_net ip -o link show master vmlet-demo0 2>/dev/null | sed 's/^/bridge port /'
  find /sys/fs/cgroup -depth -type d -name "vmlet-$(cat "$run/pod.id")*" 2>/dev/null | sed 's/^/cgroup /'
}
nothing_left() {
  local left
  left=$(leftovers)
  [ -z "$left" ] || { echo "$left"; return 1; }
  echo "no domain, namespace, tap, lease, disk, ISO or cgroup is left"
}

play() {
  local net=""
  [ ! -e "/run/netns/$netns" ] || net="nsenter --net=/run/netns/$netns "
  cat <<HELP

The VM is running. Play with it, and end it with: make demo-down

  export CRI_CONFIG_FILE=$run/crictl.yaml
  $bin/crictl pods
  $bin/crictl ps
  $bin/crictl logs -f $container
  $bin/crictl exec -s $container uname -a
  ${net}curl http://$ip/
  virsh -c "$(cat "$run/uri")" list --title
HELP
}

up() {
  [ "$(id -u)" -eq 0 ] || die "needs root: libvirt, network namespaces and cgroups"
  [ ! -e "$run/vmlet.pid" ] || die "a demo is there already; end it with: make demo-down"
  mkdir -p "$run" "$lib"
  trap 'status=$?; [ $status -eq 0 ] && [ -n "${KEEP:-}" ] || down; exit $status' EXIT
  step "libvirtd" start_libvirtd
  step "configuration" write_config
  step "registry on loopback, with the guest image in it" start_registry
  step "vmlet serves CRI" start_vmlet
  step "vmlet doctor" doctor
  step "pull $image" crictl pull "$image"
  step "run a pod with one VM" run_pod
  ids
  ip=$(pod_ip)
  step "its IP" echo "$ip"
  step "HTTP from the guest" until_ok 60 page
  step "its console log" crictl logs --tail 3 "$container"
  step "exec uname -a" crictl exec -s "$container" uname -a
  step "stats" crictl stats "$container"
  if [ -n "${KEEP:-}" ]; then
    play
    return
  fi
  step "stop" crictl stopp "$pod"
  step "the page is gone" no_page
  step "remove" crictl rmp "$pod"
  step "nothing is left" nothing_left
  echo "demo: ok"
}

stop_pid() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 0
  rm -f "$1"
  kill "$pid" 2>/dev/null || return 0
  until_ok 30 no_process "$pid" || echo "process $pid did not end" >&2
}
no_process() { [ ! -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status"; }

down() {
  if [ -S "$socket" ]; then
    crictl rmp -fa >/dev/null 2>&1 || echo "not all pods could be removed" >&2
  fi
  stop_pid "$run/vmlet.pid"
  stop_pid "$run/registry.pid"
  if [ -d "$run/libvirtd" ]; then
    "$repo/build/libvirtd.sh" stop "$run/libvirtd"
  fi
  if [ -e "/run/netns/$netns" ]; then
    ip netns del "$netns"
  elif ip link show vmlet-demo0 >/dev/null 2>&1; then
    ip link del vmlet-demo0
  fi
  findmnt -rno TARGET | awk -v d="$run/" 'index($0, d) == 1' | sort -r | xargs -r umount
  # Images are immutable files, so that nothing changes a base that disks stand on.
  chattr -R -f -i "$lib" || true
  rm -rf "$run" "$lib"
}

case ${1:-} in
  up) up ;;
  down) down ;;
  *) die "usage: build/demo.sh up|down" ;;
esac
