#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Says READY when the agents listen too (network and HTTP do already), then does what has no hurry.

# listens PORT PROGRAM succeeds once the program holds that port open, or where there is no such port or program.
listens() {
	port=/dev/virtio-ports/$1
	[ -c "$port" ] && [ -x "/usr/bin/$2" ] || return 0
	for pid in $(pidof "$2"); do
		for fd in "/proc/$pid/fd/"*; do
			# shellcheck disable=SC3013  # busybox has -ef
			[ "$fd" -ef "$port" ] && return 0
		done
	done
	return 1
}

tries=0
until listens org.vmlet.agent.0 vmlet-agent && listens org.qemu.guest_agent.0 qemu-ga || [ "$tries" = 100 ]; do
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
