// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// errStalled is why a client was given up after the end.
var errStalled = fmt.Errorf("the client does not read: %w", context.DeadlineExceeded)

// clientRead is how much a client reads, and has in memory, at once.
const clientRead = 48 << 10

// client is somebody who hears what a container says at a pace of their own: it reads the
// spool, as the log does. What it has not read yet is kept on disk, up to limits.clientLag.
type client struct {
	spool  *os.File
	format vm.ConsoleFormat
	limits limits
	// wake has a value when there may be more to read.
	wake chan struct{}

	mu      sync.Mutex
	at      int64 // where in the spool it goes on
	skipped int64 // bytes before at that it has missed, and was not told of yet
	ended   bool  // nothing will be added to the spool
	err     error // or nobody will tell
}

// keep tells the client that the spool is size bytes long, and returns from where on it is
// still needed. One that is too far behind goes on further ahead.
func (c *client) keep(size int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if size-c.at > c.limits.clientLag {
		to := size - c.limits.clientLag/2
		c.skipped += to - c.at
		c.at = to
	}
	c.rouse()
	return c.at
}

// end says that nothing follows what is in the spool, or that it is not to be heard for err.
func (c *client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended, c.err = true, err
	c.rouse()
}

func (c *client) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// deliver writes all that is said. It leaves a Write that blocks to itself when ctx ends or,
// after the end, when nothing moves any more.
func (c *client) deliver(ctx context.Context, stdout, stderr io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer c.spool.Close() //nolint:errcheck // it was only read
		done <- c.run(ctx, stdout, stderr)
	}()
	tick := time.NewTicker(c.limits.stalledAfter)
	defer tick.Stop()
	for last := int64(-1); ; {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			c.mu.Lock()
			at, ended := c.at, c.ended
			c.mu.Unlock()
			if ended && at == last {
				return errStalled
			}
			if ended {
				last = at
			}
		}
	}
}

func (c *client) run(ctx context.Context, stdout, stderr io.Writer) error {
	s := speech{format: c.format}
	for {
		rest, err := c.read(&s)
		if err != nil {
			return err
		}
		if err := s.writeTo(stdout, stderr); err != nil {
			return err
		}
		switch rest {
		case toRead:
		case toCome:
			s.free()
			select {
			case <-c.wake:
			case <-ctx.Done():
				return ctx.Err()
			}
		case nothing:
			return nil
		}
	}
}
