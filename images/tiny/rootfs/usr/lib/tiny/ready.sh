#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Says READY when the agent listens too (network and HTTP do already), then does what has no hurry.

# agent_listens succeeds once qemu-ga holds its port open.
agent_listens() {
	port=/dev/virtio-ports/org.qemu.guest_agent.0
	for pid in $(pidof qemu-ga); do
		for fd in "/proc/$pid/fd/"*; do
			# shellcheck disable=SC3013  # busybox has -ef
			[ "$fd" -ef "$port" ] && return 0
		done
	done
	return 1
}

tries=0
while [ -e /sys/class/virtio-ports ] && [ "$tries" -lt 100 ] && ! agent_listens; do
	sleep 0.03
	tries=$((tries + 1))
done
read -r boot_id </proc/sys/kernel/random/boot_id
echo "READY boot_id=$boot_id hostname=$(hostname)"

# shellcheck source=/dev/null
. /usr/lib/tiny/cloud-config.sh
run_scripts

# shellcheck disable=SC2046  # a list
modprobe -a $(cat /etc/modules.late)
