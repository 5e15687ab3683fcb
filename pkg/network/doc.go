// SPDX-License-Identifier: Apache-2.0

// Package network gives each sandbox a network namespace, attaches it by CNI, and hands the
// attachment on to the guest: the guest's NIC has the MAC and the addresses that CNI gave to
// the interface in the namespace.
//
//	          host's netns │ sandbox's netns                            guest
//	                       │
//	CNI (bridge, ...) ─────┼── eth0 ── ingress: fwd to tap ──▶ tap ──▶  NIC
//	                       │      ◀── fwd to eth0, if own ── ingress
//	                       │
//	                       │   the namespace's own stack: muted
//
// # Who answers
//
// eth0 keeps its addresses, since CNI CHECK looks for them, but the namespace never uses
// them. Three sets of nf_tables rules see to it (rules.go):
//
//   - Families inet and arp drop whatever the stack would hear or say, on every device. They
//     stand before CNI makes the first device, so that there is no moment in between. Hooks
//     of these families, unlike netdev's egress hook (Linux 5.16), are old enough to be
//     everywhere, and let raw sockets be: a plugin's gratuitous ARP and a DHCP client in the
//     namespace (CNI's dhcp plugin) work.
//   - Family netdev at eth0 drops what arrives, or forwards it to the tap where there is
//     one. A rule whose tap is gone drops.
//   - Family netdev at the tap forwards to eth0 what carries the guest's own addresses.
//
// lo stays down: nothing runs in the namespace that could use it.
//
// # What is on disk
//
//	<state>/netns/<sandbox>            bind mount of the namespace; in this folder = ours
//	<root>/cni/attachments/<sandbox>   request and configuration of the ADD (attachment.go)
//	<root>/cni/attachments/<sandbox>.<NIC>  the same of each interface that was attached later
//	<root>/cni/results/...             libcni's cache: the ADD's result, for CHECK and DEL
//
// Setup writes the attachment durably, makes the namespace, runs ADD. Teardown runs DEL with
// what the attachment says, removes the namespace, then the attachment. So a crash anywhere
// leaves enough to finish with, also after a reboot of the host (namespace gone) or a change
// of the CNI configuration; and where there is neither attachment nor namespace, nothing was
// ever asked of CNI and nothing is left.
//
// CNI's GC is not used: it names the attachments that are to live, all others end, and other
// runtimes on the host may share the network. Teardown ends what is ours, one by one.
package network
