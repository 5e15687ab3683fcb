// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// verdictTime is how much longer than a command may run vmlet is waited for: it kills the
// command then, and says so.
const verdictTime = 5 * time.Second

func (a *app) execCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exec POD -- COMMAND [ARG...]",
		Short: "Run a command in the guest",
		Long: `Runs a command in the guest by its guest agent, without a shell and without input, and
exits with its exit code. Its output is shown when it has ended. A guest that still boots
is waited for. After --timeout, a whole number of seconds, the command is killed.`,
		Example: `  vmletctl exec web -- uname -a
  vmletctl exec web --timeout 5s -- sh -c 'systemctl is-active nginx'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 1 || len(args) < 2 {
				return errors.New("it takes a pod, --, and the command to run")
			}
			return nil
		},
		RunE: a.connectedWithin(verdictTime, func(ctx context.Context, c *client, args []string) error {
			t, err := c.findContainer(ctx, args[0])
			if err != nil {
				return err
			}
			return a.exec(ctx, c, t, args[1:])
		}),
	}
}

func (a *app) exec(ctx context.Context, c *client, t target, command []string) error {
	resp, err := c.runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{
		ContainerId: t.boot.GetId(), Cmd: command, Timeout: wholeSeconds(a.timeout),
	})
	if status.Code(err) == codes.DeadlineExceeded && a.timeout > 0 {
		return fmt.Errorf("%s in pod %s did not end within %s and was killed; allow more by --timeout", command[0], t, a.timeout)
	}
	if err != nil {
		return err
	}
	if _, err := a.out.Write(resp.GetStdout()); err != nil {
		return err
	}
	if _, err := a.err.Write(resp.GetStderr()); err != nil {
		return err
	}
	if code := resp.GetExitCode(); code != 0 {
		return exitError(exitStatus(code))
	}
	return nil
}

// exitStatus is a code that a process can exit with here: what does not fit is no success.
func exitStatus(code int32) int {
	if code < 0 || code > 255 {
		return 255
	}
	return int(code)
}

// wholeSeconds is what the CRI counts a timeout in. It is not made shorter.
func wholeSeconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
