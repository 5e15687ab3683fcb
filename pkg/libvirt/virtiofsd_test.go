// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestVirtiofsdIsFoundByItsSourceParentFirst(t *testing.T) {
	other := strings.Repeat("f", 32)
	args := func(source string) []string {
		return []string{"/usr/lib/qemu/virtiofsd", "--fd=31", "-o", source}
	}
	const binary = "/usr/lib/qemu/virtiofsd"
	processes := fakeProc{
		"1":  {"/sbin/init", []string{"init"}},
		"7":  {binary, args("source=/run/vmlet/shares/" + testID + ",cache=auto")}, // a child whose number went round
		"30": {binary + " (deleted)", args("source=/run/vmlet/shares/" + testID)},  // its parent, after an upgrade
		"31": {binary, args("source=/run/vmlet/shares/" + other)},
		"32": {binary, args("source=/run/vmlet/shares/" + testID + "/0-data")},
		"33": {"/bin/sh", args("source=/run/vmlet/shares/" + testID)},
		"34": {binary, []string{binary, "-o"}},
	}
	parents := map[string]int{"1": 0, "7": 30}
	root := processes.write(t)
	for pid := range processes {
		parent, ok := parents[pid]
		if !ok {
			parent = 1
		}
		stat := fmt.Sprintf("%s (virtio) 1 2 (d) S %d 1 1 0", pid, parent)
		if err := os.WriteFile(filepath.Join(root, pid, "stat"), []byte(stat), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[string][]int{testID: {30, 7}, other: {31}, strings.Repeat("0", 32): nil} {
		if got, err := findVirtiofsd(root, id); err != nil || !slices.Equal(got, want) {
			t.Errorf("of %s: %v, %v; want %v", id, got, err, want)
		}
	}
}
