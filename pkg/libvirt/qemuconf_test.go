// SPDX-License-Identifier: Apache-2.0

package libvirt

import "testing"

func TestQEMUConfSettings(t *testing.T) {
	defaults := QEMUConf{OwnCgroups: true}
	for name, tc := range map[string]struct {
		text string
		want QEMUConf
	}{
		"empty":              {"", defaults},
		"all commented out":  {"#cgroup_controllers = [ ]\n# stdio_handler = \"file\"\n", defaults},
		"no cgroups":         {"cgroup_controllers = []", QEMUConf{}},
		"no cgroups, spaced": {"  cgroup_controllers=[ ]  # none\n", QEMUConf{}},
		"some cgroups":       {"cgroup_controllers = [ \"cpu\", \"memory\" ]", defaults},
		"list over lines":    {"cgroup_device_acl = [\n  \"/dev/null\", # always\n  \"/dev/kvm\",\n]\ncgroup_controllers = []\n", QEMUConf{}},
		"logs in files":      {"stdio_handler = \"file\"\n", QEMUConf{OwnCgroups: true, FileLogs: true}},
		"logs by virtlogd":   {"stdio_handler = 'logd'\n", defaults},
		"last one counts":    {"stdio_handler = 'file'\nstdio_handler = \"logd\"\n", defaults},
		"what a private libvirtd gets": {
			"user = \"libvirt-qemu\"\nmax_files = 1024\ncgroup_controllers = []\nstdio_handler = \"file\"\nnamespaces = []\n",
			QEMUConf{FileLogs: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseQEMUConf(tc.text); err != nil || got != tc.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
}

func TestBrokenQEMUConfIsAnError(t *testing.T) {
	for _, text := range []string{
		"cgroup_controllers = [", "cgroup_controllers", "cgroup_controllers =", "= []", "user = \"open", "{}",
	} {
		if got, err := ParseQEMUConf(text); err == nil {
			t.Errorf("ParseQEMUConf(%q) = %+v, want an error", text, got)
		}
	}
}
