// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// ReadFile reads a part of a file. begin is told of the file and returns where the content goes. An error of either ends
// the call and is returned; Unavailable if the content ends early.
func (a *Agents) ReadFile(ctx context.Context, id string, req vm.ReadGuestFile, begin func(vm.GuestFile) (io.Writer, error)) error {
	st, err := a.Call(ctx, id, &agentv1.Request{Call: &agentv1.Request_GetFile{GetFile: &agentv1.GetFileRequest{
		Path: req.Path, Offset: uint64(req.Offset), Limit: uint64(req.Limit),
	}}})
	if err != nil {
		return err
	}
	//nolint:errcheck // it ends a stream that is of no use any more
	defer func() { _ = st.Close() }()
	st.Limit(shortAnswer)
	reply, err := Answer(st)
	if err != nil {
		return a.tooOld(id, err)
	}
	file, err := fileOf(reply.GetFileStat())
	if err != nil {
		return err
	}
	to, err := begin(file)
	if err != nil {
		return err
	}
	return receiveFile(st, to, req.Span(file))
}

// receiveFile writes chunks, up to the last, of at most left bytes in all.
func receiveFile(st *agentlink.Stream, to io.Writer, left int64) error {
	for {
		var chunk agentv1.FileChunk
		err := st.Receive(&chunk)
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("the file did not come whole; it may have become unreadable: %w", errdefs.ErrUnavailable)
		case errdefs.IsInvalidArgument(err):
			return nonsense(err)
		case err != nil:
			return err
		}
		if left -= int64(len(chunk.GetData())); left < 0 {
			return nonsense(errors.New("more of a file than there is"))
		}
		if len(chunk.GetData()) > 0 {
			if _, err := to.Write(chunk.GetData()); err != nil {
				return err
			}
		}
		if chunk.GetLast() {
			return nil
		}
	}
}

// fileOf checks what is said of a file.
func fileOf(s *agentv1.FileStat) (vm.GuestFile, error) {
	if s == nil || int64(s.GetSize()) < 0 {
		return vm.GuestFile{}, nonsense(errors.New("a file without a size"))
	}
	return vm.GuestFile{
		Size: int64(s.GetSize()), Mode: s.GetMode() & 0o7777, UID: s.GetUid(), GID: s.GetGid(),
		Modified: time.Unix(0, s.GetModifiedUnixNano()),
	}, nil
}

// WriteFile writes a file, whole or not at all, with what content brings until io.EOF; any other error of it leaves no
// file. content may be read from, in a goroutine of its own, until it ends, though what it brings then goes nowhere.
func (a *Agents) WriteFile(ctx context.Context, id string, f vm.WriteGuestFile, content io.Reader) error {
	live, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := a.open(ctx, live, id, &agentv1.Request{Call: &agentv1.Request_PutFile{PutFile: &agentv1.PutFileRequest{
		Path: f.Path, Mode: f.Mode, Uid: f.UID, Gid: f.GID, Overwrite: f.Overwrite, Parents: f.Parents,
	}}})
	if err != nil {
		return a.tooOld(id, err)
	}
	//nolint:errcheck // it ends a stream that is of no use any more
	defer func() { _ = st.Close() }()
	st.Limit(shortAnswer)
	broken, whole := make(chan error, 1), make(chan struct{})
	go func() {
		if err := sendFile(st, content, func() { close(whole) }); err != nil {
			broken <- err
			//nolint:errcheck // the agent lets go of what it has
			_ = st.Close()
		}
	}()
	_, err = Answer(st)
	select {
	case cause := <-broken:
		return cause
	case <-whole:
		if err != nil {
			err = instead(ctx, err)
		}
		return err
	default: // the agent cannot go on, and says why
	}
	if err == nil {
		return nonsense(errors.New("a file is said to be written that has not come yet"))
	}
	return instead(ctx, err)
}

// sendFile sends what content brings, and calls ended before the last of it. It returns only content's errors: one of the
// stream is told to who receives.
func sendFile(st *agentlink.Stream, content io.Reader, ended func()) error {
	for buf := make([]byte, agentlink.MaxPiece); ; {
		n, err := io.ReadFull(content, buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if err != nil {
			ended()
		}
		if st.Send(&agentv1.FileChunk{Data: buf[:n], Last: err != nil}) != nil || err != nil {
			return nil //nolint:nilerr // the end of content is no error, and one of the stream is told to who receives
		}
	}
}

// tooOld says what to do about an agent that does not know a call.
func (a *Agents) tooOld(id string, err error) error {
	if !errdefs.IsNotImplemented(err) {
		return err
	}
	return fmt.Errorf("the guest's vmlet-agent %s is older than this call, use one of vmlet's own version: %w", a.version(id), err)
}

// version is what the guest's agent says of itself, "" while there is none.
func (a *Agents) version(id string) string {
	g, err := a.guest(id)
	if err != nil {
		return ""
	}
	if s := g.current(); s != nil {
		return s.Peer().Version
	}
	return ""
}
