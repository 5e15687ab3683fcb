// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// What happens to the command of a container, in this order:
//
//	the agent answers -> the guest is prepared -> StartMain -> "main started" on record
//	-> WaitMain -> "main exited" on record -> FetchFiles -> AckMain
//	-> the guest powers off -> the exit event settles the container
//
// The agent holds the exit until it is acknowledged, and we acknowledge only what is on
// record: whichever of us dies, the other still has it. All steps can be done again.

// startErrorCode is the exit code of a command that was not started for reasons of ours;
// the agent's are 126 and 127, as a shell's.
const startErrorCode = 128

// powerOffTimeout is how long a guest may take to hand over files and power off once its
// command has ended; fetchTimeout is what of it the files may take.
const (
	powerOffTimeout = 30 * time.Second
	fetchTimeout    = 10 * time.Second
)

// errRebooted: what was started in an earlier boot is not there any more.
var errRebooted = errors.New("the guest has booted since; its command is started again")

// patience is how long a boot's agent is waited for.
type patience struct {
	timeout time.Duration
	until   time.Time
}

func patient(timeout time.Duration) patience { return patience{timeout, time.Now().Add(timeout)} }

// seeToMain sees the command through, over reboots of the guest and restarts of its agent:
// a reboot ends the command with all else, and a boot starts it.
func (s *Service) seeToMain(ctx context.Context, sb vm.Sandbox, c vm.Container, timeout time.Duration) {
	agent, prepared := patient(timeout), false
	for wait := settleRetry; ctx.Err() == nil; wait = min(2*wait, settleRetryMost) {
		now, err := s.deps.Store.Containers.Get(c.ID)
		if err != nil || now.Status.State != vm.ContainerRunning {
			return
		}
		if now.Status.MainExit != nil {
			s.endMain(ctx, now, prepared)
			return
		}
		if prepared, err = s.prepareMain(ctx, sb, now, agent); err == nil {
			err = s.runMain(ctx, now)
		}
		if err == nil {
			continue
		}
		if latest, getErr := s.deps.Store.Containers.Get(c.ID); getErr == nil {
			now = latest // it may have been started, paused or asked to reboot since
		}
		if now.Status.Paused || now.Status.Reboot != nil || now.Status.PowerOff != nil {
			agent = patient(timeout) // that is nothing the guest takes its time for
		}
		fatal := !mayPass(err) || !now.Status.MainStarted && !time.Now().Before(agent.until)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errRebooted):
			s.attendants.setBegun(c.ID, false)
			agent, wait = patient(timeout), settleRetry
		case fatal:
			err = s.keepMainExit(ctx, now, vm.MainExit{Code: startErrorCode, StartError: err.Error(), At: s.now()})
			if err == nil {
				continue
			}
		}
		log.From(ctx).Info("the command is attended again", zap.NamedError("after", err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// prepareMain waits for the agent and makes the guest as the pod wants it. A command that
// runs already is not given up for either.
func (s *Service) prepareMain(ctx context.Context, sb vm.Sandbox, c vm.Container, agent patience) (prepared bool, err error) {
	awaiting, cancel := ctx, context.CancelFunc(func() {})
	if !c.Status.MainStarted {
		awaiting, cancel = context.WithDeadline(ctx, agent.until)
	}
	defer cancel()
	if _, err := s.deps.Guest.AwaitAgent(awaiting, sb.ID); err != nil {
		if errors.Is(awaiting.Err(), context.DeadlineExceeded) {
			return false, fmt.Errorf("no vmlet-agent answered in the guest within %s, and the container's command needs it: "+
				"use an image that has it, have cloud-init install it (annotation %s=%s), or give the boot more time (annotation %s): %w",
				agent.timeout, annotations.GuestAgent, vm.GuestAgentSeed, annotations.AgentTimeout, context.DeadlineExceeded)
		}
		return false, err
	}
	err = s.prepare(ctx, sb, c)
	if err != nil && c.Status.MainStarted {
		log.From(ctx).Warn("the guest of a running command is not as the pod wants it", zap.Error(err))
		return false, nil
	}
	return err == nil, err
}

// runMain starts the command unless it runs, waits for its end and records that. nil means
// that it is on record.
func (s *Service) runMain(ctx context.Context, c vm.Container) error {
	c, err := s.deps.Store.Containers.Get(c.ID)
	if err != nil {
		return err
	}
	// What was not started when a stop was asked for is not started any more.
	stopping := c.Status.Stop != nil
	if !stopping {
		if err := s.startMain(ctx, c); err != nil {
			return err
		}
	}
	s.attendants.setBegun(c.ID, !stopping || c.Status.MainStarted)
	exit, err := s.deps.Guest.WaitMain(ctx, c.SandboxID, c.GuestID())
	if errors.Is(err, errdefs.ErrNotFound) {
		if !stopping {
			return errRebooted
		}
		<-ctx.Done() // the stop powers the guest off
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("wait for the command: %w", err)
	}
	return s.keepMainExit(ctx, c, exit)
}

func (s *Service) startMain(ctx context.Context, c vm.Container) error {
	if err := s.deps.Guest.StartMain(ctx, c.SandboxID, mainOf(c)); err != nil {
		return fmt.Errorf("start the command: %w", err)
	}
	if c.Status.MainStarted {
		return nil
	}
	_, err := s.updateContainer(c.ID, "main started", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.MainStarted = true
		return st, nil
	})
	return err
}

// errRebooting: a guest that goes down ends its command, which is no end of the container. Should it not reboot after all,
// the agent still has the exit.
var errRebooting = errors.New("the guest was asked to reboot, which ends its command")

// errPoweringOff is the same of a guest that is to power off.
var errPoweringOff = errors.New("the guest was asked to power off, which ends its command")

// keepMainExit puts the end of the command on record, once. It was at some
// time while the container ran, whatever the guest's clock says. c is the container as it was before the command's end was
// heard of: what ended in an earlier boot ended with that.
func (s *Service) keepMainExit(ctx context.Context, c vm.Container, exit vm.MainExit) error {
	unlock, err := s.locks.Lock(ctx, c.SandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	now := s.now()
	_, err = s.updateContainer(c.ID, "main exited", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		if st.State != vm.ContainerRunning {
			return st, nil
		}
		if !st.BootedAt.Equal(c.Status.BootedAt) {
			return st, errRebooted
		}
		if r := st.Reboot; r != nil && r.Asked && now.Before(r.Deadline) && st.Stop == nil && exit.StartError == "" {
			return st, errRebooting
		}
		if st.PowerOff != nil && st.Stop == nil && exit.StartError == "" {
			return st, errPoweringOff
		}
		if exit.At.Before(st.StartedAt) || exit.At.After(now) {
			exit.At = now
		}
		exit.TerminationLog = nil
		st.MainExit = &exit
		return st, nil
	})
	return err
}

// endMain ends the VM of a container whose command's end is on record. It returns when the
// container has exited, or we end. kept tells that files are kept in step already.
func (s *Service) endMain(ctx context.Context, c vm.Container, kept bool) {
	s.hastenExit(ctx, c)
	off, cancel := context.WithTimeout(ctx, powerOffTimeout)
	defer cancel()
	if m := c.Status.MainExit; m.StartError == "" || m.Code != startErrorCode {
		s.fetchFiles(off, c, kept)
		again(off, "the end of the command is not acknowledged", func(ctx context.Context) error { return s.ackMain(ctx, c) })
		<-off.Done()
	}
	if ctx.Err() != nil {
		return
	}
	again(ctx, "a VM whose command has ended", func(ctx context.Context) error { return s.forceStop(ctx, c) })
}

// fetchFiles brings to the host what the command has changed, the termination log above
// all: kubelet reads it once the container has exited.
func (s *Service) fetchFiles(ctx context.Context, c vm.Container, kept bool) {
	if len(c.Status.Files) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	var err error
	if !kept {
		err = s.keepFiles(ctx, c)
	}
	if err == nil {
		err = s.deps.Guest.FetchFiles(ctx, c.SandboxID)
	}
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		log.From(ctx).Warn("what the command has changed last in its files may be missing on the host", zap.Error(err))
	}
}

// ackMain lets the agent power the guest off. An agent that has forgotten the command, as
// after a reboot, is asked for just that.
func (s *Service) ackMain(ctx context.Context, c vm.Container) error {
	err := s.deps.Guest.AckMain(ctx, c.SandboxID, c.GuestID())
	if errors.Is(err, errdefs.ErrNotFound) {
		return s.deps.Guest.Shutdown(ctx, c.SandboxID)
	}
	return err
}
