// SPDX-License-Identifier: Apache-2.0

// Package port finds the virtio-serial ports that the machine has for the agent.
package port

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Where ports are: udev links them by their names, the kernel has them under its own.
const (
	links   = "/dev/virtio-ports"
	classes = "/sys/class/virtio-ports"
)

// Path returns the device of the port of that name, "" if the machine has none yet.
func Path(name string) string { return find("/", name) }

func find(root, name string) string {
	if link := filepath.Join(root, links, name); exists(link) {
		return link
	}
	files, err := filepath.Glob(filepath.Join(root, classes, "*/name"))
	if err != nil {
		return ""
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		device := filepath.Join(root, "dev", filepath.Base(filepath.Dir(file)))
		if err == nil && strings.TrimSpace(string(b)) == name && exists(device) {
			return device
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Await returns the device of the port of that name once the machine has it. The kernel
// tells: nothing is done meanwhile.
func Await(ctx context.Context, name string) (string, error) {
	events, err := kernelEvents()
	if err != nil {
		return "", err
	}
	defer events.Close()                                          //nolint:errcheck // read only
	defer context.AfterFunc(ctx, func() { _ = events.Close() })() //nolint:errcheck // read only
	buf := make([]byte, 4<<10)
	for {
		if path := Path(name); path != "" {
			return path, nil
		}
		_, err := events.Read(buf)
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case err != nil && !errors.Is(err, unix.ENOBUFS): // too many at once: the next look sees what they told
			return "", fmt.Errorf("wait for the port %s: %w", name, err)
		}
	}
}

// kernelEvents opens the stream of the kernel's events, from which udev learns of devices.
func kernelEvents() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listen to the kernel: %w", err)
	}
	f := os.NewFile(uintptr(fd), "kobject-uevent")
	const fromKernel = 1
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: fromKernel}); err != nil {
		return nil, errors.Join(fmt.Errorf("listen to the kernel: %w", err), f.Close())
	}
	return f, nil
}

// Open opens a port for both ways. Its device is root's alone from then on: who can open it
// speaks with vmlet.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Chown(0, 0), f.Chmod(0o600)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
