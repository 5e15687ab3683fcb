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

// startVirtiofsd starts a virtiofsd that outlives us, as QEMU does, and returns when it
// listens.
func (h *Hypervisor) startVirtiofsd(ctx context.Context, id string, plan replug, socket string) (_ *os.Process, err error) {
	binary, err := plan.virtiofsd()
	if err != nil {
		return nil, err
	}
	account, err := h.qemuAccount(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o711); err != nil { //nolint:gosec // QEMU's user has to get through
		return nil, fmt.Errorf("make the folder of sockets: %w", err)
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
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err = awaitSocket(ctx, socket, ended)
	if err == nil {
		// The folder is root's alone, so this is the socket that virtiofsd made.
		err = os.Lchown(socket, int(account.uid), -1)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start virtiofsd, see %s: %w", log.Name(), err), cmd.Process.Kill())
	}
	return cmd.Process, nil
}

func (r replug) virtiofsd() (string, error) {
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
func awaitSocket(ctx context.Context, socket string, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Lstat(socket); err == nil {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("it ended at once: %w", errors.Join(err, errdefs.ErrUnavailable))
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
