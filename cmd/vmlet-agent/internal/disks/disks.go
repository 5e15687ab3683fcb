// SPDX-License-Identifier: Apache-2.0

// Package disks is what the agent sees and does of single disks, which vmlet knows by their serial numbers.
package disks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Disks are those of the guest. For concurrent use.
type Disks struct {
	// root is where sys and dev are: "/", but for tests.
	root   string
	mounts func() ([]*mountinfo.Info, error)
}

// New returns the disks of the guest that the agent runs in.
func New() *Disks {
	return &Disks{root: "/", mounts: func() ([]*mountinfo.Info, error) { return mountinfo.GetMounts(nil) }}
}

// device is one disk.
type device struct {
	name string // as in /sys/block
	dir  string // its folder there
	node string // in /dev
}

// find finds a disk. NotFound if the guest has none with that serial number.
func (d *Disks) find(serial string) (device, error) {
	block := filepath.Join(d.root, "sys/block")
	entries, err := os.ReadDir(block)
	if err != nil {
		return device{}, fmt.Errorf("list the guest's disks: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(block, e.Name())
		if serial != "" && serialOf(dir) == serial {
			return device{name: e.Name(), dir: dir, node: filepath.Join(d.root, "dev", e.Name())}, nil
		}
	}
	return device{}, fmt.Errorf("the guest has no disk with the serial number %q: %w", serial, errdefs.ErrNotFound)
}

// serialOf is the serial number of a disk: virtio-blk tells it as it is, SCSI in the page 80 of its vital product data,
// behind four bytes.
func serialOf(dir string) string {
	if b, err := os.ReadFile(filepath.Join(dir, "serial")); err == nil {
		return strings.TrimSpace(string(b))
	}
	b, err := os.ReadFile(filepath.Join(dir, "device/vpd_pg80"))
	if err != nil || len(b) < 4 {
		return ""
	}
	return strings.Trim(string(b[4:]), " \x00")
}

// size is what the kernel sees of a disk or partition, in bytes.
func size(dir string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(dir, "size"))
	if err != nil {
		return 0, err
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return sectors * 512, err // of 512 bytes each, whatever the disk's are
}

// part is a disk, or a partition of it, that holds a mounted file system.
type part struct {
	device
	// number of the partition, 0 for the whole disk.
	number int
	mount  *mountinfo.Info
}

// mounted are the parts of a disk that are mounted, each once.
func (d *Disks) mounted(disk device) ([]part, error) {
	parts := map[string]part{}
	add := func(one part) {
		if b, err := os.ReadFile(filepath.Join(one.dir, "dev")); err == nil {
			parts[strings.TrimSpace(string(b))] = one
		}
	}
	add(part{device: disk})
	numbers, err := filepath.Glob(filepath.Join(disk.dir, disk.name+"*", "partition"))
	if err != nil {
		return nil, err
	}
	for _, file := range numbers {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has just gone
		}
		number, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		name := filepath.Base(filepath.Dir(file))
		add(part{device: device{name: name, dir: filepath.Dir(file), node: filepath.Join(d.root, "dev", name)}, number: number})
	}
	mounts, err := d.mounts()
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var found []part
	for _, m := range mounts {
		id := fmt.Sprintf("%d:%d", m.Major, m.Minor)
		if one, is := parts[id]; is {
			one.mount = m
			found = append(found, one)
			delete(parts, id)
		}
	}
	slices.SortFunc(found, func(a, b part) int { return a.number - b.number })
	return found, nil
}

// Use says what uses the disk with that serial number, "" for nothing. The kernel lets one user have a device for itself:
// a mount (in any mount namespace), swap, RAID, LVM.
func (d *Disks) Use(serial string) (string, error) {
	disk, err := d.find(serial)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(disk.node, os.O_RDONLY|unix.O_EXCL, 0)
	if err == nil {
		return "", f.Close()
	}
	if !errors.Is(err, unix.EBUSY) {
		return "", err
	}
	parts, err := d.mounted(disk)
	if err != nil {
		return "", err
	}
	var points []string
	for _, p := range parts {
		points = append(points, fmt.Sprintf("/dev/%s is mounted at %s", p.name, p.mount.Mountpoint))
	}
	if len(points) == 0 {
		return fmt.Sprintf("/dev/%s is a part of something, swap, or mounted where only some processes see it", disk.name), nil
	}
	return strings.Join(points, ", "), nil
}
