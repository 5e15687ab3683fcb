// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestAgentBySeed: an image without the agent gets it from the seed, at each boot.
func TestAgentBySeed(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{
		Name: "seeded", Image: node.PullQGAImage(), Annotations: map[string]string{"vmlet.io/guest-agent": "seed"},
		Command: []string{"sh", "-c", "echo up $(pidof vmlet-agent); while :; do sleep 1; done"},
	})
	pod.WaitLog("up ")
	if got := pod.Exec("pidof", "vmlet-agent"); got == "" {
		t.Error("no vmlet-agent runs")
	}
	pod.ExecDetached("reboot")
	node.Eventually(2*time.Minute, func() error {
		if n := strings.Count(pod.Log(), "up "); n != 2 {
			return errNotYet
		}
		return nil
	})
}
