// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"io"

	"github.com/vmlet/vmlet/pkg/vm"
)

// agent is what both agents can do alike.
type agent interface {
	Info(ctx context.Context, id string) (vm.GuestInfo, error)
	ReadFile(ctx context.Context, id string, req vm.ReadGuestFile, begin func(vm.GuestFile) (io.Writer, error)) error
	WriteFile(ctx context.Context, id string, f vm.WriteGuestFile, content io.Reader) error
	Keys(ctx context.Context, id, user string) ([]string, error)
	SetKeys(ctx context.Context, id string, c vm.KeysChange) error
	SetPassword(ctx context.Context, id string, p vm.GuestPassword) error
}

// with does something by the agent that answers, ours if it is there: who had to know which one it is has asked AwaitAny.
func (g *Guest) with(ctx context.Context, operation, id string, do func(agent) error) error {
	ours, err := g.first(ctx, id, 0)
	switch {
	case err != nil:
	case ours:
		err = do(g.agents)
	default:
		err = do(g.qga)
	}
	return wrap(operation, id, err)
}

// Info asks the agent about its guest.
func (g *Guest) Info(ctx context.Context, id string) (info vm.GuestInfo, err error) {
	err = g.with(ctx, "ask about the guest of", id, func(a agent) error {
		info, err = a.Info(ctx, id)
		return err
	})
	return info, err
}

// ReadFile reads a part of a file of the guest.
func (g *Guest) ReadFile(ctx context.Context, id string, req vm.ReadGuestFile, begin func(vm.GuestFile) (io.Writer, error)) error {
	return g.with(ctx, "read a file in the guest of", id, func(a agent) error { return a.ReadFile(ctx, id, req, begin) })
}

// WriteFile writes a file in the guest, whole or not at all.
func (g *Guest) WriteFile(ctx context.Context, id string, f vm.WriteGuestFile, content io.Reader) error {
	return g.with(ctx, "write a file in the guest of", id, func(a agent) error { return a.WriteFile(ctx, id, f, content) })
}

// Keys returns the authorized keys of a user of the guest.
func (g *Guest) Keys(ctx context.Context, id, user string) (keys []string, err error) {
	err = g.with(ctx, "read authorized keys in the guest of", id, func(a agent) error {
		keys, err = a.Keys(ctx, id, user)
		return err
	})
	return keys, err
}

// SetKeys changes the authorized keys of a user of the guest.
func (g *Guest) SetKeys(ctx context.Context, id string, c vm.KeysChange) error {
	return g.with(ctx, "write authorized keys in the guest of", id, func(a agent) error { return a.SetKeys(ctx, id, c) })
}

// SetPassword gives a user of the guest another password.
func (g *Guest) SetPassword(ctx context.Context, id string, p vm.GuestPassword) error {
	return g.with(ctx, "set a password in the guest of", id, func(a agent) error { return a.SetPassword(ctx, id, p) })
}
