// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	virt "libvirt.org/go/libvirt"
)

// grace is what a guest gets to power off: more than it takes.
const grace = 60 * time.Second

// readyPods starts pods, waits for their guests to say that they are ready, and asks them
// to power off. event_delay is how much later than libvirt's event of a guest's end a client
// of GetContainerEvents has it.
func readyPods(t *testing.T, n int) outcome {
	f, v := rivals(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*2*grace)
	defer cancel()
	clients, err := listenCRI(ctx, v.node)
	must(t, err)
	var ready, stop, delay, bareReady, bareStop samples
	for i := range n {
		begin := time.Now()
		bare, err := f.start(ctx)
		must(t, err)
		must(t, awaitReady(ctx, f.console(bare.id)))
		bareReady.add(time.Since(begin))
		late, err := f.powerOff(ctx, bare)
		must(t, err)
		bareStop.add(late)
		must(t, f.remove(ctx, bare))

		begin = time.Now()
		p, err := v.start(ctx, fmt.Sprintf("ready-%d", i))
		must(t, err)
		must(t, awaitReady(ctx, v.logOf(p)))
		ready.add(time.Since(begin))
		stopped := f.events.expectStop(p.uuid())
		must(t, v.stop(ctx, p, int64(grace/time.Second)))
		ended := time.Now()
		off, err := f.events.poweredOff(ctx, p.uuid())
		must(t, err)
		stop.add(ended.Sub(off))
		after, err := clients.delay(ctx, p.container, stopped)
		must(t, err)
		delay.add(after)
		must(t, v.remove(ctx, p))
	}
	return outcome{results: []Result{
		newResult("ready_seq", unitMS, ready, bareReady),
		newResult("stop_graceful", unitMS, stop, bareStop),
		newResult("event_delay", unitMS, delay, nil),
	}}
}

// powerOff presses the power button and returns how long after the guest's end libvirt says
// that the domain is shut off.
func (f *floor) powerOff(ctx context.Context, p *floorPod) (time.Duration, error) {
	stopped := f.events.expectStop(p.uuid())
	if err := p.domain.ShutdownFlags(virt.DOMAIN_SHUTDOWN_ACPI_POWER_BTN); err != nil {
		return 0, err
	}
	select {
	case ended := <-stopped:
		off, err := f.events.poweredOff(ctx, p.uuid())
		return ended.Sub(off), err
	case <-ctx.Done():
		return 0, fmt.Errorf("guest %s does not power off: %w", p.id, ctx.Err())
	}
}

// readyMark is what the tiny guest prints when all of it is up.
const readyMark = "READY boot_id="

// awaitReady waits until a file tells that the guest is ready.
func awaitReady(ctx context.Context, path string) error {
	for {
		text, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if bytes.Contains(text, []byte(readyMark)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no %q in %s: %w", readyMark, path, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
