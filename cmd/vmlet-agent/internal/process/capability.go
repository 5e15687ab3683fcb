// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilities are those of capabilities(7), in the order of their numbers.
var capabilities = strings.Fields(`
	CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
	NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
	SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
	MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)

// capSet has the bit of each capability that it holds.
type capSet uint64

// capSetOf returns the set of these names, "CAP_NET_ADMIN".
func capSetOf(names []string) (capSet, error) {
	var set capSet
next:
	for _, name := range names {
		for n, known := range capabilities {
			if name == "CAP_"+known {
				set |= 1 << n
				continue next
			}
		}
		return 0, fmt.Errorf("capability %.64q is not known: %w", name, os.ErrInvalid)
	}
	return set, nil
}

func (s capSet) has(n int) bool { return s&(1<<n) != 0 }

// numbers returns the capabilities of s as syscall.SysProcAttr takes them.
func (s capSet) numbers() []uintptr {
	var ns []uintptr
	for n := range 64 {
		if s.has(n) {
			ns = append(ns, uintptr(n))
		}
	}
	return ns
}

// bound takes all but s out of the thread's bounding set, and clears what it would pass on
// beside. What root starts then has s; what another user starts has the ambient ones only.
func (s capSet) bound() error {
	for n := range 64 {
		if s.has(n) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the kernel has no such capability, nor any above
		}
		if err != nil {
			return fmt.Errorf("bound capabilities: %w", err)
		}
	}
	return inheritable(0)
}

// inheritable sets the thread's inheritable set and clears the ambient one.
func inheritable(s capSet) error {
	err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) { // a kernel without ambient capabilities
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = uint32(s), uint32(s>>32)
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set inheritable capabilities: %w", err)
	}
	return nil
}

// raise makes s ambient, for a thread that has it permitted.
func (s capSet) raise() error {
	if s == 0 {
		return nil
	}
	if err := inheritable(s); err != nil {
		return err
	}
	for _, n := range s.numbers() {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, n, 0, 0); err != nil {
			return fmt.Errorf("raise CAP_%s: %w", capabilities[n], err)
		}
	}
	return nil
}
