# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
#
# What is understood of #cloud-config: hostname, ssh_authorized_keys, write_files, resolv_conf, bootcmd and runcmd. All
# functions work on flat files: lines of a path, a tab and a value that is escaped for printf '%b'.

tab=$(printf '\t')

first_boot() { [ -e /run/seed/first-boot ]; }

flatten() { awk -f /usr/lib/tiny/yaml.awk -f /usr/lib/tiny/flat.awk "$1"; }

# flat_value PATH prints one value of the flat file on standard input.
flat_value() {
	while IFS=$tab read -r path value; do
		[ "$path" = "$1" ] && printf '%b\n' "$value" && return
	done
}

set_hostname() {
	echo "$1" >/etc/hostname
	hostname "$1"
}

# authorized_keys PREFIX adds the values below PREFIX to root's keys.
authorized_keys() {
	(
		umask 077
		mkdir -p /root/.ssh
		while IFS=$tab read -r path value; do
			case $path in "$1"/*) printf '%b\n' "$value" ;; esac
		done >>/root/.ssh/authorized_keys
	)
}

# write_file writes the entry of write_files that the variables describe.
write_file() {
	[ -n "$file" ] || return
	mkdir -p "${file%/*}/"
	(
		umask 077
		case $encoding in
			b64 | base64) printf '%b' "$content" | base64 -d >"$file" ;;
			gz+b64 | gz+base64 | gzip+base64) printf '%b' "$content" | base64 -d | gunzip >"$file" ;;
			*) printf '%b' "$content" >"$file" ;;
		esac
	)
	chown "$owner" "$file"
	chmod "$mode" "$file"
}

write_files() {
	entry='' file=''
	while IFS=$tab read -r path value; do
		case $path in write_files/*/*) ;; *) continue ;; esac
		number=${path#write_files/}
		key=${number#*/}
		number=${number%%/*}
		if [ "$number" != "$entry" ]; then
			write_file
			entry=$number file='' content='' encoding='' mode=0644 owner=root:root
		fi
		case $key in
			path) file=$(printf '%b' "$value") ;;
			content) content=$value ;;
			encoding) encoding=$value ;;
			permissions) mode=$value ;;
			owner) owner=$value ;;
		esac
	done
	write_file
}

# resolv_conf writes /etc/resolv.conf as cloud-init's module of that name does.
resolv_conf() {
	search='' options='' servers=''
	while IFS=$tab read -r path value; do
		case $path in
			resolv_conf/nameservers/*) servers="${servers}nameserver $value
" ;;
			resolv_conf/domain) servers="${servers}domain $value
" ;;
			resolv_conf/searchdomains/*) search="$search $value" ;;
			resolv_conf/options/*)
				option=${path#resolv_conf/options/}
				case $value in
					true) options="$options $option" ;;
					false) ;;
					*) options="$options $option:$value" ;;
				esac
				;;
		esac
	done
	[ -n "$servers$search$options" ] || return
	{
		printf %s "$servers"
		[ -n "$search" ] && echo "search$search"
		[ -n "$options" ] && echo "options$options"
	} >/etc/resolv.conf
}

# commands KEY prints the commands of runcmd or bootcmd as a script, one line each; a list is a command and its arguments.
commands() {
	command=
	while IFS=$tab read -r path value; do
		case $path in
			"$1"/*/*)
				number=${path#"$1"/}
				number=${number%%/*}
				[ "$number" = "$command" ] || printf '\n'
				command=$number
				# The value's own quotes: ' becomes '\''. (The backslash is doubled for %b.)
				printf "'%b' " "$(printf %s "$value" | sed "s/'/'\\\\\\\\''/g")"
				;;
			"$1"/*) printf '\n%b' "$value" ;;
		esac
	done
	printf '\n'
}

# apply_cloud_config applies all but the commands of the file $1, if that is cloud-config.
apply_cloud_config() {
	kind=
	[ -f "$1" ] && read -r kind <"$1"
	case $kind in
		'#cloud-config'*) ;;
		'#!'* | '#cloud-boothook'* | '') return ;;
		*) echo "seed: ${1##*/} is neither a script nor #cloud-config nor #cloud-boothook, ignored"; return ;;
	esac
	flatten "$1" >"$1.flat"
	name=$(flat_value hostname <"$1.flat")
	[ -n "$name" ] && set_hostname "$name"
	resolv_conf <"$1.flat"
	first_boot || return
	authorized_keys ssh_authorized_keys <"$1.flat"
	write_files <"$1.flat"
}

# run_script DATA FILE runs what a file of the seed asks to run.
run_script() {
	chmod 700 "$2"
	case $2 in
		*.script) sh "$2" ;;
		*) "$2" ;;
	esac
	echo "seed: ${1##*/} ended with status $?"
}

# run_commands DATA KEY runs the commands of a #cloud-config.
run_commands() {
	commands "$2" <"$1.flat" >"$1.script"
	[ "$(wc -c <"$1.script")" -le 1 ] || run_script "$1" "$1.script"
}

# run_boot_scripts runs what is to run at every boot.
run_boot_scripts() {
	for data in /run/seed/vendor-data /run/seed/user-data; do
		if [ -f "$data.flat" ]; then
			run_commands "$data" bootcmd
		elif [ -f "$data" ]; then
			read -r kind <"$data"
			case $kind in
				'#cloud-boothook'*)
					sed 1d "$data" >"$data.hook"
					run_script "$data" "$data.hook"
					;;
			esac
		fi
	done
}

# run_scripts runs the scripts of the seed, once for an instance.
run_scripts() {
	first_boot || return 0
	for data in /run/seed/vendor-data /run/seed/user-data; do
		if [ -f "$data.flat" ]; then
			run_commands "$data" runcmd
		elif [ -f "$data" ]; then
			read -r kind <"$data"
			case $kind in '#!'*) run_script "$data" "$data" ;; esac
		fi
	done
}
