// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	bolt "go.etcd.io/bbolt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// stall holds the disk as a slow sync does, until resume is called.
func stall(s *Store) (resume func()) {
	disk := &s.sandboxes.committer.disk
	disk.Lock()
	return disk.Unlock
}

// waitQueued returns once n writes wait for the disk.
func waitQueued(t *testing.T, s *Store, n int) {
	t.Helper()
	c := s.sandboxes.committer
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		queued := len(c.queue)
		c.mu.Unlock()
		if queued == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d writes wait, want %d", queued, n)
		}
	}
}

func lastTransaction(t *testing.T, s *Store) (id int) {
	t.Helper()
	if err := s.db.View(func(tx *bolt.Tx) error { id = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestWritesThatWaitShareOneSync(t *testing.T) {
	s := openAt(t, node(t))
	before := lastTransaction(t, s)
	resume := stall(s)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			id := fmt.Sprint(i)
			if err := s.Sandboxes().Create(id, sandbox(id, time.Now()), "create"); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range 5 {
		all.Go(func() {
			id := fmt.Sprint(i)
			if err := s.Containers().Create(id, vm.Container{ID: id}, "create"); err != nil {
				t.Error(err)
			}
		})
	}
	waitQueued(t, s, 25)
	resume()
	all.Wait()
	if got := lastTransaction(t, s) - before; got != 1 {
		t.Errorf("25 writes took %d transactions, want 1", got)
	}
	if got := len(s.Sandboxes().List()) + len(s.Containers().List()); got != 25 {
		t.Errorf("%d records are there, want 25", got)
	}
}

func TestReadersNeitherWaitForTheDiskNorSeeWhatIsNotOnIt(t *testing.T) {
	s := openAt(t, node(t))
	if err := s.Sandboxes().Create("a", sandbox("a", time.Now()), "create"); err != nil {
		t.Fatal(err)
	}
	resume := stall(s)
	written := make(chan error, 2)
	go func() { _, err := s.Sandboxes().Update("a", "count", count); written <- err }()
	go func() { written <- s.Sandboxes().Create("b", sandbox("b", time.Now()), "create") }()
	waitQueued(t, s, 2)

	if got, err := s.Sandboxes().Get("a"); err != nil || got.Spec.Attempt != 0 {
		t.Errorf("attempt = %d, %v; want 0 while 1 is not on disk", got.Spec.Attempt, err)
	}
	if got := s.Sandboxes().List(); len(got) != 1 || got[0].Spec.Attempt != 0 {
		t.Errorf("list = %v, want the one record as it is on disk", got)
	}
	resume()
	for range 2 {
		if err := <-written; err != nil {
			t.Error(err)
		}
	}
	if got, err := s.Sandboxes().Get("a"); err != nil || got.Spec.Attempt != 1 {
		t.Errorf("attempt = %d, %v; want 1", got.Spec.Attempt, err)
	}
}

// TestAChangeSeesTheOneBefore stalls the first of two updates of one record: the second
// one's change must not run on the value that is about to be replaced.
func TestAChangeSeesTheOneBefore(t *testing.T) {
	s := openAt(t, node(t))
	if err := s.Sandboxes().Create("a", sandbox("a", time.Now()), "create"); err != nil {
		t.Fatal(err)
	}
	resume := stall(s)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if _, err := s.Sandboxes().Update("a", "count", count); err != nil {
				t.Error(err)
			}
		})
	}
	waitQueued(t, s, 1)
	resume()
	all.Wait()
	if got, err := s.Sandboxes().Get("a"); err != nil || got.Spec.Attempt != 2 {
		t.Errorf("attempt = %d, %v; want 2", got.Spec.Attempt, err)
	}
}

func TestAPanickingChangeLeavesTheRecordFree(t *testing.T) {
	s := openAt(t, node(t))
	if err := s.Sandboxes().Create("a", sandbox("a", time.Now()), "create"); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = s.Sandboxes().Update("a", "panic", func(vm.Sandbox) (vm.Sandbox, error) { panic("no") }) //nolint:errcheck // it panics
	}()
	if _, err := s.Sandboxes().Update("a", "count", count); err != nil {
		t.Error(err)
	}
}

