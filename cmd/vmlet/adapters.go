// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/cgroup"
	"github.com/vmlet/vmlet/pkg/config"
	"github.com/vmlet/vmlet/pkg/disk"
	"github.com/vmlet/vmlet/pkg/guest"
	"github.com/vmlet/vmlet/pkg/image"
	"github.com/vmlet/vmlet/pkg/libvirt"
	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/network"
	"github.com/vmlet/vmlet/pkg/qemuconf"
	"github.com/vmlet/vmlet/pkg/share"
	"github.com/vmlet/vmlet/pkg/store"
	"github.com/vmlet/vmlet/pkg/stream"
)

// undoTime bounds a CNI DEL: it is also an undo, and must end within revert.Timeout.
const undoTime = 20 * time.Second

// adapters are the real parts of the world.
type adapters struct {
	store      *store.Store
	hypervisor *libvirt.Hypervisor
	guest      *guest.Guest
	network    *network.Network
	images     *image.Store
	disks      *disk.Disks
	shares     *share.Shares
	cgroups    *cgroup.Cgroups
	consoles   *stream.Consoles

	libvirtCgroups bool
	// closers run last first.
	closers []func() error
}

// openAdapters opens all of them; the store first, since its lock is what keeps a second
// vmlet from the same root.
func openAdapters(ctx context.Context, c config.Config, registry prometheus.Registerer) (_ *adapters, err error) {
	a := &adapters{}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	if err := makeFolders(c); err != nil {
		return nil, err
	}
	if a.store, err = store.Open(ctx, nodePaths(c), store.Options{}); err != nil {
		return nil, err
	}
	a.closers = append(a.closers, a.store.Close)
	if a.libvirtCgroups, err = libvirtOwnsCgroups(ctx, c); err != nil {
		return nil, err
	}
	a.hypervisor, err = libvirt.New(ctx, libvirt.Config{
		URI: c.Libvirt.URI, Owner: a.store.Owner(), LogDir: c.Libvirt.LogDir, ShareSocket: nodePaths(c).ShareSocket,
		Observe: observer(registry, "vmlet_libvirt_call_duration_seconds", "Calls to libvirt, by outcome."),
	})
	if err != nil {
		return nil, err
	}
	a.closers = append(a.closers, a.hypervisor.Close)
	a.guest = guest.New(a.hypervisor.Agent(), nodePaths(c).AgentSocket)
	a.network, err = network.New(network.Config{ConfDir: c.CNI.ConfDir, BinDirs: c.CNI.BinDirs, Paths: nodePaths(c), AddTimeout: c.CNI.Timeout, DelTimeout: min(c.CNI.Timeout, undoTime)})
	if err != nil {
		return nil, err
	}
	a.closers = append(a.closers, func() error { a.network.Close(); return nil })
	err = a.openFiles(ctx, c)
	return a, err
}

// openFiles opens the adapters that keep files.
func (a *adapters) openFiles(ctx context.Context, c config.Config) (err error) {
	var found []string
	a.images, found, err = image.Open(ctx, image.Config{
		Dir: nodePaths(c).Images(), Aliases: aliasesOf(c), Insecure: c.Images.InsecureRegistries,
		MaxDiskSize: int64(c.Images.MaxVirtualSize), Immutable: true,
	})
	if err != nil {
		return err
	}
	a.closers = append(a.closers, func() error { a.images.Close(); return nil })
	for _, f := range found {
		log.From(ctx).Warn("image store", zap.String("found", f))
	}
	if a.disks, err = disk.New(disk.Config{Paths: nodePaths(c), User: c.QEMU.User, Group: c.QEMU.Group, Allowed: c.Disks.AllowedPaths, Checkpoints: c.Checkpoints.AllowedPaths}); err != nil {
		return err
	}
	a.shares = share.New(nodePaths(c))
	if !a.libvirtCgroups {
		if a.cgroups, err = cgroup.New(cgroup.Config{Driver: c.CgroupDriver}); err != nil {
			return err
		}
	}
	a.consoles = stream.NewConsoles(stream.ConsoleOptions{
		SpoolCap: int64(c.Console.SpoolLimit),
		OnError: func(containerID string, err error) {
			if err == nil {
				log.From(ctx).Info("the console's log is written again", zap.String("container", containerID))
				return
			}
			log.From(ctx).Warn("the console's log cannot be written; the spool keeps what comes", zap.String("container", containerID), zap.Error(err))
		},
	})
	a.closers = append(a.closers, a.consoles.Close)
	return nil
}

func (a *adapters) close() error {
	var errs []error
	for _, c := range slices.Backward(a.closers) {
		errs = append(errs, c())
	}
	a.closers = nil
	return errors.Join(errs...)
}

// makeFolders makes the two folders, and that of the sockets which libvirt makes. QEMU's
// user passes through root, and sees nothing.
func makeFolders(c config.Config) error {
	sockets := filepath.Dir(nodePaths(c).AgentSocket(""))
	for _, dir := range []string{c.Root, c.State, sockets} {
		mode := os.FileMode(0o700)
		if dir == c.Root {
			mode = 0o711
		}
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make the folder %s: %w", dir, err)
		}
	}
	return nil
}

// libvirtOwnsCgroups decides who owns QEMU's cgroups: they cannot be shared.
func libvirtOwnsCgroups(ctx context.Context, c config.Config) (bool, error) {
	if c.Cgroups == "libvirt" {
		return true, nil
	}
	s, err := qemuconf.Read(c.Libvirt.QEMUConf)
	switch {
	case err == nil && s.CgroupsOff:
		return false, nil
	case c.Cgroups == "pod" && err != nil:
		log.From(ctx).Warn("whether libvirt's own cgroups are off is not known; cgroups: pod is taken at its word", zap.Error(err))
		return false, nil
	case c.Cgroups == "pod":
		return false, fmt.Errorf("cgroups is pod, but libvirt's own cgroups are on: set cgroup_controllers = [] in %s and restart libvirtd", c.Libvirt.QEMUConf)
	}
	log.From(ctx).Warn("libvirt owns QEMU's cgroups, so a pod's own group does not count its VM; `vmlet doctor` says how to change that")
	return true, nil
}
