// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

const (
	// watchBatch is how many events are taken at once.
	watchBatch = 64
	// bookmarkEvery is after how many events of other VMs a watch has a token that is newer than its last event.
	bookmarkEvery = newsKept / 4
)

// Watch tells what happens to the VM that ref names (as in sandboxOf), or to all for "", until ctx ends; the watch of one
// VM ends, without error, when its sandbox is gone. Without a token it begins with each VM as it is. With the one of an
// earlier message it goes on behind that. Once all that was to be told by then is, there is a message with a token alone.
// What send returns ends the watch; send may block, which holds up nobody.
//
// OutOfRange if events since the token are lost, or since the last that send took: of an earlier life of vmlet, or too
// many. NotFound for an unknown VM, InvalidArgument for what is no token.
func (s *Service) Watch(ctx context.Context, ref, token string, send func(vm.WatchMessage) error) error {
	w, present, err := s.beginWatch(ref, token)
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	for i := range present {
		if err := send(vm.WatchMessage{Present: &present[i]}); err != nil {
			return err
		}
	}
	w.send = send
	for {
		changed, err := w.next()
		if err != nil || w.over {
			return err
		}
		if changed == nil {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// beginWatch finds where a watch begins, of which sandbox, and with what.
func (s *Service) beginWatch(ref, token string) (w *watch, present []vm.VMStatus, err error) {
	w = &watch{news: s.news}
	if token != "" {
		if w.at, err = s.news.place(token); err != nil {
			return nil, nil, err
		}
	}
	if ref != "" {
		w.of, err = s.sandboxOf(ref)
		if errors.Is(err, errdefs.ErrNotFound) && token != "" {
			w.of, err = s.news.wasThere(ref, w.at, err)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if token == "" {
		present, w.at = s.news.present(w.of)
		if w.of != "" && len(present) == 0 {
			return nil, nil, fmt.Errorf("sandbox %s has just gone: %w", w.of, errdefs.ErrNotFound)
		}
	}
	w.told = w.at
	return w, present, nil
}

// wasThere finds a sandbox that is gone in what was told since: its end must not be missed.
func (n *news) wasThere(ref string, at uint64, notFound error) (string, error) {
	events, _, err := n.after(at, newsKept)
	if err != nil {
		return "", err
	}
	namespace, pod, _ := strings.Cut(ref, "/")
	for _, e := range events {
		if e.SandboxID == ref || e.ContainerID == ref || e.Namespace == namespace && e.Pod == pod && pod != "" {
			return e.SandboxID, nil
		}
	}
	return "", notFound
}

// watch is one under way.
type watch struct {
	news *news
	of   string
	send func(vm.WatchMessage) error
	// at is the number of the next event, told where the client's last token stands.
	at, told uint64
	// caughtUp: the client knows that it has had all.
	caughtUp bool
	over     bool
}

// next sends what there is. Where there is nothing it returns what is closed when there may be.
func (w *watch) next() (<-chan struct{}, error) {
	events, changed, err := w.news.after(w.at, watchBatch)
	if err != nil {
		return nil, err
	}
	for i := range events {
		w.at++
		if w.of != "" && events[i].SandboxID != w.of {
			continue
		}
		w.told = w.at
		if err := w.send(vm.WatchMessage{Token: w.news.token(w.at), Event: &events[i]}); err != nil {
			return nil, err
		}
		if w.over = w.of != "" && events[i].Kind == vm.VMRemovedEvent; w.over {
			return nil, nil
		}
	}
	if !w.caughtUp && len(events) == 0 || w.at-w.told >= bookmarkEvery {
		w.caughtUp, w.told = w.caughtUp || len(events) == 0, w.at
		return changed, w.send(vm.WatchMessage{Token: w.news.token(w.at)})
	}
	return changed, nil
}
