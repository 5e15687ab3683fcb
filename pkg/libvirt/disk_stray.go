// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
)

// blockNode is a file that QEMU has open, or what it sees in one.
type blockNode struct {
	Name string `json:"node-name"`
	File string `json:"file"`
}

// usedNode is what a device of QEMU's writes to.
type usedNode struct {
	Device   string    `json:"qdev"`
	Inserted blockNode `json:"inserted"`
}

// deviceID is libvirt's alias of a device, from its path in QEMU, such as /machine/peripheral/virtio-disk2/virtio-backend.
func deviceID(path string) string {
	id, _, _ := strings.Cut(strings.TrimPrefix(path, "/machine/peripheral/"), "/")
	return id
}

// dropStrayDisk takes from QEMU what a libvirtd that died while it plugged a disk has left there: the file, and maybe the device.
// While QEMU has the file open, it cannot be opened for another disk. found says that there was something; Unavailable while the guest
// has the device, which it was asked to let go of. The disk must be none that libvirt knows.
func dropStrayDisk(dom *virt.Domain, path string) (found bool, err error) {
	var nodes []blockNode
	if answer, err := askMonitor(dom, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil || answer.Class != "" {
		return false, err
	}
	nodes = slices.DeleteFunc(nodes, func(n blockNode) bool { return n.File != path })
	if len(nodes) == 0 {
		return false, nil
	}
	var devices []usedNode
	if answer, err := askMonitor(dom, "query-block", nil, &devices); err != nil || answer.Class != "" {
		return true, err
	}
	for _, d := range devices {
		if d.Inserted.File != path {
			continue
		}
		if gone, err := dropDevice(dom, deviceID(d.Device)); err != nil || !gone {
			return true, orStray(err)
		}
	}
	return true, dropNodes(dom, nodes)
}

// duplicateNode is QEMU's refusal of a name that libvirt has given before it died, and gives again.
var duplicateNode = regexp.MustCompile(`Duplicate nodes with node-name='(libvirt-\d+)-`)

// dropDuplicate takes from QEMU the file of a snapshot that libvirtd died of before the guest wrote to it; again if what failed with
// err may be done again.
func dropDuplicate(dom *virt.Domain, err error) (again bool) {
	m := duplicateNode.FindStringSubmatch(plainText(err))
	if m == nil {
		return false
	}
	// QEMU does not close what a guest uses.
	return dropNodes(dom, []blockNode{{Name: m[1] + "-format"}, {Name: m[1] + "-storage"}}) == nil
}

func orStray(err error) error {
	if err == nil {
		return errStray
	}
	return err
}

// dropNodes closes what is on others first: those cannot be closed before.
func dropNodes(dom *virt.Domain, nodes []blockNode) error {
	for len(nodes) > 0 {
		var held []blockNode
		why := ""
		for _, n := range nodes {
			answer, err := askMonitor(dom, "blockdev-del", map[string]any{"node-name": n.Name}, nil)
			if err != nil {
				return err
			}
			if answer.Class != "" && !strings.Contains(answer.Desc, "Failed to find node") {
				held, why = append(held, n), answer.Desc
			}
		}
		if len(held) == len(nodes) {
			return fmt.Errorf("QEMU has %s open and does not close it: %s: %w", nodes[0].File, why, errdefs.ErrUnavailable)
		}
		nodes = held
	}
	return nil
}
