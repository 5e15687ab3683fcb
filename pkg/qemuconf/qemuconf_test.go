// SPDX-License-Identifier: Apache-2.0

package qemuconf_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/vmlet/vmlet/pkg/qemuconf"
)

func TestRead(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want qemuconf.Settings
	}{
		"nothing set":      {"# stdio_handler = \"file\"\n#cgroup_controllers = []\n", qemuconf.Settings{}},
		"as vmlet wants":   {"stdio_handler = \"file\"\ncgroup_controllers = [ ]\nuser = \"libvirt-qemu\"\ngroup = \"kvm\" # theirs\n", qemuconf.Settings{CgroupsOff: true, StdioFile: true, User: "libvirt-qemu", Group: "kvm"}},
		"some controllers": {"cgroup_controllers = [ \"cpu\",\n  \"memory\" ]\nstdio_handler = \"logd\"\n", qemuconf.Settings{}},
		"empty over lines": {"cgroup_controllers = [\n]\nuser = \"+64055\"\n", qemuconf.Settings{CgroupsOff: true, User: "64055"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "qemu.conf")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := qemuconf.Read(path)
			if err != nil || got != tc.want {
				t.Errorf("Read = %+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
	if _, err := qemuconf.Read("/nonexistent"); err == nil {
		t.Error("a missing file is no error")
	}
}
