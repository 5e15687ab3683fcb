// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// PodCgroups are the groups of a pod in all hierarchies where kubelet has made one, by hierarchy, such as "memory".
func (k *Kubelet) PodCgroups(name string) map[string]string {
	k.t.Helper()
	pod, err := k.Pod(name)
	if err != nil {
		k.t.Fatal(err)
	}
	groups := map[string]string{}
	for _, class := range []string{"", "burstable", "besteffort"} {
		found, err := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", k.cgroupRoot(), "kubepods", class, "pod"+pod.Metadata.UID))
		if err != nil {
			k.t.Fatal(err)
		}
		for _, dir := range found {
			groups[strings.Split(dir, "/")[4]] = dir
		}
	}
	if len(groups) == 0 {
		k.t.Fatalf("pod %s has no cgroups", name)
	}
	return groups
}

// CgroupValue is the number in a file of a cgroup.
func CgroupValue(t *testing.T, dir, file string) int64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
