// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// ext4Resize is EXT4_IOC_RESIZE_FS of the kernel's fs/ext4/ext4.h: _IOW('f', 16, __u64), the new size in blocks.
const ext4Resize = 0x40086610

// noticing is how long the kernel may take to see that a disk has grown: it hears of it by an interrupt. It is looked at
// every noticeStep: sysfs tells nobody of it.
const (
	noticing   = 10 * time.Second
	noticeStep = 10 * time.Millisecond
)

// toolTimeout bounds growpart and xfs_growfs.
const toolTimeout = time.Minute

// Grow has what is mounted of the disk with that serial number take all of its want bytes. Idempotent.
func (d *Disks) Grow(ctx context.Context, serial string, want int64) (*agentv1.DiskGrowth, error) {
	disk, err := d.find(serial)
	if err != nil {
		return nil, err
	}
	if err := notice(ctx, disk, want); err != nil {
		return outcome(agentv1.DiskGrowth_FAILED, err.Error()), nil
	}
	parts, err := d.mounted(disk)
	if err != nil {
		return nil, err
	}
	if len(parts) == 0 {
		return outcome(agentv1.DiskGrowth_SKIPPED, fmt.Sprintf("no file system on /dev/%s is mounted", disk.name)), nil
	}
	// Only what is at the end of a disk can grow.
	return growPart(ctx, disk, parts[len(parts)-1]), nil
}

func outcome(o agentv1.DiskGrowth_Outcome, detail string) *agentv1.DiskGrowth {
	return &agentv1.DiskGrowth{Outcome: o, Detail: detail}
}

// notice returns when the kernel sees the disk's new size.
func notice(ctx context.Context, disk device, want int64) error {
	// SCSI asks the disk again; virtio-blk has no such file, and needs none.
	_ = os.WriteFile(filepath.Join(disk.dir, "device/rescan"), []byte("1"), 0) //nolint:errcheck // the size tells
	ctx, cancel := context.WithTimeout(ctx, noticing)
	defer cancel()
	tick := time.NewTicker(noticeStep)
	defer tick.Stop()
	for {
		now, err := size(disk.dir)
		if err != nil {
			return err
		}
		if now >= want {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the guest's kernel sees %d bytes of /dev/%s, not %d", now, disk.name, want)
		}
	}
}

// growPart grows a partition, where it is one, and the file system in it.
func growPart(ctx context.Context, disk device, p part) *agentv1.DiskGrowth {
	if p.number > 0 {
		if skip, err := growPartition(ctx, disk, p); err != nil || skip != "" {
			if err != nil {
				return outcome(agentv1.DiskGrowth_FAILED, err.Error())
			}
			return outcome(agentv1.DiskGrowth_SKIPPED, skip)
		}
	}
	where := fmt.Sprintf("%s on /dev/%s at %s", p.mount.FSType, p.name, p.mount.Mountpoint)
	var err error
	switch p.mount.FSType {
	case "ext4", "ext3", "ext2":
		err = growExt4(p)
	case "xfs":
		if !has("xfs_growfs") {
			return outcome(agentv1.DiskGrowth_SKIPPED, where+" has not grown: there is no xfs_growfs in the guest")
		}
		_, err = run(ctx, "xfs_growfs", p.mount.Mountpoint)
	default:
		return outcome(agentv1.DiskGrowth_SKIPPED, where+" has not grown: ext4 and xfs are what can be grown")
	}
	if err != nil {
		return outcome(agentv1.DiskGrowth_FAILED, fmt.Sprintf("%s has not grown: %v", where, err))
	}
	var s unix.Statfs_t
	if err := unix.Statfs(p.mount.Mountpoint, &s); err != nil {
		return outcome(agentv1.DiskGrowth_FAILED, fmt.Sprintf("%s: %v", where, err))
	}
	return outcome(agentv1.DiskGrowth_GROWN, fmt.Sprintf("%s has %d bytes", where, int64(s.Blocks)*s.Bsize))
}

// growPartition has the partition take the space behind it, by growpart, which distributions bring for just that; writing
// their tables is not ours. It says why where there is none.
func growPartition(ctx context.Context, disk device, p part) (skip string, err error) {
	if !has("growpart") {
		return fmt.Sprintf("/dev/%s, mounted at %s, is a partition, and there is no growpart in the guest to make it bigger", p.name, p.mount.Mountpoint), nil
	}
	out, err := run(ctx, "growpart", disk.node, strconv.Itoa(p.number))
	if strings.HasPrefix(out, "NOCHANGE") {
		return "", nil // it has all there is, or another one is behind it
	}
	return "", err
}

// has tells whether the guest has a program.
func has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// run runs a program of the guest's to its end.
func run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	b, err := cmd.CombinedOutput()
	out := strings.Join(strings.Fields(string(b)), " ")
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return out, nil
}

// growExt4 asks the kernel itself: resize2fs does no more for what is mounted.
func growExt4(p part) (err error) {
	bytes, err := size(p.dir)
	if err != nil {
		return err
	}
	dir, err := os.Open(p.mount.Mountpoint)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &s); err != nil {
		return err
	}
	blocks := uint64(bytes / s.Bsize)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), ext4Resize, uintptr(unsafe.Pointer(&blocks))); errno != 0 { //nolint:gosec // the kernel reads a number
		return fmt.Errorf("resize to %d blocks: %w", blocks, errno)
	}
	return nil
}
