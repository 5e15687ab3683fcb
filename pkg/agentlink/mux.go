// SPDX-License-Identifier: Apache-2.0

package agentlink

import (
	"context"
	"io"
	"time"

	"github.com/libp2p/go-yamux/v5"
)

const (
	// agentStreams bounds the calls that the agent serves at once, hostStreams those that the
	// host makes, and so what a guest can make it hold: a window each.
	agentStreams = 512
	hostStreams  = 256
	// window is what may be on its way in one stream, per direction; the least that yamux has.
	window = 256 << 10
	// patience is how long one side puts up with a port that takes nothing, and keepAlive how
	// often the host asks whether anybody is there: a guest may be paused for a while, and an
	// emulated one on a busy host is slow.
	patience  = 30 * time.Second
	keepAlive = 10 * time.Second
)

// muxConfig is how sessions are, for a side that accepts that many streams.
func muxConfig(accepted uint32) *yamux.Config {
	return &yamux.Config{
		AcceptBacklog: agentStreams,
		PingBacklog:   1,
		// A guest with nothing to do does nothing: only the host asks.
		EnableKeepAlive:         accepted == 0,
		KeepAliveInterval:       keepAlive,
		MeasureRTTInterval:      24 * time.Hour, // it serves to grow windows, and they do not
		ConnectionWriteTimeout:  patience,
		MaxIncomingStreams:      accepted,
		InitialStreamWindowSize: window,
		MaxStreamWindowSize:     window,
		LogOutput:               io.Discard,
		MaxMessageSize:          maxData,
	}
}

// pacer slows down what happens again and again: by nothing after a while of rest.
type pacer struct {
	first time.Duration // the pause that others are doubled from
	last  time.Time
	pause time.Duration
}

// Pauses of a pacer.
const (
	pauseFirst = 50 * time.Millisecond
	pauseMost  = 5 * time.Second
	rest       = 10 * time.Second
)

// wait returns at once, or after a pause that doubles each time, or with ctx's error.
func (p *pacer) wait(ctx context.Context) error {
	if time.Since(p.last) > rest {
		p.pause = 0
	}
	timer := time.NewTimer(p.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	p.last, p.pause = time.Now(), min(max(2*p.pause, p.first), pauseMost)
	return nil
}
