// SPDX-License-Identifier: Apache-2.0

package vm

// CheckpointData is the file of a data disk that is in a checkpoint: all of it, on no other file. It is called by the disk's place
// in the machine. Of places there are few, so who removes what was begun knows all names without a manifest.
func CheckpointData(target string) string { return "data-" + target + ".qcow2" }

// CheckpointDataFiles are the names of all files of data disks that a checkpoint can have.
func CheckpointDataFiles() (names []string) {
	for _, bus := range []string{BusVirtio, BusSCSI} {
		for n := range MaxDataDisks {
			names = append(names, CheckpointData(DataTarget(bus, n)))
		}
	}
	return names
}

// OwnDisks are the data disks whose content is in the checkpoint. The others are files of callers, which the guest only reads.
func (c Checkpoint) OwnDisks() (own []DataDisk) {
	for _, d := range c.DataDisks {
		if d.Own() {
			own = append(own, d)
		}
	}
	return own
}

// LeastVersion is the oldest version that can say all of the checkpoint. It is written as that: a vmlet that knows no newer one
// restores what it can, and refuses what it would leave out.
func (c Checkpoint) LeastVersion() int {
	if len(c.OwnDisks()) > 0 || c.Firmware == FirmwareEFI {
		return 3
	}
	return 2
}
