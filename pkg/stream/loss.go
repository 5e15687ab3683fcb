// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vmlet/vmlet/pkg/crilog"
)

// errCut is reported when somebody made a spool shorter, which nobody should.
var errCut = errors.New("the spool was cut short by somebody")

// lossLine is what the log says in the place of output that was given up.
func lossLine(lost int64) []byte {
	return fmt.Appendf(nil, "[vmlet: %d bytes of console output were lost here]", lost)
}

// enforceCap gives up the oldest output while more waits in the spool than may. Half of
// what may wait is kept, from the beginning of a line on, so that it is not done for
// every line that follows.
func (c *console) enforceCap() error {
	size, err := c.spoolSize()
	if err != nil {
		return err
	}
	if size < c.pos.Spool {
		c.pos.Spool, c.punched = size, min(c.punched, size)
		c.trouble = errors.Join(c.trouble, errCut)
		return c.save()
	}
	if size-c.pos.Spool <= c.limits.spoolCap {
		return nil
	}
	to, err := c.nextLine(size - c.limits.spoolCap/2)
	if err != nil {
		return err
	}
	c.pos.Lost += to - c.pos.Spool
	c.pos.Spool = to
	if err := c.save(); err != nil {
		return err
	}
	c.punch(1)
	return nil
}

// nextLine returns where the first line begins after a position in the spool, or the
// position itself if none does for long.
func (c *console) nextLine(at int64) (int64, error) {
	b := make([]byte, MaxPayload)
	n, err := c.spool.ReadAt(b, at)
	if n == 0 && err != nil {
		return 0, fmt.Errorf("read the spool: %w", err)
	}
	return at + int64(bytes.IndexByte(b[:n], '\n')+1), nil
}

// reportLoss writes into the log how much was given up, if anything was.
func (c *console) reportLoss() error {
	if c.pos.Lost == 0 {
		return nil
	}
	next := c.pos
	next.Time = c.stamp()
	var entries []byte
	if next.Mid { // its line has lost its end
		entries = crilog.Append(entries, crilog.Entry{Time: next.Time, Stream: crilog.Stdout})
	}
	entries = crilog.Append(entries, crilog.Entry{Time: next.Time, Stream: crilog.Stdout, Payload: lossLine(next.Lost)})
	next.Lost, next.Mid = 0, false
	return c.commit(entries, next)
}
