// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"

	"github.com/vmlet/vmlet/pkg/agentlink"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// waitMain answers when the container's command has ended.
func (s *Server) waitMain(ctx context.Context, req *agentv1.WaitMainRequest) (*agentv1.Reply, error) {
	exit, err := s.Command.Wait(ctx, req.GetId())
	return &agentv1.Reply{Result: &agentv1.Reply_MainExit{MainExit: exit}}, err
}

// ackMain forgets the command's exit, and then has the guest go down if the caller wants it
// to: the answer comes first, since afterwards there may be none.
func (s *Server) ackMain(ctx context.Context, st *agentlink.Stream, req *agentv1.AckMainRequest) error {
	if err := s.Command.Ack(req.GetId()); err != nil {
		return err
	}
	if req.GetPowerOff() {
		return s.power(ctx, st, &agentv1.PowerRequest{Action: agentv1.PowerRequest_OFF})
	}
	return st.Send(&agentv1.Reply{})
}

// power answers, and has the guest go down.
func (s *Server) power(ctx context.Context, st *agentlink.Stream, req *agentv1.PowerRequest) error {
	if err := s.Machine.CanPower(req.GetAction()); err != nil {
		return err
	}
	_ = st.Send(&agentv1.Reply{}) //nolint:errcheck // with nobody to be told it is done nevertheless
	_ = st.CloseWrite()           //nolint:errcheck // likewise
	if err := s.Machine.Power(context.WithoutCancel(ctx), req.GetAction()); err != nil {
		s.Log(err)
	}
	return nil
}

// attachMain gives the command input until the caller has no more, or the command has ended.
func (s *Server) attachMain(ctx context.Context, st *agentlink.Stream, req *agentv1.AttachMainRequest) error {
	a, err := s.Command.Attach(req.GetId())
	if err != nil {
		return err
	}
	defer a.Close()
	if err := st.Send(&agentv1.Reply{}); err != nil {
		return nil // nobody is there to be told
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over := make(chan error, 1)
	go func() {
		over <- receive(ctx, st, receiver{
			stdin:      func(b []byte) error { return a.Write(ctx, b) },
			closeStdin: a.Close,
			resize:     a.Resize,
		})
	}()
	select {
	case err := <-over:
		if err != nil {
			s.Log(err)
		}
	case <-a.Done():
	}
	return nil
}
