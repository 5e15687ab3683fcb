// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/guest"
	"github.com/vmlet/vmlet/pkg/vm"
)

// podFiles is what a kubelet gives every container.
type podFiles struct {
	t     *testing.T
	host  string
	guest string
}

func newPodFiles(t *testing.T) *podFiles {
	t.Helper()
	p := &podFiles{t: t, host: t.TempDir(), guest: t.TempDir()}
	p.write("etc-hosts", "127.0.0.1 localhost\n")
	p.write("termination-log", "")
	p.token("v1", "first")
	return p
}

func (p *podFiles) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *podFiles) write(name, content string) {
	p.t.Helper()
	path := filepath.Join(p.host, name)
	p.must(os.MkdirAll(filepath.Dir(path), 0o755))
	p.must(os.WriteFile(path, []byte(content), 0o644))
}

// token swaps the token as kubelet's atomic writer does.
func (p *podFiles) token(version, content string) {
	p.t.Helper()
	dir := filepath.Join(p.host, "token")
	for _, key := range []string{"token", "ca.crt", "namespace"} {
		p.write(filepath.Join("token", ".."+version, key), content)
		if err := os.Symlink("..data/"+key, filepath.Join(dir, key)); !errors.Is(err, os.ErrExist) {
			p.must(err)
		}
	}
	p.must(os.Symlink(".."+version, dir+"/..data_tmp"))
	p.must(os.Rename(dir+"/..data_tmp", dir+"/..data"))
}

func (p *podFiles) trees() []vm.FileTree {
	return []vm.FileTree{
		{HostPath: p.host + "/etc-hosts", GuestPath: p.guest + "/etc/hosts"},
		{HostPath: p.host + "/termination-log", GuestPath: p.guest + "/dev/termination-log"},
		{HostPath: p.host + "/token", GuestPath: p.guest + "/var/run/token", Directory: true, ReadOnly: true},
	}
}

// eventually waits for a file's content and tells how long that took.
func (p *podFiles) eventually(path, content string) time.Duration {
	p.t.Helper()
	began := time.Now()
	for {
		text, err := os.ReadFile(path)
		if err == nil && string(text) == content {
			return time.Since(began)
		}
		if time.Since(began) > 10*time.Second {
			p.t.Fatalf("%s is %q, %v; want %q", path, text, err, content)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAPodsFilesAreKeptInStepBothWays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the agent is root")
	}
	g, p := newGuest(t), newPodFiles(t)
	host := guest.New(noQGA{}, func(id string) string { return filepath.Join(g.dir, id) })
	host.Connect("answering")
	_, err := host.AwaitAgent(t.Context(), "answering")
	p.must(err)
	began := time.Now()
	p.must(host.KeepFiles(t.Context(), "answering", "", p.trees()))
	t.Logf("copied in %s", time.Since(began))
	defer func() {
		host.Disconnect("answering")
		for _, tree := range p.trees() {
			p.must(unix.Unmount(tree.GuestPath, unix.MNT_DETACH))
		}
	}()
	p.eventually(p.guest+"/etc/hosts", "127.0.0.1 localhost\n")
	if err := os.WriteFile(p.guest+"/var/run/token/token", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("write the token: %v", err)
	}
	p.token("v2", "second")
	t.Logf("a token is refreshed after %s", p.eventually(p.guest+"/var/run/token/token", "second"))
	p.write("etc-hosts", "127.0.0.1 other\n")
	t.Logf("a file is refreshed after %s", p.eventually(p.guest+"/etc/hosts", "127.0.0.1 other\n"))
	p.must(os.WriteFile(p.guest+"/dev/termination-log", []byte("farewell"), 0o644))
	t.Logf("the guest's change is on the host after %s", p.eventually(p.host+"/termination-log", "farewell"))

	g.hangUp()
	p.must(os.WriteFile(p.guest+"/dev/termination-log", []byte("written alone"), 0o644))
	p.token("v3", "third")
	p.eventually(p.host+"/termination-log", "written alone")
	p.eventually(p.guest+"/var/run/token/token", "third")

	p.must(os.WriteFile(p.guest+"/dev/termination-log", []byte("last words"), 0o644))
	began = time.Now()
	p.must(host.FetchFiles(t.Context(), "answering"))
	t.Logf("fetched in %s", time.Since(began))
	if text, err := os.ReadFile(p.host + "/termination-log"); string(text) != "last words" {
		t.Errorf("the host has %q, %v", text, err)
	}
}

// A vmlet that is started again finds what the guest has written meanwhile, and the guest
// gets what the host has.
func TestARestartedHostTakesOver(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the agent is root")
	}
	g, p := newGuest(t), newPodFiles(t)
	for _, last := range []bool{false, true} {
		host := guest.New(noQGA{}, func(id string) string { return filepath.Join(g.dir, id) })
		host.Connect("answering")
		p.must(host.KeepFiles(t.Context(), "answering", "", p.trees()))
		if last {
			p.eventually(p.host+"/termination-log", "farewell")
			p.eventually(p.guest+"/etc/hosts", "the host's\n")
			p.eventually(p.guest+"/var/run/token/token", "second")
		}
		host.Disconnect("answering")
		p.must(os.WriteFile(p.guest+"/dev/termination-log", []byte("farewell"), 0o644))
		p.write("etc-hosts", "the host's\n")
		p.token("v2", "second")
	}
	for _, tree := range p.trees() {
		p.must(unix.Unmount(tree.GuestPath, unix.MNT_DETACH))
	}
}
