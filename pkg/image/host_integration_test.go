// SPDX-License-Identifier: Apache-2.0

//go:build integration

package image

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// tmpfs mounts a file system of so many bytes.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	must0(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { must0(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

func TestAFullDiskEndsAPullAndLeavesNothing(t *testing.T) {
	dir := filepath.Join(tmpfs(t, "3M"), "images")
	s := openStore(t, func(c *Config) { c.Dir = dir })
	reg := newRegistry(t)
	disk := rawDisk(1, 5*mib)
	zeros := append(rawDisk(2, mib), make([]byte, 16*mib)...)
	for name, img := range map[string]string{
		"a disk layer":         reg.push("vms/test:1", artifact(t, rawType, disk)),
		"a packed disk layer":  reg.push("vms/test:2", artifact(t, rawType+"+zstd", zstdOf(t, disk))),
		"a disk among files":   reg.push("vms/test:3", containerDisk(t, s.arch, tarball(t, "disk/x", string(disk)))),
		"a qcow2 disk, packed": reg.push("vms/test:4", artifact(t, "application/vnd.vmlet.disk.qcow2.v1+gzip", gzipOf(t, qcow2Disk(1, mib, 5*mib)))),
	} {
		_, err := s.Pull(t.Context(), img, vm.RegistryAuth{}, nil)
		if !errdefs.IsResourceExhausted(err) {
			t.Errorf("%s: got %v, want ResourceExhausted", name, err)
		}
		wantFiles(t, s, "blobs 0, records 0, parts 0")
	}
	if _, err := s.Import(t.Context(), "x", bytes.NewReader(disk), nil); !errdefs.IsResourceExhausted(err) {
		t.Errorf("import: got %v, want ResourceExhausted", err)
	}
	wantFiles(t, s, "blobs 0, records 0, parts 0")
	// What is mostly zeros fits.
	wantDisk(t, pullOK(t, s, reg.push("vms/test:5", artifact(t, rawType+"+gzip", gzipOf(t, zeros)))), zeros, vm.FormatRaw, int64(len(zeros)))
}

