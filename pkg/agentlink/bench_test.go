// SPDX-License-Identifier: Apache-2.0

package agentlink_test

import (
	"context"
	"io"
	"testing"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/agentlink/agentlinktest"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Both sides share this process's CPUs; the port is a socket pair.

func BenchmarkCall(b *testing.B) {
	port := agentlinktest.NewPort()
	serve(b, port, "boot", func(_ context.Context, s *agentlink.Stream) {
		if s.Receive(&agentv1.Request{}) == nil {
			anyway(s.Send(&agentv1.Reply{}))
		}
	})
	s := connect(b, port)
	for b.Loop() {
		st, err := s.Open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if err := st.Send(&agentv1.Request{}); err != nil {
			b.Fatal(err)
		}
		if err := st.Receive(&agentv1.Reply{}); err != nil {
			b.Fatal(err)
		}
		if err := st.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFromGuest(b *testing.B) {
	port := agentlinktest.NewPort()
	piece := make([]byte, agentlink.MaxPiece)
	serve(b, port, "boot", func(_ context.Context, s *agentlink.Stream) {
		for {
			if _, err := s.Write(piece); err != nil {
				return
			}
		}
	})
	st := open(b.Context(), b, connect(b, port))
	b.SetBytes(int64(len(piece)))
	for b.Loop() {
		if _, err := io.ReadFull(st, piece); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkToGuest(b *testing.B) {
	port := agentlinktest.NewPort()
	piece := make([]byte, agentlink.MaxPiece)
	serve(b, port, "boot", func(_ context.Context, s *agentlink.Stream) { anyway(io.Copy(io.Discard, s)) })
	st := open(b.Context(), b, connect(b, port))
	b.SetBytes(int64(len(piece)))
	for b.Loop() {
		if _, err := st.Write(piece); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMessagesFromGuest(b *testing.B) {
	port := agentlinktest.NewPort()
	piece := &agentv1.FromProcess{What: &agentv1.FromProcess_Stdout{Stdout: make([]byte, agentlink.MaxPiece)}}
	serve(b, port, "boot", func(_ context.Context, s *agentlink.Stream) {
		for s.Send(piece) == nil {
		}
	})
	st := open(b.Context(), b, connect(b, port))
	b.SetBytes(agentlink.MaxPiece)
	for b.Loop() {
		if err := st.Receive(&agentv1.FromProcess{}); err != nil {
			b.Fatal(err)
		}
	}
}

// anyway drops what a test does not depend on.
func anyway(...any) {}
