// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/paths"
)

// rename is a made-up migration: the pod's name gets a suffix.
func rename(suffix string) migration {
	return migration{
		name: "suffix " + suffix,
		record: func(collection string, old json.RawMessage) (json.RawMessage, error) {
			if collection != sandboxes {
				return old, nil
			}
			return bytes.Replace(old, []byte(`"name":"pod-a`), []byte(`"name":"pod-a`+suffix), 1), nil
		},
	}
}

func openMigrated(t *testing.T, n paths.Node, steps ...migration) (*Store, error) {
	t.Helper()
	s, err := open(t.Context(), n, Options{NoSync: true}, steps)
	if err == nil {
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return s, err
}

// nodeOfVersion1 returns a closed store with the sandbox "a".
func nodeOfVersion1(t *testing.T) (n paths.Node, owner string) {
	t.Helper()
	n = node(t)
	s, err := openMigrated(t, n)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sandboxes().Create("a", sandbox("a", time.Now()), "create"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return n, s.Owner()
}

func TestMigrationsRunInOrderAndOnce(t *testing.T) {
	n, owner := nodeOfVersion1(t)
	for range 2 {
		s, err := openMigrated(t, n, rename("-two"), rename("-three"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Sandboxes().Get("a")
		if err != nil || got.Spec.Name != "pod-a-three-two" || s.Owner() != owner {
			t.Errorf("name = %q, owner %s, %v; want both migrations applied once, owner %s", got.Spec.Name, s.Owner(), err, owner)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestANewFileNeedsNoMigration(t *testing.T) {
	refuse := migration{name: "refuse", record: func(string, json.RawMessage) (json.RawMessage, error) {
		return nil, errors.New("called")
	}}
	n := node(t)
	for range 2 {
		s, err := openMigrated(t, n, refuse)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Sandboxes().Create("a", sandbox("a", time.Now()), "create") //nolint:errcheck // there the second time
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFailedMigrationChangesNothing(t *testing.T) {
	n, _ := nodeOfVersion1(t)
	cause := errors.New("cannot")
	_, err := openMigrated(t, n, rename("-two"), migration{
		name:   "impossible",
		record: func(string, json.RawMessage) (json.RawMessage, error) { return nil, cause },
	})
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "version 2 (impossible): record a") {
		t.Errorf("error = %v, want the cause, the step and the record", err)
	}
	s, err := openMigrated(t, n)
	if err != nil {
		t.Fatalf("the old version does not open any more: %v", err)
	}
	if got, err := s.Sandboxes().Get("a"); err != nil || got.Spec.Name != "pod-a" {
		t.Errorf("name = %q, %v; want it as it was", got.Spec.Name, err)
	}
}

func TestANewerFileIsRefused(t *testing.T) {
	n := node(t) // without a record: the file's own version is what counts
	s, err := openMigrated(t, n, rename("-two"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = openMigrated(t, n)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "schema version 2") {
		t.Errorf("error = %v, want FailedPrecondition with the version", err)
	}
}

func TestANewerRecordIsRefused(t *testing.T) {
	n := node(t)
	plant(t, n, fmt.Sprintf(`{"v":%d,"record":{}}`, len(migrations)+2))
	_, err := Open(t.Context(), n, Options{NoSync: true})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), `sandboxes "planted"`) {
		t.Errorf("error = %v, want FailedPrecondition that names the record", err)
	}
}
