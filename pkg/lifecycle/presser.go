// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// presser presses the power button of one VM until it is calm.
type presser struct {
	calming sync.Once
	// enough is closed when the button is to be pressed no more; pressing are the presses under way.
	enough   chan struct{}
	pressing sync.WaitGroup
}

func newPresser() *presser { return &presser{enough: make(chan struct{})} }

// press presses the power button now, and again until calm.
func (p *presser) press(button func()) {
	p.pressing.Go(func() {
		again := time.NewTicker(askAgain)
		defer again.Stop()
		for {
			select {
			case <-p.enough:
				return
			default:
			}
			button()
			select {
			case <-again.C:
			case <-p.enough:
				return
			}
		}
	})
}

// calm ends the pressing. A press may still be under way.
func (p *presser) calm() { p.calming.Do(func() { close(p.enough) }) }

// calmed is calm, and returns when no press is under way: one that came late would power off the next boot. libvirt
// answers each once QEMU is gone. Unavailable if it has not when ctx ends.
func (p *presser) calmed(ctx context.Context) error {
	p.calm()
	ended := make(chan struct{})
	go func() {
		p.pressing.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a press of the power button is still under way: %w", errdefs.ErrUnavailable)
	}
}
