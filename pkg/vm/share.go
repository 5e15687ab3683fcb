// SPDX-License-Identifier: Apache-2.0

package vm

// ShareMount is one host folder or file that the guest sees through the sandbox's share.
type ShareMount struct {
	// HostPath may be a symbolic link or lead through some: it is resolved once, on the host.
	HostPath string
	// GuestPath is where it appears in the guest.
	GuestPath string
	ReadOnly  bool
	// HostToGuest: what is mounted below HostPath later appears in the guest too.
	HostToGuest bool
	// Source is its place in the share, chosen by the adapter.
	Source string
}

// FileTree is a small file or folder that is copied into the guest and kept in step: what
// kubelet makes of ConfigMaps, Secrets, tokens, /etc/hosts, the termination log.
type FileTree struct {
	HostPath  string
	GuestPath string
	Directory bool
	// ReadOnly: changes in the guest do not come back to the host.
	ReadOnly bool
}
