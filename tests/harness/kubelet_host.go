// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// hostFolders are fixed paths of kubelet's, sysctls what it sets for the whole machine.
var (
	hostFolders = []string{"/var/lib/kubelet", "/var/log/containers", "/var/log/pods"}
	sysctls     = map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	}
)

// hideHost keeps what kubelet would do to the machine from it: its fixed folders are a tmpfs, its sysctls are files
// that have kubelet's values. The process must be in a mount namespace of its own.
func hideHost() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	for _, dir := range hostFolders {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as kubelet makes it
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("hide %s: %w", dir, err)
		}
	}
	for name, value := range sysctls {
		file := filepath.Join(hostFolders[0], ".sysctl-"+strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil { //nolint:gosec // QEMU reads some of them
			return err
		}
		if err := unix.Mount(file, filepath.Join("/proc/sys", name), "", unix.MS_BIND, ""); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("hide sysctl %s: %w", name, err)
		}
	}
	// As on a host: what is mounted later is seen by whoever is its slave.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

// unmountBelow unmounts what is left of volumes.
func unmountBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	var errs []error
	for _, mount := range slices.Backward(mounts) {
		errs = append(errs, unix.Unmount(mount.Mountpoint, 0))
	}
	return errors.Join(errs...)
}
