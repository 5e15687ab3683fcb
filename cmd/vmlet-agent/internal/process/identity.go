// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/containerd/errdefs"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// identity is who a process is.
type identity struct {
	uid, gid uint32
	groups   []uint32
	home     string
}

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

// lookup finds out who the security means, by the passwd and group files that the calling
// thread sees. A number needs no entry in them.
func lookup(s *agentv1.Security) (identity, error) {
	id := identity{home: "/"}
	u, err := lookupUser(s.GetUser())
	if err != nil {
		return id, err
	}
	if id.uid, err = number(u.Uid); err != nil {
		return id, fmt.Errorf("user %q: %w", s.GetUser(), err)
	}
	if u.HomeDir != "" {
		id.home = u.HomeDir
	}
	group := u.Gid
	if s.GetGroup() != "" {
		group = s.GetGroup()
	}
	if id.gid, err = number(group); err != nil {
		return id, fmt.Errorf("group %q: %w", group, err)
	}
	if len(s.GetSupplementalGroups()) > maxGroups {
		return id, fmt.Errorf("%d supplemental groups: %w", len(s.GetSupplementalGroups()), os.ErrInvalid)
	}
	id.groups = append(id.groups, s.GetSupplementalGroups()...)
	if s.GetStrictGroups() || u.Username == "" {
		return id, nil
	}
	// Without a group file there are no more groups.
	names, err := u.GroupIds()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return id, fmt.Errorf("groups of %s: %w", u.Username, err)
	}
	for _, name := range names {
		// The user's primary group is among them, also where the request has another one.
		if g, err := number(name); err == nil && name != u.Gid {
			id.groups = append(id.groups, g)
		}
	}
	return id, nil
}

// lookupUser returns a user without a name for a number that has no entry.
func lookupUser(name string) (*user.User, error) {
	if name == "" {
		name = "0"
	}
	if _, err := strconv.ParseUint(name, 10, 64); err == nil {
		if u, err := user.LookupId(name); err == nil {
			return u, nil
		}
		return &user.User{Uid: name, Gid: "0"}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("user %q is not in the guest's /etc/passwd: %w", name, errdefs.ErrFailedPrecondition)
	}
	return u, nil
}

// number reads an ID; the highest stands for "leave it as it is" in the kernel's calls.
func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, fmt.Errorf("%q is no ID: %w", s, os.ErrInvalid)
	}
	return uint32(n), nil
}
