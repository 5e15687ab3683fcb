// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
)

// closeTimeout bounds how long Close waits for work under way. Work that takes longer,
// such as a CNI plugin that hangs, is left as a crash would leave it: the next start
// finishes it.
const closeTimeout = 30 * time.Second

// background are the goroutines that outlive their callers. The zero value is ready for use.
type background struct {
	mu     sync.Mutex
	closed bool
	work   sync.WaitGroup
}

// begin counts work in, which then calls done; false once nothing may begin any more.
func (b *background) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.work.Add(1)
	return true
}

func (b *background) done() { b.work.Done() }

// Go runs fn beside its caller; false, without running it, once nothing may begin any more.
func (b *background) Go(fn func()) bool {
	if !b.begin() {
		return false
	}
	go func() {
		defer b.done()
		fn()
	}()
	return true
}

// close lets nothing more begin, and waits for what goes on.
func (b *background) close(ctx context.Context) {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		b.work.Wait()
		close(ended)
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		log.From(ctx).Warn("work under way is left for the next start to finish", zap.Duration("waited", closeTimeout))
	}
}
