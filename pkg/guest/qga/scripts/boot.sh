# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# Print the boot ID and the seconds since the boot.
read -r vmlet_boot </proc/sys/kernel/random/boot_id
read -r vmlet_up _ </proc/uptime
printf '%s %s\n' "$vmlet_boot" "$vmlet_up"
