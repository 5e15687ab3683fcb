// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"syscall"
	"testing"
	"time"
)

// SlowSaves has libvirt write the memory of this node's VMs as to a slow disk until the test ends: a fast machine writes a GiB in
// half a second, which leaves no middle to be seen, or for vmlet to be killed in.
func (n *Node) SlowSaves(t *testing.T) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		<-done
	})
	go func() {
		defer close(done)
		for {
			held, err := processes("libvirt_iohelper", n.LibDir)
			if err != nil {
				t.Error(err)
				return
			}
			signalAll(held, syscall.SIGSTOP)
			stopped := waits(stop, 80*time.Millisecond)
			signalAll(held, syscall.SIGCONT)
			if stopped || waits(stop, 10*time.Millisecond) {
				return
			}
		}
	}()
}

func signalAll(pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig) //nolint:errcheck // it may have ended
	}
}

func waits(stop <-chan struct{}, d time.Duration) (stopped bool) {
	select {
	case <-stop:
		return true
	case <-time.After(d):
		return false
	}
}
