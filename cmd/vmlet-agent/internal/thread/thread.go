// SPDX-License-Identifier: Apache-2.0

// Package thread runs code on an OS thread that is thrown away afterwards. Namespaces,
// capabilities, no_new_privs, the working directory: Linux keeps them per thread, and a
// process that the thread starts inherits them.
package thread

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do runs f on a thread that nothing else uses, with a working directory, root and umask of
// its own. What f makes of the thread is gone when f returns.
func Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread cannot be thrown away, and /proc/self would show what it
			// became. It waits while another one does the work.
			defer runtime.UnlockOSThread()
			done <- Do(f)
			return
		}
		// Without UnlockOSThread the thread ends with this goroutine.
		done <- run(f)
	}()
	return <-done
}

func run(f func() error) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("own the thread's working directory: %w", err)
	}
	return f()
}
