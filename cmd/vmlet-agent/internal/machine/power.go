// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// powerTimeout is how long the init system may take to accept what it is asked for.
const powerTimeout = 30 * time.Second

// power is how an action is called: by the init system's program, and by the kernel.
type power struct {
	program string
	kernel  int
}

var powers = map[agentv1.PowerRequest_Action]power{
	agentv1.PowerRequest_OFF:    {"poweroff", unix.LINUX_REBOOT_CMD_POWER_OFF},
	agentv1.PowerRequest_REBOOT: {"reboot", unix.LINUX_REBOOT_CMD_RESTART},
}

// CanPower tells whether an action is one that Power knows.
func (*Machine) CanPower(action agentv1.PowerRequest_Action) error {
	if _, ok := powers[action]; !ok {
		return fmt.Errorf("power action %v is not known: %w", action, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Power has the guest go down in its own way, which ends services in order, or, if it has
// none, at once. It returns when that is under way, if at all.
func (m *Machine) Power(ctx context.Context, action agentv1.PowerRequest_Action) error {
	if err := m.CanPower(action); err != nil {
		return err
	}
	p := powers[action]
	unix.Sync()
	err := m.askInit(ctx, p.program)
	if err == nil {
		return nil
	}
	return errors.Join(err, unix.Reboot(p.kernel))
}

func (m *Machine) askInit(ctx context.Context, program string) error {
	ctx, cancel := context.WithTimeout(ctx, powerTimeout)
	defer cancel()
	args := []string{program}
	if _, err := os.Stat(m.path("run/systemd/system")); err == nil {
		args = []string{"systemctl", "--no-block", program}
	}
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %.200s", args[0], err, out)
	}
	return nil
}
