// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// exitEvidence is all that is known about the end of a VM. The state of a domain alone
// cannot tell a guest's poweroff from a signal to QEMU, nor a panic from kill -9.
type exitEvidence struct {
	// main is how the container's command ended, nil if it has none or nobody knows.
	main *vm.MainExit
	// stop is what was asked of the container, nil if nobody asked.
	stop *vm.StopIntent
	// hint is what events said while we listened.
	hint hint
	// reason is libvirt's word for why the domain is off, or the log's.
	reason string
	// oomKills counts kills by the kernel in the VM's cgroup.
	oomKills uint64
	// at is when it ended.
	at time.Time
}

// judge says how a container ended. The end of its command is its own, however the VM ended
// then. The order of the rest is that of certainty: what the kernel and the guest said
// themselves comes before what follows from our own doing.
func judge(e exitEvidence) vm.Exit {
	if e.main != nil {
		return judgeMain(*e.main)
	}
	exit := vm.Exit{At: e.at}
	died := e.reason == "crashed" || e.reason == "failed"
	switch {
	case e.oomKills > 0 && died:
		exit.Code, exit.Reason = 137, vm.ReasonOOMKilled
		exit.Message = "the pod's cgroup was out of memory and the kernel killed QEMU; QEMU's own memory counts beside the guest's"
	case e.hint.panicked:
		exit.Code, exit.Reason = 1, vm.ReasonGuestPanicked
		exit.Message = "the guest's kernel panicked; its last words are in the log"
	case e.hint.guestShutdown:
		exit.Reason = vm.ReasonCompleted
	case e.stop != nil && e.stop.Forced:
		exit.Code, exit.Reason = 137, vm.ReasonKilled
		exit.Message = "the guest did not power off in time and was destroyed"
		if !e.stop.Deadline.After(e.stop.RequestedAt) {
			exit.Message = "the guest was destroyed at once, as was asked"
		}
	case e.reason == "destroyed": // before the next: libvirt destroys by a signal too
		exit.Code, exit.Reason = 137, vm.ReasonKilled
		exit.Message = "the domain was destroyed from outside vmlet"
	case e.hint.hostShutdown:
		exit.Code, exit.Reason = 143, vm.ReasonKilled
		exit.Message = "QEMU was ended by a signal from the host"
	case e.reason == "daemon":
		exit.Code, exit.Reason = 137, vm.ReasonKilled
		exit.Message = "libvirtd was restarted, could not take the VM up again, and ended it; see its log"
	case e.reason == "shutdown":
		exit.Reason = vm.ReasonCompleted
	case died && e.hint.seen:
		exit.Code, exit.Reason = 137, vm.ReasonKilled
		exit.Message = "QEMU died; see its log"
	case died:
		exit.Code, exit.Reason = 137, vm.ReasonUnknown
		exit.Message = "QEMU was killed or the guest crashed while vmlet was not listening"
	default:
		exit.Code, exit.Reason = 255, vm.ReasonUnknown
		exit.Message = "the VM ended while vmlet was not listening, and nothing tells how"
	}
	return exit
}

// judgeMain says how a container ended by the end of its command.
func judgeMain(m vm.MainExit) vm.Exit {
	exit := vm.Exit{Code: m.Code, At: m.At}
	switch {
	case m.StartError != "":
		exit.Reason, exit.Message = vm.ReasonStartError, m.StartError
	case m.OOMKilled:
		exit.Reason = vm.ReasonOOMKilled
		exit.Message = "the guest was out of memory and its kernel killed the command"
	case m.Code == 0:
		exit.Reason = vm.ReasonCompleted
	default:
		exit.Reason = vm.ReasonError
	}
	return exit
}
