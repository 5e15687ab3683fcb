// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Clock is the wall clock of one process, which a test sets; its monotonic clock goes on. The machine's are not touched.
type Clock struct {
	t             *testing.T
	library, step string
}

// NewClock makes a clock that is right. Env has a process take it for its own.
func NewClock(t *testing.T) *Clock {
	t.Helper()
	dir := t.TempDir()
	c := &Clock{t: t, library: filepath.Join(dir, "clockstep.so"), step: filepath.Join(dir, "step")}
	source := filepath.Join(the.repo, "tests", "harness", "testdata", "clockstep.c")
	if out, err := exec.CommandContext(t.Context(), "cc", "-O2", "-shared", "-fPIC", "-o", c.library, source, "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.Set(0)
	return c
}

// Env is the environment of a process, which must be linked with the C library.
func (c *Clock) Env() []string {
	return []string{"LD_PRELOAD=" + c.library, "VMLET_CLOCK_STEP=" + c.step}
}

// Set sets the clock ahead of the machine's, or behind it.
func (c *Clock) Set(ahead time.Duration) {
	c.t.Helper()
	// In place: the process has the file mapped.
	file, err := os.OpenFile(c.step, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		_, err = file.Write(binary.NativeEndian.AppendUint64(nil, uint64(ahead)))
	}
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		c.t.Fatal(err)
	}
}
