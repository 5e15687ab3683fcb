// SPDX-License-Identifier: Apache-2.0

package agentlink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// FuzzFrame: what one side writes the other reads, whatever garbage stands before it.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add([]byte{0, 0, 1, 2, 3}, []byte("payload"))
	f.Add(bytes.Repeat([]byte{1}, 300), make([]byte, 600))
	f.Fuzz(func(t *testing.T, garbage, payload []byte) {
		payload = payload[:min(len(payload), maxPayload)]
		var wire bytes.Buffer
		wire.Write(garbage)
		out := newFrameWriter(&wire)
		for range 2 {
			if err := out.write(kindHello, payload); err != nil {
				t.Fatal(err)
			}
		}
		if err := out.write(kindData, payload); err != nil {
			t.Fatal(err)
		}
		in := newFrameReader(&wire, -1)
		var last []frame
		for {
			fr, err := in.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			last = append(last, frame{fr.kind, bytes.Clone(fr.payload)})
		}
		// The garbage may hold frames of its own.
		if len(last) < 3 {
			t.Fatalf("%d frames", len(last))
		}
		for i, want := range []kind{kindHello, kindHello, kindData} {
			if got := last[len(last)-3+i]; got.kind != want || !bytes.Equal(got.payload, payload) {
				t.Fatalf("frame %d: kind %d, %d bytes", i, got.kind, len(got.payload))
			}
		}
	})
}

// Scripts of the fuzzers: a byte that says what comes next, and for most a length and as many
// bytes.
const (
	sayRaw = iota
	sayWelcome
	sayReady
	sayHello
	sayData
	sayGap
	sayOther
	says
)

// saying turns a script into what a side of the link sends. nonce is that of the session.
func saying(script, nonce []byte) []byte {
	var wire bytes.Buffer
	l := &link{out: newFrameWriter(&wire)}
	c := &conn{link: l, tag: nonce[:tagLen]}
	for len(script) >= 2 {
		what, n := script[0]%says, min(int(script[1]), len(script)-2)
		body := script[2 : 2+n]
		script = script[2+n:]
		switch what {
		case sayRaw:
			wire.Write(body)
		case sayWelcome:
			must(l.tell(kindWelcome, &agentv1.Welcome{Nonce: nonce, Version: 1, BootId: "boot", Agent: string(bytes.ToValidUTF8(body, nil))}))
		case sayReady:
			must(l.tell(kindReady, &agentv1.Ready{}))
		case sayHello:
			must(l.tell(kindHello, &agentv1.Hello{Nonce: nonce, Version: 1, Oldest: 1}))
		case sayData:
			if _, err := c.Write(body); err != nil {
				panic(err)
			}
		case sayGap:
			c.sent += uint32(n)
		case sayOther:
			must(l.out.write(kind(n), body))
		}
	}
	return wire.Bytes()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// script makes a script of a session with these bytes of yamux.
func script(begin byte, mux ...[]byte) []byte {
	s := []byte{begin, 0}
	for _, m := range mux {
		s = append(append(s, sayData, byte(len(m))), m...)
	}
	return s
}

// FuzzHostReads: whatever the guest sends, the host's side neither panics, hangs nor holds on.
func FuzzHostReads(f *testing.F) {
	reply, err := proto.Marshal(&agentv1.Reply{Result: &agentv1.Reply_Info{Info: &agentv1.Info{BootId: "b"}}})
	if err != nil {
		f.Fatal(err)
	}
	message := append([]byte{byte(len(reply))}, reply...)
	f.Add(script(sayWelcome, append(muxBytes(muxData, 2, 1, uint32(len(message))), message...)))
	f.Add(script(sayWelcome, muxBytes(muxWindow, flagSYN, 2, 0), muxBytes(muxWindow, flagRST, 1, 0)))
	f.Add(script(sayWelcome, muxBytes(2, flagSYN, 0, 7), muxBytes(3, 0, 0, 0)))
	f.Add(script(sayReady, muxBytes(muxData, 0, 1, 1<<31)))
	f.Add([]byte{sayRaw, 3, 1, 0, 5, sayWelcome, 0, sayGap, 1, sayData, 1, 0, sayReady, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		host, guest := net.Pipe()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			in := newFrameReader(guest, -1)
			for {
				fr, err := in.next()
				if err != nil {
					return
				}
				h, ok := hello(fr)
				if !ok {
					continue
				}
				all.Go(func() { anyway(io.Copy(io.Discard, guest)) })
				anyway(guest.Write(saying(script, h.GetNonce())))
				anyway(guest.Close())
				return
			}
		})
		if s, err := Connect(ctx, host); err == nil {
			if st, err := s.Open(ctx); err == nil {
				for st.Receive(&agentv1.Reply{}) == nil {
				}
				anyway(st.Close())
			}
			<-s.Done()
			anyway(s.Close())
		}
		anyway(guest.Close())
		all.Wait()
		if ctx.Err() != nil {
			panic("it hangs")
		}
	})
}

// FuzzAgentReads: the same for the agent's side, which goes on to the end of its port.
func FuzzAgentReads(f *testing.F) {
	request, err := proto.Marshal(&agentv1.Request{Call: &agentv1.Request_Info{Info: &agentv1.InfoRequest{}}})
	if err != nil {
		f.Fatal(err)
	}
	message := append([]byte{byte(len(request))}, request...)
	f.Add(script(sayHello, muxBytes(muxWindow, flagSYN, 1, 0), append(muxBytes(muxData, 0, 1, uint32(len(message))), message...)))
	f.Add(script(sayHello, muxBytes(muxWindow, flagSYN, 1, 0), muxBytes(muxWindow, flagRST, 1, 0), muxBytes(muxWindow, flagSYN, 1, 0)))
	f.Add([]byte{sayHello, 0, sayGap, 3, sayData, 2, 1, 1, sayHello, 0, sayRaw, 2, 0, 0, sayHello, 0})
	nonce := bytes.Repeat([]byte{0xa5}, nonceLen)
	f.Fuzz(func(t *testing.T, script []byte) {
		port := &onePass{in: bytes.NewReader(saying(script, nonce))}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var handlers sync.WaitGroup
		handle := func(_ context.Context, s *Stream) {
			handlers.Add(1)
			defer handlers.Done()
			for s.Receive(&agentv1.Request{}) == nil {
				if s.Send(&agentv1.Reply{}) != nil {
					return
				}
			}
		}
		a := &agent{link: &link{in: newFrameReader(port, -1), out: newFrameWriter(port)}, info: Info{BootID: "boot"}, handle: handle}
		err := a.serve(ctx)
		handlers.Wait()
		if !errors.Is(err, net.ErrClosed) {
			panic(err)
		}
	})
}

// onePass is a port that fails once all of it was read.
type onePass struct{ in *bytes.Reader }

func (p *onePass) Read(b []byte) (int, error) {
	n, err := p.in.Read(b)
	if err != nil {
		err = net.ErrClosed
	}
	return n, err
}

func (*onePass) Write(b []byte) (int, error) { return len(b), nil }

func (*onePass) Close() error { return nil }
