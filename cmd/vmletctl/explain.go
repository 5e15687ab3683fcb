// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The beginnings of what gRPC itself says of a connection that breaks off, before vmlet
// was asked and while it was.
var brokenConnection = []string{"connection error: ", "error reading from server: ", "closing transport due to: "}

// errInterrupted is the end of what the user broke off.
var errInterrupted = errors.New("interrupted")

// callError is the error of a call in words for people: what failed and what to do next.
type callError struct {
	status *status.Status
	text   string
}

// Error is the text alone: the code's name says nothing to people.
func (e *callError) Error() string { return e.text }

// GRPCStatus makes status.Code work.
func (e *callError) GRPCStatus() *status.Status { return e.status }

// explain turns the error of a call into a callError. nil and io.EOF stay what they are.
func (e *edge) explain(ctx context.Context, method string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	st := status.Convert(err)
	text := st.Message()
	e.mu.Lock()
	dialErr := e.dialErr
	e.mu.Unlock()
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return errInterrupted
	case overdue(ctx):
		text = "vmlet did not answer in time; allow more by --timeout, or see what it is busy with: vmletctl ps"
	case st.Code() == codes.Unavailable && dialErr != nil:
		text = notConnected(e.address, dialErr)
	case st.Code() == codes.Unavailable && slices.ContainsFunc(brokenConnection, func(b string) bool { return strings.HasPrefix(text, b) }):
		text = fmt.Sprintf("vmlet went away from %s while it was asked; when it is back, look what became of it: vmletctl ps -a", e.address)
	case st.Code() == codes.Unimplemented && unknownToServer(text):
		text = fmt.Sprintf("%s does not serve %s: it is not vmlet, or one of another version; compare: vmletctl version", e.address, method)
	}
	return &callError{st, text}
}

// unknownToServer reports whether it is gRPC that knows no such method, and not vmlet that says what cannot be done.
func unknownToServer(text string) bool {
	return strings.HasPrefix(text, "unknown service") || strings.HasPrefix(text, "unknown method") || strings.HasPrefix(text, "method ")
}

// overdue reports whether the time of a call is over. vmlet knows the deadline too, and
// its answer to that may be here a moment earlier.
func overdue(ctx context.Context) bool {
	const moment = 50 * time.Millisecond
	deadline, bounded := ctx.Deadline()
	return bounded && time.Until(deadline) < moment
}

// notConnected says why there is no connection to the socket, and what to do.
func notConnected(address string, err error) string {
	const start = "start it with `vmlet`, or tell its socket by --address"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("vmlet is not running at %s; %s", address, start)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("vmlet is not running: nobody listens at %s; %s", address, start)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("no permission to use %s; %s", address, whoMay(address))
	}
	return fmt.Sprintf("cannot connect to %s: %v; tell vmlet's socket by --address", address, err)
}

// whoMay says how to get permission to use a socket.
func whoMay(address string) string {
	const root = "run vmletctl as root"
	info, err := os.Stat(address)
	if err != nil { // its folder is closed too
		return root
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Gid == 0 || info.Mode().Perm()&0o060 != 0o060 {
		return root
	}
	gid := strconv.Itoa(int(stat.Gid))
	group, err := user.LookupGroupId(gid)
	if err != nil {
		return fmt.Sprintf("%s, or as a member of the group %s", root, gid)
	}
	return fmt.Sprintf("%s, or as a member of the group %s (usermod -aG %s USER, and log in again)", root, group.Name, group.Name)
}
