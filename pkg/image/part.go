// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// block is the unit in which zeros are left out of a file, in bytes. It is the page size
// and the smallest block of the file systems in use.
const block = 4096

// flushEvery is how many bytes are handed to the disk at a time while more are coming, so
// that the fsync at the end finds little left to do.
const flushEvery = 16 << 20

// part is a disk that is being received. It is not safe for concurrent use.
type part struct {
	file     *os.File
	declared vm.DiskFormat
	limit    int64 // bytes that the disk may have, in the file and as seen by a guest

	// sum hashes what is written. It is nil where the digest is known otherwise: known
	// then says it, once the last byte was written.
	sum   hash.Hash
	known func() string

	size    int64
	flushed int64
	head    []byte
}

// newPart begins to receive a disk that is labelled with a format, or not ("").
func (s *Store) newPart(declared vm.DiskFormat) (*part, error) {
	f, err := os.CreateTemp(s.layout.parts(), "")
	if err != nil {
		return nil, storageError(err)
	}
	return &part{file: f, declared: declared, limit: s.cfg.MaxDiskSize, sum: sha256.New()}, nil
}

// trust takes the digest from whoever hashes the same bytes anyhow.
func (p *part) trust(known func() string) {
	p.sum, p.known = nil, known
}

// Write appends to the disk. A disk that is refused is refused as early as its beginning
// or its size can tell.
func (p *part) Write(b []byte) (int, error) {
	if int64(len(b)) > p.limit-p.size {
		return 0, refused("the disk is a file of more than %d bytes, which is what is allowed", p.limit)
	}
	if err := p.look(b); err != nil {
		return 0, err
	}
	if p.sum != nil {
		p.sum.Write(b)
	}
	if err := writeSparse(p.file, b, p.size); err != nil {
		return 0, storageError(err)
	}
	p.size += int64(len(b))
	if p.size-p.flushed >= flushEvery {
		_ = unix.SyncFileRange(int(p.file.Fd()), p.flushed, p.size-p.flushed, unix.SYNC_FILE_RANGE_WRITE) //nolint:errcheck // advice; fsync reports
		p.flushed = p.size
	}
	return len(b), nil
}

// look keeps the disk's beginning, and judges it as soon as it is complete.
func (p *part) look(b []byte) error {
	if len(p.head) == headSize {
		return nil
	}
	p.head = append(p.head, b[:min(len(b), headSize-len(p.head))]...)
	if len(p.head) < headSize {
		return nil
	}
	_, err := judge(p.head, -1, p.declared, p.limit)
	return err
}

// finish judges the whole, puts it on stable storage and returns what is known of it. The
// caller discards the part, whether it moved it into place or not.
func (p *part) finish() (record, error) {
	found, err := judge(p.head, p.size, p.declared, p.limit)
	if err != nil {
		return record{}, err
	}
	// Zeros at the end were not written.
	if err := p.file.Truncate(p.size); err != nil {
		return record{}, storageError(err)
	}
	if err := p.file.Chmod(blobMode); err != nil {
		return record{}, err
	}
	if err := p.file.Sync(); err != nil {
		return record{}, storageError(err)
	}
	info, err := p.file.Stat()
	if err != nil {
		return record{}, err
	}
	if err := p.file.Close(); err != nil {
		return record{}, storageError(err)
	}
	return record{
		Version: recordVersion, ID: p.id(), Format: found.format, Virtual: found.virtual,
		Bytes: p.size, ModTime: info.ModTime(), allocated: allocated(info),
	}, nil
}

func (p *part) id() string {
	if p.sum == nil {
		return p.known()
	}
	return idPrefix + hex.EncodeToString(p.sum.Sum(nil))
}

// discard closes the part, and removes it unless it was moved into place. It may be called
// again.
func (p *part) discard() error {
	err := p.file.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	return errors.Join(err, removeIfThere(p.file.Name()))
}

var zeros [block]byte

// writeSparse writes b at an offset and leaves out the blocks of zeros: they are holes in
// a file that has nothing there yet.
func writeSparse(f *os.File, b []byte, at int64) error {
	start := 0 // of the bytes that are not known to be zeros
	flush := func(end int) error {
		if start == end {
			return nil
		}
		if _, err := f.WriteAt(b[start:end], at+int64(start)); err != nil {
			return fmt.Errorf("write %d bytes: %w", end-start, err)
		}
		return nil
	}
	for i := 0; i < len(b); {
		end := min(len(b), i+block-int((at+int64(i))%block))
		if bytes.Equal(b[i:end], zeros[:end-i]) {
			if err := flush(i); err != nil {
				return err
			}
			start = end
		}
		i = end
	}
	return flush(len(b))
}
