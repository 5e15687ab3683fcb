# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# Change ~/.ssh/authorized_keys, as the user whose it is. The first line of the input is add, remove or replace, the others
# are keys. 44: there is no home; 45: something else is in the file's place.
umask 077
vmlet_old=.ssh/authorized_keys vmlet_new=.ssh/.vmlet-$$
cd || exit 44
if [ -h .ssh ] || [ -h $vmlet_old ]; then exit 45; fi
[ ! -e $vmlet_old ] || [ -f $vmlet_old ] || exit 45
[ -d .ssh ] || mkdir .ssh || exit 46
chmod go-w .ssh || exit 46
trap 'rm -f $vmlet_new $vmlet_new.keys' EXIT
# What is there, each line with its end; and no file is an empty one.
vmlet_lines() {
	[ -f $vmlet_old ] || return 0
	while IFS= read -r vmlet_line || [ -n "$vmlet_line" ]; do printf '%s\n' "$vmlet_line"; done <$vmlet_old
}
read -r vmlet_mode
cat >$vmlet_new.keys || exit 46
case $vmlet_mode in
	replace) cat $vmlet_new.keys ;;
	remove) vmlet_lines | grep -vxF -f $vmlet_new.keys ;;
	*)
		vmlet_lines
		while IFS= read -r vmlet_line; do
			vmlet_lines | grep -qxF -e "$vmlet_line" || printf '%s\n' "$vmlet_line"
		done <$vmlet_new.keys
		;;
esac >$vmlet_new
[ -f $vmlet_new ] && mv -f $vmlet_new $vmlet_old || exit 46
