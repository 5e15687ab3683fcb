// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestJudge(t *testing.T) {
	asked := time.Unix(1000, 0)
	obeyed := &vm.StopIntent{RequestedAt: asked, Deadline: asked.Add(time.Minute)}
	forced := &vm.StopIntent{RequestedAt: asked, Deadline: asked.Add(time.Minute), Forced: true}
	for name, tc := range map[string]struct {
		e      exitEvidence
		code   int32
		reason string
	}{
		"guest powers off":              {exitEvidence{hint: hint{seen: true, guestShutdown: true}, reason: "shutdown"}, 0, vm.ReasonCompleted},
		"stop is obeyed":                {exitEvidence{stop: obeyed, hint: hint{seen: true, guestShutdown: true}, reason: "shutdown"}, 0, vm.ReasonCompleted},
		"stop is forced":                {exitEvidence{stop: forced, hint: hint{seen: true}, reason: "destroyed"}, 137, vm.ReasonKilled},
		"forced, QEMU got SIGTERM":      {exitEvidence{stop: forced, hint: hint{seen: true, hostShutdown: true}, reason: "destroyed"}, 137, vm.ReasonKilled},
		"guest was quicker than force":  {exitEvidence{stop: forced, hint: hint{seen: true, guestShutdown: true}, reason: "shutdown"}, 0, vm.ReasonCompleted},
		"panic":                         {exitEvidence{hint: hint{seen: true, panicked: true}, reason: "crashed"}, 1, vm.ReasonGuestPanicked},
		"panic during a stop":           {exitEvidence{stop: forced, hint: hint{seen: true, panicked: true}, reason: "crashed"}, 1, vm.ReasonGuestPanicked},
		"QEMU killed":                   {exitEvidence{hint: hint{seen: true}, reason: "failed"}, 137, vm.ReasonKilled},
		"QEMU terminated":               {exitEvidence{hint: hint{seen: true, hostShutdown: true}, reason: "shutdown"}, 143, vm.ReasonKilled},
		"out of memory":                 {exitEvidence{hint: hint{seen: true}, reason: "failed", oomKills: 1}, 137, vm.ReasonOOMKilled},
		"helper killed, guest went on":  {exitEvidence{hint: hint{seen: true, guestShutdown: true}, reason: "shutdown", oomKills: 1}, 0, vm.ReasonCompleted},
		"virsh destroy":                 {exitEvidence{hint: hint{seen: true, hostShutdown: true}, reason: "destroyed"}, 137, vm.ReasonKilled},
		"libvirtd ended it":             {exitEvidence{reason: "daemon"}, 137, vm.ReasonKilled},
		"away: powered off":             {exitEvidence{reason: "shutdown"}, 0, vm.ReasonCompleted},
		"away: crashed":                 {exitEvidence{reason: "crashed"}, 137, vm.ReasonUnknown},
		"away: out of memory":           {exitEvidence{reason: "crashed", oomKills: 2}, 137, vm.ReasonOOMKilled},
		"away: nothing tells (reboot)":  {exitEvidence{reason: "unknown"}, 255, vm.ReasonUnknown},
		"forced, killed before it said": {exitEvidence{stop: forced}, 137, vm.ReasonKilled},

		"command, then the guest went off": {exitEvidence{main: &vm.MainExit{}, hint: hint{seen: true, guestShutdown: true}, reason: "shutdown"}, 0, vm.ReasonCompleted},
		"command failed":                   {exitEvidence{main: &vm.MainExit{Code: 3}, hint: hint{seen: true, guestShutdown: true}, reason: "shutdown"}, 3, vm.ReasonError},
		"command ended, VM forced":         {exitEvidence{main: &vm.MainExit{Code: 3}, stop: forced, reason: "destroyed"}, 3, vm.ReasonError},
		"command ended, QEMU killed":       {exitEvidence{main: &vm.MainExit{Code: 0}, hint: hint{seen: true}, reason: "failed", oomKills: 1}, 0, vm.ReasonCompleted},
		"command ended, then a panic":      {exitEvidence{main: &vm.MainExit{Code: 4}, hint: hint{seen: true, panicked: true}, reason: "crashed"}, 4, vm.ReasonError},
		"command signalled":                {exitEvidence{main: &vm.MainExit{Code: 143, Signal: 15}, stop: obeyed}, 143, vm.ReasonError},
		"command out of memory":            {exitEvidence{main: &vm.MainExit{Code: 137, Signal: 9, OOMKilled: true}}, 137, vm.ReasonOOMKilled},
		"command not found":                {exitEvidence{main: &vm.MainExit{Code: 127, StartError: "no such file"}}, 127, vm.ReasonStartError},
		"command without an agent":         {exitEvidence{main: &vm.MainExit{Code: 128, StartError: "no agent"}, reason: "destroyed"}, 128, vm.ReasonStartError},
	} {
		t.Run(name, func(t *testing.T) {
			tc.e.at = asked
			if tc.e.main != nil {
				tc.e.at, tc.e.main.At = asked.Add(time.Minute), asked // the VM's end is later
			}
			got := judge(tc.e)
			if got.Code != tc.code || got.Reason != tc.reason || got.At != asked {
				t.Errorf("judge = %+v, want %d %s", got, tc.code, tc.reason)
			}
			if got.Code != 0 && got.Message == "" && got.Reason != vm.ReasonError {
				t.Error("a failure without a message")
			}
		})
	}
}
