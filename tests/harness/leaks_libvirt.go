// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os/exec"
	"path/filepath"
	"strings"
)

// ofLibvirt is what tells why libvirt keeps something: its domains, its files of them, its
// processes and the end of its log. All of that is gone with the test binary's end.
func ofLibvirt() string {
	var b strings.Builder
	for _, command := range [][]string{
		{"virsh", "-q", "-c", the.uri, "list", "--all"},
		{"find", filepath.Join(LibvirtdDir(), "lib", "qemu"), filepath.Join(LibvirtdDir(), "run", "qemu"), filepath.Join(LibvirtdDir(), "log", "qemu"), "-ls"},
		{"ps", "-e", "-o", "pid,ppid,lstart,stat,wchan:20,args", "--cols", "160"},
		{"tail", "-n", "60", filepath.Join(LibvirtdDir(), "log", "libvirtd.log")},
		{"sh", "-c", "tail -n 3 " + filepath.Join(LibvirtdDir(), "log", "qemu", "vmlet-*.log")},
	} {
		b.WriteString("$ " + strings.Join(command, " ") + "\n")
		out, err := exec.Command(command[0], command[1:]...).CombinedOutput() //nolint:noctx // our own words
		b.Write(out)
		if err != nil {
			b.WriteString(err.Error() + "\n")
		}
	}
	return b.String()
}
