// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestMountsAreCopiedOrSharedBeforeTheCommandStarts(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	hosts, secret, data := filepath.Join(dir, "hosts"), filepath.Join(dir, "secret"), filepath.Join(dir, "data")
	mustWrite(t, hosts, 10)
	if err := errors.Join(os.MkdirAll(data, 0o755), os.MkdirAll(filepath.Join(secret, "..2026"), 0o755), os.Symlink("..2026", filepath.Join(secret, "..data"))); err != nil {
		t.Fatal(err)
	}
	spec := commandSpec()
	spec.Mounts = []vm.Mount{
		{ContainerPath: "/etc/hosts", HostPath: hosts},
		{ContainerPath: "/run/secrets/a", HostPath: secret, ReadOnly: true},
		{ContainerPath: "/data", HostPath: data},
	}
	sb, c := w.started("a", spec)
	m := w.mainRuns(sb, c)
	_, files, shares := w.guest.Prepared(sb)
	if len(files) != 2 || len(shares) != 1 || shares[0].Source == "" || shares[0].GuestPath != "/data" {
		t.Errorf("%s has files %+v, shares %+v", m.ID, files, shares)
	}
	machine, _ := w.hypervisor.Machine(sb)
	if machine.Share != w.node.Share(sb) {
		t.Errorf("share = %q", machine.Share)
	}
	calls := w.guest.Calls()
	order := []int{slices.Index(calls, "MountShares "+sb), slices.Index(calls, "KeepFiles "+sb), slices.Index(calls, "StartMain "+sb)}
	if !slices.IsSorted(order) || order[0] < 0 {
		t.Errorf("calls = %v", calls)
	}
	w.guest.EndMain(sb, vm.MainExit{})
	w.exit(c)
	calls = w.guest.Calls()
	if fetch, ack := slices.Index(calls, "FetchFiles "+sb), slices.Index(calls, "AckMain "+sb); fetch < 0 || fetch > ack {
		t.Errorf("calls = %v", calls)
	}
	if err := w.svc.StopSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	if _, there := w.shares.Tree(sb); there {
		t.Error("a stopped sandbox still shares")
	}
}

func TestTheNextContainerSharesOnlyItsOwn(t *testing.T) {
	w := newWorld(t)
	spec := containerSpec(0)
	spec.Mounts = []vm.Mount{{ContainerPath: "/data", HostPath: t.TempDir()}}
	sb, c := w.started("a", spec)
	w.hypervisor.PowerOff(sb)
	w.exit(c)
	w.created(sb, 1)
	if tree, there := w.shares.Tree(sb); there {
		t.Errorf("it shares %+v", tree)
	}
}

func TestSharesThatCannotBeMadeLeaveNothing(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	spec := containerSpec(0)
	spec.Mounts = []vm.Mount{{ContainerPath: "/data", HostPath: t.TempDir()}}
	w.shares.FailNext("Create", errdefs.ErrResourceExhausted)
	_, err := w.svc.CreateContainer(t.Context(), sb, spec)
	mustBe(t, err, errdefs.ErrResourceExhausted)
	if files := w.disks.Files(); len(files) != 0 {
		t.Errorf("files left: %v", files)
	}
	if _, there := w.shares.Tree(sb); there {
		t.Error("a tree is left")
	}
}

func TestTreesWithoutASandboxAreTakenDown(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	spec := containerSpec(0)
	spec.Mounts = []vm.Mount{{ContainerPath: "/data", HostPath: dir}}
	sb, _ := w.started("a", spec)
	if _, err := w.shares.Create(t.Context(), "0123456789abcdef0123456789abcdef", []vm.ShareMount{{HostPath: dir, GuestPath: "/x"}}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	ids, err := w.shares.List(t.Context())
	if err != nil || !slices.Equal(ids, []string{sb}) {
		t.Errorf("trees of %v, %v; want that of %s", ids, err, sb)
	}
}

func mustWrite(t *testing.T, path string, size int) {
	t.Helper()
	if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestACreateThatFailsAfterItsSharesLeavesNone(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	spec := containerSpec(0)
	spec.Mounts = []vm.Mount{{ContainerPath: "/data", HostPath: t.TempDir()}}
	w.hypervisor.FailNext("Define", errdefs.ErrResourceExhausted)
	_, err := w.svc.CreateContainer(t.Context(), sb, spec)
	mustBe(t, err, errdefs.ErrResourceExhausted)
	if tree, there := w.shares.Tree(sb); there {
		t.Errorf("it still shares %+v", tree)
	}
}
