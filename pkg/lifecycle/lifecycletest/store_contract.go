// SPDX-License-Identifier: Apache-2.0

//nolint:thelper // these are the tests themselves: a failure is where it is found
package lifecycletest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// OpenedStore is a lifecycle.Store, under a name for the tests of a package that does
// not know lifecycle.
type OpenedStore = lifecycle.Store

// RunStore is the contract of lifecycle.Store. open returns a new empty store.
func RunStore(t *testing.T, open func(t *testing.T) OpenedStore) {
	t.Helper()
	for name, run := range map[string]func(*testing.T, OpenedStore){
		"the owner is an ID":                         ownerIsAnID,
		"the collections are apart":                  collectionsAreApart,
		"an unknown ID is NotFound":                  unknownIsNotFound,
		"a second create is AlreadyExists":           secondCreateIsRefused,
		"a record needs an ID":                       recordNeedsAnID,
		"update returns and keeps the new value":     updateReturnsAndKeeps,
		"a refused change changes nothing":           refusedChangeChangesNothing,
		"updates of one record follow each other":    updatesFollowEachOther,
		"delete is idempotent":                       deleteIsIdempotent,
		"a deleted ID can be created again":          deletedCanBeCreatedAgain,
		"a list is in the order of creation":         listIsInOrder,
		"a list is the caller's":                     listIsTheCallers,
		"an address is one version of a record":      addressIsOneVersion,
		"the store keeps no map of the caller's":     storeKeepsNoCallersMap,
		"what is read is what a restart would read":  readsAreAsStored,
		"a change may read the store that it is for": changeMayRead,
	} {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
}

// moment is when the records of the contract were created.
var moment = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

func storedSandbox(id string, created time.Time) vm.Sandbox {
	return vm.Sandbox{ID: id, CreatedAt: created, Spec: vm.SandboxSpec{Name: id, Labels: map[string]string{"for": id}}}
}

func mustCreate(t *testing.T, s OpenedStore, v vm.Sandbox) {
	t.Helper()
	if err := s.Sandboxes.Create(v.ID, v, "contract"); err != nil {
		t.Fatal(err)
	}
}

// getA returns the sandbox with the ID "a".
func getA(t *testing.T, s OpenedStore) vm.Sandbox {
	t.Helper()
	v, err := s.Sandboxes.Get("a")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func ids(s OpenedStore) []string {
	var out []string
	for _, v := range s.Sandboxes.List() {
		out = append(out, v.ID)
	}
	return out
}

func countAttempt(v vm.Sandbox) (vm.Sandbox, error) {
	v.Spec.Attempt++
	return v, nil
}

func ownerIsAnID(t *testing.T, s OpenedStore) {
	if len(s.Owner) != 32 {
		t.Errorf("owner = %q, want 32 hex digits", s.Owner)
	}
}

func collectionsAreApart(t *testing.T, s OpenedStore) {
	mustCreate(t, s, storedSandbox("a", moment))
	if err := s.Containers.Create("a", vm.Container{ID: "a"}, "contract"); err != nil {
		t.Error(err)
	}
	if err := s.Disks.Create("a", vm.PersistentDisk{ID: "a"}, "contract"); err != nil {
		t.Error(err)
	}
	if err := s.Sandboxes.Delete("a", "contract"); err != nil {
		t.Error(err)
	}
	if _, err := s.Containers.Get("a"); err != nil {
		t.Error(err)
	}
	if _, err := s.Disks.Get("a"); err != nil {
		t.Error(err)
	}
}

func unknownIsNotFound(t *testing.T, s OpenedStore) {
	if _, err := s.Sandboxes.Get("a"); !errdefs.IsNotFound(err) {
		t.Errorf("Get: error = %v, want NotFound", err)
	}
	if _, err := s.Sandboxes.Update("a", "contract", countAttempt); !errdefs.IsNotFound(err) {
		t.Errorf("Update: error = %v, want NotFound", err)
	}
	if got := s.Sandboxes.List(); len(got) != 0 {
		t.Errorf("List = %v, want none", got)
	}
}

func secondCreateIsRefused(t *testing.T, s OpenedStore) {
	first := storedSandbox("a", moment)
	mustCreate(t, s, first)
	err := s.Sandboxes.Create("a", storedSandbox("a", moment.Add(time.Hour)), "contract")
	if !errdefs.IsAlreadyExists(err) {
		t.Errorf("error = %v, want AlreadyExists", err)
	}
	if diff := cmp.Diff(first, getA(t, s)); diff != "" {
		t.Errorf("the first one changed: %s", diff)
	}
}

func recordNeedsAnID(t *testing.T, s OpenedStore) {
	if err := s.Sandboxes.Create("", vm.Sandbox{}, "contract"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("error = %v, want InvalidArgument", err)
	}
}

func updateReturnsAndKeeps(t *testing.T, s OpenedStore) {
	mustCreate(t, s, storedSandbox("a", moment))
	got, err := s.Sandboxes.Update("a", "contract", countAttempt)
	if err != nil || got.Spec.Attempt != 1 {
		t.Errorf("Update = attempt %d, %v; want 1", got.Spec.Attempt, err)
	}
	if diff := cmp.Diff(got, getA(t, s)); diff != "" {
		t.Error(diff)
	}
}

func refusedChangeChangesNothing(t *testing.T, s OpenedStore) {
	mustCreate(t, s, storedSandbox("a", moment))
	refusal := errors.New("no")
	_, err := s.Sandboxes.Update("a", "contract", func(v vm.Sandbox) (vm.Sandbox, error) {
		v.Spec.Attempt = 9
		return v, refusal
	})
	if err != refusal { //nolint:errorlint // unchanged is what is promised
		t.Errorf("error = %v, want the change's own", err)
	}
	if got := getA(t, s).Spec.Attempt; got != 0 {
		t.Errorf("attempt = %d, want 0", got)
	}
}

func updatesFollowEachOther(t *testing.T, s OpenedStore) {
	const records, writers, times = 3, 4, 10
	var all sync.WaitGroup
	for i := range records {
		id := fmt.Sprint("r", i)
		mustCreate(t, s, storedSandbox(id, moment))
		for range writers {
			all.Go(func() {
				for range times {
					if _, err := s.Sandboxes.Update(id, "contract", countAttempt); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	all.Wait()
	for _, v := range s.Sandboxes.List() {
		if v.Spec.Attempt != writers*times {
			t.Errorf("%s: %d updates are there, want %d", v.ID, v.Spec.Attempt, writers*times)
		}
	}
}

func deleteIsIdempotent(t *testing.T, s OpenedStore) {
	mustCreate(t, s, storedSandbox("a", moment))
	mustCreate(t, s, storedSandbox("b", moment))
	for range 2 {
		if err := s.Sandboxes.Delete("a", "contract"); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"b"}, ids(s)); diff != "" {
			t.Error(diff)
		}
	}
}

func deletedCanBeCreatedAgain(t *testing.T, s OpenedStore) {
	mustCreate(t, s, storedSandbox("a", moment))
	if err := s.Sandboxes.Delete("a", "contract"); err != nil {
		t.Fatal(err)
	}
	again := storedSandbox("a", moment.Add(time.Hour))
	mustCreate(t, s, again)
	if diff := cmp.Diff([]vm.Sandbox{again}, s.Sandboxes.List()); diff != "" {
		t.Error(diff)
	}
}

func listIsInOrder(t *testing.T, s OpenedStore) {
	for id, age := range map[string]int{"late": 3, "b": 2, "a": 2, "c": 2, "early": 1} {
		mustCreate(t, s, storedSandbox(id, moment.Add(time.Duration(age)*time.Minute)))
	}
	want := []string{"early", "a", "b", "c", "late"}
	if diff := cmp.Diff(want, ids(s)); diff != "" {
		t.Error(diff)
	}
	for _, id := range want {
		if _, err := s.Sandboxes.Update(id, "contract", countAttempt); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, ids(s)); diff != "" {
		t.Errorf("after updates: %s", diff)
	}
}

func listIsTheCallers(t *testing.T, s OpenedStore) {
	mustCreate(t, s, storedSandbox("a", moment))
	mustCreate(t, s, storedSandbox("b", moment))
	list := s.Sandboxes.List()
	list[0] = vm.Sandbox{ID: "overwritten"}
	if diff := cmp.Diff([]string{"a", "b"}, ids(s)); diff != "" {
		t.Error(diff)
	}
}

func addressIsOneVersion(t *testing.T, s OpenedStore) {
	mustCreate(t, s, storedSandbox("b", moment.Add(time.Hour)))
	mustCreate(t, s, storedSandbox("a", moment))
	before := s.Sandboxes.All()
	if diff := cmp.Diff([]string{"a", "b"}, []string{before[0].ID, before[1].ID}); diff != "" {
		t.Fatal(diff)
	}
	if _, err := s.Sandboxes.Update("a", "contract", countAttempt); err != nil {
		t.Fatal(err)
	}
	after := s.Sandboxes.All()
	if before[0].Spec.Attempt != 0 || after[0] == before[0] || after[0].Spec.Attempt != 1 {
		t.Errorf("a change is at the old address: attempts %d, %d", before[0].Spec.Attempt, after[0].Spec.Attempt)
	}
	if after[1] != before[1] {
		t.Error("a record moved without a change")
	}
	after[1] = nil
	if s.Sandboxes.All()[1] != before[1] {
		t.Error("the list is not the caller's")
	}
}

func storeKeepsNoCallersMap(t *testing.T, s OpenedStore) {
	v := storedSandbox("a", moment)
	mustCreate(t, s, v)
	v.Spec.Labels["for"] = "somebody else"
	if got := getA(t, s).Spec.Labels["for"]; got != "a" {
		t.Errorf("label = %q, want the one that was stored", got)
	}
}

func readsAreAsStored(t *testing.T, s OpenedStore) {
	now := time.Now() // with a monotonic reading, which no disk keeps
	mustCreate(t, s, storedSandbox("a", now))
	if got := getA(t, s).CreatedAt; got != got.Round(0) || !got.Equal(now) {
		t.Errorf("created at %#v, want %v as read from JSON", got, now)
	}
}

func changeMayRead(t *testing.T, s OpenedStore) {
	mustCreate(t, s, storedSandbox("a", moment))
	_, err := s.Sandboxes.Update("a", "contract", func(v vm.Sandbox) (vm.Sandbox, error) {
		v.Spec.Attempt = uint32(len(s.Sandboxes.List()))
		return v, nil
	})
	if err != nil || getA(t, s).Spec.Attempt != 1 {
		t.Errorf("error = %v", err)
	}
}
