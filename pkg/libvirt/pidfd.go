// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// openPIDFD takes hold of a process, so that its number cannot come to mean another one to
// whoever has the descriptor. A process that has ended is errNotActive.
func openPIDFD(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, errNotActive
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// waitPIDFD returns when the process has ended, or with ctx's error. After that the
// descriptor can be waited on again, but for what ctx ended.
func waitPIDFD(ctx context.Context, pidfd *os.File) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = pidfd.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // fails only for a closed one, which ends the wait too
	})
	defer stop()
	err = raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || (err != nil && !errors.Is(err, unix.EINTR))
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
