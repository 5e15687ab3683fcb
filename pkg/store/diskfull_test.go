// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/paths"
)

// fillDisk is a child that writes records until the file cannot grow, looks whether
// memory has what was acknowledged, and goes on once there is room again. A limit on
// the size of files is a full disk that needs no privilege; it holds for a process.
func fillDisk(n paths.Node) error {
	signal.Ignore(unix.SIGXFSZ)
	s, err := Open(context.Background(), n, Options{})
	if err != nil {
		return err
	}
	info, err := os.Stat(n.DB())
	if err != nil {
		return err
	}
	if err := limitFiles(uint64(info.Size())); err != nil {
		return err
	}
	acknowledged := 0
	for ; acknowledged < 10000; acknowledged++ {
		id := fmt.Sprintf("s%04d", acknowledged)
		if err = s.Sandboxes().Create(id, sandbox(id, time.Now()), "create"); err != nil {
			break
		}
	}
	if !errdefs.IsUnavailable(err) {
		return fmt.Errorf("the failed write says %w, want Unavailable", err)
	}
	if got := len(s.Sandboxes().List()); got != acknowledged {
		return fmt.Errorf("%d records in memory, %d were acknowledged", got, acknowledged)
	}
	if _, err := s.Sandboxes().Update("s0000", "count", count); err != nil && !errdefs.IsUnavailable(err) {
		return err
	}
	if err := limitFiles(unix.RLIM_INFINITY); err != nil {
		return err
	}
	if err := s.Sandboxes().Create("with room", sandbox("with room", time.Now()), "create"); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	fmt.Println("acknowledged", acknowledged)
	return s.Close()
}

func limitFiles(size uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = min(size, limit.Max)
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &limit)
}

func TestAFullDiskLosesNothingAndIsSurvived(t *testing.T) {
	n := node(t)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childRoot+"="+n.Root, childDoes+"=fill")
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var acknowledged int
	if _, err := fmt.Sscanf(strings.TrimSpace(string(out)), "acknowledged %d", &acknowledged); err != nil || acknowledged == 0 {
		t.Fatalf("the child said %q", out)
	}
	if got := len(openAt(t, n).Sandboxes().List()); got != acknowledged+1 {
		t.Errorf("%d records on disk, %d were acknowledged", got, acknowledged+1)
	}
}
