// SPDX-License-Identifier: Apache-2.0

//nolint:thelper // these are the tests themselves: a failure is where it is found
package lifecycletest

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// SharesEnv is a lifecycle.Shares under test, with host paths to share.
type SharesEnv struct {
	Shares lifecycle.Shares
	// Folder and File make a host folder, or file, and return its path.
	Folder, File func(name string) string
	// Missing is a host path where nothing is.
	Missing string
}

// shareID is the sandbox that the contract's shares belong to.
const shareID = "0123456789abcdef0123456789abcdef"

// RunShares is the contract of lifecycle.Shares. open returns a new environment.
func RunShares(t *testing.T, open func(t *testing.T) SharesEnv) {
	t.Helper()
	for name, run := range map[string]func(*testing.T, SharesEnv){
		"every mount gets a place of its own":      everyMountHasItsPlace,
		"creating twice gives the same places":     createShareIsIdempotent,
		"a sandbox without mounts has a tree too":  shareWithoutMounts,
		"a missing host path leaves nothing":       missingHostPath,
		"other mounts replace those that were":     otherMountsReplace,
		"shares are listed until they are removed": sharesAreListed,
		"removing what is not there succeeds":      removeNoShare,
		"an ended context makes no share":          endedContextMakesNoShare,
	} {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
}

func mustCreateShare(t *testing.T, env SharesEnv, id string, mounts []vm.ShareMount) []vm.ShareMount {
	t.Helper()
	placed, err := env.Shares.Create(t.Context(), id, mounts)
	if err != nil {
		t.Fatal(err)
	}
	return placed
}

func mustListShares(t *testing.T, env SharesEnv) []string {
	t.Helper()
	ids, err := env.Shares.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

func mustRemoveShare(t *testing.T, env SharesEnv, id string) {
	t.Helper()
	if err := env.Shares.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func everyMountHasItsPlace(t *testing.T, env SharesEnv) {
	mounts := []vm.ShareMount{
		{HostPath: env.Folder("data"), GuestPath: "/data"},
		{HostPath: env.Folder("data"), GuestPath: "/again", ReadOnly: true},
		{HostPath: env.File("config"), GuestPath: "/etc/config", ReadOnly: true},
	}
	asked := slices.Clone(mounts)
	placed := mustCreateShare(t, env, shareID, mounts)
	if !slices.Equal(mounts, asked) {
		t.Error("the caller's mounts were changed")
	}
	seen := map[string]bool{}
	for i, m := range placed {
		if m.Source == "" || filepath.IsAbs(m.Source) || strings.Contains(m.Source, "..") || seen[m.Source] {
			t.Errorf("mount %d is at %q", i, m.Source)
		}
		seen[m.Source] = true
		m.Source = ""
		if m != mounts[i] {
			t.Errorf("mount %d came back as %+v", i, m)
		}
	}
	if len(placed) != len(mounts) {
		t.Errorf("%d mounts came back, want %d", len(placed), len(mounts))
	}
}

func createShareIsIdempotent(t *testing.T, env SharesEnv) {
	mounts := []vm.ShareMount{{HostPath: env.Folder("data"), GuestPath: "/data"}}
	first := mustCreateShare(t, env, shareID, mounts)
	if again := mustCreateShare(t, env, shareID, mounts); !slices.Equal(first, again) {
		t.Errorf("first %+v, then %+v", first, again)
	}
}

func shareWithoutMounts(t *testing.T, env SharesEnv) {
	if placed := mustCreateShare(t, env, shareID, nil); len(placed) != 0 {
		t.Errorf("got %+v", placed)
	}
	mustRemoveShare(t, env, shareID)
}

func missingHostPath(t *testing.T, env SharesEnv) {
	_, err := env.Shares.Create(t.Context(), shareID, []vm.ShareMount{
		{HostPath: env.Folder("data"), GuestPath: "/data"},
		{HostPath: env.Missing, GuestPath: "/wanted"},
	})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), env.Missing) || !strings.Contains(err.Error(), "/wanted") {
		t.Errorf("got %v, want FailedPrecondition with both paths", err)
	}
	if ids := mustListShares(t, env); len(ids) != 0 {
		t.Errorf("left are %v", ids)
	}
}

func otherMountsReplace(t *testing.T, env SharesEnv) {
	first := mustCreateShare(t, env, shareID, []vm.ShareMount{{HostPath: env.Folder("one"), GuestPath: "/data"}})
	second := mustCreateShare(t, env, shareID, []vm.ShareMount{{HostPath: env.Folder("two"), GuestPath: "/data"}})
	if first[0].Source == second[0].Source {
		t.Error("another mount has the place of the first")
	}
}

func sharesAreListed(t *testing.T, env SharesEnv) {
	if ids := mustListShares(t, env); len(ids) != 0 {
		t.Errorf("before there are %v", ids)
	}
	mounts := []vm.ShareMount{{HostPath: env.Folder("data"), GuestPath: "/data"}}
	const other = "fedcba9876543210fedcba9876543210"
	mustCreateShare(t, env, shareID, mounts)
	mustCreateShare(t, env, other, mounts)
	if ids := mustListShares(t, env); !slices.Equal(ids, []string{shareID, other}) {
		t.Errorf("got %v", ids)
	}
	mustRemoveShare(t, env, shareID)
	if ids := mustListShares(t, env); !slices.Equal(ids, []string{other}) {
		t.Errorf("got %v", ids)
	}
	mustRemoveShare(t, env, other)
}

func removeNoShare(t *testing.T, env SharesEnv) {
	mustRemoveShare(t, env, shareID)
	mustCreateShare(t, env, shareID, []vm.ShareMount{{HostPath: env.File("f"), GuestPath: "/f"}})
	mustRemoveShare(t, env, shareID)
	mustRemoveShare(t, env, shareID)
}

func endedContextMakesNoShare(t *testing.T, env SharesEnv) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := env.Shares.Create(ctx, shareID, []vm.ShareMount{{HostPath: env.Folder("d"), GuestPath: "/d"}}); err == nil {
		t.Error("it was made")
	}
	if ids := mustListShares(t, env); len(ids) != 0 {
		t.Errorf("left are %v", ids)
	}
}
