// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/containerd/errdefs"
)

// owner is whom QEMU runs as.
type owner struct {
	uid, gid int
}

// lookup finds a user and a group by name or number; "" is the process's own.
func lookup(userName, groupName string) (owner, error) {
	o := owner{os.Getuid(), os.Getgid()}
	if userName != "" {
		uid, err := number(userName, func() (string, error) {
			u, err := user.Lookup(userName)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
		if err != nil {
			return owner{}, fmt.Errorf("QEMU's user %q: %w: %w", userName, err, errdefs.ErrInvalidArgument)
		}
		o.uid = uid
	}
	if groupName != "" {
		gid, err := number(groupName, func() (string, error) {
			g, err := user.LookupGroup(groupName)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
		if err != nil {
			return owner{}, fmt.Errorf("QEMU's group %q: %w: %w", groupName, err, errdefs.ErrInvalidArgument)
		}
		o.gid = gid
	}
	return o, nil
}

// number is s itself if it is one, else what resolve makes of it.
func number(s string, resolve func() (string, error)) (int, error) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return int(n), nil
	}
	found, err := resolve()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(found, 10, 31)
	return int(n), err
}
