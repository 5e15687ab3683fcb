// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// Config is what a Hypervisor needs to know.
type Config struct {
	// URI of the libvirt daemon, such as "qemu:///system".
	URI string
	// Owner is the mark that our domains carry.
	Owner string
	// LogDir is the folder where libvirt writes QEMU's log of each domain, as we see it:
	// "/var/log/libvirt/qemu" unless libvirtd has a mount namespace of its own.
	LogDir string
	// ProcRoot is where procfs with the QEMU processes is mounted; "" is "/proc".
	ProcRoot string
	// ShareSocket is the path of a unix socket for a sandbox: where QEMU finds a new
	// virtiofsd. Without it ReplugShare is not implemented.
	ShareSocket func(id string) string
	// Observe, if set, is told of every call to libvirt when it ends: what it was for, how
	// long it took in libvirt, and its error. It is called from many goroutines and must
	// not block.
	Observe func(operation string, took time.Duration, err error)
}

func (c Config) withDefaults() (Config, error) {
	for _, required := range []struct{ key, value string }{
		{"URI", c.URI}, {"Owner", c.Owner}, {"LogDir", c.LogDir},
	} {
		if required.value == "" {
			return c, fmt.Errorf("libvirt: %s is not set: %w", required.key, errdefs.ErrInvalidArgument)
		}
	}
	if c.ProcRoot == "" {
		c.ProcRoot = "/proc"
	}
	if c.Observe == nil {
		c.Observe = func(string, time.Duration, error) {}
	}
	return c, nil
}
