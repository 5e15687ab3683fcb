// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/qcow2head"
	"github.com/vmlet/vmlet/pkg/saveimage"
	"github.com/vmlet/vmlet/pkg/vm"
)

// summed reads, and knows how much it was and its checksum. It ends with its context.
type summed struct {
	ctx  context.Context //nolint:containedctx // of the one copy that it is made for
	r    io.Reader
	size int64
	sum  hash.Hash
	told func() // after each read
}

func newSummed(ctx context.Context, r io.Reader) *summed {
	return &summed{ctx: ctx, r: r, sum: sha256.New(), told: func() {}}
}

// Read is io.Reader's.
func (s *summed) Read(p []byte) (int, error) {
	if err := context.Cause(s.ctx); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.size += int64(n)
	s.sum.Write(p[:n])
	s.told()
	return n, err
}

func (s *summed) file(name string) vm.CheckpointFile {
	return vm.CheckpointFile{Name: name, Size: s.size, SHA256: hex.EncodeToString(s.sum.Sum(nil))}
}

// ReadCheckpoint implements lifecycle.Disks.
func (d *Disks) ReadCheckpoint(ctx context.Context, dir string) (vm.Checkpoint, error) {
	c, err := d.readCheckpoint(ctx, dir)
	if err != nil {
		return c, fmt.Errorf("checkpoint in %s: %w", dir, err)
	}
	return c, nil
}

func (d *Disks) readCheckpoint(ctx context.Context, dir string) (c vm.Checkpoint, err error) {
	if err := context.Cause(ctx); err != nil {
		return c, err
	}
	root, err := d.checkpointRoot(dir)
	if err != nil {
		return c, err
	}
	folder, err := openAt(root, dir)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	if c, err = readManifest(folder); err != nil {
		return c, fmt.Errorf("it holds no checkpoint: %w", err)
	}
	if c.Version < vm.OldestCheckpoint || c.Version > vm.CheckpointVersion {
		return c, fmt.Errorf("it is of version %d, and this vmlet reads %d to %d: %w", c.Version, vm.OldestCheckpoint, vm.CheckpointVersion, errdefs.ErrFailedPrecondition)
	}
	for _, name := range c.Names() {
		want, err := c.File(name)
		if err != nil {
			return c, err
		}
		f, err := openOwn(folder, name)
		if err != nil {
			return c, err
		}
		info, err := f.Stat()
		if err = errors.Join(err, f.Close()); err != nil {
			return c, err
		}
		if info.Size() != want.Size {
			return c, fmt.Errorf("%s has %d bytes, and was written with %d: %w", name, info.Size(), want.Size, errdefs.ErrDataLoss)
		}
	}
	return c, nil
}

// FetchDisk implements lifecycle.Disks.
func (d *Disks) FetchDisk(ctx context.Context, dir string, file vm.CheckpointFile, path string) error {
	return d.fetch(ctx, dir, file, path, d.owner, func(dst *os.File, src *summed) error {
		if err := copyFlushed(dst, src); err != nil {
			return err
		}
		head := make([]byte, qcow2head.Size)
		n, err := dst.ReadAt(head, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		_, err = qcow2head.Check(head[:n], src.size)
		return err
	})
}

// FetchMemory implements lifecycle.Disks.
func (d *Disks) FetchMemory(ctx context.Context, dir string, file vm.CheckpointFile, path string, adopt func(xml string) (string, error)) error {
	return d.fetch(ctx, dir, file, path, owner{os.Getuid(), os.Getgid()}, func(dst *os.File, src *summed) error {
		head, err := saveimage.Read(src)
		if err != nil {
			return err
		}
		xml, err := adopt(head.XML)
		if err != nil {
			return err
		}
		changed, err := head.With(xml)
		if err != nil {
			return err
		}
		if _, err := dst.Write(changed); err != nil {
			return err
		}
		return copyFlushed(dst, src)
	})
}

// fetch makes a file of a sandbox of one of a checkpoint, whole or not at all.
func (d *Disks) fetch(ctx context.Context, dir string, want vm.CheckpointFile, path string, who owner, fill func(dst *os.File, src *summed) error) error {
	err := d.create(ctx, path, file{mode: ownMode, uid: who.uid, gid: who.gid, fill: func(ctx context.Context, dst *os.File, _ string) (err error) {
		root, err := d.checkpointRoot(dir)
		if err != nil {
			return err
		}
		folder, err := openAt(root, dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, folder.Close()) }()
		f, err := openOwn(folder, want.Name)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		src := newSummed(ctx, f)
		if err := fill(dst, src); err != nil {
			return err
		}
		if got := src.file(want.Name); got != want {
			return fmt.Errorf("it has %d bytes with the checksum %s, and was written with %d and %s: %w",
				got.Size, got.SHA256, want.Size, want.SHA256, errdefs.ErrDataLoss)
		}
		return nil
	}})
	if err != nil {
		return fmt.Errorf("take %s of the checkpoint in %s: %w", want.Name, dir, err)
	}
	return nil
}
