// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// checkpointsKey is the key of the configuration that says where checkpoints may be.
const checkpointsKey = "checkpoints.allowedPaths"

// mostManifest bounds what is read of a manifest: cloud-init's user-data may be in it.
const mostManifest = 16 << 20

const manifestPart = "." + vm.CheckpointManifest + ".part"

// checkpointFiles are all that we write to a checkpoint's folder.
var checkpointFiles = append([]string{vm.CheckpointManifest, manifestPart, vm.CheckpointMemory, vm.CheckpointDisk, vm.CheckpointNVRAM}, vm.CheckpointDataFiles()...)

// checkpointRoot is the allowed folder that a checkpoint's is below.
func (d *Disks) checkpointRoot(dir string) (string, error) {
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
		return "", fmt.Errorf("the path must be absolute and clean: %w", errdefs.ErrInvalidArgument)
	}
	for _, root := range d.checkpoints {
		if isBelow(dir, filepath.Clean(root)) {
			return filepath.Clean(root), nil
		}
	}
	return "", fmt.Errorf("it is below none of the folders that %s in the configuration allows (%s): %w",
		checkpointsKey, strings.Join(d.checkpoints, ", "), errdefs.ErrFailedPrecondition)
}

// openAt opens a folder below root, or root itself, by no link. Each folder on the way, and it too, is root's.
func openAt(root, dir string) (_ *os.Root, err error) {
	handle := -1
	if dir == root {
		handle, err = unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		err = pathError(err)
	} else {
		handle, err = walk(root, dir)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.Close(handle)) }()
	var st unix.Stat_t
	if err := unix.Fstat(handle, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, fmt.Errorf("%s is no folder: %w", dir, errdefs.ErrFailedPrecondition)
	}
	if err := rootOnly(handle, dir); err != nil {
		return nil, err
	}
	// The name of the descriptor: it leads to what was found, whatever the path leads to by now.
	return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", handle))
}

// PlanCheckpoint implements lifecycle.Disks.
func (d *Disks) PlanCheckpoint(ctx context.Context, dir string) (vm.CheckpointFolder, error) {
	where, err := d.planCheckpoint(ctx, dir)
	if err != nil {
		return where, fmt.Errorf("checkpoint in %s: %w", dir, err)
	}
	return where, nil
}

func (d *Disks) planCheckpoint(ctx context.Context, dir string) (where vm.CheckpointFolder, err error) {
	if err := context.Cause(ctx); err != nil {
		return where, err
	}
	where.Dir = dir
	if where.Root, err = d.checkpointRoot(dir); err != nil {
		return where, err
	}
	folder, err := openAt(where.Root, dir)
	if errdefs.IsNotFound(err) {
		where.Made = true
		if folder, err = openAt(where.Root, filepath.Dir(dir)); err != nil {
			return where, fmt.Errorf("the folder that it is to be in: %w", err)
		}
		return where, folder.Close()
	}
	if err != nil {
		return where, err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	entries, err := fs.ReadDir(folder.FS(), ".")
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("it is there and not empty: %w", errdefs.ErrAlreadyExists)
	}
	return where, err
}

// stageOf is the name beside the checkpoint's folder under which that is made.
func stageOf(where vm.CheckpointFolder) string { return "." + filepath.Base(where.Dir) + ".part" }

// stage opens the folder that files are written to.
func stage(where vm.CheckpointFolder) (*os.Root, error) {
	if !where.Made {
		return openAt(where.Root, where.Dir)
	}
	parent, err := openAt(where.Root, filepath.Dir(where.Dir))
	if err != nil {
		return nil, err
	}
	defer func() { _ = parent.Close() }() //nolint:errcheck // nothing was written through it
	if err := parent.Mkdir(stageOf(where), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, storageError(err)
	}
	return parent.OpenRoot(stageOf(where))
}

// WriteCheckpoint implements lifecycle.Disks.
func (d *Disks) WriteCheckpoint(ctx context.Context, where vm.CheckpointFolder, name, from string, told func(vm.Progress)) (vm.CheckpointFile, error) {
	out, err := d.writeCheckpoint(ctx, where, name, from, told)
	if err != nil {
		return out, fmt.Errorf("write %s of the checkpoint in %s: %w", name, where.Dir, storageError(err))
	}
	return out, nil
}

