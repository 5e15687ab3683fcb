// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// maxKeys is the most keys that an agent may tell of, maxKey the most bytes of one that are kept.
	maxKeys = 1000
	maxKey  = 16 << 10
)

var keysModes = map[vm.KeysMode]agentv1.SetKeysRequest_Mode{
	vm.KeysReplace: agentv1.SetKeysRequest_REPLACE,
	vm.KeysAdd:     agentv1.SetKeysRequest_ADD,
	vm.KeysRemove:  agentv1.SetKeysRequest_REMOVE,
}

// Keys returns the lines of a user's authorized keys.
func (a *Agents) Keys(ctx context.Context, id, user string) ([]string, error) {
	st, err := a.Call(ctx, id, &agentv1.Request{Call: &agentv1.Request_GetKeys{GetKeys: &agentv1.GetKeysRequest{User: user}}})
	if err != nil {
		return nil, err
	}
	reply, err := Answer(st)
	if closeErr := st.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, a.tooOld(id, err)
	}
	lines := reply.GetKeys().GetLines()
	if len(lines) > maxKeys {
		return nil, nonsense(fmt.Errorf("%d keys", len(lines)))
	}
	keys := make([]string, len(lines))
	for i, line := range lines {
		keys[i] = agentlink.Printable(line, maxKey)
	}
	return keys, nil
}

// SetKeys changes a user's authorized keys.
func (a *Agents) SetKeys(ctx context.Context, id string, c vm.KeysChange) error {
	_, err := a.Ask(ctx, id, &agentv1.Request{Call: &agentv1.Request_SetKeys{SetKeys: &agentv1.SetKeysRequest{
		User: c.User, Lines: c.Keys, Mode: keysModes[c.Mode],
	}}})
	return a.tooOld(id, err)
}

// SetPassword gives a user another password. Its errors do not repeat it, whatever the guest says.
func (a *Agents) SetPassword(ctx context.Context, id string, p vm.GuestPassword) error {
	_, err := a.Ask(ctx, id, &agentv1.Request{Call: &agentv1.Request_SetPassword{SetPassword: &agentv1.SetPasswordRequest{
		User: p.User, Password: p.Password, Crypted: p.Crypted,
	}}})
	return withoutSecret(a.tooOld(id, err), p.Password)
}

// withoutSecret is err, or where its text holds the secret only its class.
func withoutSecret(err error, secret string) error {
	if err == nil || !strings.Contains(err.Error(), secret) {
		return err
	}
	class := errdefs.Resolve(err)
	for _, known := range classes {
		if errors.Is(err, known) {
			class = known
		}
	}
	return fmt.Errorf("refused, in words that hold the password: %w", class)
}
