// SPDX-License-Identifier: Apache-2.0

package accounts

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// maxPassword bounds a password, or its hash.
	maxPassword = 1 << 10
	// chpasswdTimeout is how long chpasswd may take, which may wait for another one.
	chpasswdTimeout = 30 * time.Second
)

// chpasswds are where the program may be that systems have for this.
var chpasswds = []string{"chpasswd", "/usr/sbin/chpasswd", "/sbin/chpasswd"}

// SetPassword gives a user another password, by chpasswd(8), which knows the guest's ways to keep them. The password is
// in no argument and in no error. It does not end with ctx: what is half done might stay locked.
func (Accounts) SetPassword(ctx context.Context, req *agentv1.SetPasswordRequest) error {
	password := req.GetPassword()
	if password == "" || len(password) > maxPassword || strings.ContainsAny(password, "\r\n\x00") || req.GetCrypted() && strings.Contains(password, ":") {
		return fmt.Errorf("the password is empty, longer than %d bytes, has more than one line, or is no hash: %w", maxPassword, errdefs.ErrInvalidArgument)
	}
	if _, err := lookup(req.GetUser()); err != nil {
		return err
	}
	program, err := find(chpasswds)
	if err != nil {
		return err
	}
	var args []string
	if req.GetCrypted() {
		args = []string{"-e"}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), chpasswdTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(req.GetUser() + ":" + password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("chpasswd: %w%s: %w", err, without(password, string(out)), errdefs.ErrFailedPrecondition)
	}
	return nil
}

// without is what a program has said, unless it has repeated the secret.
func without(secret, said string) string {
	said = strings.TrimSpace(said)
	if said == "" || strings.Contains(said, secret) {
		return ""
	}
	return fmt.Sprintf(": %.200s", said)
}

func find(programs []string) (string, error) {
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("the guest has no %s: %w", programs[0], errdefs.ErrFailedPrecondition)
}
