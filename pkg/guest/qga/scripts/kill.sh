# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# SESSION TAG: kill what runs in a session of run.sh, and remove its files. Most of it is in the group that run.sh
# leads; what made groups of its own is found in the list of all processes. One that is just being made is not in the
# list yet, so look again until there is none.
kill -9 "-$1" 2>/dev/null
vmlet_rounds=10 vmlet_left=1 IFS='
'
while [ $vmlet_rounds -gt 0 ] && [ -n "$vmlet_left" ]; do
	vmlet_rounds=$((vmlet_rounds - 1)) vmlet_left=
	for vmlet_line in $(command -p cat /proc/[0-9]*/stat 2>/dev/null); do
		# PID (NAME) STATE PPID PGRP SESSION ..., and NAME may hold blanks and brackets. See proc(5).
		vmlet_pid=${vmlet_line%% *} vmlet_line=${vmlet_line##*) }
		vmlet_session=${vmlet_line#* * * } vmlet_session=${vmlet_session%% *}
		case $vmlet_line in Z*) continue ;; esac
		if [ "$vmlet_session" = "$1" ] && kill -9 "$vmlet_pid" 2>/dev/null; then vmlet_left=1; fi
	done
done
command -p rm -f "/tmp/$2.out" "/tmp/$2.err" "/tmp/$2.dd" "/run/$2.out" "/run/$2.err" "/run/$2.dd"
