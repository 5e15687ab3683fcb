// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// virtiofsds is where distributions have virtiofsd, if libvirt did not say.
var virtiofsds = []string{"/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd"}

// listenTimeout is how long a new virtiofsd may take to listen.
const listenTimeout = 5 * time.Second

// replug is what a new virtiofsd is started with.
type replug struct{ source, binary string }

// virtiofsd is a process that we started, a session of its own; ended is closed at its end.
type virtiofsd struct {
	pid   int
	ended chan struct{}
}

// startVirtiofsd starts a virtiofsd that outlives us, as QEMU does, and returns when it
// listens.
func (h *Hypervisor) startVirtiofsd(ctx context.Context, id string, plan replug, socket string) (_ *virtiofsd, err error) {
	binary, err := plan.executable()
	if err != nil {
		return nil, err
	}
	account, err := h.qemuAccount(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.removeShareSocket(id); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(h.cfg.LogDir, vm.DomainName(id)+"-replugged-virtiofsd.log"),
		os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open virtiofsd's log: %w", err)
	}
	defer log.Close() //nolint:errcheck // nothing was written by us
	//nolint:noctx // it is to outlive ctx, and us
	cmd := exec.Command(binary, "--socket-path="+socket, "-o", "source="+plan.source)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start virtiofsd: %w", err)
	}
	daemon := &virtiofsd{pid: cmd.Process.Pid, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() //nolint:errcheck // its log says why it ended
		close(daemon.ended)
	}()
	err = awaitSocket(ctx, socket, daemon.ended)
	if err == nil {
		// Only root writes to the folder, so this is the socket that virtiofsd made.
		err = os.Lchown(socket, int(account.uid), -1)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start virtiofsd, see %s: %w", log.Name(), err), daemon.end())
	}
	return daemon, nil
}

// end ends it, which was not plugged: what is left of it would be taken for one that serves.
func (v *virtiofsd) end() error {
	if err := unix.Kill(-v.pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end virtiofsd: %w", err)
	}
	<-v.ended
	return nil
}

func (r replug) executable() (string, error) {
	if r.binary != "" {
		return r.binary, nil
	}
	for _, path := range virtiofsds {
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no virtiofsd among %v: %w", virtiofsds, errdefs.ErrFailedPrecondition)
}

// awaitSocket waits for a listener's socket: nothing tells of it.
func awaitSocket(ctx context.Context, socket string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Lstat(socket); err == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("it ended at once: %w", errdefs.ErrUnavailable)
		case <-ctx.Done():
			return fmt.Errorf("it does not listen: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// removeShareSocket removes what a killed ReplugShare may have left. Idempotent.
func (h *Hypervisor) removeShareSocket(id string) error {
	if h.cfg.ShareSocket == nil {
		return nil
	}
	if err := os.Remove(h.cfg.ShareSocket(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove virtiofsd's socket: %w", err)
	}
	return nil
}

// shareLogs is a pattern that matches the logs of a domain's virtiofsds: libvirt names them
// after the domain and the device.
func shareLogs(dir, id string) string {
	return filepath.Join(dir, vm.DomainName(id)+"-*-virtiofsd.log")
}
