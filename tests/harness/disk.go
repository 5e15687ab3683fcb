// SPDX-License-Identifier: Apache-2.0

package harness

import (
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// ListDisks lists the node's persistent disks.
func (n *Node) ListDisks() []*vmletv1.Disk {
	n.t.Helper()
	r, err := n.Disks.ListDisks(n.t.Context(), &vmletv1.ListDisksRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	return r.GetDisks()
}

// RemoveDisk removes a persistent disk. A test that makes one does so before its end: the
// node removes pods by itself, and disks never.
func (n *Node) RemoveDisk(name string) {
	n.t.Helper()
	if _, err := n.Disks.RemoveDisk(n.t.Context(), &vmletv1.RemoveDiskRequest{Name: name}); err != nil {
		n.t.Fatal(err)
	}
}
