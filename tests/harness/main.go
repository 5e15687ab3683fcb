// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// insideVar marks the process that runs in the network namespace of the tests.
const insideVar = "VMLET_TEST_INSIDE"

// Main runs a package's tests: once more this same binary, in a network namespace of its
// own, so that bridges, addresses and rules of the tests are not the machine's. It exits.
func Main(m *testing.M) {
	if os.Getenv(insideVar) == "" {
		os.Exit(runInside(syscall.CLONE_NEWNET))
	}
	os.Exit(runTests(m))
}

// MainWithKubelet is Main for tests that start a Kubelet: in a mount namespace of its own as
// well, since kubelet has fixed paths and sets sysctls.
func MainWithKubelet(m *testing.M) {
	if os.Getenv(insideVar) == "" {
		os.Exit(runInside(syscall.CLONE_NEWNET | syscall.CLONE_NEWNS))
	}
	if err := hideHost(); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		os.Exit(1)
	}
	os.Exit(runTests(m))
}

func runInside(namespaces uintptr) int {
	cmd := exec.Command(os.Args[0], os.Args[1:]...) //nolint:noctx // this very binary, for as long as it takes
	cmd.Env = append(os.Environ(), insideVar+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGTERM}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "harness: these tests need root:", err)
	return 1
}

func runTests(m *testing.M) int {
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	status := m.Run()
	if err := tearDown(); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return max(status, 1)
	}
	return status
}

// the is the environment that all tests of the binary share.
var the struct {
	repo string
	// run is on a tmpfs, lib on a disk that QEMU's user can reach.
	run, lib string
	uri      string
	registry *Registry
}

func setUp() (err error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	if the.repo, err = findRepo(); err != nil {
		return err
	}
	if the.run, err = os.MkdirTemp("/run", "vmlet-test-"); err != nil {
		return err
	}
	if the.lib, err = os.MkdirTemp("/var/lib", "vmlet-test-"); err != nil {
		return err
	}
	for _, dir := range []string{the.run, the.lib} {
		if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // QEMU's user passes through
			return err
		}
	}
	if the.uri, err = libvirtd("start"); err != nil {
		return err
	}
	the.registry, err = startRegistry()
	return err
}

func tearDown() error {
	the.registry.Close()
	_, err := libvirtd("stop")
	return errors.Join(err, unshareFolders(), makeMutable(), os.RemoveAll(the.run), os.RemoveAll(the.lib))
}

// unshareFolders unmounts the nodes' folders of network namespaces, which a node shares
// with itself for as long as the host is up.
func unshareFolders() error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(the.run))
	if err != nil {
		return err
	}
	var errs []error
	for _, mount := range slices.Backward(mounts) {
		errs = append(errs, unix.Unmount(mount.Mountpoint, 0))
	}
	return errors.Join(errs...)
}

// makeMutable takes the immutable flag off images, so that they can be removed.
func makeMutable() error {
	out, err := exec.Command("chattr", "-R", "-f", "-i", the.lib).CombinedOutput() //nolint:noctx // our own folder
	if err != nil && len(out) > 0 {
		return fmt.Errorf("chattr: %w: %s", err, out)
	}
	return nil
}

// findRepo finds the top of the checkout: tests run in their package's folder.
func findRepo() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no go.mod above the working folder")
}

// Bin is the path of a program that `make` built, such as "vmlet" or "crictl".
func Bin(name string) string { return filepath.Join(the.repo, "bin", name) }

// Repo is the top of the checkout.
func Repo() string { return the.repo }

// URI is the private libvirtd's.
func URI() string { return the.uri }
