// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// console is one followed console. It is guarded by the lock of its container's ID.
type console struct {
	vm.Console

	k      kernel
	limits limits
	now    func() time.Time

	spool      *os.File
	checkpoint *checkpoint
	log        *logFile // nil until it was found
	synced     bool     // pos is what log and spool say
	pos        position // as it is in memory
	saved      position // as it is in the checkpoint
	punched    int64    // the spool has a hole up to here
	kept       int64    // from here on the spool is kept for attached clients, or nobody
	trouble    error    // what went wrong without stopping anything, for takeTrouble

	// restSince is when the beginning of a line was first seen at restAt of the spool
	// without its end; zero if there is none.
	restSince time.Time
	restAt    int64
}

// limits are the sizes and times that tests choose otherwise.
type limits struct {
	spoolCap     int64         // bytes that may wait in the spool
	punchStep    int64         // bytes between two holes
	partialAfter time.Duration // until the beginning of a line is shown without its end
	clientLag    int64         // bytes that may wait for an attached client
	stalledAfter time.Duration // until a client that does not read is given up after the end
	linger       time.Duration // that a terminal stays open after the last input
}

// buffers are what copying takes; idle consoles have none.
type buffers struct {
	raw     [48 << 10]byte // holds any line's piece and any record
	entries []byte
	scanner scanner
}

// openConsole opens spool and checkpoint. It is NotFound without a spool. With an
// unreadable checkpoint it begins at the first byte that is still there.
func openConsole(c vm.Console, k kernel, l limits, now func() time.Time) (*console, error) {
	spool, err := os.OpenFile(c.Spool, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", errdefs.ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	cp, pos, err := openCheckpoint(c.Checkpoint)
	if cp == nil {
		return nil, errors.Join(err, spool.Close())
	}
	opened := &console{Console: c, k: k, limits: l, now: now, spool: spool, checkpoint: cp, kept: nobody}
	if err != nil {
		pos.Spool = firstData(spool)
		opened.trouble = fmt.Errorf("lines may be in the log twice: %w", err)
	}
	opened.pos, opened.saved = pos, pos
	return opened, nil
}

// fresh tells that copying has not begun yet.
func (c *console) fresh() bool { return c.saved.Seq == 0 && c.trouble == nil }

// firstData is where the first byte of a file is that was not punched out.
func firstData(f *os.File) int64 {
	at, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	if err != nil {
		return 0 // no data at all, or a file system that does not tell
	}
	return at
}

// copy brings the log up to what the spool has. last says that nothing will follow: the
// last line is then ended. What it could not log stays in the spool, up to the cap.
func (c *console) copy(ctx context.Context, b *buffers, last bool) error {
	if c.Log == "" {
		return c.skip()
	}
	logErr := c.openLog()
	if err := c.enforceCap(); err != nil {
		return err
	}
	if logErr != nil {
		return logErr
	}
	if err := c.reportLoss(); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if more, err := c.copyBatch(b, last); err != nil || !more {
			return err
		}
	}
}

// copyBatch copies as much as fits the buffers; more tells whether to call it again.
func (c *console) copyBatch(b *buffers, last bool) (more bool, err error) {
	n, err := c.spool.ReadAt(b.raw[:], c.pos.Spool)
	if err != nil && err != io.EOF {
		return false, fmt.Errorf("read the spool: %w", err)
	}
	atEnd := err == io.EOF
	now, stamp := c.now(), c.stamp()
	r := rules{mid: c.pos.Mid, midErr: c.pos.MidErr, last: last && atEnd, flush: c.restDue(now)}
	var got batch
	if c.Format == vm.ConsoleRecords {
		got = b.scanner.encodeRecords(b.entries, b.raw[:n], stamp, len(b.raw), r)
	} else if got = encode(b.entries, b.raw[:n], stamp, len(b.raw), r); got.took == 0 && !atEnd {
		r.flush = true // nothing but the beginning of one line: too long to wait for its end
		got = encode(got.entries, b.raw[:n], stamp, len(b.raw), r)
	}
	b.entries = got.entries
	c.noteRest(got, now)
	if got.took == 0 && len(got.entries) == 0 {
		return false, nil
	}
	next := c.pos
	next.Spool += int64(got.took)
	next.Mid, next.MidErr = got.mid, got.midErr
	if len(got.entries) > 0 {
		next.Time = stamp
	}
	if err := c.commit(got.entries, next); err != nil {
		return false, err
	}
	return true, nil
}

