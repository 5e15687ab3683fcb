// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// audience are the attached clients of a console. Nobody waits for them, and they wait
// neither for each other nor for the log: for a line's end, or a disk that is full.
type audience struct {
	mu      sync.Mutex
	clients []*client
}

func (a *audience) add(c *client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clients = append(a.clients, c)
}

func (a *audience) remove(c *client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clients = slices.DeleteFunc(a.clients, func(other *client) bool { return other == c })
}

// nobody is from where on a spool is kept without an audience.
const nobody = math.MaxInt64

// keep tells all clients how long the spool is, and returns from where on it must be kept.
func (a *audience) keep(size func() (int64, error)) (from int64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	from = nobody
	if len(a.clients) == 0 {
		return from, nil
	}
	n, err := size()
	if err != nil {
		return 0, err
	}
	for _, c := range a.clients {
		from = min(from, c.keep(n))
	}
	return from, nil
}

func (a *audience) end(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.clients {
		c.end(err)
	}
}

// publish has the clients look at what is new, and keeps it for them.
func (f *followed) publish() (err error) {
	f.kept, err = f.audience.keep(f.spoolSize)
	return err
}

// Subscribe implements lifecycle.ConsoleStreams.
func (cs *Consoles) Subscribe(ctx context.Context, containerID string) (deliver func(ctx context.Context, stdout, stderr io.Writer) error, err error) {
	f, unlock, err := cs.lockHeard(ctx, containerID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return f.join((*followed).present)
}

// join takes one more client in, who hears what the spool has from where on.
func (f *followed) join(where func(*followed) (int64, error)) (deliver func(ctx context.Context, stdout, stderr io.Writer) error, err error) {
	at, err := where(f)
	if err != nil {
		return nil, fmt.Errorf("hear container %s: %w", f.ContainerID, err)
	}
	// Its own, since it may still be read when the console is finished.
	spool, err := os.OpenFile(f.Spool, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("hear container %s: %w", f.ContainerID, err)
	}
	c := &client{spool: spool, format: f.Format, limits: f.limits, wake: make(chan struct{}, 1), at: at}
	f.audience.add(c)
	f.kept = min(f.kept, c.at)
	return func(ctx context.Context, stdout, stderr io.Writer) error {
		defer f.audience.remove(c)
		return c.deliver(ctx, stdout, stderr)
	}, nil
}

// present is where in the spool begins what is said from now on: not within a record.
func (f *followed) present() (int64, error) {
	size, err := f.spoolSize()
	if err != nil || f.Format == vm.ConsoleRaw {
		return size, err
	}
	b := make([]byte, min(longestRecord, size))
	if _, err := f.spool.ReadAt(b, size-int64(len(b))); err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read the spool: %w", err)
	}
	zero := bytes.LastIndexByte(b, 0)
	if zero < 0 && int64(len(b)) < size {
		return size, nil // no record is that long
	}
	return size - int64(len(b)-zero-1), nil
}

// lockHeard finds and locks what a container is heard by: its command's output, or else its
// serial console. NotFound if neither is followed.
func (cs *Consoles) lockHeard(ctx context.Context, containerID string) (f *followed, unlock func(), err error) {
	return cs.lockFollowed(ctx, containerID, vm.ConsoleRecords, vm.ConsoleRaw)
}

// lockFollowed finds and locks the first of a container's consoles that is followed. NotFound if none is.
func (cs *Consoles) lockFollowed(ctx context.Context, containerID string, formats ...vm.ConsoleFormat) (f *followed, unlock func(), err error) {
	for _, format := range formats {
		key := keyOf(vm.Console{ContainerID: containerID, Format: format})
		if cs.lookup(key) == nil {
			continue
		}
		if unlock, err = cs.locks.Lock(ctx, key); err != nil {
			return nil, nil, err
		}
		if f = cs.lookup(key); f != nil {
			return f, unlock, nil
		}
		unlock()
	}
	return nil, nil, fmt.Errorf("console of container %s: %w", containerID, errdefs.ErrNotFound)
}

// keyOf tells the consoles of one container apart.
func keyOf(c vm.Console) string {
	if c.Format == vm.ConsoleRaw {
		return c.ContainerID
	}
	return c.ContainerID + " " + string(c.Format)
}