func (d *Disks) writeCheckpoint(ctx context.Context, where vm.CheckpointFolder, name, from string, told func(vm.Progress)) (out vm.CheckpointFile, err error) {
	src, err := d.openPath(from)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	info, err := src.Stat()
	if err != nil {
		return out, err
	}
	folder, err := stage(where)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	dst, err := folder.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return out, err
	}
	sum := newSummed(ctx, src)
	sum.told = func() { told(vm.Progress{Done: sum.size, Total: info.Size()}) }
	err = copyFlushed(dst, sum)
	if err = errors.Join(err, dst.Sync(), dst.Close()); err != nil {
		return out, err
	}
	return sum.file(name), nil
}

// EndCheckpoint implements lifecycle.Disks.
func (*Disks) EndCheckpoint(ctx context.Context, where vm.CheckpointFolder, c vm.Checkpoint) error {
	if err := endCheckpoint(ctx, where, c); err != nil {
		return fmt.Errorf("end the checkpoint in %s: %w", where.Dir, storageError(err))
	}
	return nil
}

func endCheckpoint(ctx context.Context, where vm.CheckpointFolder, c vm.Checkpoint) (err error) {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	folder, err := stage(where)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	f, err := folder.OpenFile(manifestPart, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := folder.Rename(manifestPart, vm.CheckpointManifest); err != nil {
		return err
	}
	if err := syncRoot(folder); err != nil || !where.Made {
		return err
	}
	parent, err := openAt(where.Root, filepath.Dir(where.Dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parent.Close()) }()
	return appear(parent, stageOf(where), filepath.Base(where.Dir))
}

// appear renames a folder, where nothing has its name.
func appear(parent *os.Root, from, to string) (err error) {
	at, err := parent.Open(".")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.Close()) }()
	err = unix.Renameat2(int(at.Fd()), from, int(at.Fd()), to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s has come to be there meanwhile: %w", to, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return err
	}
	return at.Sync()
}

func syncRoot(folder *os.Root) error {
	at, err := folder.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(at.Sync(), at.Close())
}

// RemoveCheckpoint implements lifecycle.Disks.
func (*Disks) RemoveCheckpoint(ctx context.Context, where vm.CheckpointFolder, id string) error {
	if err := removeCheckpoint(ctx, where, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove the checkpoint in %s: %w", where.Dir, err)
	}
	return nil
}

func removeCheckpoint(ctx context.Context, where vm.CheckpointFolder, id string) (err error) {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if where.Made {
		parent, err := openAt(where.Root, filepath.Dir(where.Dir))
		if err != nil {
			return err
		}
		defer func() { _ = parent.Close() }() //nolint:errcheck // what was removed is
		if err := parent.RemoveAll(stageOf(where)); err != nil {
			return err
		}
	}
	folder, err := openAt(where.Root, where.Dir)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }() //nolint:errcheck // as above
	found, err := readManifest(folder)
	if err == nil && found.ID != id || errdefs.IsNotFound(err) && where.Made {
		return nil // it is somebody else's
	}
	for _, name := range checkpointFiles {
		if err := removeIfThere(folder, name); err != nil {
			return err
		}
	}
	if !where.Made {
		return nil
	}
	parent, err := openAt(where.Root, filepath.Dir(where.Dir))
	if err != nil {
		return err
	}
	return errors.Join(parent.Remove(filepath.Base(where.Dir)), parent.Close())
}

// readManifest reads what a folder says of the checkpoint in it. NotFound if there is none.
func readManifest(folder *os.Root) (c vm.Checkpoint, err error) {
	f, err := openOwn(folder, vm.CheckpointManifest)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err := io.ReadAll(io.LimitReader(f, mostManifest))
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("%s: %w: %w", vm.CheckpointManifest, err, errdefs.ErrDataLoss)
	}
	return c, nil
}

// openOwn opens a regular file that none but root could write to.
func openOwn(folder *os.Root, name string) (*os.File, error) {
	f, err := folder.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.Mode().IsRegular() || !ok || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		err = fmt.Errorf("%s is no regular file that is root's and can be written by root alone: %w", name, errdefs.ErrFailedPrecondition)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
