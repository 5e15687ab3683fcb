# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# TAG MOST COMMAND...: run COMMAND with its output in files, then print the first MOST bytes of it and a last line
#
#   TAG EXIT MORE    MORE is 1 if there may be more to read in the files, which are then still there
#
# or "TAG none" if no files can be made. The files are TAG.out and TAG.err in /tmp or else /run. Each program that is started costs milliseconds, so most of this is built in.

# The shell says on its stderr that a command was killed; the command's own goes to 3.
exec 3>&2 2>/dev/null
# A command may kill its process group, as `kill 0` does. Handlers, unlike ignored signals, are not inherited.
trap : HUP INT QUIT PIPE ALRM TERM USR1 USR2

# Names that nobody can guess, made by nobody else (set -C), for nobody else's eyes. The command finds the umask that
# container runtimes give.
umask 077
set -C
for vmlet_file in "/tmp/$1" "/run/$1"; do
	true >"$vmlet_file.out" && true >"$vmlet_file.err" && break
	vmlet_file=
done
set +C
umask 022
vmlet_tag=$1 vmlet_most=$2 vmlet_more=0
shift 2
if [ -z "$vmlet_file" ]; then
	printf '\n%s none\n' "$vmlet_tag"
	exit
fi

# To read what a command wrote that empties /tmp.
exec 4<"$vmlet_file.out" 5<"$vmlet_file.err"

# exec: what the image has, not what the shell has built in.
(exec "$@") </dev/null >"$vmlet_file.out" 2>"$vmlet_file.err" 3>&- 4<&- 5<&-
vmlet_exit=$?

# vmlet_show: print from stdin, whose file is known to hold something. dd counts full and partial blocks; only a full
# one can have another behind it.
vmlet_show() {
	command -p dd bs="$vmlet_most" count=1 2>"$vmlet_file.dd"
	read -r vmlet_blocks <"$vmlet_file.dd"
	case $vmlet_blocks in
		0+*) ;;
		*) vmlet_more=1 ;;
	esac
}
[ -s /proc/self/fd/4 ] && vmlet_show <&4
[ -s /proc/self/fd/5 ] && vmlet_show <&5 >&3

# Nobody waits for the removal.
if [ $vmlet_more = 0 ]; then
	command -p rm -f "$vmlet_file.out" "$vmlet_file.err" "$vmlet_file.dd" >/dev/null 3>&- 4<&- 5<&- &
fi
printf '\n%s %s %s\n' "$vmlet_tag" "$vmlet_exit" "$vmlet_more"
