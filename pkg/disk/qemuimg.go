// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// killDelay is how long a killed qemu-img may take to end.
const killDelay = 2 * time.Second

// qemuImg runs qemu-img. ResourceExhausted: there is no room. FailedPrecondition: there is
// no qemu-img, or a QEMU has the disk open.
func qemuImg(ctx context.Context, args ...string) error {
	return runQEMUImg(ctx, exec.CommandContext(ctx, "qemu-img", args...))
}

// qemuImgAs is qemuImg with the rights of a user alone.
func qemuImgAs(ctx context.Context, who owner, args ...string) error {
	cmd := exec.CommandContext(ctx, "qemu-img", args...)
	if who.uid != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.gid)}}
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// It must not outlive us: what it has locked, no QEMU could be started on. The signal comes with the end of the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.Dir = "/" // the daemon's own may be closed to the user
	return runQEMUImg(ctx, cmd)
}

func runQEMUImg(ctx context.Context, cmd *exec.Cmd) error {
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = killDelay
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	case bytes.Contains(out, []byte("No space left on device")), bytes.Contains(out, []byte("Disk quota exceeded")):
		return fmt.Errorf("no room left for disks: %s: %w", said(out), errdefs.ErrResourceExhausted)
	case bytes.Contains(out, []byte("Is another process using the image")):
		return fmt.Errorf("the disk is in use: %s: %w", said(out), errdefs.ErrFailedPrecondition)
	default:
		return fmt.Errorf("qemu-img: %w: %s", err, said(out))
	}
}

// said is a program's message on one line.
func said(out []byte) string { return strings.Join(strings.Fields(string(out)), " ") }
