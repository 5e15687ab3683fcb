// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"

	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/tests/harness"
)

// describeMachine says what the figures were measured on, in one sentence.
func describeMachine(t *testing.T) string {
	t.Helper()
	conn, err := virt.NewConnect(harness.URI())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // it was only asked
	libvirtd, err := conn.GetLibVersion()
	if err != nil {
		t.Fatal(err)
	}
	qemu, err := conn.GetVersion()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("Measured on %d cores (%s) with %s of memory, Linux %s, libvirt %s, QEMU %s; guests under software emulation (tcg); load average at the start %s.\n",
		runtime.NumCPU(), find(t, "/proc/cpuinfo", `model name\s*: (.*)`), memory(t), find(t, "/proc/sys/kernel/osrelease", `(.*)`),
		version(libvirtd), version(qemu), find(t, "/proc/loadavg", `(\S+)`))
}

func memory(t *testing.T) string {
	t.Helper()
	var kib int64
	if _, err := fmt.Sscan(find(t, "/proc/meminfo", `MemTotal:\s*(\d+) kB`), &kib); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%.0f GiB", float64(kib)/(1<<20))
}

// version undoes libvirt's 1000000 * major + 1000 * minor + release.
func version(v uint32) string { return fmt.Sprintf("%d.%d.%d", v/1000000, v/1000%1000, v%1000) }

// find returns what the pattern's group matches first in a file.
func find(t *testing.T, path, pattern string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(pattern).FindStringSubmatch(string(data))
	if m == nil {
		t.Fatalf("%s has no %s", path, pattern)
	}
	return strings.TrimSpace(m[1])
}