func TestARecordThatFindsNoRoomLeavesNoDisk(t *testing.T) {
	dir := tmpfs(t, "4M")
	s := openStore(t, func(c *Config) { c.Dir = filepath.Join(dir, "images") })
	// The disk fits with one page to spare, which the filler then takes.
	ready, goOn := make(chan struct{}), make(chan struct{})
	go func() {
		<-ready
		f := must(os.Create(filepath.Join(dir, "filler")))(t)
		for {
			if _, err := f.Write(make([]byte, 4096)); err != nil {
				break
			}
		}
		must0(t, f.Close())
		close(goOn)
	}()
	disk := rawDisk(1, mib)
	source := io.MultiReader(bytes.NewReader(disk), readerFunc(func([]byte) (int, error) {
		close(ready)
		<-goOn
		return 0, io.EOF
	}))
	_, err := s.Import(t.Context(), "x", source, nil)
	if !errdefs.IsResourceExhausted(err) {
		t.Errorf("got %v, want ResourceExhausted", err)
	}
	wantFiles(t, s, "blobs 0, records 0, parts 0")
	if all := must(s.List(t.Context()))(t); len(all) != 0 {
		t.Errorf("listed: %v", all)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// worldFolder is a folder that all users may walk through.
func worldFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must0(t, os.Chmod(filepath.Dir(dir), 0o711))
	return dir
}

// as runs a command as a user other than root.
func as(t *testing.T, uid uint32, command ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// qemuUID is an ordinary user, as QEMU's is.
const qemuUID = 64055

func TestQEMUsUserMayReadADiskAndNothingElse(t *testing.T) {
	s := openStore(t, func(c *Config) { c.Dir = filepath.Join(worldFolder(t), "images") })
	img := importOK(t, s, "x", rawDisk(1, mib))
	if out, err := as(t, qemuUID, "qemu-img", "info", "-f", "raw", img.Path); err != nil {
		t.Errorf("reading: %v %s", err, out)
	}
	for _, command := range [][]string{
		{"sh", "-c", "echo x >> " + img.Path},
		{"rm", "-f", img.Path},
		{"mv", img.Path, img.Path + "x"},
		{"touch", filepath.Join(s.layout.blobs(), "new")},
		{"ls", s.layout.blobs()},
		{"ls", s.layout.records()},
		{"cat", s.layout.record(img.ID)},
		{"ls", s.cfg.Dir},
		{"chmod", "666", img.Path},
	} {
		if out, err := as(t, qemuUID, command...); err == nil {
			t.Errorf("%s went through: %s", strings.Join(command, " "), out)
		}
	}
}

// flagsWork tells whether files in a folder can be made immutable here.
func flagsWork(t *testing.T, dir string) bool {
	t.Helper()
	path := filepath.Join(dir, "probe")
	must0(t, os.WriteFile(path, nil, 0o600))
	must0(t, setImmutable(path, true))
	err := os.Remove(path)
	must0(t, setImmutable(path, false))
	must0(t, removeIfThere(path))
	return errors.Is(err, unix.EPERM)
}

func TestNotEvenRootChangesAnImmutableDisk(t *testing.T) {
	dir := t.TempDir()
	if !flagsWork(t, dir) {
		t.Skip("this file system, or this process, cannot set the immutable flag")
	}
	cfg := Config{Dir: filepath.Join(dir, "images"), Immutable: true}
	s := reopen(t, cfg)
	disk := qcow2Disk(1, mib, 0)
	img := importOK(t, s, "x", disk)
	t.Cleanup(func() {
		if err := setImmutable(img.Path, false); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	attempts := map[string]func() error{
		"write":    func() error { return os.WriteFile(img.Path, []byte("x"), 0o600) },
		"truncate": func() error { return os.Truncate(img.Path, 0) },
		"chown":    func() error { return os.Chown(img.Path, qemuUID, qemuUID) },
		"chmod":    func() error { return os.Chmod(img.Path, 0o666) },
		"remove":   func() error { return os.Remove(img.Path) },
		"rename":   func() error { return os.Rename(img.Path, img.Path+"x") },
		"link":     func() error { return os.Link(img.Path, img.Path+"x") },
		"replace":  func() error { return os.Rename(s.layout.record(img.ID), img.Path) },
		"commit to": func() error {
			return exec.CommandContext(t.Context(), "qemu-io", "-f", "qcow2", "-c", "write 0 4096", img.Path).Run()
		},
		"relabelling": func() error { return unix.Setxattr(img.Path, "trusted.libvirt.security.dac", []byte("x"), 0) },
	}
	for name, attempt := range attempts {
		if err := attempt(); err == nil {
			t.Errorf("%s: went through", name)
		}
	}
	wantDisk(t, img, disk, vm.FormatQCOW2, mib)
	// It still serves as the base of a disk.
	overlay := filepath.Join(dir, "overlay")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", img.Path, overlay)
	qemuImg(t, "check", "-q", overlay)

	// A crash before the flag was set, or an operator's chattr -i: it is set again.
	must0(t, setImmutable(img.Path, false))
	s.Close()
	again := reopen(t, cfg)
	if err := os.Remove(img.Path); !errors.Is(err, unix.EPERM) {
		t.Errorf("after a restart: %v", err)
	}
	must0(t, again.Remove(t.Context(), "x"))
	wantFiles(t, again, "blobs 0, records 0, parts 0")
}

func TestAnImmutableDiskWithoutARecordIsCleanedUp(t *testing.T) {
	cfg := Config{Dir: filepath.Join(t.TempDir(), "images"), Immutable: true}
	s := reopen(t, cfg)
	img := importOK(t, s, "x", rawDisk(1, mib))
	must0(t, os.Remove(s.layout.record(img.ID)))
	wantFiles(t, reopen(t, cfg), "blobs 0, records 0, parts 0")
}

// TestAKilledPullLeavesAPartThatTheNextStartRemoves is about the real thing: a process
// that is gone in the middle.
func TestAKilledPullLeavesAPartThatTheNextStartRemoves(t *testing.T) {
	if dir := os.Getenv("VMLET_TEST_PULL_INTO"); dir != "" {
		s := reopen(t, Config{Dir: dir})
		pullOK(t, s, os.Getenv("VMLET_TEST_PULL"))
		return
	}
	reg, dir := newRegistry(t), filepath.Join(t.TempDir(), "images")
	disk := rawDisk(1, 4*mib)
	ref := reg.push("vms/test:1", artifact(t, rawType, disk))
	reached := make(chan struct{})
	tell := sync.OnceFunc(func() { close(reached) })
	reg.misbehave(onBlob(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Length", "4194304")
		must2(w.Write(disk[:3*mib]))
		flush(w)
		tell()
		<-req.Context().Done()
	}))
	self := must(os.Executable())(t)
	cmd := exec.CommandContext(t.Context(), self, "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "VMLET_TEST_PULL_INTO="+dir, "VMLET_TEST_PULL="+ref)
	must0(t, cmd.Start())
	<-reached
	// What was sent is written in pieces: the first is on its way.
	for {
		parts, err := os.ReadDir(filepath.Join(dir, "parts"))
		must0(t, err)
		if len(parts) == 1 && must(parts[0].Info())(t).Size() > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	must0(t, cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		t.Fatal("it was not killed")
	}
	s, found, err := Open(t.Context(), Config{Dir: dir})
	must0(t, err)
	defer s.Close()
	wantFiles(t, s, "blobs 0, records 0, parts 0")
	if len(found) != 1 {
		t.Errorf("found %v", found)
	}
}
