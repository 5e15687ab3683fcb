#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Names the virtio-serial ports that have no name yet in /dev/virtio-ports, as udev does where there is one.

mkdir -p /dev/virtio-ports
for name in /sys/class/virtio-ports/*/name; do
	[ -e "$name" ] || continue
	read -r port <"$name"
	device=${name%/name}
	[ -z "$port" ] || [ -e "/dev/virtio-ports/$port" ] || ln -s "../${device##*/}" "/dev/virtio-ports/$port"
done