// commit writes entries to the log and makes next the position, whose Log it sets.
func (c *console) commit(entries []byte, next position) error {
	if err := c.settle(); err != nil {
		return err
	}
	if len(entries) > 0 {
		if err := c.log.write(c.k, entries); err != nil {
			// Part of it may be there. To find out is what resync is for.
			c.synced = false
			return errors.Join(fmt.Errorf("write the log: %w", err), c.resync())
		}
		next.Previous = 0
	}
	next.Log = c.log.at
	c.pos = next
	return c.save()
}

// settle copes with a log that somebody else cut or wrote into: what is after the old
// position is then not for resync to compare.
func (c *console) settle() error {
	moved, err := c.log.settle()
	if err != nil || !moved {
		return err
	}
	if err := c.log.endLine(c.k); err != nil {
		return err
	}
	c.pos.Log = c.log.at
	return c.save()
}

// save makes the position durable, then frees the disk of what is in the log.
func (c *console) save() error {
	if c.pos == c.saved {
		return nil
	}
	c.pos.Seq = c.saved.Seq + 1
	if err := c.checkpoint.save(c.k, c.pos); err != nil {
		return err
	}
	c.saved = c.pos
	c.punch(c.limits.punchStep)
	return nil
}

// punch frees the spool's disk blocks up to the saved position, if they are step bytes
// or more. Where that cannot be done, the spool takes more room: no reason to stop.
func (c *console) punch(step int64) {
	const block = 4096
	to := min(c.saved.Spool, c.kept) &^ (block - 1)
	if to-c.punched < step {
		return
	}
	if err := c.k.punch(c.spool, c.punched, to); err != nil {
		c.trouble = errors.Join(c.trouble, fmt.Errorf("free the spool's disk space: %w", err))
		to = math.MaxInt64 // it will not be otherwise next time
	}
	c.punched = to
}

// takeTrouble returns what went wrong since the last call without stopping anything.
func (c *console) takeTrouble() error {
	err := c.trouble
	c.trouble = nil
	return err
}

// stamp is the time for new entries: never before that of the last one.
func (c *console) stamp() time.Time {
	now := c.now().Round(0) // by the wall clock, which may be set back
	if now.Before(c.pos.Time) {
		return c.pos.Time
	}
	return now
}

// noteRest remembers since when the spool ends in the beginning of a line.
func (c *console) noteRest(b batch, now time.Time) {
	at := c.pos.Spool + int64(b.took)
	switch {
	case !b.rest:
		c.restSince = time.Time{}
	case c.restSince.IsZero() || c.restAt != at:
		c.restSince, c.restAt = now, at
	}
}

// restDue tells whether the beginning of a line has waited long enough for its end.
func (c *console) restDue(now time.Time) bool {
	return !c.restSince.IsZero() && c.restAt == c.pos.Spool && !now.Before(c.restSince.Add(c.limits.partialAfter))
}

// skip consumes the spool of a console that nobody logs.
func (c *console) skip() error {
	size, err := c.spoolSize()
	if err != nil {
		return err
	}
	c.pos.Spool = size
	return c.save()
}

func (c *console) spoolSize() (int64, error) {
	info, err := c.spool.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// close gives up the files without copying anything.
func (c *console) close() error {
	errs := []error{c.spool.Close(), c.checkpoint.close()}
	if c.log != nil {
		errs = append(errs, c.log.close())
	}
	return errors.Join(errs...)
}
