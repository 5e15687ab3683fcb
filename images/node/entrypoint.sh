#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Entry of the node image: vmlet over the libvirtd whose socket is mounted in, else over one of the container's own.
# The arguments are vmlet's.
set -euo pipefail

socket=/run/libvirt/libvirt-sock
private=/run/vmlet-libvirtd

if [ ! -S "$socket" ]; then
  echo "entrypoint: no $socket: starting libvirtd; its VMs end with this container" >&2
  # A container that is started again still has the files of the libvirtd that ended with it.
  rm -rf "$private" /run/libvirt
  mkdir -p "$private/run"
  # So that qemu:///system, everybody's default, is this libvirtd.
  ln -s "$private/run" /run/libvirt
  "$(dirname "$0")/build/libvirtd.sh" start "$private"
fi
exec vmlet "$@"
