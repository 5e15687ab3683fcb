// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func reopenCheckpoint(t *testing.T, path string) (position, bool) {
	t.Helper()
	c, p, err := openCheckpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	return p, p.Seq > 0
}

func savePosition(t *testing.T, path string, p position) {
	t.Helper()
	c, _, err := openCheckpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.save(realKernel(), p); err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
}

func TestTheNewestPositionIsReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	for range 2 { // making it and saving nothing is not having one
		if p, found := reopenCheckpoint(t, path); found || p != (position{Version: 1}) {
			t.Errorf("a new checkpoint holds %+v, %v", p, found)
		}
	}
	for seq := range uint64(5) {
		want := position{Version: 1, Seq: seq + 1, Spool: 1 << seq, Inode: 7, Log: 99, Mid: true, Lost: 3, Time: entryTime}
		savePosition(t, path, want)
		if got, found := reopenCheckpoint(t, path); !found || !cmp.Equal(want, got) {
			t.Errorf("got %+v, %v; want %+v", got, found, want)
		}
	}
}

func TestATornSlotLeavesTheOneBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	savePosition(t, path, position{Version: 1, Seq: 1, Spool: 11})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	savePosition(t, path, position{Version: 1, Seq: 2, Spool: 22})
	newer, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range slotSize { // slot 0 is the newer one
		torn := append(bytes.Clone(newer[:n]), whole[n:]...)
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		want := int64(11)
		if n >= len(bytes.TrimRight(newer[:slotSize], " \n")) { // only blanks are missing
			want = 22
		}
		if got, found := reopenCheckpoint(t, path); !found || got.Spool != want {
			t.Fatalf("with %d bytes written: %+v, %v", n, got, found)
		}
	}
}

func TestTheLargestPositionFitsItsSlot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	savePosition(t, path, position{
		Version: 1, Seq: math.MaxUint64, Spool: math.MaxInt64, Inode: math.MaxUint64, Log: math.MaxInt64,
		Previous: math.MaxUint64, Mid: false, Lost: math.MaxInt64, Time: entryTime,
	})
}

func TestACheckpointOfANewerVersionIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	text := `{"v":2,"seq":1,"elsewhere":true}`
	slot := fmt.Sprintf("%s %08x", text, crc32.ChecksumIEEE([]byte(text)))
	if err := os.WriteFile(path, []byte(slot+strings.Repeat(" ", 2*slotSize-len(slot))), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openCheckpoint(path); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("error = %v, want FailedPrecondition", err)
	}
}
