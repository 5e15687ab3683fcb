#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs vmlet-agent from the seed and starts it. cloud-init runs this at each boot, early. /usr/local/bin: /run may not be
# executed from, and SELinux lets a service run what lies here.

agent=/usr/local/bin/vmlet-agent

install_agent() {
	device=$(blkid -L cidata || blkid -L CIDATA || findfs LABEL=cidata) || return
	seed=$(mktemp -d) || return
	mount -t iso9660 -o ro "$device" "$seed" || return
	mkdir -p "${agent%/*}" && cp "$seed/vmlet-agent" "$agent.new" && chmod 0755 "$agent.new" && mv -f "$agent.new" "$agent"
	status=$?
	umount "$seed" && rmdir "$seed"
	return "$status"
}

start_by_systemd() {
	cat >/run/systemd/system/vmlet-agent.service <<-END
		[Unit]
		Description=vmlet's agent, from the seed
		DefaultDependencies=no
		[Service]
		ExecStart=$agent
		Restart=always
		RestartSec=1
		KillMode=process
	END
	systemctl daemon-reload
	systemctl start --no-block vmlet-agent.service
}

pidof vmlet-agent >/dev/null 2>&1 && exit 0
install_agent || exit
if [ -d /run/systemd/system ]; then
	start_by_systemd
else
	setsid sh -c "while :; do $agent; sleep 1; done" </dev/null >/dev/null 2>&1 &
fi
