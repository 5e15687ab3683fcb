// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	bolt "go.etcd.io/bbolt"

	"github.com/vmlet/vmlet/pkg/paths"
)

// filledFile returns the file of a store with 40 records.
func filledFile(t *testing.T) []byte {
	t.Helper()
	n := node(t)
	s := openAt(t, n)
	for i := range 40 {
		id := fmt.Sprintf("s%02d", i)
		if err := s.Sandboxes().Create(id, sandbox(id, time.Now()), "create"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(n.DB())
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// openBytes opens a store with this file, in a folder of its own.
func openBytes(t *testing.T, file []byte) error {
	t.Helper()
	n := node(t)
	if err := os.MkdirAll(n.Root, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.DB(), file, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), n, Options{NoSync: true})
	if err != nil {
		return err
	}
	if got := len(s.Sandboxes().List()); got < 39 { // 39: one broken meta page hides the last write
		t.Errorf("opened with %d of 40 records", got)
	}
	return s.Close()
}

func TestATruncatedFileIsDataLoss(t *testing.T) {
	file := filledFile(t)
	for length := 0; length < len(file)-os.Getpagesize(); length += os.Getpagesize() / 2 {
		err := openBytes(t, file[:length])
		if err == nil && !allZero(file[length:]) {
			t.Errorf("opened with %d bytes of %d", length, len(file))
		}
		if err != nil && !errdefs.IsDataLoss(err) {
			t.Errorf("%d bytes of %d: error = %v, want DataLoss", length, len(file), err)
		}
	}
}

func TestAnOverwrittenPageIsDataLossOrHarmless(t *testing.T) {
	file := filledFile(t)
	refused := 0
	for page := 0; page < len(file); page += os.Getpagesize() {
		for _, filler := range []string{"\xff", "\x00", "garbage "} {
			damaged := bytes.Clone(file)
			copy(damaged[page:page+os.Getpagesize()], bytes.Repeat([]byte(filler), os.Getpagesize()))
			err := openBytes(t, damaged)
			if err == nil {
				continue // a free page, or one of the two meta pages
			}
			refused++
			if !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), "/root/vmlet.db") {
				t.Errorf("page at %d filled with %q: error = %v, want DataLoss with the path", page, filler, err)
			}
		}
	}
	if refused == 0 {
		t.Error("no page mattered")
	}
}

func TestAnUnreadableRecordIsDataLossAndNamed(t *testing.T) {
	for name, stored := range map[string]string{
		"no JSON":               `{"v":2,"record":{`,
		"another type":          `{"v":2,"record":[]}`,
		"text behind it":        `{"v":2,"record":{}}{}`,
		"no record":             `{"v":2}`,
		"an older version":      `{"v":0,"record":{}}`,
		"a field we don't know": `{"v":2,"record":{"id":"a","invented":1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			plant(t, n, stored)
			_, err := Open(t.Context(), n, Options{})
			if !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), `sandboxes "planted"`) {
				t.Errorf("error = %v, want DataLoss that names the record", err)
			}
		})
	}
}

// plant writes raw bytes as a sandbox's record.
func plant(t *testing.T, n paths.Node, stored string) {
	t.Helper()
	s := openAt(t, n)
	err := s.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(sandboxes)).Put([]byte("planted"), []byte(stored))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
