// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/crilog"
)

// position says how much of a spool is in which log file.
type position struct {
	Version int `json:"v"`
	// Seq counts the positions of a checkpoint file from 1: the higher one is the newer.
	Seq uint64 `json:"seq"`
	// Spool is how many bytes of the spool are dealt with.
	Spool int64 `json:"spool"`
	// Inode is the log file that they are in, 0 for none, and Log is its length then.
	Inode uint64 `json:"inode"`
	Log   int64  `json:"log"`
	// Previous is the log file before a reopening, 0 once the new one has an entry.
	Previous uint64 `json:"previous"`
	// Mid: the last entry in the log of stdout is partial, MidErr: that of stderr.
	Mid    bool `json:"mid"`
	MidErr bool `json:"midErr,omitempty"`
	// Lost is how many bytes of the spool, up to Spool, were given up and not yet
	// reported in the log.
	Lost int64 `json:"lost"`
	// Time is that of the last entry; none after it is earlier.
	Time time.Time `json:"time"`
}

func (p *position) isMid(stream string) bool {
	if stream == crilog.Stderr {
		return p.MidErr
	}
	return p.Mid
}

func (p *position) setMid(stream string, mid bool) {
	if stream == crilog.Stderr {
		p.MidErr = mid
	} else {
		p.Mid = mid
	}
}

const (
	checkpointVersion = 1
	// A checkpoint file has two slots, written in turns and in place: neither a kill in
	// the middle of a write nor a full disk can take the last good one away. A slot
	// lies within one page and holds JSON, its CRC-32 and blanks.
	slotSize = 512
	slots    = 2
)

// checkpoint is a position that survives the process.
type checkpoint struct {
	f *os.File
}

// openCheckpoint opens the file and reads the newest position, or makes a new file
// with a position whose Seq is 0. It is FailedPrecondition when a newer vmlet wrote the
// file, and DataLoss, with the file usable, when no slot is readable.
func openCheckpoint(path string) (c *checkpoint, p position, err error) {
	p.Version = checkpointVersion
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, p, err
	}
	c = &checkpoint{f}
	b := make([]byte, slots*slotSize)
	n, _ := f.ReadAt(b, 0) //nolint:errcheck // what is not there does not parse
	if n == 0 {
		// Room for both slots, so that writing them later needs none.
		if _, err := f.WriteAt(bytes.Repeat([]byte{' '}, slots*slotSize), 0); err != nil {
			return nil, p, errors.Join(err, f.Close())
		}
		return c, p, nil
	}
	for i := range slots {
		if q, ok := parseSlot(b[i*slotSize : (i+1)*slotSize]); ok && q.Seq >= p.Seq {
			p = q
		}
	}
	switch {
	case p.Version > checkpointVersion:
		err := fmt.Errorf("checkpoint %s has version %d, and this vmlet knows %d: %w",
			path, p.Version, checkpointVersion, errdefs.ErrFailedPrecondition)
		return nil, p, errors.Join(err, f.Close())
	case p.Seq == 0 && len(bytes.Trim(b[:n], " ")) > 0:
		return c, p, fmt.Errorf("checkpoint %s is not readable: %w", path, errdefs.ErrDataLoss)
	}
	return c, p, nil
}

// save makes p the newest position. p.Seq has to count on from the last one.
func (c *checkpoint) save(k kernel, p position) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	b = fmt.Appendf(b, " %08x", crc32.ChecksumIEEE(b))
	slot := bytes.Repeat([]byte{' '}, slotSize)
	slot[slotSize-1] = '\n'
	if copy(slot, b) == slotSize {
		return fmt.Errorf("a position of %d bytes does not fit its slot", len(b))
	}
	if n, err := k.writeAt(c.f, slot, int64(p.Seq%slots)*slotSize); err != nil {
		return fmt.Errorf("write the checkpoint (%d bytes written): %w", n, err)
	}
	return nil
}

func (c *checkpoint) close() error { return c.f.Close() }

func parseSlot(slot []byte) (p position, ok bool) {
	text := bytes.TrimRight(slot, " \n\x00")
	i := bytes.LastIndexByte(text, ' ')
	if i < 0 || fmt.Sprintf("%08x", crc32.ChecksumIEEE(text[:i])) != string(text[i+1:]) {
		return p, false
	}
	return p, json.Unmarshal(text[:i], &p) == nil
}
