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
		"away: powered off":             {exitEvidence{reason: "shutdown"}, 0, vm.ReasonCompleted},
		"away: crashed":                 {exitEvidence{reason: "crashed"}, 137, vm.ReasonUnknown},
		"away: out of memory":           {exitEvidence{reason: "crashed", oomKills: 2}, 137, vm.ReasonOOMKilled},
		"away: nothing tells (reboot)":  {exitEvidence{reason: "unknown"}, 255, vm.ReasonUnknown},
		"forced, killed before it said": {exitEvidence{stop: forced}, 137, vm.ReasonKilled},
	} {
		t.Run(name, func(t *testing.T) {
			tc.e.at = asked
			got := judge(tc.e)
			if got.Code != tc.code || got.Reason != tc.reason || got.At != asked {
				t.Errorf("judge = %+v, want %d %s", got, tc.code, tc.reason)
			}
			if got.Code != 0 && got.Message == "" {
				t.Error("a failure without a message")
			}
		})
	}
}
