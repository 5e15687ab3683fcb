// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// settle is how long changes on the host are left to come together.
	settle = 100 * time.Millisecond
	// The pauses between tries to bring a tree into step that failed: the host's files may
	// be in disorder only for a moment.
	retryFirst = 500 * time.Millisecond
	retryMost  = time.Minute
	// stepTimeout bounds what waits for a guest that takes its time.
	stepTimeout = 30 * time.Second
)

// fileAgent is the part of a guest's agent that files are kept by.
type fileAgent interface {
	// send brings one tree up to date.
	send(ctx context.Context, req *agentv1.SyncFilesRequest, chunks []*agentv1.FileChunk) error
	// watch begins to watch files in the guest: NotFound if one is not there. Each is told
	// of first as it is now.
	watch(ctx context.Context, paths []string) (fileChanges, error)
}

// fileChanges are what the guest has changed.
type fileChanges interface {
	next() (*agentv1.FileChange, error)
	close() error
}

// keeper keeps the trees of one guest in step.
type keeper struct {
	agent     fileAgent
	namespace string
	trees     []*hostTree
	changed   chan struct{} // has one slot: something changed on the host
	stops     []func() error

	end  context.CancelFunc
	done chan struct{} // closed when run has returned

	mu      sync.Mutex // held while trees are read and written on the host
	problem error      // why the last try to bring them into step failed
}

// newKeeper opens the trees and watches them on the host. The caller closes it, or starts it.
func newKeeper(agent fileAgent, watch *folderWatch, namespace string, trees []vm.FileTree) (_ *keeper, err error) {
	k := &keeper{
		agent: agent, namespace: namespace, changed: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.close())
		}
	}()
	for _, t := range trees {
		h, err := openTree(t)
		if err != nil {
			return nil, err
		}
		k.trees = append(k.trees, h)
		stop, err := watch.listen(h.path, h.base, k.wake)
		if err != nil {
			return nil, fmt.Errorf("mount at %s: %w", t.GuestPath, err)
		}
		k.stops = append(k.stops, stop)
	}
	return k, nil
}

func (k *keeper) wake() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// close lets go of the host's files.
func (k *keeper) close() error {
	var errs []error
	for _, stop := range k.stops {
		errs = append(errs, stop())
	}
	for _, t := range k.trees {
		errs = append(errs, t.close())
	}
	return errors.Join(errs...)
}

// start keeps the trees in step until life ends, or stop is called.
func (k *keeper) start(life context.Context) {
	life, k.end = context.WithCancel(life)
	go func() {
		defer close(k.done)
		k.run(life)
		_ = k.close() //nolint:errcheck // descriptors and watches that nothing was written by
	}()
}

// stop returns when nothing of the keeper runs any more.
func (k *keeper) stop() {
	k.end()
	<-k.done
}

// run goes on over the agent's sessions. In the first, guest and host are in step already.
func (k *keeper) run(ctx context.Context) {
	pause := retryFirst
	for inStep := true; ; inStep = false {
		began := time.Now()
		if err := k.session(ctx, inStep); !errdefs.IsUnavailable(err) {
			k.note(err)
		}
		if time.Since(began) > retryMost {
			pause = retryFirst
		}
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, retryMost)
	}
}

// session keeps in step until the agent's session ends. A tree that cannot be read or is
// refused keeps the others from nothing: it is tried again.
func (k *keeper) session(ctx context.Context, inStep bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !inStep {
		if err := k.step(ctx); isLost(err) {
			return err
		} else if err != nil {
			k.note(err)
			k.wake()
		}
	}
	changes, err := k.agent.watch(ctx, k.writablePaths())
	if err != nil {
		return err
	}
	// As the files are now, before anything is sent that would change them.
	if err := k.takeEach(changes); isLost(err) {
		return errors.Join(err, changes.close())
	} else if err != nil {
		k.note(err)
	}
	gone, lost := make(chan struct{}), error(nil)
	go func() { defer close(gone); lost = k.takeAll(changes) }()
	defer func() {
		_ = changes.close() //nolint:errcheck // it ends the goroutine, with an error or without
		<-gone
	}()
	for pause := retryFirst; ; {
		select {
		case <-gone:
			return lost
		case <-ctx.Done():
			return ctx.Err()
		case <-k.changed:
		}
		if !sleep(ctx, settle) {
			return ctx.Err()
		}
		err := k.push(ctx)
		if isLost(err) {
			return err
		}
		k.note(err)
		if err == nil {
			pause = retryFirst
			continue
		}
		time.AfterFunc(pause, k.wake)
		pause = min(2*pause, retryMost)
	}
}

