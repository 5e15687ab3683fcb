#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs the guest agent if the VM has its port. There is no udev to name the ports in /dev/virtio-ports.

mkdir -p /dev/virtio-ports
for name in /sys/class/virtio-ports/*/name; do
	[ -e "$name" ] || continue
	read -r port <"$name"
	device=${name%/name}
	[ -n "$port" ] && ln -sf "../${device##*/}" "/dev/virtio-ports/$port"
done
port=/dev/virtio-ports/org.qemu.guest_agent.0
[ -c "$port" ] || exit 0
exec qemu-ga --method=virtio-serial --path="$port" --statedir=/run
