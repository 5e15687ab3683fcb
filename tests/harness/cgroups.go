// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// MakeCgroups makes a group in every hierarchy, as kubelet does for a pod, or for kubelet to have its own below.
func MakeCgroups(t *testing.T, group string) {
	t.Helper()
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range hierarchies {
		parent := filepath.Dir(file)
		dir := filepath.Join(parent, group)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // as any cgroup
			t.Fatal(err)
		}
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(parent, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name), value, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// removeCgroups removes a group of every hierarchy, with all below.
func removeCgroups(group string) error {
	var errs []error
	tops, err := filepath.Glob("/sys/fs/cgroup/*" + group)
	errs = append(errs, err)
	for _, top := range tops {
		var dirs []string
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		errs = append(errs, err)
		for _, dir := range slices.Backward(dirs) {
			errs = append(errs, os.Remove(dir))
		}
	}
	return errors.Join(errs...)
}
