// SPDX-License-Identifier: Apache-2.0

package lifecycletest_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestFakeStoreKeepsTheContract(t *testing.T) {
	lifecycletest.RunStore(t, func(*testing.T) lifecycletest.OpenedStore {
		return lifecycletest.NewStore().Store
	})
}

func TestFakeStoreFailsAtTheScriptedStep(t *testing.T) {
	s := lifecycletest.NewStore()
	full := errors.New("disk full")
	s.FailNext("Sandboxes.Update/ready", full)
	if err := s.Sandboxes.Create("a", vm.Sandbox{ID: "a"}, "creating"); err != nil {
		t.Fatal(err)
	}
	change := func(v vm.Sandbox) (vm.Sandbox, error) {
		v.Spec.Attempt++
		return v, nil
	}
	if _, err := s.Sandboxes.Update("a", "other", change); err != nil {
		t.Error(err)
	}
	if _, err := s.Sandboxes.Update("a", "ready", change); !errors.Is(err, full) {
		t.Errorf("error = %v, want the scripted one", err)
	}
	if got, err := s.Sandboxes.Get("a"); err != nil || got.Spec.Attempt != 1 {
		t.Errorf("attempt = %d, %v; want 1: the failed update has no effect", got.Spec.Attempt, err)
	}
	want := []string{"Sandboxes.Create/creating a", "Sandboxes.Update/other a", "Sandboxes.Update/ready a"}
	if diff := cmp.Diff(want, s.Calls()); diff != "" {
		t.Error(diff)
	}
}
