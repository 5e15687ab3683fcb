// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// openLog has the log open and the position in step with it.
func (c *console) openLog() error {
	if c.log == nil {
		if err := c.findLog(); err != nil {
			return fmt.Errorf("open the log: %w", err)
		}
	}
	if !c.synced {
		if err := c.resync(); err != nil {
			return fmt.Errorf("find the end of the log: %w", err)
		}
		return c.leaveRotated()
	}
	return nil
}

// findLog opens the log that the position speaks of, or else the one at the path, which
// then has nothing of what the spool has after the position.
func (c *console) findLog() (err error) {
	if c.pos.Inode != 0 {
		if c.log, err = findLog(c.Log, c.pos.Inode); c.log != nil || err != nil {
			return err
		}
	}
	var l *logFile
	if c.pos.Previous != 0 {
		// A reopening was cut short, and the log renamed back over the new one.
		if l, err = findLog(c.Log, c.pos.Previous); err != nil {
			return err
		}
	}
	if l == nil {
		if l, err = openLog(c.Log); err != nil {
			return err
		}
	}
	return c.adopt(l)
}

// adopt makes l the log that goes on, at its end.
func (c *console) adopt(l *logFile) error {
	err := l.endLine(c.k)
	if err == nil {
		next := c.pos
		next.Previous, next.Inode, next.Log = c.pos.Inode, l.inode, l.at
		next.Seq = c.saved.Seq + 1
		if err = c.checkpoint.save(c.k, next); err == nil {
			c.pos, c.saved, c.log, c.synced = next, next, l, true
			return nil
		}
	}
	return errors.Join(err, l.close())
}

// resync finds out how much of the spool is in the log by reading the log's end.
func (c *console) resync() error {
	size, err := c.spoolSize()
	if err != nil {
		return err
	}
	pos, err := resync(c.log, c.spool, size, c.Format, c.pos)
	if err != nil {
		return err
	}
	if err := c.log.endLine(c.k); err != nil {
		return err
	}
	pos.Log = c.log.at
	c.pos, c.synced = pos, true
	return c.save()
}

// leaveRotated goes on in the file at the path if there is one beside a renamed log: it
// was made by a reopening that a crash cut short. If there is none, whoever renamed the
// log has not asked for its reopening yet, and may rename it back.
func (c *console) leaveRotated() error {
	info, err := os.Stat(c.Log)
	if errors.Is(err, fs.ErrNotExist) || err == nil && inodeOf(info) == c.log.inode {
		return nil
	}
	if err != nil {
		return err
	}
	return c.reopen()
}

// reopen goes on in the file at the path, made if need be. The old one gets nothing
// more; an entry that is torn at its end begins anew in the new one.
func (c *console) reopen() error {
	if c.Log == "" {
		return nil
	}
	if c.log == nil || !c.synced {
		if err := c.openLog(); err != nil {
			return err
		}
	}
	l, err := openLog(c.Log)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	if l.inode == c.log.inode {
		return l.close()
	}
	old := c.log
	if err := old.cutTorn(c.k); err != nil {
		return errors.Join(err, l.close())
	}
	if err := c.adopt(l); err != nil {
		return err
	}
	return old.close()
}
