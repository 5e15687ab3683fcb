# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
#
# Reads the NoCloud seed and applies what needs no script: identity, network, files. Sourced by boot.sh.
#
#   /run/seed                         the seed's files
#   /run/seed/first-boot              exists on the first boot of an instance
#   /var/lib/cloud/data/instance-id   the instance that this disk has booted as

# shellcheck source=/dev/null
. /usr/lib/tiny/cloud-config.sh

# find_seed prints the device with the seed. findfs does not look at an ISO under 68 KiB, so the volume name, the 32 bytes
# at 32808, is read here; findfs is for FAT.
find_seed() {
	for disk in /sys/block/*; do
		disk=/dev/${disk##*/}
		case $(dd if="$disk" bs=8 skip=4101 count=4 2>/dev/null) in
			cidata* | CIDATA*) echo "$disk"; return ;;
		esac
	done
	findfs LABEL=cidata 2>/dev/null || findfs LABEL=CIDATA 2>/dev/null
}

# find_scsi_seed does so for a disk or a CD-ROM on virtio-scsi (virtio device 8), which shows up a little later.
find_scsi_seed() {
	grep -q 'd00000008' /sys/bus/virtio/devices/*/modalias 2>/dev/null || return 1
	modprobe -a virtio_scsi sd_mod sr_mod
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		find_seed && return
		sleep 0.1
	done
	return 1
}

# fetch_seed copies the seed's files to /run/seed. An ISO without Rock Ridge has its own idea of names.
fetch_seed() {
	device=$(find_seed || find_scsi_seed) || return 1
	mkdir -m 700 /run/seed /run/seed.disk
	mount -r -t iso9660 "$device" /run/seed.disk || mount -r -t vfat "$device" /run/seed.disk || return 1
	for file in /run/seed.disk/*; do
		case ${file##*/} in
			[Mm][Ee][Tt][Aa]?[Dd][Aa][Tt]*) cp "$file" /run/seed/meta-data ;;
			[Uu][Ss][Ee][Rr]?[Dd][Aa][Tt]*) cp "$file" /run/seed/user-data ;;
			[Vv][Ee][Nn][Dd][Oo][Rr]?[Dd]*) cp "$file" /run/seed/vendor-data ;;
			[Nn][Ee][Tt][Ww][Oo][Rr][Kk]*) cp "$file" /run/seed/network-config ;;
		esac
	done
	umount /run/seed.disk
	rmdir /run/seed.disk
}

# identify notes whether this disk boots as a new instance. It is noted before the instance's scripts run: one that
# reboots the machine must not run again and again.
identify() {
	instance=$(flat_value instance-id <"$1")
	known=
	[ -f /var/lib/cloud/data/instance-id ] && read -r known </var/lib/cloud/data/instance-id
	if [ "$instance" != "$known" ]; then
		: >/run/seed/first-boot
		mkdir -p /var/lib/cloud/data
		echo "$instance" >/var/lib/cloud/data/instance-id
		sync
	fi
}

apply_seed() {
	flatten /run/seed/meta-data >/run/seed/meta-data.flat
	identify /run/seed/meta-data.flat
	name=$(flat_value local-hostname </run/seed/meta-data.flat)
	[ -n "$name" ] && set_hostname "$name"
	first_boot && authorized_keys public-keys </run/seed/meta-data.flat
	if [ -f /run/seed/network-config ]; then
		nics=$(cd /sys/class/net && echo *)
		awk -v nics="$nics" -f /usr/lib/tiny/yaml.awk -f /usr/lib/tiny/network.awk /run/seed/network-config \
			>/run/seed/network.sh
		# shellcheck source=/dev/null
		. /run/seed/network.sh
	else
		default_network
	fi
	for data in vendor-data user-data; do
		apply_cloud_config "/run/seed/$data"
	done
}

# default_network asks for a lease on the first NIC, as cloud-init does, and lets the boot go on meanwhile.
default_network() {
	[ -e /sys/class/net/eth0 ] || return
	ip link set eth0 up
	udhcpc -b -t 5 -T 1 -i eth0 >/dev/null 2>&1 &
}

if fetch_seed; then
	apply_seed
else
	default_network
fi
