# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
#
# What is done once before the services start. Sourced by init.

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755,nosuid,nodev run /run
mount -t tmpfs -o mode=1777,nosuid,nodev tmp /tmp
mkdir -p /dev/pts /dev/shm /dev/mqueue /run/www
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t cgroup2 cgroup2 /sys/fs/cgroup
[ ! -d /sys/firmware/efi ] || mount -t efivarfs efivarfs /sys/firmware/efi/efivars

# shellcheck disable=SC2046  # a list
modprobe -a $(cat /etc/modules.boot)
# First of the services: a press of the power button before it listens is lost.
respawn acpid -f -l /dev/null &
ip link set lo up
hostname -F /etc/hostname

# shellcheck source=/dev/null
. /usr/lib/tiny/seed.sh

{
	read -r boot_id </proc/sys/kernel/random/boot_id
	echo "$boot_id" >/run/www/boot-id
	echo "<html><body><h1>$(hostname)</h1><p>boot id: $boot_id</p></body></html>" >/run/www/index.html
}
httpd -h /run/www
/usr/lib/tiny/ports.sh
run_boot_scripts
