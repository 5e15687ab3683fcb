// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"fmt"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// maxOutput is how much of a command's output is answered, in bytes: "The runtime should
// cap the output of this response to 16MB". Clients take messages of 16 MiB, so both
// streams share it, less what the message needs around them.
const maxOutput = 16<<20 - 4<<10

// ExecSync runs a command in the guest and waits for its end. A timeout of 0 is
// Config.ExecLimit, which bounds any other as well. When time is up the command is
// killed and the error is DeadlineExceeded, which is how a kubelet tells a probe that
// timed out from one that failed.
func (s *Server) ExecSync(ctx context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	if err := checkID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if len(req.GetCmd()) == 0 || req.GetCmd()[0] == "" {
		return nil, invalid("cmd", "must not be empty")
	}
	if req.GetTimeout() < 0 {
		return nil, invalid("timeout", "%d is negative", req.GetTimeout())
	}
	timeout := s.execTimeout(req.GetTimeout())
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	result, err := s.svc.Exec(ctx, req.GetContainerId(), vm.ExecRequest{Command: req.GetCmd(), MaxOutput: maxOutput})
	switch {
	case err == nil:
		stdout, stderr := capOutput(result.Stdout, result.Stderr, maxOutput)
		return &runtimeapi.ExecSyncResponse{Stdout: stdout, Stderr: stderr, ExitCode: result.ExitCode}, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		// The deadline comes first, so that it is the error's class whatever came of it.
		return nil, fmt.Errorf("exec in container %s: %w after %s: %w",
			req.GetContainerId(), context.DeadlineExceeded, timeout, err)
	default:
		return nil, err
	}
}

func (s *Server) execTimeout(asked int64) time.Duration {
	if asked == 0 {
		return s.cfg.ExecLimit
	}
	return min(seconds(asked), s.cfg.ExecLimit)
}

// capOutput cuts both streams so that together they hold at most limit bytes. The shorter
// one is kept whole as long as it takes no more than its half.
func capOutput(stdout, stderr []byte, limit int) (out, errOut []byte) {
	if len(stdout)+len(stderr) <= limit {
		return stdout, stderr
	}
	half := limit / 2
	outSize := max(half, limit-len(stderr))
	outSize = min(outSize, len(stdout))
	return stdout[:outSize], stderr[:min(len(stderr), limit-outSize)]
}
