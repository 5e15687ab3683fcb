#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Mounts and sysctls of the pod, in a guest without vmlet-agent. cloud-init runs this at each boot.
set -u
umask 022
state=/run/vmlet/seed

# place PATH SOURCE ACCESS binds SOURCE to PATH, which is made if it is not there.
place() {
  if [ -d "$2" ]; then
    mkdir -p "$1"
  else
    mkdir -p "$(dirname "$1")"
    [ -e "$1" ] || : >"$1"
  fi
  mount --bind "$2" "$1" || { echo "vmlet: cannot mount at $1" >&2; return; }
  [ "$3" = rw ] || mount -o remount,bind,ro "$1"
}

# file NUMBER PATH MODE OWNER ACCESS copies standard input, in base64, to a tmpfs.
file() {
  mkdir -p "$state"
  chmod 0700 "$state"
  base64 -d >"$state/$1"
  chmod "$3" "$state/$1"
  chown "$4" "$state/$1"
  place "$2" "$state/$1" "$5"
}

# share SOURCE PATH ACCESS binds something of the virtiofs share.
share() {
  if ! grep -q ' /run/vmlet/share/all ' /proc/mounts; then
    mkdir -p /run/vmlet/share/all
    chmod 0700 /run/vmlet/share
    modprobe virtiofs 2>/dev/null
    mount -t virtiofs vmlet /run/vmlet/share/all || echo "vmlet: cannot mount the share" >&2
  fi
  place "$2" "/run/vmlet/share/all/$1" "$3"
}

# setting NAME=VALUE sets a sysctl.
setting() {
  sysctl -q -w "$1" || echo "vmlet: cannot set sysctl ${1%%=*}" >&2
}

# A boothook may run more than once in a boot.
[ ! -e "$state.done" ] || exit 0
mkdir -p /run/vmlet
: >"$state.done"

