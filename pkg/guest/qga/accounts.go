// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

const (
	// maxKeys is the most keys that an agent may tell of, maxKey the most bytes of one that are kept.
	maxKeys = 1000
	maxKey  = 16 << 10
)

// sshKeys is what guest-ssh-get-authorized-keys answers.
type sshKeys struct {
	Keys []string `json:"keys"`
}

// Keys returns the lines of a user's authorized keys, none where there is no file.
func (a *Agent) Keys(ctx context.Context, id, user string) ([]string, error) {
	var answer sshKeys
	err := a.command(ctx, id, commandTimeout, "guest-ssh-get-authorized-keys", map[string]string{"username": user}, &answer)
	if errors.Is(err, errRefused) && strings.Contains(err.Error(), "No such file") {
		return nil, nil
	}
	if err != nil {
		return nil, mend(err)
	}
	if len(answer.Keys) > maxKeys {
		return nil, nonsense(fmt.Errorf("%d keys", len(answer.Keys)))
	}
	for i, key := range answer.Keys {
		answer.Keys[i] = printableUpTo(key, maxKey)
	}
	return answer.Keys, nil
}

// su runs what it is given as another user.
const su = "su"

// SetKeys changes a user's authorized keys, by a script that runs as that user. The agent's own commands for it would write
// as root wherever a link in the home leads, and make what is there the user's.
func (a *Agent) SetKeys(ctx context.Context, id string, c vm.KeysChange) error {
	if _, err := a.Keys(ctx, id, c.User); err != nil { // is there such a user?
		return err
	}
	input := strings.Join(append([]string{string(c.Mode)}, c.Keys...), "\n") + "\n"
	pid, err := a.start(ctx, id, execArguments{
		Path: setsid, Arg: []string{su, "-s", shell, "-c", keysScript, c.User}, InputData: []byte(input), CaptureOutput: true,
	})
	if err != nil {
		return err
	}
	status, err := a.wait(ctx, id, pid)
	if err != nil {
		return also(err, command{agent: a, id: id, tag: newTag()}.kill(ctx, pid, err))
	}
	switch status.code() {
	case 0:
		return nil
	case 45:
		return fmt.Errorf("~%s/.ssh or authorized_keys in it is a link, or no file: %w", c.User, errdefs.ErrFailedPrecondition)
	}
	return fmt.Errorf("write ~%s/.ssh/authorized_keys: exit code %d: %s: %w", c.User, status.code(), printable(string(status.Stderr)), errdefs.ErrFailedPrecondition)
}

// SetPassword gives a user another password. The agent hands it to chpasswd by a pipe. Errors do not repeat it.
func (a *Agent) SetPassword(ctx context.Context, id string, p vm.GuestPassword) error {
	err := mend(a.command(ctx, id, commandTimeout, "guest-set-user-password", map[string]any{
		"username": p.User, "password": []byte(p.Password), "crypted": p.Crypted, // base64, as []byte is
	}, nil))
	if err != nil && strings.Contains(err.Error(), p.Password) {
		return fmt.Errorf("refused, in words that hold the password: %w", errdefs.ErrFailedPrecondition)
	}
	return err
}

// mend gives a refusal that has no class the one that its words are for: it is the guest that has to change.
func mend(err error) error {
	if !errors.Is(err, errRefused) || !errors.Is(err, errdefs.ErrUnknown) {
		return err
	}
	text := strings.TrimSuffix(err.Error(), ": "+errdefs.ErrUnknown.Error())
	switch {
	case strings.Contains(text, "failed to lookup user"), strings.Contains(text, "No such file"):
		return fmt.Errorf("%s: %w", text, errdefs.ErrNotFound)
	case strings.Contains(text, "No space left"):
		return fmt.Errorf("%s: %w", text, errdefs.ErrResourceExhausted)
	}
	return fmt.Errorf("%s: %w", text, errdefs.ErrFailedPrecondition)
}
