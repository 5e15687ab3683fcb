// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/vmlet/vmlet/pkg/agentlink"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Features are those of the calls that an agent of before did not have.
var Features = []string{"guest-calls", "clock"}

// dispatchGuest serves a request that is about files and users of the guest.
func (s *Server) dispatchGuest(ctx context.Context, st *agentlink.Stream, req *agentv1.Request) (*agentv1.Reply, error) {
	switch c := req.GetCall().(type) {
	case *agentv1.Request_GetFile:
		return nil, s.getFile(st, c.GetFile)
	case *agentv1.Request_PutFile:
		return s.putFile(ctx, st, c.PutFile)
	case *agentv1.Request_GetKeys:
		keys, err := s.Accounts.Keys(c.GetKeys.GetUser())
		return &agentv1.Reply{Result: &agentv1.Reply_Keys{Keys: &agentv1.Keys{Lines: keys}}}, err
	case *agentv1.Request_SetKeys:
		return done(s.Accounts.SetKeys(c.SetKeys))
	case *agentv1.Request_SetPassword:
		return done(s.Accounts.SetPassword(ctx, c.SetPassword))
	default:
		return nil, errUnknown
	}
}

// getFile sends a part of a file.
func (s *Server) getFile(st *agentlink.Stream, req *agentv1.GetFileRequest) error {
	part, err := s.Machine.OpenFile(req)
	if err != nil {
		return err
	}
	defer part.Close() //nolint:errcheck // read only
	if st.Send(&agentv1.Reply{Result: &agentv1.Reply_FileStat{FileStat: part.Stat}}) != nil {
		return nil // nobody is there to be told
	}
	for buf := make([]byte, agentlink.MaxPiece); ; {
		n, err := io.ReadFull(part, buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			s.Log(fmt.Errorf("read a file for vmlet: %w", err))
			return nil // without its last chunk the file has not come whole
		}
		if st.Send(&agentv1.FileChunk{Data: buf[:n], Last: err != nil}) != nil || err != nil {
			return nil
		}
	}
}

// putFile takes a file, and leaves nothing of one that does not come whole.
func (s *Server) putFile(ctx context.Context, st *agentlink.Stream, req *agentv1.PutFileRequest) (*agentv1.Reply, error) {
	f, err := s.Machine.CreateFile(req)
	if err != nil {
		return nil, err
	}
	err = st.Send(&agentv1.Reply{})
	if err == nil {
		err = f.Fill(pieces(chunks(st)))
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, f.Abandon())
	}
	return done(f.Commit())
}
