// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
)

var _ lifecycle.Consoles = (*Consoles)(nil)

// Consoles is a lifecycle.Consoles without a disk. Print is what QEMU does to it, and
// Rotate what kubelet does. A log holds the lines alone, without time, stream and tag.
type Consoles struct {
	Script

	mu       sync.Mutex
	spools   map[string]string           // by path: what is not in a log yet
	logs     map[string]*strings.Builder // by path
	followed map[string]*followedConsole // by container ID and format
}

type followedConsole struct {
	lifecycle.Console

	log *strings.Builder // goes on being written when it is renamed
}

// NewConsoles makes a fake that follows nothing.
func NewConsoles() *Consoles {
	return &Consoles{
		spools: map[string]string{}, logs: map[string]*strings.Builder{}, followed: map[string]*followedConsole{},
	}
}

// Print appends output to a spool. If somebody follows it, it is in the log at once.
func (c *Consoles) Print(spool, output string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spools[spool] += output
	for _, f := range c.followed {
		if f.Spool == spool {
			c.drain(f)
		}
	}
}

// Rotate renames a log file.
func (c *Consoles) Rotate(from, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logs[to] = c.logs[from]
	delete(c.logs, from)
}

// Log returns what the log file at a path holds.
func (c *Consoles) Log(path string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.logs[path] == nil {
		return ""
	}
	return c.logs[path].String()
}

// Followed returns a copy of what is followed, by container ID: a leak check.
func (c *Consoles) Followed() map[string]lifecycle.Console {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]lifecycle.Console{}
	for _, f := range c.followed {
		out[f.ContainerID] = f.Console
	}
	return out
}

// Spools returns a copy of what is in no log yet, by path. A spool that Finish removed
// is not in it.
func (c *Consoles) Spools() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.spools)
}

// Follow implements lifecycle.Consoles.
func (c *Consoles) Follow(ctx context.Context, console lifecycle.Console) error {
	if err := c.enter(ctx, "Follow", console.ContainerID); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.followed[keyOf(console)] != nil {
		return nil
	}
	f := &followedConsole{Console: console, log: c.openLog(console.Log)}
	c.followed[keyOf(console)] = f
	c.drain(f)
	return nil
}

// Reopen implements lifecycle.Consoles.
func (c *Consoles) Reopen(ctx context.Context, containerID string) error {
	if err := c.enter(ctx, "Reopen", containerID); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	found := false
	for _, f := range c.followed {
		if f.ContainerID == containerID {
			f.log, found = c.openLog(f.Log), true
		}
	}
	if !found {
		return fmt.Errorf("console of container %s: %w", containerID, errdefs.ErrNotFound)
	}
	return nil
}

// keyOf: a container has at most one console of each format.
func keyOf(c lifecycle.Console) string { return c.ContainerID + string(c.Format) }

// Finish implements lifecycle.Consoles.
func (c *Consoles) Finish(ctx context.Context, console lifecycle.Console) error {
	if err := c.enter(ctx, "Finish", console.ContainerID); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.followed[keyOf(console)]
	if f == nil {
		f = &followedConsole{Console: console}
		if c.spools[console.Spool] != "" {
			f.log = c.openLog(console.Log)
		}
	}
	c.drain(f)
	if f.log != nil && f.log.Len() > 0 && !strings.HasSuffix(f.log.String(), "\n") {
		f.log.WriteString("\n")
	}
	delete(c.followed, keyOf(console))
	delete(c.spools, console.Spool)
	return nil
}

// openLog returns the file at a path, made if need be; nil for no path. mu is held.
func (c *Consoles) openLog(path string) *strings.Builder {
	if path == "" {
		return nil
	}
	if c.logs[path] == nil {
		c.logs[path] = &strings.Builder{}
	}
	return c.logs[path]
}

// drain copies the spool into the log. mu is held.
func (c *Consoles) drain(f *followedConsole) {
	output := strings.ReplaceAll(c.spools[f.Spool], "\r\n", "\n")
	c.spools[f.Spool] = ""
	if f.log != nil {
		f.log.WriteString(output)
	}
}
