# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# PATH TEMP OVERWRITE OWNER MODE: give TEMP its owner, its mode and its place, or remove it. Exits as create.sh does.
vmlet_fail() {
	command -p rm -f "$vmlet_temp"
	exit "$1"
}
vmlet_temp=$2
# Owner before mode: a change of owner clears set-user-ID.
command -p chown "$4" "$2" && command -p chmod "$5" "$2" && command -p sync || vmlet_fail 46
if [ "$3" = 1 ]; then
	if [ -e "$1" ] || [ -h "$1" ]; then
		[ -f "$1" ] && [ ! -h "$1" ] || vmlet_fail 45
	fi
	command -p mv -f "$2" "$1" || vmlet_fail 46
else
	if ! command -p ln "$2" "$1"; then
		[ -e "$1" ] || [ -h "$1" ] || vmlet_fail 46
		vmlet_fail 43
	fi
	command -p rm -f "$2"
fi
command -p sync
