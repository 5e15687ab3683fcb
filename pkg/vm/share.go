// SPDX-License-Identifier: Apache-2.0

package vm

// ShareMount is one host folder or file that the guest sees through the sandbox's share.
type ShareMount struct {
	// HostPath may be a symbolic link or lead through some: it is resolved once, on the host.
	HostPath string `json:"hostPath"`
	// GuestPath is where it appears in the guest.
	GuestPath string `json:"guestPath"`
	// ReadOnly holds for the mount itself, RecursiveReadOnly also for what is mounted below.
	ReadOnly          bool `json:"readOnly,omitempty"`
	RecursiveReadOnly bool `json:"recursiveReadOnly,omitempty"`
	// HostToGuest: what is mounted below HostPath later appears in the guest too.
	HostToGuest bool `json:"hostToGuest,omitempty"`
	// Source is its place in the share, chosen by the adapter.
	Source string `json:"source,omitempty"`
}

// FileTree is a small file or folder that is copied into the guest and kept in step: what
// kubelet makes of ConfigMaps, Secrets, tokens, /etc/hosts, the termination log.
type FileTree struct {
	HostPath  string `json:"hostPath"`
	GuestPath string `json:"guestPath"`
	Directory bool   `json:"directory,omitempty"`
	// ReadOnly: changes in the guest do not come back to the host.
	ReadOnly bool `json:"readOnly,omitempty"`
}
