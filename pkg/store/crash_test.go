// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

// This test binary is also the child that some tests start and kill.
const (
	childRoot = "VMLET_STORE_TEST_ROOT" // the root folder: this is a child
	childDoes = "VMLET_STORE_TEST_DOES" // "fill" to fill the disk, else to write for ever
)

const crashWriters = 4

func TestMain(m *testing.M) {
	root := os.Getenv(childRoot)
	if root == "" {
		os.Exit(m.Run())
	}
	work := writeForever
	if os.Getenv(childDoes) == "fill" {
		work = fillDisk
	}
	if err := work(paths.Node{Root: root}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// writeForever counts up one record per writer and prints each count once its update
// has returned. It ends on an error only.
func writeForever(n paths.Node) error {
	s, err := Open(context.Background(), n, Options{})
	if err != nil {
		return err
	}
	fmt.Println("open")
	var writers sync.WaitGroup
	failed := make(chan error, crashWriters)
	for i := range crashWriters {
		writers.Go(func() { failed <- countUp(s, fmt.Sprint("w", i)) })
	}
	return <-failed
}

func countUp(s *Store, id string) error {
	if _, err := s.Sandboxes().Get(id); err != nil {
		if err := s.Sandboxes().Create(id, sandbox(id, time.Now()), "create"); err != nil {
			return err
		}
	}
	for {
		v, err := s.Sandboxes().Update(id, "count", func(v vm.Sandbox) (vm.Sandbox, error) {
			v.Spec.Attempt++
			return v, nil
		})
		if err != nil {
			return err
		}
		fmt.Printf("%s %d\n", id, v.Spec.Attempt)
	}
}

// crashChild starts a writing child and returns once it has the store open.
func crashChild(t *testing.T, n paths.Node) *exec.Cmd {
	t.Helper()
	child, _ := startChild(t, n)
	return child
}

func startChild(t *testing.T, n paths.Node) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childRoot+"="+n.Root)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = child.Process.Kill() //nolint:errcheck // the test has killed it already, or failed
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "open" {
		t.Fatalf("the child said %q", lines.Text())
	}
	return child, lines
}

func TestAcknowledgedUpdatesSurviveAKill(t *testing.T) {
	n := node(t)
	for round := range 3 {
		child, lines := startChild(t, n)
		acknowledged := map[string]uint32{}
		for range 60 + 17*round {
			if !lines.Scan() {
				t.Fatal("the child ended by itself")
			}
			acknowledge(t, acknowledged, lines.Text())
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it had said before it died
			acknowledge(t, acknowledged, lines.Text())
		}
		_ = child.Wait() //nolint:errcheck // it was killed

		s := openAt(t, n)
		for id, count := range acknowledged {
			got, err := s.Sandboxes().Get(id)
			if err != nil {
				t.Fatal(err)
			}
			if lost := int(count) - int(got.Spec.Attempt); lost > 0 || lost < -1 {
				t.Errorf("round %d: %s was acknowledged at %d and is %d", round, id, count, got.Spec.Attempt)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func acknowledge(t *testing.T, counts map[string]uint32, line string) {
	t.Helper()
	var id string
	var count uint32
	if _, err := fmt.Sscan(line, &id, &count); err != nil {
		if !strings.HasPrefix(line, "w") { // a torn last line is none
			t.Fatalf("the child said %q", line)
		}
		return
	}
	counts[id] = max(counts[id], count)
}