// TestAFailedSyncLeavesReadersWithWhatIsInTheFile has the last sync of a transaction
// fail: it is reported as failed, but its pages are in the file, and the next start
// will most likely read them.
func TestAFailedSyncLeavesReadersWithWhatIsInTheFile(t *testing.T) {
	s := openAt(t, node(t))
	for _, id := range []string{"updated", "deleted"} {
		if err := s.Sandboxes().Create(id, sandbox(id, time.Now()), "create"); err != nil {
			t.Fatal(err)
		}
	}
	failed := errors.New("the last sync failed")
	s.sandboxes.committer.update = func(do func(*bolt.Tx) error) error { return errors.Join(s.db.Update(do), failed) }
	if _, err := s.Sandboxes().Update("updated", "count", count); !errors.Is(err, failed) || !errdefs.IsUnavailable(err) {
		t.Errorf("error = %v, want Unavailable with the cause", err)
	}
	if err := s.Sandboxes().Delete("deleted", "delete"); !errors.Is(err, failed) {
		t.Errorf("error = %v, want the cause", err)
	}
	if err := s.Sandboxes().Create("created", sandbox("created", time.Now()), "create"); !errors.Is(err, failed) {
		t.Errorf("error = %v, want the cause", err)
	}
	if got, err := s.Sandboxes().Get("updated"); err != nil || got.Spec.Attempt != 1 {
		t.Errorf("attempt = %d, %v; want 1 as in the file", got.Spec.Attempt, err)
	}
	if _, err := s.Sandboxes().Get("deleted"); !errdefs.IsNotFound(err) {
		t.Errorf("error = %v, want NotFound as in the file", err)
	}
	if _, err := s.Sandboxes().Get("created"); err != nil {
		t.Errorf("error = %v, want the record as in the file", err)
	}
}

// TestAFailedWriteLeavesReadersWithWhatWasThere fails before anything is written.
func TestAFailedWriteLeavesReadersWithWhatWasThere(t *testing.T) {
	s := openAt(t, node(t))
	if err := s.Sandboxes().Create("a", sandbox("a", time.Now()), "create"); err != nil {
		t.Fatal(err)
	}
	failed := errors.New("no room")
	s.sandboxes.committer.update = func(func(*bolt.Tx) error) error { return failed }
	if _, err := s.Sandboxes().Update("a", "count", count); !errors.Is(err, failed) {
		t.Errorf("error = %v, want the cause", err)
	}
	if err := s.Sandboxes().Delete("a", "delete"); !errors.Is(err, failed) {
		t.Errorf("error = %v, want the cause", err)
	}
	if err := s.Sandboxes().Create("b", sandbox("b", time.Now()), "create"); !errors.Is(err, failed) {
		t.Errorf("error = %v, want the cause", err)
	}
	if got := s.Sandboxes().List(); len(got) != 1 || got[0].Spec.Attempt != 0 {
		t.Errorf("list = %v, want the one record as it was", got)
	}
}

func TestARecordThatCannotBeReadBackIsNotWritten(t *testing.T) {
	type oneWay struct{ F func() }
	r := newRecords(sandboxes, 1, openAt(t, node(t)).sandboxes.committer, func(oneWay) time.Time { return time.Time{} })
	if err := r.Create("a", oneWay{func() {}}, "create"); err == nil {
		t.Error("a function was written as JSON")
	}
	if len(r.List()) != 0 {
		t.Error("it is in memory")
	}
}

func count(v vm.Sandbox) (vm.Sandbox, error) {
	v.Spec.Attempt++
	return v, nil
}

func setOwner(t *testing.T, s *Store, owner string) {
	t.Helper()
	err := s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte(meta)).Put([]byte(ownerKey), []byte(owner)) })
	if err != nil {
		t.Fatal(err)
	}
}
