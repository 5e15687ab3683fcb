# SPDX-License-Identifier: Apache-2.0
#
# After yaml.awk: turns a network configuration of version 2 (netplan's) into a shell script. -v nics='eth0 eth1 ...'
# names the NICs there are. Read of it: ethernets with match.macaddress, set-name, mtu, dhcp4, addresses, routes,
# gateway4, gateway6 and nameservers.

function quote(v) { gsub(/'/, "'\\''", v); return "'" v "'" }
function true(v) { return v ~ /^(true|yes|on)$/ }

# find_nics fills nic_of[MAC].
function find_nics(    count, name, file, mac, i) {
	count = split(nics, name, " ")
	for (i = 1; i <= count; i++) {
		file = "/sys/class/net/" name[i] "/address"
		if ((getline mac < file) > 0) nic_of[tolower(mac)] = name[i]
		close(file)
	}
}

# add_nic decides which NIC an entry of ethernets is about, and names it.
function add_nic(id,    at, mac, now) {
	at = root "ethernets/" id "/"
	mac = tolower(value[at "match/macaddress"])
	now = mac == "" ? id : nic_of[mac]
	dev[id] = value[at "set-name"] == "" || now == "" ? now : value[at "set-name"]
	if (now == "") { print "echo " quote("seed: no NIC has the MAC " mac); return }
	if (dev[id] != now) {
		# In two steps: the name may still be that of another NIC, which gets a new one as well.
		rename = rename "ip link set " quote(now) " name seed" ++renames "\n"
		# A NIC that the seed does not know, since it was plugged later, may have it: whoever does know that one finds it by its MAC.
		names = names "[ ! -e /sys/class/net/" quote(dev[id]) " ] || ip link set " quote(dev[id]) " name other" renames "\n"
		names = names "ip link set seed" renames " name " quote(dev[id]) "\n"
	}
	up = up "ip link set " quote(dev[id]) (value[at "mtu"] == "" ? "" : " mtu " quote(value[at "mtu"])) " up\n"
	if (true(value[at "dhcp4"])) dhcp = dhcp "udhcpc -b -t 5 -T 1 -i " quote(dev[id]) "\n"
}

function add_address(id, cidr) {
	# The address was given to this machine: nobody else is asked, and nothing waits for an answer.
	if (cidr ~ /:/) addresses = addresses "echo 0 >/proc/sys/net/ipv6/conf/" quote(dev[id]) "/accept_dad\n"
	addresses = addresses "ip address add " quote(cidr) " dev " quote(dev[id]) "\n"
}

function add_route(id, to, via, metric, onlink,    command) {
	command = "ip " (to via ~ /:/ ? "-6 " : "") "route add " quote(to)
	if (via != "") command = command " via " quote(via)
	command = command " dev " quote(dev[id])
	if (onlink) command = command " onlink"
	if (metric != "") command = command " metric " quote(metric)
	routes = routes command "\n"
}

function add_fact(p, id, key,    route) {
	if (key[3] == "addresses") add_address(id, value[p])
	else if (key[3] ~ /^gateway[46]$/) add_route(id, "default", value[p], "", 0)
	else if (key[3] == "routes" && key[5] == "to") {
		route = root "ethernets/" id "/routes/" key[4] "/"
		add_route(id, value[p], value[route "via"], value[route "metric"], true(value[route "on-link"]))
	}
	else if (key[3] == "nameservers" && key[4] == "addresses") resolv = resolv "nameserver " value[p] "\n"
	else if (key[3] == "nameservers" && key[4] == "search") search = search " " value[p]
}

END {
	root = "network/version" in value ? "network/" : ""
	if (value[root "version"] != 2) {
		print "echo 'seed: network-config is not of version 2, ignored'"
		exit
	}
	find_nics()
	for (i = 1; i <= paths; i++) {
		if (index(path[i], root "ethernets/") != 1) continue
		split(substr(path[i], length(root) + 1), key, "/")
		if (!(key[2] in dev)) add_nic(key[2])
		if (dev[key[2]] != "") add_fact(path[i], key[2], key)
	}
	if (search != "") resolv = resolv "search" search "\n"
	printf "%s", rename names up addresses routes dhcp
	if (resolv != "") print "printf %s " quote(resolv) " >/etc/resolv.conf"
}