// isLost tells an error that ends a session from one that a tree has.
func isLost(err error) bool {
	return errdefs.IsUnavailable(err) && !errors.Is(err, errChanging) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// step brings guest and host into step once: first what the guest has changed comes to the
// host, then what differs goes to the guest.
func (k *keeper) step(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	k.mu.Lock()
	for _, t := range k.trees {
		t.known = digest{} // the agent may be another one, with nothing
	}
	k.mu.Unlock()
	pulled := k.pull(ctx)
	switch {
	case errdefs.IsNotFound(pulled):
		pulled = nil
	case isLost(pulled):
		return pulled
	}
	return errors.Join(pulled, k.push(ctx))
}

// pull writes all that the guest has changed to the host. NotFound if the guest has not got
// the files yet.
func (k *keeper) pull(ctx context.Context) error {
	paths := k.writablePaths()
	if len(paths) == 0 {
		return nil
	}
	changes, err := k.agent.watch(ctx, paths)
	if err != nil {
		return err
	}
	return errors.Join(k.takeEach(changes), changes.close())
}

// takeEach takes the first change of each file, which tells how it is now.
func (k *keeper) takeEach(changes fileChanges) error {
	var errs []error
	for range k.writablePaths() {
		change, err := changes.next()
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, k.take(change))
	}
	return errors.Join(errs...)
}

// takeAll writes changes to the host as they come. What cannot be written is noted, and is
// no reason to hear of no more.
func (k *keeper) takeAll(changes fileChanges) error {
	for {
		change, err := changes.next()
		if err != nil {
			return err
		}
		if err := k.take(change); err != nil {
			k.note(err)
		}
	}
}

// take writes one change to the host, if it is of a file that the guest may change.
func (k *keeper) take(change *agentv1.FileChange) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.trees {
		if !t.writable() || t.GuestPath != change.GetPath() {
			continue
		}
		switch {
		case change.GetRemoved():
			return nil // the host's stays, and comes again
		case change.GetSynced():
			return t.compare(change.GetContent())
		}
		if err := t.write(change.GetContent()); err != nil {
			return fmt.Errorf("mount at %s: %w", t.GuestPath, err)
		}
		if change.GetTruncated() {
			return fmt.Errorf("mount at %s: the guest's file has more than %d bytes, of which %s has the first: %w",
				t.GuestPath, len(change.GetContent()), t.HostPath, errdefs.ErrResourceExhausted)
		}
		return nil
	}
	return fmt.Errorf("the guest tells of a file that is none of its own to change: %w", errdefs.ErrInternal)
}

// push sends the trees that differ from what the guest has.
func (k *keeper) push(ctx context.Context) error {
	var errs []error
	for _, t := range k.trees {
		if err := k.pushTree(ctx, t); err != nil {
			errs = append(errs, fmt.Errorf("mount at %s: %w", t.GuestPath, err))
		}
	}
	return errors.Join(errs...)
}

// pushTree sends one tree. A guest that takes its time for it holds up nobody but its own.
func (k *keeper) pushTree(ctx context.Context, t *hostTree) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	k.mu.Lock()
	now, err := t.read()
	known := t.known
	k.mu.Unlock()
	if err != nil {
		return err
	}
	sum := now.digest()
	if sum == known {
		return nil
	}
	err = k.agent.send(ctx, &agentv1.SyncFilesRequest{
		Path: t.GuestPath, Directory: t.Directory, Readonly: !t.writable(), Entries: now.entries, Namespace: k.namespace,
	}, now.chunks())
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && t.known == known {
		t.known = sum
	}
	return err
}

func (k *keeper) writablePaths() (paths []string) {
	for _, t := range k.trees {
		if t.writable() {
			paths = append(paths, t.GuestPath)
		}
	}
	return paths
}

// note keeps why guest and host are not in step, for whoever asks.
func (k *keeper) note(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.problem = err
}

// sleep returns false if ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
