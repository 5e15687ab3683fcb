// SPDX-License-Identifier: Apache-2.0

package agentlink

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// What the agent does with what comes out of its port, which a test plays the host of.

func nonceOf(b byte) []byte { return bytes.Repeat([]byte{b}, nonceLen) }

func helloOf(nonce []byte) *agentv1.Hello {
	return &agentv1.Hello{Nonce: nonce, Version: version, Oldest: oldest}
}

// welcomed reads up to the Welcome for a nonce.
func (s *scripted) welcomed(nonce []byte) *agentv1.Welcome {
	s.t.Helper()
	for {
		if w := asWelcome(s.t, s.next()); w != nil && bytes.Equal(w.GetNonce(), nonce) {
			return w
		}
	}
}

func asWelcome(t *testing.T, fr frame) *agentv1.Welcome {
	t.Helper()
	if fr.kind != kindWelcome {
		return nil
	}
	w := &agentv1.Welcome{}
	if err := proto.Unmarshal(fr.payload, w); err != nil {
		t.Fatal(err)
	}
	return w
}

// idle is a handler that tells when its call begins and ends.
func idle() (handle Handler, began, ended chan struct{}) {
	began, ended = make(chan struct{}, 10), make(chan struct{}, 10)
	return func(ctx context.Context, _ *Stream) {
		began <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
	}, began, ended
}

func TestAnAgentSaysThatItIsReady(t *testing.T) {
	host, _ := hostOf(t, nil)
	if fr := host.next(); fr.kind != kindReady {
		t.Errorf("a frame of kind %d", fr.kind)
	}
}

func TestTheSameHelloAgainChangesNothing(t *testing.T) {
	handle, began, ended := idle()
	host, _ := hostOf(t, handle)
	nonce := nonceOf(1)
	host.raw([]byte("garbage\x00more"))
	host.tell(kindHello, helloOf(nonce))
	host.welcomed(nonce)
	c := host.data(nonce)
	host.send(c, muxBytes(muxWindow, flagSYN, 1, 0))
	<-began
	host.tell(kindHello, helloOf(nonce))
	host.raw([]byte("garbage\x00"))
	host.send(host.data(nonceOf(9)), []byte("of another session"))
	host.welcomed(nonce)
	host.send(c, muxBytes(muxWindow, flagSYN, 3, 0))
	<-began
	select {
	case <-ended:
		t.Error("a call has ended")
	default:
	}
}

func TestWhatEndsTheCallsInTheGuest(t *testing.T) {
	for name, end := range map[string]func(*scripted, *conn){
		"another Hello":         func(s *scripted, _ *conn) { s.tell(kindHello, helloOf(nonceOf(2))) },
		"a frame that is lost":  func(s *scripted, c *conn) { c.sent++; s.send(c, muxBytes(2, flagSYN, 0, 1)) },
		"no yamux":              func(s *scripted, c *conn) { s.send(c, nonceOf(9)) },
		"the reset of the call": func(s *scripted, c *conn) { s.send(c, muxBytes(muxWindow, flagRST, 1, 0)) },
		"the end of the host": func(s *scripted, _ *conn) {
			if closer, ok := s.port.(interface{ Close() error }); !ok || closer.Close() != nil {
				s.t.Error("not closed")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			handle, began, ended := idle()
			host, port := hostOf(t, handle)
			host.tell(kindHello, helloOf(nonceOf(1)))
			host.welcomed(nonceOf(1))
			c := host.data(nonceOf(1))
			host.send(c, muxBytes(muxWindow, flagSYN, 1, 0))
			<-began
			end(host, c)
			<-ended
			// And the next session is as good as the first.
			port.HangUp()
			host = dialed(t, port)
			host.tell(kindHello, helloOf(nonceOf(3)))
			host.welcomed(nonceOf(3))
			host.send(host.data(nonceOf(3)), muxBytes(muxWindow, flagSYN, 1, 0))
			<-began
		})
	}
}

func TestCallsThatAreResetAtOnceEnd(t *testing.T) {
	var live atomic.Int32
	host, _ := hostOf(t, func(ctx context.Context, _ *Stream) {
		live.Add(1)
		<-ctx.Done()
		live.Add(-1)
	})
	host.tell(kindHello, helloOf(nonceOf(1)))
	host.welcomed(nonceOf(1))
	c := host.data(nonceOf(1))
	for i := range uint32(200) {
		host.send(c, append(muxBytes(muxWindow, flagSYN, 2*i+1, 0), muxBytes(muxWindow, flagRST, 2*i+1, 0)...))
	}
	host.send(c, muxBytes(muxWindow, flagSYN, 1001, 0)) // goes on
	// One that was missed would go on as well, so it has to stay one.
	deadline := time.Now().Add(10 * time.Second)
	for same := 0; same < 20; time.Sleep(5 * time.Millisecond) {
		if live.Load() == 1 {
			same++
		} else {
			same = 0
		}
		if time.Now().After(deadline) {
			t.Fatal(live.Load(), " calls go on")
		}
	}
}

func TestVersionsThatHaveNothingInCommonAreToldApart(t *testing.T) {
	host, _ := hostOf(t, nil)
	host.tell(kindHello, &agentv1.Hello{Nonce: nonceOf(1), Version: version + 7, Oldest: version + 5})
	w := host.welcomed(nonceOf(1))
	if w.GetVersion() != 0 || w.GetError().GetClass() != agentv1.Error_FAILED_PRECONDITION || w.GetError().GetMessage() == "" {
		t.Errorf("got %v", w)
	}
	// A newer host that still speaks this version is welcome.
	host.tell(kindHello, &agentv1.Hello{Nonce: nonceOf(2), Version: version + 7, Oldest: oldest})
	if w := host.welcomed(nonceOf(2)); w.GetVersion() != version {
		t.Errorf("got %v", w)
	}
}
