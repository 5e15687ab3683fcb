// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"path/filepath"
	"testing"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/store"
)

func TestStoreKeepsTheContract(t *testing.T) {
	lifecycletest.RunStore(t, func(t *testing.T) lifecycletest.OpenedStore {
		t.Helper()
		s, err := store.Open(t.Context(), paths.Node{Root: filepath.Join(t.TempDir(), "root")}, store.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return lifecycletest.OpenedStore{Owner: s.Owner(), Sandboxes: s.Sandboxes(), Containers: s.Containers(), Disks: s.Disks()}
	})
}
