// SPDX-License-Identifier: Apache-2.0

// Package call serves the calls that vmlet makes (proto/agent/v1), one file for each.
package call

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/accounts"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/command"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/disks"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/files"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/machine"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/nics"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/shares"
	"github.com/vmlet/vmlet/pkg/agentlink"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Server serves calls.
type Server struct {
	Starter *process.Starter
	Command *command.Runner
	Machine *machine.Machine
	NICs    *nics.NICs
	Disks   *disks.Disks
	// Accounts are the guest's users.
	Accounts accounts.Accounts
	Freezer  *machine.Freezer
	Shares   *shares.Shares
	Files    *files.Files
	// Log is told what no caller is.
	Log func(error)
}

// maxRequest bounds how much of the agent's memory a call takes before it is known.
const maxRequest = agentlink.MaxMessage

// Serve serves one call. It is an agentlink.Handler.
func (s *Server) Serve(ctx context.Context, st *agentlink.Stream) {
	st.Limit(maxRequest)
	var req agentv1.Request
	if err := st.Receive(&req); err != nil {
		refuse(st, err)
		return
	}
	reply, err := s.dispatch(ctx, st, &req)
	switch {
	case err != nil:
		refuse(st, err)
	case reply != nil:
		_ = st.Send(reply) //nolint:errcheck // who asked has gone
	}
}

// refuse answers with an error.
func refuse(st *agentlink.Stream, err error) {
	_ = st.Send(&agentv1.Reply{Error: &agentv1.Error{Class: classOf(err), Message: err.Error()}}) //nolint:errcheck // who asked has gone
}

// dispatch serves a request. Without a reply, and without an error, the call has sent all
// there is to send.
func (s *Server) dispatch(ctx context.Context, st *agentlink.Stream, req *agentv1.Request) (*agentv1.Reply, error) {
	switch c := req.GetCall().(type) {
	case *agentv1.Request_Exec:
		return nil, s.exec(ctx, st, c.Exec)
	case *agentv1.Request_AttachMain:
		return nil, s.attachMain(ctx, st, c.AttachMain)
	case *agentv1.Request_Dial:
		return nil, dial(ctx, st, c.Dial)
	case *agentv1.Request_AckMain:
		return nil, s.ackMain(ctx, st, c.AckMain)
	case *agentv1.Request_Power:
		return nil, s.power(ctx, st, c.Power)
	case *agentv1.Request_StartMain:
		return done(s.Command.Start(c.StartMain))
	case *agentv1.Request_WaitMain:
		return s.waitMain(ctx, c.WaitMain)
	case *agentv1.Request_SignalMain:
		return done(s.Command.Signal(c.SignalMain.GetId(), c.SignalMain.GetSignal()))
	case *agentv1.Request_WatchFiles:
		return nil, s.watchFiles(ctx, st, c.WatchFiles)
	case *agentv1.Request_SyncFiles:
		return &agentv1.Reply{Result: &agentv1.Reply_Synced{Synced: &agentv1.Synced{}}}, s.Files.Sync(c.SyncFiles, chunks(st))
	case *agentv1.Request_MountShares:
		return done(s.Shares.Mount(ctx, c.MountShares))
	case *agentv1.Request_UnmountShares:
		return done(s.Shares.Unmount(c.UnmountShares))
	default:
		return s.dispatchMachine(ctx, st, req)
	}
}

// dispatchMachine serves a request that is about the guest as a whole.
func (s *Server) dispatchMachine(ctx context.Context, st *agentlink.Stream, req *agentv1.Request) (*agentv1.Reply, error) {
	switch c := req.GetCall().(type) {
	case *agentv1.Request_Info:
		return &agentv1.Reply{Result: &agentv1.Reply_Info{Info: s.Machine.Info()}}, nil
	case *agentv1.Request_Setup:
		return done(s.Machine.Setup(c.Setup))
	case *agentv1.Request_SetNics:
		return done(s.NICs.Set(ctx, c.SetNics))
	case *agentv1.Request_Readdress:
		return done(s.NICs.Readdress(c.Readdress))
	case *agentv1.Request_ReadFile:
		content, err := s.Machine.ReadFile(c.ReadFile)
		return &agentv1.Reply{Result: &agentv1.Reply_File{File: content}}, err
	case *agentv1.Request_WriteFile:
		return done(s.Machine.WriteFile(c.WriteFile, pieces(chunks(st))))
	case *agentv1.Request_Freeze:
		return s.freeze(st, c.Freeze)
	case *agentv1.Request_Thaw:
		return frozen(s.Freezer.Thaw())
	case *agentv1.Request_SetClock:
		return done(s.Machine.SetClock(time.Unix(0, c.SetClock.GetUnixNano())))
	case *agentv1.Request_Online:
		onlined, err := s.Machine.Online()
		return &agentv1.Reply{Result: &agentv1.Reply_Onlined{Onlined: onlined}}, err
	case *agentv1.Request_DiskUse:
		return s.diskUse(c.DiskUse)
	case *agentv1.Request_GrowDisk:
		return s.growDisk(ctx, c.GrowDisk)
	default:
		return s.dispatchGuest(ctx, st, req)
	}
}

// done is the answer of a call that has none but that it is done.
func done(err error) (*agentv1.Reply, error) { return &agentv1.Reply{}, err }

// errUnknown is a call of a newer vmlet's.
var errUnknown = fmt.Errorf("this agent does not know the call: %w", errdefs.ErrNotImplemented)

// classes are how errors are told to vmlet, the first that fits.
var classes = []struct {
	is    error
	class agentv1.Error_Class
}{
	{errdefs.ErrInvalidArgument, agentv1.Error_INVALID_ARGUMENT},
	{errdefs.ErrNotFound, agentv1.Error_NOT_FOUND},
	{errdefs.ErrAlreadyExists, agentv1.Error_ALREADY_EXISTS},
	{errdefs.ErrFailedPrecondition, agentv1.Error_FAILED_PRECONDITION},
	{errdefs.ErrUnavailable, agentv1.Error_UNAVAILABLE},
	{errdefs.ErrNotImplemented, agentv1.Error_UNIMPLEMENTED},
	{errdefs.ErrResourceExhausted, agentv1.Error_RESOURCE_EXHAUSTED},
	{errdefs.ErrPermissionDenied, agentv1.Error_PERMISSION_DENIED},
	{process.ErrTooMany, agentv1.Error_RESOURCE_EXHAUSTED},
	{fs.ErrInvalid, agentv1.Error_INVALID_ARGUMENT},
	{fs.ErrNotExist, agentv1.Error_NOT_FOUND},
	{fs.ErrExist, agentv1.Error_ALREADY_EXISTS},
	{fs.ErrPermission, agentv1.Error_PERMISSION_DENIED},
	{unix.ENOSPC, agentv1.Error_RESOURCE_EXHAUSTED},
	{unix.EDQUOT, agentv1.Error_RESOURCE_EXHAUSTED},
	{unix.EROFS, agentv1.Error_FAILED_PRECONDITION},
	{unix.ENOTDIR, agentv1.Error_FAILED_PRECONDITION},
	{unix.EISDIR, agentv1.Error_FAILED_PRECONDITION},
	{unix.ELOOP, agentv1.Error_FAILED_PRECONDITION},
}

func classOf(err error) agentv1.Error_Class {
	for _, c := range classes {
		if errors.Is(err, c.is) {
			return c.class
		}
	}
	return agentv1.Error_UNKNOWN
}
