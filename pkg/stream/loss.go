// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vmlet/vmlet/pkg/crilog"
	"github.com/vmlet/vmlet/pkg/vm"
)

// errCut is reported when somebody made a spool shorter, which nobody should.
var errCut = errors.New("the spool was cut short by somebody")

// lossEntries are what the log says in the place of output that was given up, with the ends
// of the lines that have lost theirs.
func lossEntries(format vm.ConsoleFormat, p position) []crilog.Entry {
	var entries []crilog.Entry
	for _, stream := range []string{crilog.Stdout, crilog.Stderr} {
		if p.isMid(stream) {
			entries = append(entries, crilog.Entry{Stream: stream})
		}
	}
	loss := crilog.Entry{Stream: crilog.Stdout, Payload: fmt.Appendf(nil, "[vmlet: %d bytes of console output were lost here]", p.Lost)}
	if format == vm.ConsoleRecords {
		loss = crilog.Entry{Stream: crilog.Stderr, Payload: fmt.Appendf(nil, "[vmlet: %d bytes of output were lost here]", p.Lost)}
	}
	return append(entries, loss)
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

// nextLine returns where the first line or record begins after a position in the spool, or
// the position itself if none does for long.
func (c *console) nextLine(at int64) (int64, error) {
	b := make([]byte, longestRecord)
	n, err := c.spool.ReadAt(b, at)
	if n == 0 && err != nil {
		return 0, fmt.Errorf("read the spool: %w", err)
	}
	return at + int64(bytes.IndexByte(b[:n], endOf(c.Format))+1), nil
}

// reportLoss writes into the log how much was given up, if anything was.
func (c *console) reportLoss() error {
	if c.pos.Lost == 0 {
		return nil
	}
	next := c.pos
	next.Time = c.stamp()
	var entries []byte
	for _, e := range lossEntries(c.Format, c.pos) {
		e.Time = next.Time
		entries = crilog.Append(entries, e)
	}
	next.Lost, next.Mid, next.MidErr = 0, false, false
	return c.commit(entries, next)
}
