// SPDX-License-Identifier: Apache-2.0

// Package online takes CPUs and memory into use that are plugged into the machine. Distributions leave that to rules that
// many images do not have.
package online

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// policy is how memory comes online: in a zone that holds nothing which cannot be moved, so that it can be taken away again.
const policy = "online_movable"

// Online takes devices below a sysfs into use.
type Online struct {
	sysfs  string
	report func(error)
}

// New is for the machine whose sysfs is mounted there. report is told of what could not be done.
func New(sysfs string, report func(error)) *Online { return &Online{sysfs: sysfs, report: report} }

// Run takes into use what is offline now, and what is plugged until ctx ends. What the guest's owner takes offline meanwhile
// stays so.
func (o *Online) Run(ctx context.Context) {
	events, err := listen() // before the look: nothing is missed between the two
	if err != nil {
		o.report(fmt.Errorf("hear of CPUs that are plugged: %w", err))
		o.All()
		return
	}
	defer events.Close()                                          //nolint:errcheck // a socket
	stop := context.AfterFunc(ctx, func() { _ = events.Close() }) //nolint:errcheck // as above
	defer stop()
	o.All()
	buf := make([]byte, 16<<10)
	for {
		n, err := events.Read(buf)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, unix.ENOBUFS):
			o.All() // some were lost
		case err != nil:
			o.report(fmt.Errorf("hear of CPUs that are plugged: %w", err))
			return
		default:
			o.event(buf[:n])
		}
	}
}

// All takes into use all that is offline: CPUs, and memory whose blocks do not come online by themselves; those to come do
// then.
func (o *Online) All() {
	cpus, _ := filepath.Glob(filepath.Join(o.sysfs, "devices/system/cpu/cpu[0-9]*/online")) //nolint:errcheck // the pattern is right
	for _, file := range cpus {
		o.write(file, "0", "1")
	}
	o.write(filepath.Join(o.sysfs, "devices/system/memory/auto_online_blocks"), "offline", policy)
	blocks, _ := filepath.Glob(filepath.Join(o.sysfs, "devices/system/memory/memory[0-9]*/state")) //nolint:errcheck // as above
	for _, file := range blocks {
		o.write(file, "offline", policy)
	}
}

// event takes a CPU into use that the kernel tells of.
func (o *Online) event(message []byte) {
	vars := map[string]string{}
	for field := range bytes.SplitSeq(message, []byte{0}) {
		if name, value, is := strings.Cut(string(field), "="); is {
			vars[name] = value
		}
	}
	if vars["ACTION"] == "add" && vars["SUBSYSTEM"] == "cpu" && filepath.IsLocal(strings.TrimPrefix(vars["DEVPATH"], "/")) {
		o.write(filepath.Join(o.sysfs, vars["DEVPATH"], "online"), "0", "1")
	}
}

// write changes a file of the kernel's from one value to another, if it has that.
func (o *Online) write(file, from, to string) {
	has, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) || err == nil && strings.TrimSpace(string(has)) != from {
		return // a kernel without that, or a CPU that cannot be offline
	}
	if err == nil {
		err = os.WriteFile(file, []byte(to), 0)
	}
	if err != nil {
		o.report(fmt.Errorf("bring online: %w", err))
	}
}

// listen opens the kernel's own events.
func listen() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "uevents"), nil
}
