// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"errors"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// install puts a filter on the thread, which has to end with it.
func install(program []byte) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := unix.SockFprog{Len: uint16(len(program) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&program[0]))}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&filter))); errno != 0 {
		return errno
	}
	return nil
}

// The kernel checks a filter that it is given; the interpreter above does not.
func TestAKernelTakesTheDefaultAndKeepsToIt(t *testing.T) {
	program, err := Default("amd64", nil)
	if err != nil {
		t.Fatal(err)
	}
	type answer struct{ installed, mount, getpid error }
	got := make(chan answer)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread and its filter end with this function
		a := answer{installed: install(program)}
		if a.installed == nil {
			a.mount = unix.Mount("none", "/nowhere", "tmpfs", 0, "")
			_, _, errno := unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
			if errno != 0 {
				a.getpid = errno
			}
		}
		got <- a
	}()
	a := <-got
	if a.installed != nil || a.getpid != nil || !errors.Is(a.mount, unix.EPERM) {
		t.Errorf("installed: %v, getpid: %v, mount: %v", a.installed, a.getpid, a.mount)
	}
}
