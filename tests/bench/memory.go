// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

// residentMemory reads the daemon's VmRSS in MiB, n times within some seconds.
func residentMemory(t *testing.T, node *harness.Node, n int) samples {
	t.Helper()
	var values samples
	for range n {
		kib, err := kibOf(fmt.Sprintf("/proc/%d/status", node.PID()), "VmRSS")
		must(t, err)
		values = append(values, kib/1024)
		pause(200 * time.Millisecond)
	}
	return values
}

// ownMemory is what of the daemon's resident memory is not mapped from files, in MiB: what
// it has made. Of a file, the kernel maps what lies around the pages that are used, as far
// as its cache has it.
func ownMemory(t *testing.T, node *harness.Node) float64 {
	t.Helper()
	kib, err := kibOf(fmt.Sprintf("/proc/%d/status", node.PID()), "RssAnon")
	must(t, err)
	return kib / 1024
}

// qemuMemory adds up the proportional set sizes of the node's QEMUs, in MiB, and counts them.
func qemuMemory(t *testing.T, node *harness.Node) (mib float64, count int) {
	t.Helper()
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, path := range commands {
		command, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(command, []byte("/usr/bin/qemu-system")) || !bytes.Contains(command, []byte(node.LibDir)) {
			continue // or it has just ended
		}
		kib, err := kibOf(filepath.Join(filepath.Dir(path), "smaps_rollup"), "Pss")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		must(t, err)
		mib += kib / 1024
		count++
	}
	return mib, count
}

// kibOf reads a line such as "VmRSS:   1234 kB".
func kibOf(path, key string) (float64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`(?m)^` + key + `:\s+(\d+) kB$`).FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("no %s in %s", key, path)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}
