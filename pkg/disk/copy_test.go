// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// slowDisk counts what is written to it between two syncs.
type slowDisk struct {
	size, behind, most int
	full               error
}

func (d *slowDisk) Write(p []byte) (int, error) {
	d.size += len(p)
	d.behind += len(p)
	d.most = max(d.most, d.behind)
	return len(p), nil
}

func (d *slowDisk) Sync() error {
	d.behind = 0
	return d.full
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestALongCopyIsNeverFarBehind(t *testing.T) {
	const size = 3*flushEvery + 5
	d := &slowDisk{}
	if err := copyFlushed(d, io.LimitReader(zeros{}, size)); err != nil || d.size != size {
		t.Fatalf("%d bytes, %v", d.size, err)
	}
	if d.most >= flushEvery+1<<20 {
		t.Errorf("%d bytes were not on the disk yet", d.most)
	}
	if err := copyFlushed(&slowDisk{full: unix.ENOSPC}, io.LimitReader(zeros{}, size)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a disk that is full: %v", err)
	}
}
