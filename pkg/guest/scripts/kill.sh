# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# SESSION TAG: kill what runs in a session of run.sh, and remove its files. A process that is just being made is not in
# the list yet, so look again until there is none.
vmlet_rounds=10 vmlet_left=1
while [ $vmlet_rounds -gt 0 ] && [ -n "$vmlet_left" ]; do
	vmlet_rounds=$((vmlet_rounds - 1)) vmlet_left=
	for vmlet_stat in /proc/[0-9]*/stat; do
		# PID (NAME) STATE PPID PGRP SESSION ..., and NAME may hold blanks and brackets. See proc(5).
		{ read -r vmlet_line <"$vmlet_stat"; } 2>/dev/null || continue
		vmlet_pid=${vmlet_line%% *}
		# shellcheck disable=SC2086 # fields
		set -- "$1" "$2" ${vmlet_line##*) }
		[ "$6" = "$1" ] || continue
		[ "$3" != Z ] || continue
		kill -9 "$vmlet_pid" 2>/dev/null && vmlet_left=1
	done
done
command -p rm -f "/tmp/$2.out" "/tmp/$2.err" "/tmp/$2.dd" "/run/$2.out" "/run/$2.err" "/run/$2.dd"
