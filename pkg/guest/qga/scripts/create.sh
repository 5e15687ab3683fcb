# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# PATH FOLDER NAME OVERWRITE PARENTS: make an empty file NAME in FOLDER for what PATH is to be, and print where FOLDER is
# without links. 43: PATH is there; 44: FOLDER is not; 45: PATH is no regular file; 47: a user may change FOLDER.
if [ -e "$1" ] || [ -h "$1" ]; then
	[ -f "$1" ] && [ ! -h "$1" ] || exit 45
	[ "$4" = 1 ] || exit 43
fi
umask 022
[ "$5" = 0 ] || command -p mkdir -p "$2" || exit 46
vmlet_folder=$(cd -P "$2" 2>/dev/null && pwd -P) || exit 44
# The agent will open the file by its path, as root. So nobody else may put something else there.
vmlet_dir=$vmlet_folder
while :; do
	case $(command -p stat -c '%u %A' "${vmlet_dir:-/}") in
		"0 d"????-??-? | "0 d"????????[tT]) ;;
		*) exit 47 ;;
	esac
	[ -n "$vmlet_dir" ] && [ "$vmlet_dir" != / ] || break
	vmlet_dir=${vmlet_dir%/*}
done
umask 077
set -C
true >"$vmlet_folder/$3" || exit 46
printf '%s' "$vmlet_folder"
