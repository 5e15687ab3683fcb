// SPDX-License-Identifier: Apache-2.0

package lifecycletest_test

import (
	"errors"
	"testing"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestFakeSharesKeepTheContract(t *testing.T) {
	lifecycletest.RunShares(t, func(*testing.T) lifecycletest.SharesEnv {
		fake := lifecycletest.NewShares()
		fake.Lose("/host/missing")
		host := func(name string) string { return "/host/" + name }
		return lifecycletest.SharesEnv{Shares: fake, Folder: host, File: host, Missing: "/host/missing"}
	})
}

func TestFakeSharesFailAsPlanned(t *testing.T) {
	fake, broken := lifecycletest.NewShares(), errors.New("broken")
	fake.FailNext("Remove", broken)
	if _, err := fake.Create(t.Context(), "id", []vm.ShareMount{{HostPath: "/a", GuestPath: "/b"}}); err != nil {
		t.Fatal(err)
	}
	if err := fake.Remove(t.Context(), "id"); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if mounts, ok := fake.Tree("id"); !ok || len(mounts) != 1 || mounts[0].Source == "" {
		t.Errorf("after a failed removal: %+v, %t", mounts, ok)
	}
}
