// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"sync"
)

// agentChanges are the guests in which something may have happened to the agent.
type agentChanges struct {
	mu   *sync.Mutex
	ids  map[string]bool
	wake chan struct{}
}

func newAgentChanges() agentChanges {
	return agentChanges{mu: new(sync.Mutex), ids: map[string]bool{}, wake: make(chan struct{}, 1)}
}

func (c agentChanges) add(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids[id] = true
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c agentChanges) take() (id string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id = range c.ids {
		delete(c.ids, id)
		return id, true
	}
	return "", false
}

// AwaitChange implements lifecycle.Guest.
func (g *Guest) AwaitChange(ctx context.Context) (id string, err error) {
	for {
		if id, ok := g.changes.take(); ok {
			return id, nil
		}
		select {
		case <-g.changes.wake:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// Agent implements lifecycle.Guest.
func (g *Guest) Agent(id string) (bootID string, answers bool) {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	one := g.guest(id)
	if g.connected[id] == nil || one.silent || one.foreign {
		return "", false
	}
	return fmt.Sprint("boot-", one.boot), true
}
