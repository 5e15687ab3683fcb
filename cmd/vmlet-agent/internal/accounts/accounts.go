// SPDX-License-Identifier: Apache-2.0

// Package accounts is what the agent does for users of the guest: the keys by which they log in, and their passwords.
//
// A user may be hostile, and the agent is root. So in a user's home it has the user's rights and no more, and goes
// through no link that leads out of it.
package accounts

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/thread"
)

// Accounts are the guest's users, as /etc/passwd and /etc/group have them. For concurrent use.
type Accounts struct{}

// account is one user.
type account struct {
	name   string
	home   string
	uid    int
	gid    int
	groups []uint32
}

// maxName is more than any system's.
const maxName = 256

// lookup finds a user. NotFound for one that is not in /etc/passwd.
func lookup(name string) (account, error) {
	if name == "" || len(name) > maxName || strings.ContainsAny(name, ":/\n\x00") || name[0] == '-' {
		return account{}, fmt.Errorf("%q is no user's name: %w", name[:min(len(name), maxName)], errdefs.ErrInvalidArgument)
	}
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, fmt.Errorf("user %q is not in the guest's /etc/passwd: %w", name, errdefs.ErrNotFound)
	}
	a := account{name: name, home: u.HomeDir}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 31)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 31)
	if err := errors.Join(errUID, errGID); err != nil || !filepath.IsAbs(u.HomeDir) {
		return account{}, fmt.Errorf("user %q of the guest's /etc/passwd has no ID, no group or no home (%w): %w", name, err, errdefs.ErrFailedPrecondition)
	}
	a.uid, a.gid = int(uid), int(gid)
	groups, err := u.GroupIds()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return account{}, fmt.Errorf("groups of %s: %w", name, err)
	}
	for _, id := range groups {
		if gid, err := strconv.ParseUint(id, 10, 31); err == nil {
			a.groups = append(a.groups, uint32(gid))
		}
	}
	return a, nil
}

// atHome runs f in the user's home, with the user's rights to files and to nothing else: also the files that it makes are
// the user's.
func (a account) atHome(f func(home *os.Root) error) error {
	return thread.Do(func() error {
		if err := a.become(); err != nil {
			return err
		}
		home, err := os.OpenRoot(a.home)
		if err != nil {
			return fmt.Errorf("the home of %s: %w: %w", a.name, err, errdefs.ErrFailedPrecondition)
		}
		return errors.Join(f(home), home.Close())
	})
}

// become gives the calling thread the user's rights to files. Go's own functions would do it to all threads.
func (a account) become() error {
	if a.uid == 0 {
		return nil
	}
	groups := append([]uint32{uint32(a.gid)}, a.groups...)
	if err := setGroups(groups); err != nil {
		return fmt.Errorf("take the groups of %s: %w", a.name, err)
	}
	if err := unix.Setfsgid(a.gid); err != nil {
		return err
	}
	if err := unix.Setfsuid(a.uid); err != nil {
		return err
	}
	// These two tell of no failure, but of what was before.
	gid, errGID := unix.SetfsgidRetGid(-1)
	uid, errUID := unix.SetfsuidRetUid(-1)
	if err := errors.Join(errGID, errUID); err != nil || gid != a.gid || uid != a.uid {
		return fmt.Errorf("files are not handled as %s but as %d:%d (%w): %w", a.name, uid, gid, err, errdefs.ErrInternal)
	}
	return nil
}
