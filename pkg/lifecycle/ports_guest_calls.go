// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"io"

	"github.com/vmlet/vmlet/pkg/vm"
)

// GuestCalls are what is done in a guest for its owner, by either agent, under the terms of Guest. What an agent that is
// too old cannot do is NotImplemented.
type GuestCalls interface {
	// Info asks the agent about its guest.
	Info(ctx context.Context, id string) (vm.GuestInfo, error)
	// ReadFile reads a part of a regular file: begin is told of the file, once, and returns where the content goes, of
	// which no more than a piece is held at a time. NotFound without such a file, FailedPrecondition for what is none; an
	// error of begin or of the writer ends the call and is returned.
	ReadFile(ctx context.Context, id string, req vm.ReadGuestFile, begin func(vm.GuestFile) (io.Writer, error)) error
	// WriteFile writes a regular file with what content brings until io.EOF, whole or not at all: any other error of it
	// leaves what was there, as does one of the call. AlreadyExists, NotFound without the folder, FailedPrecondition for a
	// place that something else has. content may be read from, in a goroutine of its own, until it ends, though what it
	// brings after the return goes nowhere.
	WriteFile(ctx context.Context, id string, f vm.WriteGuestFile, content io.Reader) error
	// Keys returns a user's authorized keys; NotFound without such a user. SetKeys changes them, whole or not at all, and
	// leaves alone what a link of the user's leads to outside of the home.
	Keys(ctx context.Context, id, user string) ([]string, error)
	SetKeys(ctx context.Context, id string, c vm.KeysChange) error
	// SetPassword gives a user another password; NotFound without such a user. No error holds it.
	SetPassword(ctx context.Context, id string, p vm.GuestPassword) error
}
